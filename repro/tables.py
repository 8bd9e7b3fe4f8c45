"""From the lines of a results file to the numbers and tables that are reported. For figures.py.

A summary holds means and spreads over seeds; its shape is what others build on. A table is
Markdown. `lines` are those of run.read_results(). Read next: figures.py.
"""

import json
import re
import statistics
from pathlib import Path

import masks
import traits

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))


def seeds_of(lines):
    return sorted({line["seed"] for line in lines})


def count(seeds):
    """`1 seed`, `6 seeds`."""
    return f"{len(seeds)} seed" + ("" if len(seeds) == 1 else "s")


def minutes_of(lines, *parts):
    """Minutes of all runs, one after the other. parts: "training", "evaluation"; none: both."""
    of_lines = [line.get("minutes", {}) for line in lines]
    return sum(part.get(name, 0) for part in of_lines for name in parts or part)


def in_order(known, found):
    """What is found, in the order known; what is unknown stands last."""
    return [row for row in known if row in found] + [row for row in found if row not in known]


def by_row(lines, known=()):
    """{row: its lines}, in the order of in_order()."""
    rows = in_order(known, dict.fromkeys(line["row"] for line in lines))
    return {row: [line for line in lines if line["row"] == row] for row in rows}


def averaged(values, name):
    """{"mean", name, "n"} over seeds. name: "std", the deviation, or "sem", the mean's error.

    One seed has neither.
    """
    spread = statistics.stdev(values) if len(values) > 1 else None
    if spread is not None and name == "sem":
        spread /= len(values) ** 0.5
    return {"mean": statistics.fmean(values), name: spread, "n": len(values)}


def show(cell):
    """`2.831 ± 0.010`, a dash where there is nothing."""
    if not cell:
        return "–"
    spread = cell.get("std", cell.get("sem"))
    return f"{cell['mean']:.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def markdown(columns, rows):
    """The lines of a table. rows: lists of texts."""
    head = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return head + [f"| {' | '.join(row)} |" for row in rows]


def page(*parts):
    """A Markdown page of texts and tables (lists of lines)."""
    texts = ["\n".join(part) if isinstance(part, list) else part for part in parts]
    return "\n\n".join(texts) + "\n"


MORE = ["unimask_one_10000", "unimask_bc_3000", "unimask_bc_10000"]
ELSEWHERE = {  # rows that not the script of their study makes, but another one
    "one": "one.sh", "dream": "dream.sh", "dream_large": "dream.sh",
    "unimask_one": "one.sh", "unimask_random_long": "one.sh",
} | dict.fromkeys(MORE, "demonstrations.sh")  # fmt: skip


def own(lines):
    """The lines of the rows that the script of their study trains."""
    others = *ELSEWHERE, ENSEMBLE, "demonstrator"
    return [x for x in lines if re.sub(r"-.*|_T\d+$", "", x["row"]) not in others]


def made_by(known, found, time):
    """What of the rows known was not run, and what made the others."""
    missing = [row for row in known if row not in found["rows"] and row not in ELSEWHERE]
    note = f"Not run: {', '.join(missing)}.\n\n" if missing else ""
    if any(row not in ELSEWHERE for row in found["rows"]):
        note += f"Made by `{found['command']}` in {time}."
    for script in dict.fromkeys(ELSEWHERE.values()):
        rows = [row for row in found["rows"] if ELSEWHERE.get(row) == script]
        note += f" By `bash repro/{script}`: {', '.join(rows)}." if rows else ""
    return note


# --------------------------------------------------------------------------------------------------
# DoorKey: every row of models on every task

TITLES = {task: task.replace("_", " ") for task in masks.EIGHT} | {
    "behavior_cloning": "BC",
    "reward_conditioned": "RC",
    "goal_conditioned": "goal",
    "forward_dynamics": "forward",
    "backward_dynamics": "backward",
}
ENSEMBLE = "ensemble"  # no single model: it is never the best of a column
HEATMAP = [*masks.EIGHT, "all", "random", "one", "random+finetune", ENSEMBLE]
HEATMAP += ["nn_bc", "nn_random", "dt_bc", "dt_rc", "dream", "dream_large"]


