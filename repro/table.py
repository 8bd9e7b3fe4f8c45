"""The Maze2D table: the mean return of every row, asked with past actions seen and hidden, best and last checkpoint.

    python repro/table.py --maze=medium   # from repro/results/runs/maze2d_medium/*.json, whatever is there of them

Writes repro/results/maze2d_medium.json and assets/maze2d_table.md (for other mazes with their name). Which of the two
questions a row reports was chosen on the episodes that followed its training (selection), never on those reported.
Read next: heatmap.py, the same for DoorKey.
"""

import argparse
import json
import math
import os
import statistics
from pathlib import Path

import heatmap
import job
import jobs

ROWS = ["unimask_bc", "unimask_rc", "unimask_bc_rc", "unimask_random", "unimask_random_bc", *jobs.MAZE2D_FINETUNE,
        "dt_bc", "dt_rc", "dt_bc_timestep", "dt_rc_timestep", "nn_bc", "nn_rc"]  # fmt: skip
QUESTIONS = {"": "past actions seen", "_states": "past actions hidden"}  # what is added to the mode "bc" or "rc"


def collect(folder):
    """{row: {T: {seed: run}}} of the run files ROW_TT_sSEED.json of a folder, and all runs."""
    runs, grid = heatmap.read_runs(folder), {}
    for (name, seed), content in runs.items():
        row, _, T = name.rpartition("_T")
        if row not in ROWS:
            raise ValueError(f"{folder}/{name}_s{seed}.json is of no row of the table; rows are {', '.join(ROWS)}")
        grid.setdefault(row, {}).setdefault(T, {})[seed] = content
    return {row: grid[row] for row in ROWS if row in grid}, runs


def summary(grid, runs, parallel, command):
    """The content of repro/results/maze2d_MAZE.json, but for the demonstrator. parallel: runs made at a time."""
    rows = {}
    for row, by_context in grid.items():
        for T, by_seed in sorted(by_context.items(), key=lambda item: int(item[0])):
            kinds = {kind: policy(by_seed, kind) for kind in ("bc", "rc")}
            rows.setdefault(row, {})[T] = {kind: cell for kind, cell in kinds.items() if cell}
    hours = heatmap.total_minutes(runs) / 60
    return {"seeds": sorted({seed for _, seed in runs}), "rows": rows, "hours": round(hours / parallel, 2),
            "core_hours": round(hours, 2), "command": command}  # fmt: skip


def policy(by_seed, kind):
    """What a row reports for "bc" or "rc", or None if it was never asked.

    {"mean", "sem", "n", "question", "asked": {mode: {"best", "last": {"mean", "sem", "n"}, "selection": mean return}}}
    """
    asked = {}
    for mode in (kind + ending for ending in QUESTIONS):
        of = {which: returns(by_seed, which, mode) for which in ("best", "last")}
        if of["best"]:
            asked[mode] = {which: mean_and_error(values) for which, values in of.items()}
            asked[mode]["selection"] = selected(by_seed, mode)
    if not asked:
        return None
    followed = {mode: x["selection"] for mode, x in asked.items() if x["selection"] is not None}
    question = max(followed, key=followed.get) if followed else kind  # training played none of them: as published
    question = question if question in asked else next(iter(asked))
    return asked[question]["best"] | {"question": question, "asked": asked}


def returns(by_seed, which, mode):
    """The mean returns of a checkpoint ("best" or "last") in a mode, one for each seed that was asked."""
    played = [run["results"][which].get("rollouts", {}) for run in by_seed.values()]
    return [modes[mode]["return"]["mean"] for modes in played if mode in modes]


def selected(by_seed, mode):
    """Mean over seeds of the best checkpoint's return on the selection episodes, None if a seed did not play them."""
    values = [run["results"]["best"].get("selection", {}).get(mode) for run in by_seed.values()]
    return statistics.fmean(values) if values and None not in values else None


def mean_and_error(values):
    """Mean over seeds and its standard error; one seed has no error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sem": error, "n": len(values)}


def demonstrator(maze, seeds, noise, episodes=1000):
    """(mean return, mean initial distance) of the demonstrator, on the very episodes that the models play."""
    import numpy as np

    import evaluate
    import maze2d

    returned, distance = [], []
    for seed in seeds:
        env, generator = maze2d.Maze2D(maze, episodes, evaluate.ROLLOUT_SEED + seed), np.random.default_rng(seed)
        driver = maze2d.Demonstrator(maze, generator)
        driver.plan(env.qpos, env.goal)
        distance.append(np.linalg.norm(env.qpos - env.goal, axis=1).mean())
        total = 0.0
        for _ in range(env.horizon):
            action = driver.act(env.qpos, env.qvel) + noise * generator.standard_normal((episodes, 2))
            total = total + env.step(action)[1].mean()
        returned.append(total)
    return round(float(np.mean(returned)), 4), round(float(np.mean(distance)), 4)


def published_cells():
    """{(row, T, kind): (mean, sem)} of the paper's medium maze."""
    tables = json.loads((job.ROOT / "repro/published.json").read_text(encoding="utf-8"))
    tables = tables["maze2d_medium_return_mean_and_standard_error"]
    return {(row, T.removeprefix("T="), kind): tuple(cell)
            for T, rows in tables.items() for row, kinds in rows.items() for kind, cell in kinds.items()}  # fmt: skip


