"""Acting: a model chooses actions, a world answers. One sliding window serves all of it.

    python rollout.py --out_dir=out/maze2d_bc --episodes=1000      # also writes rollouts.json there

At each step the model sees a window of the last T timesteps, and is asked for the action now. The
mode says what it sees: past states and actions (bc), and the return still to go (rc); or only
states (bc_states, rc_states). A condition can show more, such as a state ahead to be reached.
Before this: worlds.py, which has the environments. Read next: sample.py.
"""

import math
import os

import numpy as np
import torch

import checkpoint
import configurator
import evaluate
import model
import worlds

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/minigrid_random"  # a folder that train.py made
episodes = 100  # in each of the modes
modes = "bc,bc_states"  # return hidden (bc) or shown (rc); past actions seen, or hidden (_states)
target_return = None  # to ask for in mode rc; None: 1.2 x that of the nearest training start
env = None  # a Gymnasium environment to play in, e.g. "Hopper-v5"; None: the data's own world
device = "cpu"  # or "cuda"
threads = 1  # CPU threads (0: torch's choice)
# --------------------------------------------------------------------------------------------------

MODES = ("bc", "rc", "bc_states", "rc_states")
SELECTION_SEED = 2_000_000  # of the episodes by which checkpoints are chosen during training
ROLLOUT_SEED = 3_000_000  # of the episodes that are reported


def play(network, env, mode="bc", targets=None, generator=None, temperature=1.0, condition=None,
         horizon=None):  # fmt: skip
    """Play an episode in each of env's n copies, in lockstep; env has just been reset.

    targets: (n,) returns to ask for, in the modes "rc" and "rc_states".
    generator: torch.Generator for actions; None (or temperature=0): the most probable action.
    condition: (values, see) of one window, {factor: (1, T) or (1, T, k)}: what is known ahead.
        Seen actions are carried out as they are; the world's states replace seen ones.
    horizon: steps to play; None: the environment's.
    Returns {factor: (n, horizon) or (n, horizon, k)}, what happened, and float64 rewards
    (n, horizon), zeros where an episode was over.
    """
    n, T, factors = env.n, network.config.context, network.factors
    horizon, temperature = horizon or env.horizon, temperature if generator else 0.0
    action = next(f for f in factors if f.group == "ACTION")
    return_to_go = next((f for f in factors if f.group == "RETURN"), None)
    values, known = blank(factors, n, horizon + T, condition)
    rewards = np.zeros((n, horizon))
    for t in range(horizon):
        first = max(0, t - T + 1)  # where the window begins
        for name, observed in env.observe().items():
            values[name][:, t], known[name][:, t] = torch.as_tensor(observed), True
        window = {name: x[:, first : first + T] for name, x in values.items()}  # (n, T) views
        see = {name: x[:, first : first + T] for name, x in known.items()}
        if mode.startswith("rc"):  # the return is seen at the window's first step only
            to_go = targets - rewards[:, :first].sum(axis=1)
            window[return_to_go.name][:, 0] = torch.as_tensor(env.encode_return(to_go, first))
            see[return_to_go.name] = (torch.arange(T) == 0).expand(n, T)
        if not known[action.name][0, t]:
            window["timestep"] = (first + torch.arange(T)).expand(n, T)
            outputs = evaluate.answer(network, window, see, at=torch.full((n,), t - first))
            now = {name: x[:, 0] for name, x in outputs.items()}  # (n, classes or k)
            chosen = draw(action, now, temperature, generator)
            if action.kind == "continuous":
                chosen = chosen.clamp(*env.action_bounds)  # what is remembered is what is done
            values[action.name][:, t] = chosen
            known[action.name][:, t] = not mode.endswith("_states")
        _, rewards[:, t] = env.step(values[action.name][:, t].numpy())
        if np.all(env.over):
            break
    return {name: x[:, :horizon] for name, x in values.items()}, rewards