def heatmap(lines, parallel, command):
    """The summary repro/results/minigrid_N.json. parallel: how many runs were made at a time."""
    found, limit = {}, {}  # {row: {task: [loss of each seed]}}, {task: nats}
    for line in lines:
        row, _, column = line["row"].partition("-")  # random+finetune-past: the model of one column
        for task, result in line["results"]["best"]["losses"].items():
            if column in ("", task):
                found.setdefault(row, {}).setdefault(task, []).append(result["loss"])
                if abs(limit.setdefault(task, result["limit"]) - result["limit"]) > 1e-5:
                    raise ValueError(f"{row} was asked other questions: {task} has two limits")
    rows = {}
    for row in in_order(HEATMAP, found):
        tasks = in_order(masks.EIGHT, found[row])
        rows[row] = {task: averaged(found[row][task], "std") for task in tasks}
    minutes = minutes_of(own(lines))
    return {
        "seeds": seeds_of(own(lines) or lines),
        "limit": {task: limit[task] for task in in_order(masks.EIGHT, limit)},
        "rows": rows,
        "minutes": round(minutes / parallel, 1),
        "core_minutes": round(minutes, 1),
        "command": command,
    }


def best_of(found):
    """{task: the lowest mean loss of a single model}."""
    best = {}
    for row, cells in found["rows"].items():
        for task, cell in cells.items() if row != ENSEMBLE else ():
            best[task] = min(cell["mean"], best.get(task, cell["mean"]))
    return best


def heatmap_table(found, n):
    """A page with the losses beside the published ones, and with the gaps to the limit."""
    columns = [name.removesuffix("_with_defect_1") for name in PUBLISHED["doorkey"]["columns"]]
    published = PUBLISHED["doorkey"].get(n, {})
    best, losses, gaps = best_of(found), [], []
    for row, cells in found["rows"].items():
        theirs = dict(zip(columns, published.get(row, ())))
        # a column's own model was not made yet, or this row's model cannot do the task
        empty = "missing" if row in ("random+finetune", ENSEMBLE) else "–"
        losses.append([row.replace("_", " ")])
        gaps.append([row.replace("_", " ")])
        for task in masks.EIGHT:
            cell = cells.get(task)
            text = show(cell) if cell else empty
            if cell and cell["mean"] == best.get(task) and row != ENSEMBLE:
                text = f"**{text}**"
            if task in theirs:
                text += f" ({theirs[task]:.3g}{'*' if task == 'backward_dynamics' else ''})"
            if cell and cell["n"] != len(found["seeds"]) and row != ENSEMBLE:
                text += f" n={cell['n']}"
            losses[-1].append(text)
            gaps[-1].append(f"{cell['mean'] - found['limit'][task]:.3f}" if cell else empty)
    limit = {task: {"mean": nats} for task, nats in found["limit"].items()}
    losses.append(["*exact limit*", *(show(limit.get(task)) for task in masks.EIGHT)])
    head = ["trained on", *(TITLES[task] for task in masks.EIGHT)]
    caption = (
        f"Test losses in nats after training on {n} trajectories, mean ± standard deviation over "
        f"{count(found['seeds'])}, with the published value in parentheses. Bold: the best single "
        "model of the column."
    )
    notes = (
        "`random+finetune`: in each column the model finetuned for it. `ensemble`: those of all "
        "seeds as one, their probabilities averaged; not a single model. A dash: the model cannot "
        "do the task. `*` The published backward dynamics asks for the last state given the first "
        "in one draw of nine. That has another limit (0.98), so it is no comparison."
    )
    made = made_by(HEATMAP, found, f"{found['core_minutes']:.0f} core-minutes")
    second = "Gap to the exact limit, in nats: 0 is a perfect model."
    return page(caption, markdown(head, losses), second, markdown(head, gaps), notes, made)


# --------------------------------------------------------------------------------------------------
# Maze2D: the mean return of every row, asked with past actions seen and hidden

