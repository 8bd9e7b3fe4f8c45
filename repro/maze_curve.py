"""How the rows of the Maze2D table learn: the return on the selection episodes, and the error, against the minutes.

    python repro/maze_curve.py     # from repro/results/runs/maze2d_medium/*.json, the first seed of each row

Writes assets/maze2d_curve.png. Steps take about the same time throughout a run, so its minutes are spread evenly over
them; each point stands for an evaluation. Read next: table.py, for what the runs came to on other episodes.
"""

import argparse
import os
from pathlib import Path

import job
import jobs
import table

STYLES = {  # row: marker and line, to be told apart without colours
    "unimask_bc": "o-", "unimask_rc": "s-", "unimask_random": "^-", "unimask_random_finetune_bc": "o--",
    "unimask_random_finetune_rc": "s--", "dt_bc": "D:", "dt_rc": "X:", "nn_bc": "v-.", "nn_rc": "P-.",
}  # fmt: skip


def course(run):
    """(steps, minutes, error, return) of the evaluations of a run, lists: validation error of its task, best return."""
    log = run["log"]
    steps = log["iter"]
    minutes = [run["minutes"]["training"] * it / max(1, steps[-1]) for it in steps]
    returns = [max(values) for values in zip(*(log[name] for name in log if name.startswith("return_")))]
    task = "reward_conditioned_states" if "return_rc" in log and "return_bc" not in log else "behavior_cloning_states"
    return steps, minutes, log[task if task in log else task.removesuffix("_states")], returns


def draw(grid, T, path):
    """Error and return against steps (above) and minutes (below), a line for each row at the context T."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), constrained_layout=True, sharey="col")
    for row, style in STYLES.items():
        if T not in grid.get(row, {}):
            continue
        by_seed = grid[row][T]
        steps, minutes, error, returns = course(by_seed[min(by_seed)])
        for line, x in zip(axes, (steps, minutes)):
            for ax, y in zip(line, (error, returns)):
                ax.plot(x, y, style, markersize=5, linewidth=1, label=row)
    for line, x in zip(axes, ("steps", "minutes on one core")):
        for ax, y in zip(line, ("validation error of the actions", "return of 100 episodes (m)")):
            ax.set_xlabel(x)
            ax.set_ylabel(y)
            ax.grid(linewidth=0.3)
    figure.suptitle(f"Maze2D, T={T}, one seed")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with job.configurator.beside(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description="draw how the runs of repro/maze2d.sh learnt")
    parser.add_argument("--context", default="10")
    parser.add_argument("--picture", default="assets/maze2d_curve.png")
    args = parser.parse_args()
    job.configurator.one_line_errors()
    os.chdir(job.ROOT)
    grid, _ = table.collect(jobs.Study("maze2d", "medium").runs)
    if not any(args.context in by_context for row, by_context in grid.items() if row in STYLES):
        raise ValueError(f"there is no finished run at T={args.context}: make some with repro/maze2d.sh")
    draw(grid, args.context, Path(args.picture))
    print(f"drawn to {args.picture}")


if __name__ == "__main__":
    main()
