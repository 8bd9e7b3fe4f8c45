"""What each part of the Maze2D recipe is worth: behaviour cloning with one thing changed at a time.

    python repro/ablation.py --list --seeds="0 1 2"    # the runs, one command line each
    python repro/ablation.py                           # from repro/results/runs/maze2d_ablation/*.json to a table

Writes assets/maze2d_ablation.md: the return over 1,000 fresh episodes per seed, asked with past actions seen and hidden.
Read next: table.py, the rows of the paper; jobs.py, the recipes.
"""

import argparse
import os
from pathlib import Path

import heatmap
import job
import jobs
import table

BASE, T = "unimask_bc", 10
SHORTER = {"max_iters": 10000, "eval_interval": 5000}  # half the steps of the recipe, so that differences show
VARIANTS = {  # name of the run: (what is changed, in words; in settings)
    "base": ("the recipe", {}),
    "mean": ("a mean, by squared error, instead of the median", {"head": "mean"}),
    "narrow": ("three layers with n_ff=128 instead of one with 2,048", {"n_layer": 3, "n_ff": 128}),
    "octaves": ("no octaves among the inputs", {"octaves": 0}),
    "differences": ("no differences of positions", {"differences": False}),
    "plain": ("neither: positions as they are", {"octaves": 0, "differences": False}),
    "actions": ("past actions seen in training", {"task": "behavior_cloning"}),
    "flag": ("hidden entries are zero, without a flag", {"hidden": "zero"}),
    "constant": ("a constant learning rate", {"decay_lr": False}),
    "average": ("no average of the weights", {"ema": 0.0}),
    "neither": ("a constant learning rate, and no average", {"decay_lr": False, "ema": 0.0}),
    "targets": ("half random masks, with many targets per window", {"task": "behavior_cloning_states+random"}),
    "context": ("a context of 5", {"context": 5}),
    "float32": ("products in float32", {"dtype": "float32"}),
}


def runs_of(study, seeds):
    """The Runs of the ablation: every variant of every seed."""
    config, settings = jobs.maze2d_recipe(study._replace(variant="medium"), BASE, T)
    return [
        jobs.run_of(study, name, name, seed, config, settings | SHORTER | changed)
        for seed in seeds
        for name, (_, changed) in VARIANTS.items()
    ]


def markdown(runs):
    """The table of run files {(name, seed): content}; a variant without any is left out."""
    seeds = sorted({seed for _, seed in runs})
    lines = [
        f"Behaviour cloning in the medium maze, T={T}, {SHORTER['max_iters']:,} steps: mean return of 1,000 fresh "
        f"episodes per seed, mean ± standard error over {heatmap.count(seeds)}; one thing is changed per line.",
        "",
        "| what is changed | past actions seen | past actions hidden | seeds | minutes |",
        "|---|---|---|---|---|",
    ]
    for name, (words, _) in VARIANTS.items():
        found = {seed: content for (other, seed), content in runs.items() if other == name}
        if found:
            cells = [table.mean_and_error(table.returns(found, "best", mode)) for mode in ("bc", "bc_states")]
            minutes = sum(content["minutes"]["training"] for content in found.values()) / len(found)
            lines.append(f"| {words} | {' | '.join(map(table.show, cells))} | {len(found)} | {minutes:.1f} |")
    return "\n".join(lines) + "\n\nMade by `bash repro/ablation.sh`.\n"


def main():
    parser = argparse.ArgumentParser(description="list the runs of the ablation, or collect them in a table")
    parser.add_argument("--list", action="store_true", help="print the runs instead")
    parser.add_argument("--seeds", default="0", help='of the runs to list, e.g. "0 1 2"')
    parser.add_argument("--rows", default="", help='of the runs to list, e.g. "base mean"; empty: all')
    parser.add_argument("--preset", choices=("default", "smoke"), default="default")
    args = parser.parse_args()
    job.configurator.one_line_errors()
    os.chdir(job.ROOT)
    study = jobs.Study("maze2d", "ablation", args.preset)
    if args.list:
        rows = args.rows.split() or list(VARIANTS)
        if unknown := set(rows) - set(VARIANTS):
            raise ValueError(f"there is no variant {min(unknown)!r}; variants are {', '.join(VARIANTS)}")
        print("\n".join(run.line for run in runs_of(study, map(int, args.seeds.split())) if run.row in rows))
        return
    runs = heatmap.read_runs(study.runs)
    if not runs:
        raise ValueError(f"there is no finished run in {study.runs}: make some with repro/ablation.sh")
    path = Path(f"{study.folder}assets/maze2d_ablation.md")
    job.write_whole(path, markdown(runs))
    print(f"{len(runs)} runs; wrote {path}")


if __name__ == "__main__":
    main()
