"""Acting: a model chooses actions, a world answers. One sliding window serves all of it.

    python rollout.py --out_dir=out/maze2d_bc --episodes=1000      # also writes rollouts.json there
    python rollout.py --out_dir=out/minigrid_dream --modes=rc,best --target_return=2,4,6

At each step the model sees a window of the last T timesteps, and is asked for the action now. The
mode says what else it sees:

    bc        nothing: it clones the demonstrator
    rc        the return to be earned from the window's first timestep on
    rc_all    the return still to be earned at every timestep so far, as returns="with_state" shows
    best      as rc, but it asks for the best return that it itself thinks possible
    plan      nothing: of K completions drawn as in bc, the one of the highest return is begun
    goal      the state after T - 1 steps of a demonstration that began here; then the episode ends
    waypoint  its states at four timesteps, the last one among them

Each mode can have _states at its end: past actions are then hidden.
Before this: worlds.py, which has the environments. Read next: sample.py.
"""

import configurator

import math
import os

import numpy as np
import torch

import checkpoint
import evaluate
import files
import masks
import model
import worlds
from data import GROUPS

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/run"  # a folder that train.py made
episodes = 100  # in each of the modes
modes = "bc,bc_states"  # what is asked for: MODES, described above
target_return = "x1.2"  # of rc, rc_all: "2,4"; or "x0.8" of what the nearest training start earned
quantile = 0.99  # mode best asks for the return that, so it thinks, is exceeded in 1 of 100 cases
candidates = 16  # mode plan draws so many completions at each step, K
sampled = True  # draw classes by their probabilities; False: the most probable (but plan draws)
env = None  # a Gymnasium environment to play in, e.g. "Hopper-v5"; None: the data's own world
device = "cpu"  # or "cuda"
threads = 1  # CPU threads (0: torch's choice)
out = ""  # the file to write the results to; empty: rollouts.json in out_dir
# Returns that score 0 and 100, e.g. of a random policy and an expert; None: as D4RL, where it has them
ref_min = None
ref_max = None
# --------------------------------------------------------------------------------------------------

MODES = [f"{asked}{seen}" for asked in ("bc", "rc", "rc_all", "best", "plan", "goal", "waypoint")
         for seen in ("", "_states")]  # fmt: skip
AHEAD = ("goal", "waypoint")  # they show states of the future, which is a condition for play()
# Returns of D4RL's random policies and experts, which score 0 and 100 (Fu et al. 2020).
D4RL = {"Hopper": (-20.27, 3234.3), "HalfCheetah": (-280.18, 12135.0), "Walker2d": (1.63, 4592.3)}
SELECTION_SEED = 2_000_000  # of the episodes by which checkpoints are chosen during training
ROLLOUT_SEED = 3_000_000  # of the episodes that are reported


