"""The learning curve of random masking: the gap to the exact limit against the number of DoorKey trajectories.

    python repro/curve.py       # from repro/results/runs/minigrid_*/random_s*.json, whatever is there of them

Writes assets/minigrid_curve.png and repro/results/minigrid_curve.json. Read next: heatmap.py, for all other rows.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

import heatmap
import job
import jobs

MARKERS = dict(zip(jobs.MINIGRID_TASKS, "os^vDX<>"))  # to be told apart without colours


def collect(study):
    """{number of trajectories: {task: [gap of each seed]}} in the order of jobs.CURVE."""
    found = {}
    for n in jobs.CURVE:
        runs = heatmap.read_runs(study._replace(variant=n).runs)
        losses = [content["results"]["best"]["losses"] for (name, _), content in runs.items() if name == "random"]
        if losses:
            found[n] = {task: [loss[task]["gap"] for loss in losses] for task in jobs.MINIGRID_TASKS}
    return found


def draw(found, path):
    """Mean gap of each task, on logarithmic axes, with a bar from the least to the largest of the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.5, 4.5), constrained_layout=True)
    places = range(len(found))
    for task, marker in MARKERS.items():
        gaps = [columns[task] for columns in found.values()]
        means = [statistics.fmean(values) for values in gaps]
        spread = [
            [m - min(values) for m, values in zip(means, gaps)],
            [max(values) - m for m, values in zip(means, gaps)],
        ]
        ax.errorbar(
            places, means, spread, marker=marker, markersize=6, linewidth=1, capsize=2, label=heatmap.TITLES[task]
        )
    ax.set_yscale("log")
    ax.set_xticks(places, [f"{int(n):,}" if n.isdigit() else n for n in found])
    ax.set_xlabel("training trajectories")
    ax.set_ylabel("gap to the exact limit (nats)")
    ax.grid(axis="y", which="both", linewidth=0.3)
    ax.legend(ncols=2, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with job.configurator.beside(path) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description="draw the learning curve from the runs of repro/curve.sh")
    parser.add_argument("--preset", choices=("default", "smoke"), default="default")
    args = parser.parse_args()
    job.configurator.one_line_errors()
    os.chdir(job.ROOT)
    study = jobs.Study("minigrid", "500", args.preset)
    found = collect(study)
    if not found:
        raise ValueError(f"there is no finished run in {study.runs}: make some with repro/curve.sh")
    content = {"gap": found, "command": "bash repro/curve.sh"}
    job.write_whole(Path(f"{study.folder}repro/results/minigrid_curve.json"), json.dumps(content, indent=1) + "\n")
    draw(found, Path(f"{study.folder}assets/minigrid_curve.png"))
    print(f"{', '.join(found)} trajectories: {study.folder}assets/minigrid_curve.png")


if __name__ == "__main__":
    main()
