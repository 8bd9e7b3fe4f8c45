"""The DoorKey heatmap: every row of models on every task, beside the published values and the exact limit.

    python repro/heatmap.py --n=500       # from repro/results/runs/minigrid_500/*.json, whatever is there of them

Writes repro/results/minigrid_500.json, assets/minigrid_table.md and assets/minigrid_heatmap.png (for other N with _N in
their names). Every row was asked the same questions on the same 1,000 test trajectories; in the row random+finetune,
each column is the model finetuned for it, and in the row ensemble those of all seeds together.
Read next: table.py, the same for Maze2D.
"""

import argparse
import json
import os
import re
import statistics
from pathlib import Path

import job
import jobs

TITLES = {task: task.replace("_", " ") for task in jobs.MINIGRID_TASKS} | {
    "behavior_cloning": "BC", "reward_conditioned": "RC", "goal_conditioned": "goal",
    "forward_dynamics": "forward", "backward_dynamics": "backward",
}  # fmt: skip
BASELINES = ["nn_bc", "nn_random", "dt_bc", "dt_rc"]
ROWS = [row for row in jobs.MINIGRID if row not in BASELINES] + ["random+finetune", "ensemble", *BASELINES]
CAUSAL_TASKS = ("behavior_cloning", "reward_conditioned")  # all that Decision-GPT can do
DEFECT = "backward_dynamics"  # published with another index in one draw of nine (defect 1): its limit is 0.98, not 0.56


def collect(folder):
    """{row: {task: {seed: {"loss", "limit"}}}} of the run files in a folder, and the runs {file name: content}."""
    cells = {row: {} for row in ROWS}
    runs = read_runs(folder)
    for (name, seed), content in runs.items():
        row, _, column = name.partition("-")
        if row not in cells:
            raise ValueError(f"{folder}/{name}_s{seed}.json is of no row of the heatmap; rows are {', '.join(ROWS)}")
        for task, result in content["results"]["best"]["losses"].items():
            if column in ("", task):
                cells[row].setdefault(task, {})[seed] = result
    return cells, runs


def read_runs(folder):
    """{(name, seed): content} of the whole result files NAME_sSEED.json of a folder, in order of name and seed."""
    runs = {}
    for path in Path(folder).glob("*.json"):
        match, content = re.fullmatch(r"(.+)_s(\d+)", path.stem), job.read_result(path)
        if match and content:
            runs[match[1], int(match[2])] = content
    return dict(sorted(runs.items()))


def summary(cells, runs, parallel, command):
    """The content of repro/results/minigrid_N.json. parallel: how many runs were made at a time."""
    rows = {row: {task: spread(columns[task]) for task in jobs.MINIGRID_TASKS if task in columns}
            for row, columns in cells.items() if columns}  # fmt: skip
    return {
        "seeds": sorted({seed for _, seed in runs}),
        "limit": limits(cells),
        "rows": rows,
        "minutes": round(total_minutes(runs) / parallel, 1),
        "core_minutes": round(total_minutes(runs), 1),
        "command": command,
    }


def spread(by_seed):
    """Mean and standard deviation of the loss over seeds ({seed: {"loss": ...}}); one seed has no deviation."""
    values = [result["loss"] for result in by_seed.values()]
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": deviation, "n": len(values)}


def limits(cells):
    """{task: nats}. Raises ValueError if two runs were asked other questions, which shows in their limits."""
    found = {}
    for row, columns in cells.items():
        for task, by_seed in columns.items():
            for seed, result in by_seed.items():
                limit = found.setdefault(task, result["limit"])
                if abs(limit - result["limit"]) > 1e-5:
                    raise ValueError(
                        f"{row}, seed {seed} was evaluated on other questions than other runs: "
                        f"the limit of {task} is {result['limit']} there and {limit} elsewhere"
                    )
    return {task: found[task] for task in jobs.MINIGRID_TASKS if task in found}


def total_minutes(runs):
    """Minutes of all runs, training and evaluation, one after the other."""
    return sum(sum(content["minutes"].values()) for content in runs.values())