MAZE = ["unimask_bc", "unimask_rc", "unimask_bc_rc", "unimask_one", "unimask_random"]
MAZE += ["unimask_random_long", "unimask_random_bc"]
MAZE += [f"unimask_{start}_finetune_{to}" for start in ("random", "bc_rc") for to in ("bc", "rc")]
MAZE += ["dt_bc", "dt_rc", "dt_bc_timestep", "dt_rc_timestep", "nn_bc", "nn_rc"]
QUESTIONS = {"": "past actions seen", "_states": "past actions hidden"}  # added to "bc" or "rc"
DRIVEN = {  # what demonstrator.py measures
    "demonstrator": "demonstrator",
    "noise_free": "demonstrator without noise",
    "initial_distance": "initial distance, which bounds any return",
}


def maze_grid(lines):
    """{row: {T: [its lines]}}; the row of a line is written unimask_bc_T10."""
    grid = {}
    for line in lines:
        row, _, T = line["row"].rpartition("_T")
        if row:
            grid.setdefault(row, {}).setdefault(T, []).append(line)
    return {
        row: {T: grid[row][T] for T in sorted(grid[row], key=int)}
        for row in in_order(MAZE + MORE, grid)
    }


def maze(lines, parallel, command):
    """The summary repro/results/maze2d_MAZE.json. parallel: how many runs were made at a time."""
    rows = {}
    for row, by_context in maze_grid(lines).items():
        rows[row] = {}
        for T, same in by_context.items():
            policies = {kind: policy(same, kind) for kind in ("bc", "rc")}
            rows[row][T] = {kind: cell for kind, cell in policies.items() if cell}
            for kind, cell in list(rows[row][T].items()):  # with past actions hidden, as it is
                asked = cell["asked"].get(f"{kind}_states")
                rows[row][T] |= {f"{kind}_states": asked} if asked else {}
    hours = minutes_of(own(lines)) / 60
    found = {
        "seeds": seeds_of(own(lines) or lines),
        "rows": rows,
        "hours": round(hours / parallel, 2),
    }
    found |= {"core_hours": round(hours, 2), "command": command}
    driven = [line["results"] for line in lines if line["row"] == "demonstrator"]
    for name in sorted(DRIVEN) if driven else ():
        found[name] = round(statistics.fmean(result[name] for result in driven), 4)
    return found


def policy(lines, kind):
    """What a row reports for "bc" or "rc", or None if it was never asked.

    {"mean", "sem", "n", "question", "asked": {mode: {"mean", "sem", "n", "selection"}}}. Which of
    the two questions it reports was chosen on the episodes that followed training.
    """
    asked = {}
    for mode in (kind + ending for ending in QUESTIONS):
        returns = returns_of(lines, mode)
        if returns:
            values = [line["results"]["best"].get("selection", {}).get(mode) for line in lines]
            selection = None if None in values else statistics.fmean(values)
            asked[mode] = averaged(returns, "sem") | {"selection": selection}
    if not asked:
        return None
    followed = [mode for mode in asked if asked[mode]["selection"] is not None]
    # where none was followed the first, as published
    chosen_by = lambda mode: asked[mode]["selection"]
    question = max(followed, key=chosen_by) if followed else next(iter(asked))
    cell = {name: asked[question][name] for name in ("mean", "sem", "n")}
    return cell | {"question": question, "asked": asked}


def returns_of(lines, mode):
    """The mean returns in a mode, one for each seed that was asked."""
    played = [line["results"]["best"].get("rollouts", {}) for line in lines]
    return [modes[mode]["return"]["mean"] for modes in played if mode in modes]


