"""How good is a model: its loss on every task, beside the exact Bayes limit where the world has one (bayes.py).

    python evaluate.py --out_dir=out/minigrid_random     # prints the table, writes eval.json into the folder

A task's loss is the mean over all predicted entries of a factor, summed over factors, as in training. The masks are
balanced over the tasks' timesteps and drawn with a seed of their own, so that two models answer the same questions.
Read next: sample.py, to ask a model single questions; bayes.py, for the limit.
"""

import json
import math
import os
import re

import numpy as np
import torch

import configurator
import data
import masks
from attention import pick
from model import entry_losses, load

PUBLISHED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "repro", "published.json")
TEST_SEED = 1_000_000  # added to the data seed: test trajectories are of another seed than those for training
VALIDATION_SEED = 999  # of the masks of validation during training
SELECTION_SEED = 2_000_000  # of the episodes by which checkpoints are chosen during training
ROLLOUT_SEED = 3_000_000  # of the episodes that are reported
CHUNK = 250  # sequences per forward pass: more would not stay in the cache


def questions(trajectories, tasks, n, context, seed):
    """{task: (values, see, predict)} of n sequences per task, always the same for a seed.

    Every trajectory is used equally often; the windows of longer ones start at random. values: {factor: (n, T)}.
    Raises ValueError if one of them is shorter than the context.
    """
    data.check_context(trajectories, context)
    asked, tensors = {}, trajectories.tensors()
    lengths = torch.as_tensor(trajectories.lengths)
    for number, task in enumerate(tasks):
        generator = torch.Generator().manual_seed(seed + number)
        episode = torch.arange(n) % len(lengths)
        start = (torch.rand(n, dtype=torch.float64, generator=generator) * (lengths[episode] - context + 1)).long()
        timestep = start[:, None] + torch.arange(context)
        values = {name: tensor[episode[:, None], timestep] for name, tensor in tensors.items()}
        see, predict = masks.draw(task, n, context, generator, balanced=True)
        asked[task] = values | {"timestep": timestep}, see, predict
    return asked