def published_rows(n):
    """{row: {task: loss}} of the paper's heatmap, {} for an N that it does not have."""
    table = json.loads((job.ROOT / "repro/published.json").read_text(encoding="utf-8"))["doorkey"]
    columns = [name.removesuffix("_with_defect_1") for name in table["columns"]]
    return {row: dict(zip(columns, values)) for row, values in table.get(str(n), {}).items()}


# ---------------------------------------------------------------------------------------------------------------------
# The Markdown table


def markdown(found, published, n):
    """Two tables of Markdown: the losses with the published ones, and the gaps to the limit."""
    tasks = jobs.MINIGRID_TASKS
    lines = [
        f"Test losses in nats after training on {n} trajectories, mean ± standard deviation over "
        f"{count(found['seeds'])}, with the published value in parentheses. Bold: the best of the column.",
        "",
        *table_head("trained on", tasks),
    ]
    best = column_best(found)
    rows = [row for row in ROWS if row != "ensemble" or row in found["rows"]]  # one seed makes no ensemble
    for row in rows:
        cells = [loss_cell(found, published, row, task, best) for task in tasks]
        lines.append(f"| {row.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += [limit_line(found), "", "Gap to the exact limit, in nats: 0 is a perfect model.", ""]
    lines += table_head("trained on", tasks)
    for row in rows:
        cells = [gap_cell(found, row, task) for task in tasks]
        lines.append(f"| {row.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "`ensemble`: the finetuned models of all seeds as one, their probabilities averaged; not a single model. "
        "A dash: the model cannot do the task. `*` The published backward dynamics asks for the last state given the "
        "first in one draw of nine, which has another limit (0.98): no comparison. Made by",
        "",
        f"    {found['command']}",
        "",
        f"in {found['core_minutes']:.0f} core-minutes.",
    ]
    return "\n".join(lines) + "\n"


def count(seeds):
    """`1 seed`, `6 seeds`."""
    return f"{len(seeds)} seed" + ("" if len(seeds) == 1 else "s")


def table_head(first, tasks):
    return [f"| {first} | " + " | ".join(TITLES[task] for task in tasks) + " |", "|---|" + "---|" * len(tasks)]


def loss_cell(found, published, row, task, best):
    """`0.976 ± 0.004 (1.06)`; how many seeds, if some are missing."""
    theirs = published.get(row, {}).get(task)
    tail = f" ({theirs:.3g}{'*' if task == DEFECT else ''})" if theirs is not None else ""
    cell = found["rows"].get(row, {}).get(task)
    if cell is None:
        return absent(row, task) + tail
    text = f"{cell['mean']:.3f}" + (f" ± {cell['std']:.3f}" if cell["std"] is not None else "")
    text = f"**{text}**" if cell["mean"] == best[task] else text
    short = cell["n"] < len(found["seeds"]) and row != "ensemble"
    return text + tail + (f" n={cell['n']}" if short else "")


def gap_cell(found, row, task):
    cell = found["rows"].get(row, {}).get(task)
    return f"{cell['mean'] - found['limit'][task]:.3f}" if cell else absent(row, task)


def absent(row, task):
    """Why a cell is empty."""
    return "–" if row.startswith("dt_") and task not in CAUSAL_TASKS else "missing"


def limit_line(found):
    values = [f"{found['limit'][task]:.3f}" if task in found["limit"] else "missing" for task in jobs.MINIGRID_TASKS]
    return "| *exact limit* | " + " | ".join(values) + " |"


def column_best(found):
    """{task: the lowest mean loss of any row}."""
    means = lambda task: [columns[task]["mean"] for columns in found["rows"].values() if task in columns]
    return {task: min(means(task), default=None) for task in jobs.MINIGRID_TASKS}


# ---------------------------------------------------------------------------------------------------------------------
# The figure


def panels(found):
    """{title: {row: {task: number}}} of the three forms of the heatmap, the limit as the last row."""
    best = column_best(found)
    raw = {row: {task: cell["mean"] for task, cell in columns.items()} for row, columns in found["rows"].items()}
    raw["exact limit"] = found["limit"]
    over = lambda function: {
        row: {task: function(task, x) for task, x in columns.items()} for row, columns in raw.items()
    }
    return {
        "loss (nats)": raw,
        "divided by the best model of the column": over(lambda task, x: x / best[task]),
        "gap to the exact limit (nats)": over(lambda task, x: x - found["limit"][task]),
    }


def draw(found, path, title):
    """The heatmap in three forms, one above the other; each column has its own scale of grey, light is good."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in ROWS if row in found["rows"]] + ["exact limit"]
    figure, axes = plt.subplots(3, 1, figsize=(9, 1.6 + 1.02 * len(rows)), constrained_layout=True)
    for ax, (name, values) in zip(axes, panels(found).items()):
        draw_panel(ax, [[values[row].get(task) for task in jobs.MINIGRID_TASKS] for row in rows])
        ax.set_yticks(range(len(rows)), [row.replace("_", " ") for row in rows], fontsize=9)
        ax.set_title(name, fontsize=11)
    figure.suptitle(title, fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    with job.configurator.beside(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")
    plt.close(figure)


def draw_panel(ax, grid):
    """Numbers in cells, grey between the best and the worst of each column; cells without a number are left blank."""
    shades = [shade_column(column) for column in zip(*grid)]
    image = [[shades[x][y] for x in range(len(shades))] for y in range(len(grid))]
    ax.imshow(image, cmap="Greys", vmin=0, vmax=1.25, aspect="auto")
    for y, line in enumerate(grid):
        for x, value in enumerate(line):
            if value is not None:
                text, color = (
                    f"{value:.2f}" if value >= 9.995 else f"{value:.3f}",
                    "white" if image[y][x] > 0.7 else "black",
                )
                ax.text(x, y, text, ha="center", va="center", fontsize=9, color=color)
    ax.axhline(len(grid) - 1.5, color="black", linewidth=1)
    ax.set_xticks(range(len(shades)), [TITLES[task] for task in jobs.MINIGRID_TASKS], fontsize=9)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)


def shade_column(column):
    """0 (best) to 1 (worst), on a square root scale that tells good models apart; NaN where there is no number."""
    known = [x for x in column if x is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    return [float("nan") if x is None else ((x - low) / max(high - low, 1e-9)) ** 0.5 for x in column]


def main():
    parser = jobs.study_arguments(argparse.ArgumentParser(description="collect the runs of repro/minigrid.sh"))
    parser.add_argument("--n", type=int, default=500, help="trajectories that the models were trained on")
    parser.add_argument("--parallel", type=int, default=2, help="runs that were made at a time")
    args = parser.parse_args()
    job.configurator.one_line_errors()
    os.chdir(job.ROOT)
    study = jobs.Study("minigrid", str(args.n), args.preset, args.fraction)
    cells, runs = collect(study.runs)
    if not runs:
        raise ValueError(f"there is no finished run in {study.runs}: make some with repro/minigrid.sh")
    preset = "" if args.preset == "default" else f"{args.preset.upper()}=1 "
    found = summary(cells, runs, args.parallel, f"{preset}N={args.n} JOBS={args.parallel} bash repro/minigrid.sh")
    job.write_whole(Path(f"{study.folder}repro/results/{study.name}.json"), json.dumps(found, indent=1) + "\n")
    suffix = study.name.removeprefix("minigrid").removeprefix("_500")
    assets = Path(f"{study.folder}assets")
    job.write_whole(assets / f"minigrid_table{suffix}.md", markdown(found, published_rows(args.n), args.n))
    draw(
        found,
        assets / f"minigrid_heatmap{suffix}.png",
        f"DoorKey, {args.n} trajectories, mean of {count(found['seeds'])}",
    )
    expected = 22 * len(found["seeds"]) + 8 * (len(found["seeds"]) > 1)
    print(f"{len(runs)} of {expected} runs: {assets}/minigrid_heatmap{suffix}.png, its table and {study.name}.json")


if __name__ == "__main__":
    main()