def draw(f, outputs, temperature, generator):
    """A value of a factor for each entry of the outputs: (...,) classes or (..., k) numbers.

    outputs: {factor: (..., classes or k), perhaps "NAME/log_variance"}. temperature: as
    model.distribution(); 0: the most probable value. A mean or median is taken as it is.
    """
    answer = model.distribution(f, outputs, temperature) if temperature > 0 else None
    if answer is None:
        y = outputs[f.name]
        return y.argmax(dim=-1) if f.kind == "categorical" else y
    if f.kind == "categorical":
        choices = answer.probs.flatten(0, -2)
        drawn = torch.multinomial(choices, 1, generator=generator)
        return drawn.view(answer.batch_shape)
    uniform = torch.rand(outputs[f.name].shape, generator=generator, dtype=torch.float64)
    return answer.base_dist.icdf(uniform.clamp(1e-12, 1 - 1e-12)).float()


def blank(factors, n, length, condition=None):
    """Values {factor: (n, length) or (n, length, k)} and what is known of them (n, length)."""
    values, known = {}, {}
    for f in factors:
        known[f.name] = torch.zeros(n, length, dtype=torch.bool)
        values[f.name] = known[f.name].long()
        if f.kind == "continuous":
            values[f.name] = torch.zeros(n, length, f.size)
        if condition:
            given, seen = (part[f.name] for part in condition)  # (1, T) or (1, T, k); (1, T)
            values[f.name][:, : given.shape[1]] = given
            known[f.name][:, : seen.shape[1]] = seen
    return values, known


def target_returns(env, train, factor=1.2):
    """(n,) targets: the return of the training trajectory with the nearest start, times `factor`.

    A return below 0 is divided by it: a target is always better. Source: Uni[MASK], appendix.
    """
    starts = torch.as_tensor(env.start_features()).double()  # (n, features)
    own = torch.as_tensor(env.dataset_features(train)).double()  # (N, features)
    some = starts.split(max(1, 2**24 // len(own)))  # not all distances at once, if there are many
    nearest = torch.cat([torch.cdist(part, own).argmin(dim=1) for part in some]).numpy()
    returns = env.dataset_returns(train)[nearest]
    return np.where(returns < 0, returns / factor, returns * factor)


def measure(
    network, dataset, train, episodes, seed, modes=("bc",), target_return=None, env_id=None
):
    """{mode: {measure: {mean, sem}}} on the same fresh episodes: the return and the world's own.

    train: Trajectories, for target_returns(). target_return: one target for every episode instead.
    env_id: a Gymnasium environment to play in; by default the world that the data set names.
    Classes are drawn from the model's probabilities; numbers are its means.
    """
    results = {}
    action = next(f for f in network.factors if f.group == "ACTION")
    for mode in modes:
        env = worlds.stage(dataset, env_id, episodes, seed, network.factors)
        targets = None if target_return is None else np.full(episodes, float(target_return))
        if mode.startswith("rc") and targets is None:
            targets = target_returns(env, train)
        generator = torch.Generator().manual_seed(seed) if action.kind == "categorical" else None
        _, rewards = play(network, env, mode, targets, generator)
        results[mode] = {}
        for name, x in ({"return": rewards.sum(axis=1)} | env.report()).items():  # x: (n,)
            error = x.std() / math.sqrt(len(x))
            results[mode][name] = {"mean": float(x.mean()), "sem": float(error)}
    return results


def parse_modes(text):
    """The modes of a comma-separated string. Raises ValueError for one that there is not."""
    for mode in text.split(","):
        if mode not in MODES:
            raise ValueError(f"there is no rollout mode {mode!r}; modes are {', '.join(MODES)}")
    return text.split(",")


def main():
    configurator.check(globals(), {"episodes": (1, math.inf), "threads": (0, 1025)})
    if target_return is not None and not math.isfinite(target_return):
        raise ValueError(f"target_return={target_return} must be a number")
    torch.set_num_threads(threads or torch.get_num_threads())
    network, trained = checkpoint.load(out_dir, device), checkpoint.settings(out_dir)
    asked = parse_modes(modes)
    train, _ = worlds.train_and_validation(*worlds.source_of(trained))
    game = train, episodes, ROLLOUT_SEED, asked, target_return, env
    played = measure(network, trained["dataset"], *game)
    for mode, row in played.items():
        parts = [f"{name} {x['mean']:.3f} +- {x['sem']:.3f}" for name, x in row.items()]
        print(f"{mode:10s} {', '.join(parts)}")
    evaluate.save_json(os.path.join(out_dir, "rollouts.json"), played)


if __name__ == "__main__":
    configurator.apply(globals())
    main()
