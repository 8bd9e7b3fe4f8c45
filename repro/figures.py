"""Summaries, tables and figures of a study, from whatever its results file holds.

    python repro/figures.py --study=minigrid_500    # or minigrid_curve, maze2d_medium, ...

Writes repro/results/STUDY.json and STUDY.md, and into assets/ the heatmap in three forms, the
learning curve of random masking, or how the rows of the Maze2D table learn. Read next: tables.py.
"""

import json
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

import files
import masks
import run
import tables

# ---- settings ------------------------------------------------------------------------------------
study = "minigrid_500"  # minigrid_N, minigrid_curve, maze2d_MAZE, maze2d_ablation or sweep_CONFIG
results = "repro/results"  # the folder of the results files
assets = "assets"  # the folder of the figures
parallel = 2  # runs that were made at a time
# --------------------------------------------------------------------------------------------------

SIZES = ("50", "500", "1000", "10000", "unlimited")  # trajectories along the learning curve
NAMES = {task: f"{tables.TITLES[task]} alone" for task in masks.EIGHT} | {  # of rows
    "all": "all eight tasks",
    "random": "random masks",
    "one": "more masks, one set of weights",
    "random+finetune": "random masks, finetuned",
    "ensemble": "the same, an ensemble",
    "nn_bc": "feed-forward net, BC",
    "nn_random": "feed-forward net, random masks",
    "dt_bc": "Decision-GPT, BC",
    "dt_rc": "Decision-GPT, RC",
    "dream": "dreams",
    "dream_large": "dreams, larger",
    "exact limit": "the limit",
}
COLORS = matplotlib.colormaps["viridis"]
plt.rc("axes.spines", top=False, right=False)