def maze_table(found, maze):
    """A page with what each row reports, the published value, and both answers."""
    published = PUBLISHED["maze2d_medium_return_mean_and_standard_error"]
    published, rows = published if maze == "medium" else {}, []
    for T in ("10", "5"):
        for row, by_context in found["rows"].items():
            policies = by_context.get(T, {})
            for kind, cell in ((kind, policies[kind]) for kind in ("bc", "rc") if kind in policies):
                mean, error = published.get(f"T={T}", {}).get(row, {}).get(kind, (None, None))
                short = f" n={cell['n']}" if cell["n"] != len(found["seeds"]) else ""
                texts = [row, T, kind.upper(), f"**{show(cell)}**{short}"]
                texts.append(QUESTIONS[cell["question"].removeprefix(kind)])
                texts.append(f"{mean:.3f} ± {error:.3f}" if mean else "")
                texts += [show(cell["asked"].get(kind + ending)) for ending in QUESTIONS]
                rows.append(texts)
    for key, name in DRIVEN.items():
        if key in found:
            rows.append([f"*{name}*", "", "", f"{found[key]:.3f}", *[""] * 4])
    columns = ["policy", "T", "target", "return", "question", "published", *QUESTIONS.values()]
    caption = (
        f"Mean return in the {maze} maze, 1,000 fresh episodes per seed, mean ± standard error "
        f"over {count(found['seeds'])}. Every policy is asked twice, with its past actions seen "
        "and hidden. The question reported first was chosen on the episodes that followed "
        "training. Both answers are to the right."
    )
    made = made_by(MAZE, found, f"{found['core_hours']:.1f} core-hours")
    return page(caption, markdown(columns, rows), made)


CHANGED = {  # row of the ablation: what is changed, in words
    "base": "the recipe",
    "mean": "a mean, by squared error, instead of the median",
    "narrow": "three layers with n_ff=128 instead of one with 2,048",
    "fourier_features": "no Fourier features among the inputs",
    "differences": "no differences of positions",
    "plain": "neither: positions as they are",
    "actions": "past actions seen in training",
    "flag": "hidden entries are zero, without a flag",
    "constant": "a constant learning rate",
    "average": "no average of the weights",
    "neither": "a constant learning rate, and no average",
    "targets": "half random masks, with many targets per window",
    "context": "a context of 5",
    "float32": "products in float32",
}


def ablation_table(lines):
    """A page with a row for each variant: returns with past actions seen and hidden."""
    rows = []
    for row, same in by_row(lines, CHANGED).items():
        cells = [show(averaged(returns_of(same, x), "sem")) for x in ("bc", "bc_states")]
        minutes = minutes_of(same, "training") / len(same)
        rows.append([CHANGED.get(row, row), *cells, str(len(same)), f"{minutes:.1f}"])
    columns = ["what is changed", *QUESTIONS.values(), "seeds", "minutes"]
    caption = (
        "Behaviour cloning in the medium maze, T=10, 10,000 steps: mean return of 1,000 fresh "
        f"episodes per seed, mean ± standard error over {count(seeds_of(lines))}. One thing is "
        "changed per line."
    )
    return page(caption, markdown(columns, rows), "Made by `bash repro/ablation.sh`.")


# --------------------------------------------------------------------------------------------------
# A grid search


def validation(line):
    """What chose a run's best checkpoint: the tasks' loss there, summed, or the return, negative."""
    log, settings = line["log"], line["settings"]
    at, kind = log["iter"].index(line["iters"]["best"]), settings.get("keep_best", "loss")
    played = [name for name in log if name.startswith("return_") and name not in masks.TASKS]
    if kind.startswith("return"):
        return -(max if kind == "return" else sum)(log[name][at] for name in played)
    asked = [name for name in log if name not in ("iter", "train_loss", *played)]
    trained = settings.get("best_tasks") or settings.get("task", "random")
    chosen = traits.chosen(trained, settings.get("model_type", "unimask"))
    return sum(log[name][at] for name in [x for x in chosen if x in asked] or asked)


def shown(line):
    """validation(), a return with its own sign."""
    played = line["settings"].get("keep_best", "loss").startswith("return")
    return -validation(line) if played else validation(line)


def sweep_table(lines):
    """A page with a row for each pair of values, the best first."""
    rows, found = [], by_row(lines)
    for row in sorted(found, key=lambda row: statistics.fmean(map(validation, found[row]))):
        cell = averaged([shown(line) for line in found[row]], "std")
        minutes = minutes_of(found[row], "training") / len(found[row])
        rows.append([row.replace(",", ", "), show(cell), str(cell["n"]), f"{minutes:.1f}"])
    caption = (
        "What chooses the checkpoint, the validation loss (or return) of its own tasks: mean ± "
        "standard deviation over seeds, the best first."
    )
    return page(caption, markdown(["settings", "validation", "seeds", "minutes"], rows))