def play(network, env, mode="bc", targets=None, generator=None, temperature=1.0, condition=None,
         horizon=None, quantile=0.99, candidates=16):  # fmt: skip
    """Play an episode in each of env's n copies, in lockstep, from where env stands.

    targets: (n,) returns to ask for, in the modes "rc" and "rc_all".
    quantile: of mode "best". candidates: of mode "plan".
    generator: torch.Generator for actions; None (or temperature=0): the most probable action.
    condition: (values, see) of a window, {factor: (n or 1, T) or (n or 1, T, k)}: what is known
        ahead, such as a goal. Actions seen are carried out as they are, in all rows or in none;
        the world's states replace seen ones.
    horizon: steps to play; None: the environment's.
    Returns {factor: (n, horizon) or (n, horizon, k)}, what happened, and float64 rewards
    (n, horizon). An episode that is over stays in its last state, and earns nothing.
    Raises ValueError for a mode that lacks targets, a generator, a condition, or a model for it.
    """
    n, T, factors = env.n, network.config.context, network.factors
    horizon, temperature = horizon or env.horizon, temperature if generator else 0.0
    action = next(f for f in factors if f.group == "ACTION")
    return_to_go = next((f for f in factors if f.group == "RETURN"), None)
    asking = mode.removesuffix("_states")
    check_mode(network, mode)
    given = {"plan": generator, "rc": targets, "rc_all": targets} | dict.fromkeys(AHEAD, condition)
    if given.get(asking, True) is None:
        needs = "rc needs targets, plan a generator, goal and waypoint a condition"
        raise ValueError(f"mode {mode} lacks something: {needs}")
    values, known = blank(factors, n, horizon + T, condition)
    rewards, over = np.zeros((n, horizon)), np.zeros(n, dtype=bool)
    for t in range(horizon):
        first = max(0, t - T + 1)  # where the window begins
        over = observe(env, values, known, t, over)
        if over.all():
            break
        if asking.startswith("rc"):
            to_go = env.encode_return(targets - rewards[:, :t].sum(axis=1), t)
            values[return_to_go.name][:, t] = torch.as_tensor(to_go)
            known[return_to_go.name][:, t] = True
        window = {name: x[:, first : first + T] for name, x in values.items()}  # (n, T) views
        see = {name: x[:, first : first + T] for name, x in known.items()}
        window["timestep"] = (first + torch.arange(T)).expand(n, T)
        if asking == "best":
            likely = evaluate.answer(network, window, see, at=torch.zeros(n, dtype=torch.long))
            best = upper(return_to_go, likely, quantile)  # (n,)
            if return_to_go.kind == "continuous":
                best = torch.as_tensor(env.encode_return(best.numpy(), first))
            window[return_to_go.name][:, 0] = best
        if asking in ("rc", "best"):  # a return is seen at the window's first timestep only
            see[return_to_go.name] = (torch.arange(T) == 0).expand(n, T)
        if not known[action.name][0, t]:
            if asking == "plan":
                chosen = plan(network, window, see, t - first, candidates, generator)
            else:
                outputs = evaluate.answer(network, window, see, at=torch.full((n,), t - first))
                now = {name: x[:, 0] for name, x in outputs.items()}  # (n, classes or k)
                chosen = draw(action, now, temperature, generator)
            if action.kind == "continuous":
                chosen = chosen.clamp(*env.action_bounds)  # what is remembered is what is done
            values[action.name][:, t] = chosen
            known[action.name][:, t] = not mode.endswith("_states")
        rewards[:, t] = np.where(over, 0.0, env.step(values[action.name][:, t].numpy()))
    return {name: x[:, :horizon] for name, x in values.items()}, rewards


def observe(env, values, known, t, over):
    """Note down what the world shows at timestep t. Returns which episodes are over by then, (n,).

    over: (n,) those that were before: they stay where they ended, whatever the world shows.
    """
    ended = np.full(env.n, env.over)
    for name, observed in env.observe().items():
        values[name][:, t], known[name][:, t] = torch.as_tensor(observed), True
        values[name][over, t] = values[name][over, t - 1]
        if ended.all():  # nobody will be asked any more
            values[name][:, t:] = values[name][:, t : t + 1]
    return ended


def plan(network, window, see, now, candidates, generator):
    """(n,) or (n, k) the action to begin with, of the best of several completions of a window.

    Each is drawn from the model, an action and the state after it at a time, and then judged by the
    return at the window's first timestep that the model expects of it. Source: M3PC.
    window, see: {factor: (n, T) or (n, T, k)}, (n, T). now: the timestep of the action.
    """
    groups = {g: [f for f in network.predicted if f.group == g] for g in GROUPS}
    values, see = ({name: x.repeat_interleave(candidates, dim=0) for name, x in part.items()}
                   for part in (window, see))  # fmt: skip
    n, T = values["timestep"].shape
    turns = [(group, t) for t in range(now, T) for group in ("STATE", "ACTION")]
    for group, t in turns[1:]:  # the state now is known
        outputs = evaluate.answer(network, values, see, at=torch.full((n,), t))
        for f in groups[group]:
            values[f.name][:, t] = draw(f, outputs, 1.0, generator)[:, 0]
            see[f.name][:, t] = True
    outputs = evaluate.answer(network, values, see, at=torch.zeros(n, dtype=torch.long))
    f = groups["RETURN"][0]
    worth = outputs[f.name][:, 0]  # (n, classes or k)
    if f.kind == "categorical":
        worth = worth.softmax(-1) @ torch.arange(f.size).float()  # (n,) its mean
    else:
        worth = worth[:, 0]  # of several numbers the first is the return
    best = worth.view(-1, candidates).argmax(dim=1)  # (n / candidates,)
    rows = torch.arange(len(best)) * candidates + best
    return values[groups["ACTION"][0].name][rows, now]