def main():
    if study == "masks":
        return which_masks()
    path = f"{results}/{study}"  # of what is written, without its ending
    world, _, rest = study.partition("_")
    variant, paper, _ = rest.partition("_paper")
    sizes = SIZES if variant == "curve" else [variant]
    by_size = {n: run.read_results(f"{results}/{study.replace('curve', n)}.jsonl") for n in sizes}
    lines = sum(by_size.values(), [])
    if world not in ("minigrid", "maze2d", "sweep") or variant == "returns":
        raise ValueError(f"there are no tables or figures of the study {study}")
    if not lines:
        advice = "make some with the scripts of repro/"
        raise ValueError(f"{path}.jsonl has no line yet: {advice}")
    if variant == "curve":
        gaps = {row: gaps_by_size(by_size, row) for row in LEARNING}
        files.save_json(f"{path}.json", {"gap": gaps, "command": "bash repro/curve.sh"})
        draw_learning_curve(gaps, f"{assets}/minigrid_curve.png")
        return
    minutes = [f"{tables.minutes_of(lines, x):.1f} of {x}" for x in ("training", "evaluation")]
    print(f"{study}: {len(lines)} lines, core-minutes: {', '.join(minutes)}")
    if world == "sweep":
        text = tables.sweep_table(lines)
        files.save_text(f"{path}.md", text)
        print(f"\n{text}")
        return
    # the main study of a world has no ending to its figure's name
    main = "medium" if world == "maze2d" else "500"
    ending = f"{'' if variant == main else f'_{variant}'}{paper}"
    on_gpu = sum("gpu" in line.get("versions", {}) for line in lines)
    gpu = "GPU=1 " if on_gpu > len(lines) / 2 else ""
    seeds = " ".join(map(str, tables.seeds_of(tables.own(lines))))
    which = f"{gpu}{'MAZE' if world == 'maze2d' else 'N'}={variant}"
    if paper:  # without as many evaluations as they had its lines would be made anew
        settings = [run.train_defaults() | line["settings"] for line in tables.own(lines)]
        looks = max(x["max_iters"] // x["eval_interval"] for x in settings)
        which = f"PAPER=1 LOOKS={looks} {which}"
    command = f'{which} SEEDS="{seeds}" JOBS={parallel} bash repro/{world}.sh'
    if variant == "ablation":
        files.save_text(f"{path}.md", tables.ablation_table(lines))
    elif world == "maze2d":
        found = tables.maze(lines, parallel, command)
        files.save_json(f"{path}.json", found)
        files.save_text(f"{path}.md", tables.maze_table(found, variant))
        grid = tables.maze_grid(lines)
        if any("10" in by_context for by_context in grid.values()):
            draw_courses(grid, "10", f"{assets}/maze2d_curve{ending}.png")
    else:
        found = tables.heatmap(lines, parallel, command)
        files.save_json(f"{path}.json", found)
        files.save_text(f"{path}.md", tables.heatmap_table(found, variant))
        title = f"DoorKey, {variant} trajectories, mean of {tables.count(found['seeds'])}"
        draw_heatmap(found, f"{assets}/minigrid_heatmap{ending}.png", title)


def which_masks():
    """The study of masks.sh: its table, and what the eight tasks and other questions lose by them."""
    doorkey, maze = (run.read_results(f"{results}/masks_{x}.jsonl") for x in ("doorkey", "maze2d"))
    if not doorkey + maze:
        raise ValueError(f"{results}/masks_*.jsonl have no line yet: bash repro/masks.sh")
    path, generality = f"{results}/generality.json", {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            generality = json.load(file)["rows"]
    command = f"JOBS={parallel} bash repro/masks.sh"
    found = tables.masks_study(doorkey, maze, generality, parallel, command)
    files.save_json(f"{results}/{study}.json", found)
    files.save_text(f"{results}/{study}.md", tables.masks_table(found))
    draw_masks(found, f"{assets}/masks.png")


def save(figure, path):
    with files.whole(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")
    plt.close(figure)


# --------------------------------------------------------------------------------------------------
# The heatmap


def panels(found):
    """{title: {row: {task: number}}}: the three forms of the heatmap; the last row is the limit."""
    best, limit = tables.best_of(found), found["limit"]
    loss, ratio, gap = {}, {}, {}
    for row, cells in (found["rows"] | {"exact limit": limit}).items():
        loss[row] = cells if cells is limit else {task: x["mean"] for task, x in cells.items()}
        ratio[row] = {task: x / best[task] for task, x in loss[row].items() if task in best}
        gap[row] = {task: x - limit[task] for task, x in loss[row].items()}
    return {
        "loss (nats)": loss,
        "loss, divided by that of the best single model of the column": ratio,
        "gap to the exact limit (nats)": gap,
    }


def draw_heatmap(found, path, title):
    """The heatmap in three forms, one above the other. Each column has a scale of its own."""
    rows = [*found["rows"], "exact limit"]
    names = [NAMES.get(row, row) + other_seeds(found, row) for row in rows]
    figure, axes = plt.subplots(3, 1, figsize=(9, 1.6 + 1.02 * len(rows)), layout="constrained")
    for ax, (name, values) in zip(axes, panels(found).items()):
        grid = [[values[row].get(task) for task in masks.EIGHT] for row in rows]
        draw_panel(ax, grid, [tables.TITLES[task] for task in masks.EIGHT])
        ax.set_yticks(range(len(rows)), names, fontsize=9)
        ax.set_title(name, fontsize=11, pad=8)
    figure.suptitle(f"{title}. Yellow is good.", fontsize=12)
    save(figure, path)


def other_seeds(found, row):
    """` (3 seeds)` where a row was not made with as many as the title says."""
    seeds = max((cell["n"] for cell in found["rows"].get(row, {}).values()), default=0)
    same = seeds in (0, len(found["seeds"])) or row == tables.ENSEMBLE
    return "" if same else f" ({tables.count(range(seeds))})"


def draw_panel(ax, grid, columns):
    """Numbers in cells, from yellow (the best of a column) to purple; empty cells stay white."""
    shades = list(zip(*(shade(column) for column in zip(*grid))))  # rows of columns again
    ax.imshow(shades, cmap="viridis_r", vmin=0, vmax=1, aspect="auto")
    for y, line in enumerate(grid):
        for x, value in enumerate(line):
            if value is not None:
                color = "white" if shades[y][x] > 0.42 else "black"
                digits = 3 if value < 9.995 else 2 if value < 99.95 else 0
                text = f"{value:.{digits}f}"
                ax.text(x, y, text, ha="center", va="center", fontsize=9, color=color)
    for edge in range(len(grid) - 1):  # white lines between cells, a wider one above the limit
        ax.axhline(edge + 0.5, color="white", linewidth=1 if edge < len(grid) - 2 else 5)
    for edge in range(len(columns) - 1):
        ax.axvline(edge + 0.5, color="white", linewidth=1)
    ax.set_xticks(range(len(columns)), columns, fontsize=9)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def shade(column):
    """0 (best) to 1 (worst), on a square root scale that tells good models apart; NaN if empty."""
    known = [x for x in column if x is not None] or [0.0]
    low, span = min(known), max(max(known) - min(known), 1e-9)
    return [float("nan") if x is None else ((x - low) / span) ** 0.5 for x in column]


# --------------------------------------------------------------------------------------------------
# Curves

LEARNING = ("random", "random+finetune", "dream")  # the rows of the learning curve


def gaps_by_size(studies, row):
    """{N: {task: [gap of each seed of a row]}}. studies: {N: lines}."""
    found = {}
    for n, lines in studies.items():
        for line in lines:
            name, _, column = line["row"].partition("-")  # as in heatmap()
            for task, loss in line["results"]["best"]["losses"].items() if name == row else ():
                if task in masks.EIGHT and column in ("", task):
                    found.setdefault(n, {}).setdefault(task, []).append(loss["gap"])
    return found


def draw_learning_curve(gaps, path):
    """The mean gap of each task against the number of trajectories, with a bar over the seeds.

    gaps: {row: {N: {task: [gap of each seed]}}}.
    """
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.4), layout="constrained", sharex=True)
    for ax, task in zip(axes.flat, masks.EIGHT):
        for i, (row, marker) in enumerate(zip(LEARNING, "os^")):
            sizes = [n for n in SIZES if task in gaps[row].get(n, ())]
            seeds = [gaps[row][n][task] for n in sizes]
            means = [statistics.fmean(values) for values in seeds]
            below = [mean - min(values) for mean, values in zip(means, seeds)]
            above = [max(values) - mean for mean, values in zip(means, seeds)]
            style = {"marker": marker, "linewidth": 1.5, "capsize": 2, "color": COLORS(i / 3)}
            at = [SIZES.index(n) for n in sizes]
            ax.errorbar(at, means, [below, above], label=NAMES[row], **style)
        ax.set_yscale("log")
        write_out(ax.yaxis)
        ax.set_title(tables.TITLES[task], fontsize=11)
        ax.set_xticks(range(len(SIZES)), [f"{int(n):,}" if n.isdigit() else "all" for n in SIZES])
        ax.tick_params(axis="x", labelsize=8)
        ax.grid(axis="y", which="both", linewidth=0.3)
    figure.supxlabel("training trajectories")
    figure.supylabel("gap to the exact limit (nats)")
    legend = axes[0, 0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside upper center", ncols=3, frameon=False)
    save(figure, path)


def write_out(axis):
    """Ticks of a logarithmic axis at 1, 2 and 5 of each power of ten, without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def draw_masks(found, path):
    """Gaps of the eight tasks against those of other questions; beside it returns in the maze."""
    panels = 2 if found["maze2d"] else 1
    figure, axes = plt.subplots(
        1, panels, figsize=(1 + 5 * panels, 4.6), layout="constrained", squeeze=False
    )
    axes = axes[0]
    for i, (row, words) in enumerate(tables.MASKS.items()):
        style = {"color": COLORS(i / len(tables.MASKS)), "marker": "os^vD<P>*"[i], "linestyle": ""}
        gaps = found["doorkey"].get(row, {})
        if "general" in gaps:
            axes[0].plot([gaps["sum"]], [gaps["general"]], markersize=8, label=words, **style)
        for y, x in enumerate(found["maze2d"].get(row, {}).values()):
            axes[1].plot([x], [y], markersize=8, **style)
    if found["maze2d"]:
        axes[1].set_xlabel("return in the medium maze, T=5 (m)")
        axes[1].set_yticks(range(4), ["bc", "bc_states", "rc", "rc_states"])
    axes[0].set_xlabel("sum of the gaps of the eight tasks (nats)")
    axes[0].set_ylabel("mean gap of other questions (nats)")
    for ax in axes:
        ax.grid(linewidth=0.3)
    legend = axes[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=2 * panels, fontsize=9, frameon=False)
    save(figure, path)


FAMILIES = {  # the colours: marker, rows asked for BC (solid) and RC (dashed)
    "this task alone": ("o", "unimask_bc", "unimask_rc"),
    "random masks, finetuned": ("s", "unimask_random_finetune_bc", "unimask_random_finetune_rc"),
    "Decision-GPT": ("D", "dt_bc", "dt_rc"),
    "feed-forward net": ("v", "nn_bc", "nn_rc"),
    "random masks": ("^", "unimask_random"),
    "random masks, longer": ("P", "unimask_random_long"),
    "random masks and both, one set of weights": ("*", "unimask_one"),
}


def course(line):
    """(minutes, error, return) of a run's evaluations: the error of its task, its best return.

    Steps take about the same time throughout a run: its minutes are spread evenly over them.
    """
    log, steps = line["log"], line["log"]["iter"]
    minutes = [line["minutes"]["training"] * step / max(1, steps[-1]) for step in steps]
    returns = [max(x) for x in zip(*(log[name] for name in log if name.startswith("return_")))]
    only_rc = "return_rc" in log and "return_bc" not in log
    task = "reward_conditioned" if only_rc else "behavior_cloning"
    return minutes, log.get(f"{task}_states", log.get(task)), returns


def draw_courses(grid, T, path):
    """Error and return against minutes, the first seed of each row at the context T.

    Without the evaluation before the first step: the minutes have a logarithmic scale.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    gpu = any("gpu" in row[T][0]["versions"] for row in grid.values() if T in row)
    for i, (name, (marker, *rows)) in enumerate(FAMILIES.items()):
        for row, line_style, which in zip(rows, ("-", "--"), (", BC", ", RC")):
            if T not in grid.get(row, {}):
                continue
            minutes, *curves = course(min(grid[row][T], key=lambda line: line["seed"]))
            label = name + (which if len(rows) > 1 else "")
            style = {"marker": marker, "linestyle": line_style, "color": COLORS(i / len(FAMILIES))}
            for ax, curve in zip(axes, curves):
                ax.plot(minutes[1:], curve[1:], linewidth=1.3, markersize=5, label=label, **style)
    for ax, y in zip(axes, ("validation error of the actions", "return of 100 episodes (m)")):
        ax.set_xscale("log")
        write_out(ax.xaxis)
        ax.set_xlabel(f"minutes on {'a GPU, beside other runs' if gpu else 'one core'}")
        ax.set_ylabel(y)
        ax.grid(linewidth=0.3)
    figure.suptitle(f"Maze2D, a context of {T}, one seed")
    legend = axes[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
