"""How good is a model: its loss on every task, beside the exact limit where the world has one.

    python evaluate.py --out_dir=out/minigrid_random     # prints the table, writes eval.json there

A task's loss is the mean over all predicted entries of a factor, summed over factors, as in
training with weights of 1. The *limit* is the loss of the exact posterior (bayes.py): what no model
can beat. The masks are spread evenly over the timesteps, and drawn with a seed of their own: two
models answer the same questions. Read next: rollout.py, which lets a model act; sample.py, which
asks it.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import math
import os

import numpy as np
import torch

import checkpoint
import checks
import data
import files
import masks
import model
import traits
import worlds

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/run"  # a folder that train.py made
split = "test"  # trajectories that training saw nothing of; "val": those that chose the checkpoint
tasks = ""  # e.g. "past,future"; empty: the eight, the world's, the trained ones, as the model can
sequences = 5000  # questions per task
seed = 12345  # of the masks
device = "cpu"  # or "cuda"
threads = 1  # CPU threads (0: torch's choice)
out = ""  # the file to write the results to; empty: eval.json in out_dir
# --------------------------------------------------------------------------------------------------

CHUNK = 250  # sequences that answer() computes at a time: more would not stay in a CPU's cache
VALIDATION_SEED = 999  # of the masks of validation during training
ORDER = (*masks.EIGHT, "behavior_cloning_states", "reward_conditioned_states")
PLACE = {task: place for place, task in enumerate(ORDER)}  # added to a task's seed; for others: 8


def answer(network, values, see, at=None):
    """The outputs for any number of sequences, some at a time, on the CPU and without gradients.

    values: {factor: (n, T) or (n, T, k)}; see: (n, T, 3) or {factor: (n, T)}; at: (n,) or None.
    """
    device, see = next(network.parameters()).device, masks.expand(see, network.factors)
    n, parts = len(see[network.factors[0].name]), []
    chunk = CHUNK if device.type == "cpu" else n
    with torch.inference_mode():
        for start in range(0, n, chunk):
            rows = slice(start, start + chunk)
            batch = {name: value[rows].to(device) for name, value in values.items()}
            shown = {name: mask[rows].to(device) for name, mask in see.items()}
            outputs = network(batch, shown, None if at is None else at[rows].to(device))
            parts.append({name: y.float().cpu() for name, y in outputs.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def questions(trajectories, tasks, n, context, seed=VALIDATION_SEED, returns="unchanged"):
    """{task: (values, see, predict)}: n sequences for each, drawn by its name and the seed alone.

    Every trajectory is used equally often; the windows of longer ones start at random. values:
    {factor: (n, T) or (n, T, k)}, and "episode", (n,) whose window it is; see, predict: (n, T, 3),
    or per factor where some are unknown. returns: one of masks.RETURN_MODES.
    """
    asked, windows = {}, data.Windows(trajectories, context)
    episode = torch.arange(n) % len(trajectories)  # (n,)
    for task in tasks:
        generator = torch.Generator().manual_seed(seed + PLACE.get(task, len(masks.EIGHT)))
        uniform = torch.rand(n, dtype=torch.float64, generator=generator)
        values = windows.at(episode, (uniform * windows.room[episode]).long())
        values["episode"] = episode
        pair = masks.draw(task, n, context, generator, True, returns)
        asked[task] = values, *(masks.known_only(x, values, trajectories.factors) for x in pair)
    return asked


def limits(trajectories, asked, model_type="unimask"):
    """{task: {factor: (n, T) nats}}: the loss of the exact posterior at every entry.

    None where there is no exact answer: in another world, for windows of longer trajectories, which
    have another prior, and where something is unknown. A task has None if it shows what it asks
    for; of a causal model ("dt") also if it asks at several timesteps, or shows what comes after.
    """
    world = worlds.WORLDS.get(trajectories.world)
    if world is None or world.surprisal is None or not asked:
        return None
    found = {}
    for task, (values, see, predict) in asked.items():
        if isinstance(see, dict) or see.shape[1] != trajectories.lengths.max():
            return None
        wanted = predict.any(-1)  # (n, T) timesteps that it asks about
        first = wanted.byte().argmax(1, keepdim=True)  # (n, 1)
        later = (see.any(-1) & (torch.arange(see.shape[1]) > first)).any()
        several = (wanted.sum(1) > 1).any()
        no_limit = (see & predict).any() or (model_type == "dt" and (several or later))
        rows = trajectories[values["episode"].numpy()]
        returns = bool(predict[..., masks.RETURN].any())
        nats = {} if no_limit else world.surprisal(rows, see, returns)
        for name, mask in masks.expand(predict, rows.factors).items():
            if name in nats and np.isinf(nats[name][mask.numpy()]).any():
                raise ValueError(f"some trajectory cannot happen in the world {trajectories.world}")
        found[task] = {name: torch.as_tensor(x) for name, x in nats.items()} or None
    return found


def losses(network, asked, exact=None):
    """{task: {loss, se, limit, gap, gap_se, factors: {factor: {loss, accuracy, limit}}}}.

    asked: from questions(). exact: from limits(), of the same questions, so that their luck cancels
    in the gap; limits and gaps are None without it. se, gap_se: standard errors over trajectories,
    of which each is asked about several times.
    """
    results = {}
    for task, (values, see, predict) in asked.items():
        at = traits.wanted_timestep(task, predict)
        outputs = answer(network, values, see, at)
        entries = model.entry_losses(network, outputs, values, at)  # {factor: (n, T or 1)}
        predict = masks.expand(predict, network.factors)
        predict = {name: model.take(mask, at) for name, mask in predict.items()}
        means, loss, error = pooled(entries, predict, values["episode"])
        row = {"loss": loss, "se": error, "limit": None, "gap": None, "gap_se": None}
        row["factors"] = {name: {"loss": mean} for name, mean in means.items()}
        for f in network.predicted:
            if f.kind == "categorical":
                right = outputs[f.name].argmax(dim=-1) == model.take(values[f.name], at)
                _, share, _ = pooled({f.name: right}, predict, values["episode"])
                row["factors"][f.name]["accuracy"] = share
        if exact and exact[task]:
            known = [name for name in entries if name in exact[task]]  # returns only where asked
            nats = {name: model.take(exact[task][name], at) for name in known}
            gaps = {name: entries[name].double() - nats[name] for name in known}
            limit_means, row["limit"], _ = pooled(nats, predict, values["episode"])
            _, row["gap"], row["gap_se"] = pooled(gaps, predict, values["episode"])
            for name, mean in limit_means.items():
                row["factors"][name]["limit"] = mean
        results[task] = row
    return results


def pooled(entries, predict, episode):
    """{factor: mean loss over the predicted entries}, their sum, and its standard error.

    entries, predict: {factor: (n, T)}; episode: (n,) those of one trajectory are not independent.
    A factor of which nothing is predicted has 0. A single trajectory tells no error: None.
    """
    means, deviation = {}, torch.zeros(len(episode), dtype=torch.float64)
    for name, entry in entries.items():
        mask = predict[name]
        count = mask.sum().clamp(min=1)
        entry = torch.where(mask, entry.double(), 0.0)
        means[name] = (entry.sum() / count).item()
        # (n,) how far each sequence draws the mean, a ratio of sums, away from its value
        deviation += (entry.sum(dim=1) - means[name] * mask.sum(dim=1)) / count
    of_each = torch.zeros_like(deviation).index_add(0, episode, deviation)
    n = len(episode.unique())  # of trajectories; with few the mean lies close to each of them
    error = math.sqrt(of_each.square().sum() * n / (n - 1)) if n > 1 else None
    return means, sum(means.values()), error


def leaks(results):
    """The tasks more than 3 standard errors below the exact limit: their model sees too much."""
    rows = {task: row for task, row in results.items() if row["gap_se"] is not None}
    return [task for task, row in rows.items() if row["gap"] < -3 * row["gap_se"] - 1e-6]


def table(results):
    """The results as lines of text."""
    columns = ["loss", "limit", "gap"]
    width = max(len(task) for task in ["task", *results])
    lines = ["task".ljust(width) + "".join(column.rjust(11) for column in columns)]
    for task, row in results.items():
        details = []
        for name, part in row["factors"].items():
            accuracy = f" ({part['accuracy']:.0%})" if "accuracy" in part else ""
            details += [f"{name} {part['loss']:.3f}{accuracy}"] if part["loss"] else []
        cells = "".join(show(row[column]).rjust(11) for column in columns)
        lines.append(f"{task.ljust(width)}{cells}  {', '.join(details)}".rstrip())
    return "\n".join(lines)


def show(x):
    return "-" if x is None else f"{x:.3f}"


def main():
    ranges = {"sequences": (1, math.inf), "seed": (0, 2**63), "threads": (0, 1025)}
    configurator.check(globals(), ranges)
    torch.set_num_threads(threads or torch.get_num_threads())
    network, trained = checkpoint.open_run(out_dir, device)
    path = out or os.path.join(out_dir, "eval.json")
    files.check_writable(path, ".json")
    trajectories = worlds.evaluation_set(*worlds.source_of(trained), split)
    checks.fit(network, trajectories, trained["dataset"])
    kind, context = network.config.model_type, network.config.context
    sizes = sum(f.size for f in network.factors)
    configurator.check_memory(4 * sequences * context * sizes, f"sequences={sequences}")
    extra, task = worlds.tasks_of(trajectories.world), trained.get("task")
    names = traits.chosen(tasks, kind, context, network.predicted, extra, task)
    returns = trained.get("returns", "unchanged")
    asked = questions(trajectories, names, sequences, context, seed, returns)
    asked = checks.answerable(network, asked, chosen=bool(tasks))
    results = losses(network, asked, limits(trajectories, asked, kind))
    for task, row in results.items():
        if not math.isfinite(row["loss"]):
            far = f"{trained['dataset']} holds values far from those of training"
            raise ValueError(f"the loss of {task} is not finite: {far}")
    print(table(results))
    if leaking := leaks(results):
        below = "More than 3 standard errors below the exact limit, so something leaks"
        print(f"{below}: {', '.join(leaking)}")
    files.save_json(path, results)


if __name__ == "__main__":
    configurator.apply(globals())
    main()