def upper(f, outputs, quantile):
    """(n,) the upper quantile of what a model answers to a return at one timestep.

    outputs: {factor: (n, 1, classes or k)}, of numbers with their variance.
    """
    answer = model.distribution(f, outputs)
    if f.kind == "categorical":
        exceeded = answer.probs[:, 0].flip(-1).cumsum(-1).flip(-1)  # (n, classes) P(at least that)
        return (exceeded >= 1 - quantile).sum(dim=-1).clamp(min=1) - 1
    level = torch.tensor(quantile, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    return answer.base_dist.icdf(level)[:, 0, 0]


def draw(f, outputs, temperature, generator):
    """A value of a factor for each entry of the outputs: (...,) classes or (..., k) numbers.

    outputs: {factor: (..., classes or k), perhaps "NAME/log_variance"}. temperature: as
    model.distribution(); next to 0: the most probable value. A mean or median is taken as it is.
    """
    hot = temperature > 1e-6  # less would divide logits to infinity
    answer = model.distribution(f, outputs, temperature) if hot else None
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
            given, seen = (part[f.name] for part in condition)  # of as many episodes, or of one
            values[f.name][:, : given.shape[1]] = given
            known[f.name][:, : seen.shape[1]] = seen
    return values, known


def target_returns(env, train, factor=1.2):
    """(n,) targets: the return of the training trajectory with the nearest start, times `factor`.

    A return below 0 is divided by it: above 1 a target is always better. Source: Uni[MASK], appendix.
    """
    train = train.with_known_starts(("STATE", "RETURN"))
    starts = torch.as_tensor(env.start_features()).double()  # (n, features)
    own = torch.as_tensor(env.dataset_features(train)).double()  # (N, features)
    some = starts.split(max(1, 2**24 // len(own)))  # not all distances at once, if there are many
    nearest = torch.cat([torch.cdist(part, own).argmin(dim=1) for part in some]).numpy()
    returns = env.dataset_returns(train)[nearest]
    return np.where((returns < 0) & (factor > 0), returns / (factor or 1), returns * factor)


def parse_targets(text):
    """["2", "x0.8"] of "2, x0.8". Raises ValueError for what is neither a number nor a factor."""
    found = [part.strip() for part in text.split(",")]
    for part in found:
        try:
            number = float(part.removeprefix("x"))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"target_return={text!r} is not like 2 or x0.8, or several: 2,4,6")
    return found


def condition_of(demos, mode, T):
    """What the modes goal and waypoint show of demonstrations ahead: a condition for play().

    It is what their task shows when it asks for the first action: {factor: (n, T) ...}, (1, T).
    """
    task = {"goal": "goal_conditioned", "waypoint": "waypoint"}[mode.removesuffix("_states")]
    see, predict = masks.draw(task, 2 * T, T, torch.Generator().manual_seed(0), balanced=True)
    see = see[predict[:, 0].any(dim=-1)][:1]  # (1, T, 3)
    values = {name: x[:, :T] for name, x in demos.tensors().items()}
    return values, masks.expand(see, demos.factors)


def knowing(demos, mode, T):
    """Those demonstrations that know all that a mode shows of them. Raises ValueError without any."""
    demos = demos.with_known_starts()
    _, see = condition_of(demos, mode, T)
    enough = demos.lengths >= T  # (N,)
    for name, mask in see.items() if enough.any() else ():  # else the arrays end before T
        enough &= demos.valid(name)[:, :T][:, mask[0].numpy()].all(axis=1)
    if not enough.any():
        raise ValueError(f"mode {mode}: no demonstration knows what it shows, up to {T} timesteps")
    return demos if enough.all() else demos[enough]


def arrivals(values, condition, states):
    """How episodes met the states that they were to meet: {measure: (n,)}.

    met: the share met exactly, of classes. missed: the mean distance, of numbers.
    """
    wanted, see = condition
    measures = {}
    for f in states:
        times = see[f.name][0, 1:].nonzero()[:, 0] + 1  # the first is where the episode begins
        off = values[f.name][:, times] - wanted[f.name][:, times]  # (n, times) or (n, times, k)
        if f.kind == "categorical":
            measures[f"met_{f.name}"] = (off == 0).double().mean(dim=1).numpy()
        else:
            measures[f"missed_{f.name}"] = off.norm(dim=-1).double().mean(dim=1).numpy()
    return measures


def begin(network, dataset, train, episodes, seed, mode, target="x1.2", env_id=None,
          sampled=True, demos=None, render=False):  # fmt: skip
    """Fresh episodes to play in a mode, and what play() needs for it: (environment, arguments).

    train: Trajectories, for target_returns(). target: "2", or "x0.8" times what was earned.
    env_id: a Gymnasium environment to play in, by default the world that the data set names;
    render: it may be asked for pictures. demos: Trajectories, whose starts and states ahead the
    modes goal and waypoint take. sampled: draw classes from the model's probabilities; numbers are
    its means or medians. Mode plan draws in any case. Raises ValueError for a mode that the
    environment cannot play.
    """
    check_mode(network, mode)
    states, action = ([f for f in network.factors if f.group == g] for g in ("STATE", "ACTION"))
    ahead, game = mode.startswith(AHEAD), {"mode": mode}
    if ahead:
        T = network.config.context
        demos = knowing(demos, mode, T)[:episodes]
        episodes = len(demos)
        game |= {"condition": condition_of(demos, mode, T), "horizon": T}
    env = worlds.stage(dataset, env_id, episodes, seed, network.factors, render)
    if ahead and not hasattr(env, "start_at"):
        raise ValueError(f"mode {mode}: an episode of {env_id or dataset} begins where it likes")
    if ahead:
        env.start_at({f.name: demos.values[f.name][:, 0] for f in states} | demos.extras)
    if mode.startswith("rc"):
        number = float(target.removeprefix("x"))
        fixed = not target.startswith("x")
        game["targets"] = np.full(env.n, number) if fixed else target_returns(env, train, number)
        env.encode_return(game["targets"], 0)  # refused if the model knows no returns like that
    if (action[0].kind == "categorical" and sampled) or mode.startswith("plan"):
        game["generator"] = torch.Generator().manual_seed(seed)
    return env, game


def measure(network, dataset, train, episodes, seed, modes=("bc",), quantile=0.99, candidates=16,
            **options):  # fmt: skip
    """{mode: {measure: {mean, sem}}} on the same fresh episodes: the return and the world's own.

    sem: the mean's standard error, None of a single episode. options: of begin().
    """
    results, states = {}, [f for f in network.factors if f.group == "STATE"]
    for mode in modes:
        env, game = begin(network, dataset, train, episodes, seed, mode, **options)
        values, rewards = play(network, env, quantile=quantile, candidates=candidates, **game)
        measures = {"return": rewards.sum(axis=1)} | env.report()
        if "condition" in game:
            measures |= arrivals(values, game["condition"], states)
        results[mode] = {}
        for name, x in measures.items():  # x: (n,)
            error = float(x.std(ddof=1) / math.sqrt(env.n)) if env.n > 1 else None
            results[mode][name] = {"mean": float(x.mean()), "sem": error}
    return results


def measured(network, dataset, game, modes, targets, **options):
    """(label, measure()) of each mode; of those that ask for a return, for each target.

    game: (train, episodes, seed), as measure() takes them; and its options.
    """
    for mode in modes:
        several = mode.startswith("rc") and len(targets) > 1
        for target in targets if several else targets[:1]:
            label = f"{mode}, asked for {target}" if several else mode
            yield label, measure(network, dataset, *game, [mode], target=target, **options)[mode]


def score(earned, env_id, low=None, high=None):
    """{"score": {mean, sem}} of a return {mean, sem}: 0 at the reference `low`, 100 at `high`.

    Without them D4RL's, of any version of an environment that it knows; {} where it knows none.
    Raises ValueError unless both are numbers, the second the higher one.
    """
    if low is None and high is None:
        low, high = D4RL.get(str(env_id).rpartition("-")[0], (None, None))
    if low is None and high is None:
        return {}
    numbers = [x for x in (low, high) if isinstance(x, int | float) and math.isfinite(x)]
    if len(numbers) < 2 or low >= high:
        raise ValueError(f"ref_min={low!r} and ref_max={high!r} must be two numbers, min below max")
    scale = 100 / (high - low)
    error = None if earned["sem"] is None else earned["sem"] * scale
    return {"score": {"mean": (earned["mean"] - low) * scale, "sem": error}}


def parse_modes(text):
    """The modes of a comma-separated string. Raises ValueError for one that there is not."""
    found = [part.strip() for part in text.split(",")]
    for mode in found:
        if mode not in MODES:
            raise ValueError(f"there is no rollout mode {mode!r}; modes are {', '.join(MODES)}")
    return found


def check_mode(network, mode):
    """Raise ValueError for a mode that a model cannot play."""
    asking, config = mode.removesuffix("_states"), network.config
    predicted = {f.group: f.kind for f in network.predicted}
    groups = [f.group for f in network.factors]
    if groups.count("ACTION") != 1:
        raise ValueError(f"to act, a model needs one ACTION factor, not {groups.count('ACTION')}")
    if asking.startswith("rc") and "RETURN" not in groups:
        raise ValueError(f"mode {mode}: the model knows no return_to_go")
    if asking in ("best", "plan") and "RETURN" not in predicted:
        raise ValueError(f"mode {mode}: this model does not predict returns (return_weight)")
    uncertain = {"best": "RETURN", "plan": "ACTION"}.get(asking)
    if predicted.get(uncertain) == "continuous" and config.head in ("mean", "median"):
        why = f"mode {mode} needs to know how likely each {uncertain.lower()} is"
        raise ValueError(f"{why}: train --head=gaussian")
    if asking in AHEAD and (config.model_type == "dt" or config.context < 2):
        raise ValueError(f"mode {mode}: this model does not look ahead")


def main():
    ranges = dict.fromkeys(("episodes", "candidates"), (1, math.inf))
    configurator.check(globals(), ranges | {"threads": (0, 1025), "quantile": (0, 1)})
    asked, targets = parse_modes(modes), parse_targets(target_return)
    score({"mean": 0.0, "sem": None}, env, ref_min, ref_max)  # refused before anything is played
    torch.set_num_threads(threads or torch.get_num_threads())
    network, trained = checkpoint.open_run(out_dir, device)
    path = out or os.path.join(out_dir, "rollouts.json")
    files.check_writable(path, ".json")
    source = worlds.source_of(trained)
    train, _ = worlds.train_and_validation(*source)
    dataset = train.world or source[0]  # a file may be of a world, too
    copies = episodes * (candidates if {"plan", "plan_states"} & set(asked) else 1)
    worlds.check_count(copies, train, f"episodes={episodes} with candidates={candidates}")
    options = dict(env_id=env, sampled=sampled, quantile=quantile, candidates=candidates)
    if any(mode.startswith(AHEAD) for mode in asked):
        options["demos"] = worlds.evaluation_set(*source, "test")
        if (there := len(options["demos"])) < episodes:
            print(f"goal and waypoint: {there} episodes at most, one for each test trajectory")
    game = train, episodes, ROLLOUT_SEED
    for mode in asked:  # what cannot be played is refused before minutes have passed
        for target in targets:
            begin(network, dataset, train, 1, 0, mode, target, env, demos=options.get("demos"))
    played = {}
    for label, row in measured(network, dataset, game, asked, targets, **options):
        played[label] = row | score(row["return"], env, ref_min, ref_max)
        cells = {k: [evaluate.show(x) for x in part.values()] for k, part in played[label].items()}
        parts = [f"{name} {' +- '.join(cell)}" for name, cell in cells.items()]
        print(f"{label:10s} {', '.join(parts)}")
    files.save_json(path, played)


if __name__ == "__main__":
    configurator.apply(globals())
    main()