def answer(model, values, see, only=slice(None)):
    """The model's outputs for any number of sequences, CHUNK at a time, on the CPU.

    values: {factor: (n, T) or (n, T, k)}; see: (n, T, 3) or {factor: (n, T)}; only: as Transformer.forward.
    """
    device, parts = next(model.parameters()).device, []
    with torch.inference_mode():
        for start in range(0, len(next(iter(values.values()))), CHUNK):
            chunk = lambda x: x[start : start + CHUNK].to(device)
            batch = {name: chunk(value) for name, value in values.items()}
            shown = {name: chunk(mask) for name, mask in see.items()} if isinstance(see, dict) else chunk(see)
            decode = chunk(only) if torch.is_tensor(only) else only
            parts.append({name: y.float().cpu() for name, y in model(batch, shown, decode).items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def limits(trajectories, asked):
    """{task: {factor: (n, T) nats}}: the exact posterior's loss at every entry. None for worlds without an exact posterior."""
    if not trajectories.world.startswith("doorkey") or not asked:
        return None
    import bayes

    found = {}
    for task, (_, see, _) in asked.items():
        if see.shape[1] != trajectories.lengths.max():
            return None  # windows that begin in the middle of a trajectory have another prior
        rows = trajectories[np.arange(len(see)) % len(trajectories)]
        causal = set(masks.parse(task)) & set(
            masks.CAUSAL_ONLY
        )  # these show what comes after: each entry has its own limit
        found[task] = None if causal else {k: torch.as_tensor(v) for k, v in bayes.surprisal(rows, see).items()}
    return found


def pooled(entries, predict):
    """Mean loss per factor over the predicted entries, their sum, and its standard error over sequences.

    entries, predict: {factor: (n, T)}. Returns {factor: mean} (0 where nothing is predicted), total, error.
    """
    means, deviation = {}, 0.0
    for name, entry in entries.items():
        mask = predict[name]
        count = mask.sum().clamp(min=1)
        entry = torch.where(mask, entry.double(), 0.0)
        means[name] = (entry.sum() / count).item()
        deviation = deviation + (entry.sum(dim=1) - means[name] * mask.sum(dim=1)) / count  # (n,), of a ratio of sums
    return means, sum(means.values()), deviation.square().sum().sqrt().item()


def losses(model, asked, exact=None):
    """{task: {loss, se, limit, gap, gap_se, factors: {factor: {loss, accuracy, limit}}}}; limits are None if unknown.

    asked: from questions(); exact: from limits(), of the same questions, so that sampling noise cancels in the gap.
    """
    results = {}
    for task, (values, see, predict) in asked.items():
        only = masks.asked_timestep(predict) if task in masks.ONE_TIMESTEP else slice(None)
        at = lambda arrays: {name: pick(array, only) for name, array in arrays.items()}
        outputs = answer(model, values, see, only)
        values, predict = at(values), at(masks.expand(predict, model.factors))
        entries = entry_losses(outputs, values, model.factors, model.config.head)
        means, loss, error = pooled(entries, predict)
        row = {"loss": loss, "se": error, "limit": None, "gap": None, "gap_se": None}
        row["factors"] = {name: {"loss": mean} for name, mean in means.items()}
        for factor in model.factors:
            if factor.name in outputs and factor.kind == "categorical":
                right = outputs[factor.name].argmax(dim=-1) == values[factor.name]
                row["factors"][factor.name]["accuracy"] = pooled({factor.name: right}, predict)[1]
        if exact and exact[task]:
            limit = at({name: exact[task][name] for name in entries})
            limit_means, row["limit"], _ = pooled(limit, predict)
            gaps = {name: entries[name].double() - limit[name] for name in entries}
            _, row["gap"], row["gap_se"] = pooled(gaps, predict)
            for name, mean in limit_means.items():
                row["factors"][name]["limit"] = mean
        results[task] = row
    return results


def leaks(results):
    """The tasks whose loss is below the exact limit by more than 3 standard errors: their model sees what it should not."""
    return [task for task, row in results.items() if row["gap"] is not None and row["gap"] < -3 * row["gap_se"]]


def table(results, published=None):
    """The results as lines of text, beside a published row {task: loss} if there is one."""
    columns = ["task", "loss", "limit", "gap", "published"] if published else ["task", "loss", "limit", "gap"]
    show = lambda x: "-" if x is None or math.isnan(x) else f"{x:.3f}"
    rows = [columns]
    for task, row in results.items():
        cells = [task, show(row["loss"]), show(row["limit"]), show(row["gap"])]
        if published:
            cells.append(show(published.get(task)))
        detail = [f"{name} {show(part['loss'])}" + (f" ({part['accuracy']:.0%})" if "accuracy" in part else "")
                  for name, part in row["factors"].items() if part["loss"]]  # fmt: skip
        rows.append(cells + ["  " + ", ".join(detail)])
    width = max(len(row[0]) for row in rows)
    return "\n".join(row[0].ljust(width) + "".join(f"{cell:>11s}" for cell in row[1:len(columns)]) + "".join(row[len(columns):])
                     for row in rows)  # fmt: skip


def published_row(row="random", trajectories="500"):
    """{task: loss} of a row of the paper's heatmap. Its backward dynamics has defect 1 of the original: no comparison."""
    with open(PUBLISHED, encoding="utf-8") as file:
        doorkey = json.load(file)["doorkey"]
    return dict(zip(doorkey["columns"], doorkey[trajectories][row]))


# ---------------------------------------------------------------------------------------------------------------------
# Rollouts


ROLLOUT_MODES = ("bc", "rc", "bc_states", "rc_states")  # return hidden or shown; past actions seen or hidden


def rollout(model, env, mode="bc", targets=None, generator=None):
    """Play one episode in each of env's n copies, in lockstep; env has just been reset.

    A window of the last T timesteps slides along. In it, states up to now are seen, past actions unless the mode ends in
    "_states", and for "rc" the return still to go at the window's first step: targets (n,) minus the rewards before it.
    A categorical action is sampled with the torch.Generator, or is the most probable one if there is none; a continuous
    one is clipped to env.action_bounds. Returns the rewards (n, horizon), in float64: zeros where an episode was over.
    """
    n, T, factors = env.n, model.config.context, model.factors
    shape = lambda f: (n, env.horizon + T) + ((f.size,) if f.kind == "continuous" else ())
    history = {
        f.name: torch.zeros(shape(f), dtype=torch.int64 if f.kind == "categorical" else torch.float32) for f in factors
    }
    rewards = np.zeros((n, env.horizon))
    action_factor = next(f for f in factors if f.group == "ACTION")
    return_factor = next((f for f in factors if f.group == "RETURN"), None)
    for t in range(env.horizon):
        first = max(0, t - T + 1)
        for name, observed in env.observe().items():
            history[name][:, t] = torch.as_tensor(observed)
        if mode.startswith("rc"):
            to_go = targets - rewards[:, :first].sum(axis=1)
            history[return_factor.name][:, first] = torch.as_tensor(env.encode_return(to_go, first))
        window = {name: past[:, first : first + T] for name, past in history.items()}
        window["timestep"] = (first + torch.arange(T)).expand(n, T)
        see = control_masks(n, T, t - first, mode)
        outputs = answer(model, window, see, only=slice(t - first, t - first + 1))
        action = choose(outputs, action_factor, generator)
        if action_factor.kind == "continuous":
            action = action.clamp(*env.action_bounds)  # what is remembered is what is done
        history[action_factor.name][:, t] = action
        _, rewards[:, t] = env.step(action.numpy())
        if np.all(env.over):
            break
    return rewards


def control_masks(n, T, now, mode):
    """see (n, T, 3) of a window whose current timestep has the index `now`."""
    t = torch.arange(T)
    see = torch.zeros(n, T, 3, dtype=torch.bool)
    see[..., masks.STATE] = t <= now
    see[..., masks.ACTION] = (t < now) & (not mode.endswith("_states"))
    see[:, 0, masks.RETURN] = mode.startswith("rc")
    return see


def choose(outputs, factor, generator):
    """The action to take, (n,) classes or (n, k), from the outputs (n, 1, ...) at one timestep."""
    prediction = outputs[factor.name][:, 0]
    if factor.kind == "continuous":
        return prediction
    if generator is None:
        return prediction.argmax(dim=-1)
    return torch.multinomial(prediction.softmax(dim=-1), 1, generator=generator)[:, 0]


def target_returns(env, train, factor=1.2):
    """(n,) targets: the return of the training trajectory with the nearest start, times `factor` (Uni[MASK], appendix).

    A return below 0 is divided by it instead, so that the target is always better than what was shown.
    """
    starts, own = torch.as_tensor(env.start_features()).double(), torch.as_tensor(env.dataset_features(train)).double()
    some = starts.split(max(1, 2**24 // len(own)))  # not all distances at once, if there are very many
    nearest = torch.cat([torch.cdist(part, own).argmin(dim=1) for part in some]).numpy()
    returns = env.dataset_returns(train)[nearest]
    return np.where(returns < 0, returns / factor, returns * factor)


def stage(dataset, env_id, n, seed, factors):
    """n copies of the environment to play in: Gymnasium's env_id (gymenv.py) or, without one, the data's own world."""
    if env_id:
        from gymenv import GymEnv

        return GymEnv(env_id, n, seed, factors)
    if dataset not in data.WORLDS:
        raise ValueError(
            f"dataset {dataset!r} names no world to play in; name a Gymnasium environment (--env=Hopper-v5)"
        )
    return data.environment(dataset, n, seed)


def play(model, dataset, train, episodes, seed, modes=("bc",), target_return=None, env_id=None):
    """{mode: {measure: {mean, sem}}} of rollouts on the same fresh episodes; measures are the return and the env's own.

    target_return: the same target for every episode, for the "rc" modes; by default target_returns().
    env_id: a Gymnasium environment to play in (gymenv.py); by default the world that the data set names.
    """
    results = {}
    for mode in rollout_modes(",".join(modes)):
        env = stage(dataset, env_id, episodes, seed, model.factors)
        targets = None
        if mode.startswith("rc"):
            targets = target_returns(env, train) if target_return is None else np.full(episodes, float(target_return))
        rewards = rollout(model, env, mode, targets, torch.Generator().manual_seed(seed))
        measures = {"return": rewards.sum(axis=1)} | env.report()
        results[mode] = {
            name: {"mean": float(x.mean()), "sem": float(x.std() / math.sqrt(len(x)))} for name, x in measures.items()
        }
    return results


# ---------------------------------------------------------------------------------------------------------------------
# The command


def default_tasks(model_kind, world=""):
    """The tasks that a kind of model is asked by default."""
    tasks = list(masks.MIXTURE)
    if world.startswith("maze2d"):
        tasks += ["behavior_cloning_states", "reward_conditioned_states"]
    return [task for task in tasks if masks.can(model_kind, task)]


def chosen_tasks(text, model_kind, world=""):
    """The tasks of a comma- or plus-separated string, or the default ones. Raises ValueError for one the model cannot do."""
    tasks = (
        [name for part in re.split(r",(?![^(]*\))", text) for name in masks.parse(part)]
        if text
        else default_tasks(model_kind, world)
    )
    for task in tasks:
        masks.check(model_kind, task)
    return tasks


def save_json(path, content):
    """Write beside and rename, so that a reader never sees half a file."""
    with configurator.beside(path) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)


def evaluation_set(dataset, num_trajectories, data_seed, split):
    """Trajectories to evaluate on. split: "test" (fresh ones of another seed) or "val" (those held out in training)."""
    if split not in ("test", "val"):
        raise ValueError(f"split={split!r} is neither 'test' nor 'val'")
    if split == "val" or dataset not in data.WORLDS:
        return data.train_and_validation(dataset, num_trajectories, data_seed)[1]
    return data.make(dataset, 1000 if dataset.startswith("doorkey") else 100, TEST_SEED + data_seed)


def check_settings(config):
    """Refuse what cannot work before anything is computed."""
    for key, least in (("sequences", 1), ("rollouts", 0), ("threads", 0)):
        if config[key] < least:
            raise ValueError(f"{key}={config[key]} must be at least {least}")
    check_seed(config["seed"])


def check_seed(seed, name="seed"):
    """Raise ValueError for what torch and numpy do not both take."""
    if not 0 <= seed < 2**63:
        raise ValueError(f"{name}={seed} must be from 0 to 2^63 - 1")


def check_fit(network, trajectories, dataset):
    """Raise ValueError unless a model can be asked about trajectories: they have its factors, and lengths that it takes."""
    plain = lambda factors: [(f.name, f.group, f.kind, f.size) for f in factors]
    if plain(network.factors) != plain(trajectories.factors):
        raise ValueError(f"the model was trained on other factors than {dataset} has")
    data.check_context(trajectories, network.config.context)
    longest, most = trajectories.lengths.max(), network.config.max_timestep
    if network.config.positions == "timestep" and longest > most:
        raise ValueError(
            f"positions='timestep' counts to {most}, and {dataset} has trajectories of {longest} timesteps"
        )


def main():
    config = configurator.apply(globals())
    check_settings(config)
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    network = load(config["out_dir"], config["device"])
    trained = read_config(config["out_dir"])
    source = trained["dataset"], trained["num_trajectories"], trained["data_seed"]
    episodes = config["rollouts"] or (100 if config["env"] else 0)
    modes = rollout_modes(config["modes"])
    if episodes:
        stage(trained["dataset"], config["env"], 1, ROLLOUT_SEED, network.factors)  # refuse now, not after the losses
    trajectories = evaluation_set(*source, config["split"])
    check_fit(network, trajectories, trained["dataset"])
    tasks = chosen_tasks(config["tasks"], network.config.model, trajectories.world)
    asked = questions(trajectories, tasks, config["sequences"], network.config.context, config["seed"])
    results = losses(network, asked, limits(trajectories, asked))
    published = published_row() if trained["dataset"] == "doorkey" else None
    print(table(results, published))
    if leaks(results):
        print(f"Below the exact limit by more than 3 standard errors, so something leaks: {', '.join(leaks(results))}")
    if episodes:
        train, _ = data.train_and_validation(*source)
        target, env_id = config["target_return"], config["env"]
        played = play(network, trained["dataset"], train, episodes, ROLLOUT_SEED, modes, target, env_id)
        for mode, measures in played.items():
            print(f"{mode:10s}", ", ".join(f"{name} {x['mean']:.3f} +- {x['sem']:.3f}" for name, x in measures.items()))
        save_json(os.path.join(config["out_dir"], "rollouts.json"), played)
    save_json(os.path.join(config["out_dir"], "eval.json"), results)


def rollout_modes(text):
    """The modes of a comma-separated string. Raises ValueError for one that there is not."""
    for mode in text.split(","):
        if mode not in ROLLOUT_MODES:
            raise ValueError(f"there is no rollout mode {mode!r}; modes are {', '.join(ROLLOUT_MODES)}")
    return text.split(",")


def read_config(folder):
    """The settings that train.py saved in an out_dir."""
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        config["dataset"], config["num_trajectories"], config["data_seed"]
        return config
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder} has no readable config.json as train.py saves it: {error}") from None


# settings of the command line
out_dir = "out/minigrid_random"  # a folder that train.py made
split = "test"  # "test": fresh trajectories of another data seed; "val": those held out in training
tasks = ""  # e.g. "past,future"; empty: all that the model can do
sequences = 5000  # questions per task
rollouts = 0  # episodes to play as well, in each of the modes; 0: none, or 100 if env is given
env = None  # a Gymnasium environment to play in, e.g. "Hopper-v5", for imported data; None: the data's own world
modes = "bc,bc_states"  # of ROLLOUT_MODES: return hidden (bc) or shown (rc); past actions seen, or hidden (_states)
target_return = None  # for rc: a fixed target; None: 1.2 x the return of the training trajectory with the nearest start
seed = 12345  # of the masks
device = "cpu"
threads = 1  # CPU threads (0: torch's choice)

if __name__ == "__main__":
    main()