# --------------------------------------------------------------------------------------------------
# Which masks to train on

MASKS = {  # row: what is trained on, in words
    "random": "random",
    "random_15": "random, always 15% hidden (BERT)",
    "random_autoregressive": "random, nothing after some state or action (MTM)",
    "span": "spans",
    "all": "the eight tasks",
    "random_all": "random + the eight tasks",
    "random_all_random_control": "random + the eight tasks + random control",
    "random_and_control": "random + BC + RC",
    "random_and_random_control": "random + random control",
}


def masks_study(doorkey, maze, generality, parallel, command):
    """The summary repro/results/masks.json, means over seeds.

    {"doorkey": {row: {task: gap, "sum": x, "general": gap}}, "maze2d": {row: {mode: return}},
    "spread": the same, of deviations over seeds (returns: of the mean's error), ...}
    doorkey, maze: lines of the two studies. generality: {row: {"gap": mean, "std"}} of generality.py.
    """
    found, spread = {"doorkey": {}, "maze2d": {}}, {"doorkey": {}, "maze2d": {}}
    for world, lines in ("doorkey", doorkey), ("maze2d", maze):
        for row, same in by_row(lines, MASKS).items():
            if world == "doorkey":
                losses = [line["results"]["best"]["losses"] for line in same]
                cells = {task: [x[task]["gap"] for x in losses] for task in masks.EIGHT}
                cells["sum"] = [sum(x) for x in zip(*cells.values())]
            else:
                modes = same[0]["results"]["best"]["rollouts"]
                cells = {mode: returns_of(same, mode) for mode in modes}
            kind = "std" if world == "doorkey" else "sem"
            cells = {name: averaged(values, kind) for name, values in cells.items()}
            if world == "doorkey" and row in generality:
                cells["general"] = {"mean": generality[row]["gap"], kind: generality[row]["std"]}
            found[world][row] = {name: cell["mean"] for name, cell in cells.items()}
            spread[world][row] = {name: cell[kind] for name, cell in cells.items()}
    minutes = round(minutes_of(doorkey + maze), 1)
    found |= {"spread": spread, "seeds": seeds_of(doorkey + maze), "core_minutes": minutes}
    return found | {"minutes": round(minutes / parallel, 1), "command": command}


def masks_table(found):
    """A page with a row for each kind of masks."""
    rows, modes = [], ("bc", "bc_states", "rc", "rc_states")
    shown = {"doorkey": ("sum", *masks.EIGHT, "general"), "maze2d": modes}
    shown = {world: names for world, names in shown.items() if found[world]}
    for row in in_order(MASKS, found["doorkey"] | found["maze2d"]):
        texts = [MASKS.get(row, row)]
        for world, names in shown.items():
            means, spread = (x[world].get(row, {}) for x in (found, found["spread"]))
            for name in names:
                error = None if name in masks.EIGHT else spread.get(name)
                texts.append(show({"mean": means[name], "std": error} if name in means else None))
        rows.append(texts)
    columns = ["sum of gaps", *(TITLES[task] for task in masks.EIGHT), "other questions"]
    heads = {"doorkey": columns, "maze2d": ["maze: bc", *modes[1:]]}
    columns = ["masks", *(head for world in shown for head in heads[world])]
    in_maze = " Medium maze, T=5, 8,000 steps: mean returns of 1,000 fresh episodes."
    in_maze *= "maze2d" in shown
    caption = (
        "One set of weights, never finetuned; the same model and steps, other masks. DoorKey: gaps "
        "to the exact limit after training on 500 trajectories, and the mean gap over 1,000 "
        f"questions that no row was trained on by name (`generality.py`).{in_maze} Means over "
        f"{count(found['seeds'])} at most, ± standard deviation (returns: standard error)."
    )
    made = f"Made by `{found['command']}` in {found['core_minutes']:.0f} core-minutes."
    return page(caption, markdown(columns, rows), made)