def markdown(found, maze, contexts=("10", "5")):
    """The table: what a row reports and the published value first, then all four answers of every policy."""
    published = published_cells() if maze == "medium" else {}
    lines = [
        f"Mean return in the {maze} maze, 1,000 fresh episodes per seed, mean ± standard error over "
        f"{heatmap.count(found['seeds'])}. Every policy is asked twice, with its past actions seen and hidden. The "
        "question reported first was chosen on the episodes that followed training; all four answers are to the right, "
        "for the best checkpoint and the last.",
        "",
        "| policy | T | target | return | question | published | seen best | seen last | hidden best | hidden last |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for T in contexts:
        for row in ROWS:
            cells = found["rows"].get(row, {}).get(T, {})
            for kind, cell in cells.items():
                theirs = published.get((row, T, kind))
                lines.append(line(row, T, kind, cell, theirs, len(found["seeds"])))
            if not cells and any(T in by_context for by_context in found["rows"].values()):  # of a context that was run
                lines.append(f"| {row} | {T} | | missing | | | | | | |")
    for name, key in (("demonstrator", "demonstrator"), ("demonstrator without noise", "noise_free"),
                      ("initial distance, which bounds any return", "initial_distance")):  # fmt: skip
        if key in found:
            lines.append(f"| *{name}* | | | {found[key]:.3f} | | | | | | |")
    lines += ["", "Made by", "", f"    {found['command']}", "", f"in {found['core_hours']:.1f} core-hours."]
    return "\n".join(lines) + "\n"


def line(row, T, kind, cell, published, seeds):
    """One line of the table."""
    answers = [
        show(cell["asked"].get(kind + ending, {}).get(which)) for ending in QUESTIONS for which in ("best", "last")
    ]
    question = QUESTIONS[cell["question"].removeprefix(kind)]
    missing = f" n={cell['n']}" if cell["n"] < seeds else ""
    theirs = f"{published[0]:.3f} ± {published[1]:.3f}" if published else ""
    cells = [row, T, kind.upper(), f"**{show(cell)}**{missing}", question, theirs, *answers]
    return "| " + " | ".join(cells) + " |"


def show(cell):
    """`2.831 ± 0.010`, a dash where there is nothing."""
    if not cell:
        return "–"
    return f"{cell['mean']:.3f}" + (f" ± {cell['sem']:.3f}" if cell["sem"] is not None else "")


def main():
    parser = jobs.study_arguments(argparse.ArgumentParser(description="collect the runs of repro/maze2d.sh"))
    parser.add_argument("--maze", choices=("umaze", "medium", "large"), default="medium")
    parser.add_argument("--parallel", type=int, default=2, help="runs that were made at a time")
    args = parser.parse_args()
    job.configurator.one_line_errors()
    os.chdir(job.ROOT)
    study = jobs.Study("maze2d", args.maze, args.preset, args.fraction)
    grid, runs = collect(study.runs)
    if not runs:
        raise ValueError(f"there is no finished run in {study.runs}: make some with repro/maze2d.sh")
    preset = "" if args.preset == "default" else f"{args.preset.upper()}=1 "
    found = summary(grid, runs, args.parallel, f"{preset}MAZE={args.maze} JOBS={args.parallel} bash repro/maze2d.sh")
    found["demonstrator"], found["initial_distance"] = demonstrator(args.maze, found["seeds"], noise=0.5)
    found["noise_free"], _ = demonstrator(args.maze, found["seeds"], noise=0.0)
    job.write_whole(Path(f"{study.folder}repro/results/{study.name}.json"), json.dumps(found, indent=1) + "\n")
    suffix = study.name.removeprefix("maze2d").removeprefix("_medium")
    table = Path(f"{study.folder}assets/maze2d_table{suffix}.md")
    job.write_whole(table, markdown(found, args.maze))
    print(f"{len(runs)} runs; wrote {table} and {study.name}.json")


if __name__ == "__main__":
    main()
