"""The paper's six claims, each with its published number, ours and a verdict, from the results.

    python repro/claims.py           # prints the table of repro/README.md, writes results/claims.json

What it reads: results/minigrid_500.json, maze2d_medium.json and .jsonl, maze2d_returns.jsonl,
maze2d_medium_paper.jsonl, published.json.
Read next: tables.py.
"""

import json
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import files
import masks
import run
import tables

# ---- settings ------------------------------------------------------------------------------------
results = "repro/results"  # the folder of the results files
# --------------------------------------------------------------------------------------------------


def losses(found, row):
    """The loss of a row in each of the eight tasks; "single": each task's own model."""
    rows = (
        {task: task for task in masks.EIGHT} if row == "single" else dict.fromkeys(masks.EIGHT, row)
    )
    return [found[row][task] for task, row in rows.items()]


def better(ours, *others):
    """In how many of the eight columns one row is below all others, with their sums, as text."""
    count = sum(x < min(rest) for x, *rest in zip(ours, *others))
    sums = " and ".join(f"{sum(row):.2f}" for row in others)
    return count, f"better in {count} of 8; sum of losses {sum(ours):.2f} against {sums}"


def doorkey_claims():
    """1 and 2: random masks against a model for each task, and finetuned against both."""
    with open(f"{results}/minigrid_500.json", encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    here = {row: {task: x["mean"] for task, x in cells.items()} for row, cells in rows.items()}
    published = {
        row: dict(zip(masks.EIGHT, cells))
        for row, cells in tables.PUBLISHED["doorkey"]["500"].items()
    }
    claims = (
        ("1. One model of random masks is about as good as a model for each task", "random", ["single"]),
        ("2. Finetuned from it, a model is better than either", "random+finetune", ["single", "random"]),
    )  # fmt: skip
    for claim, row, others in claims:
        (_, theirs), (count, ours) = (
            better(losses(found, row), *(losses(found, other) for other in others))
            for found in (published, here)
        )
        yield claim, theirs, ours, "yes" if count == 8 else f"in part: in {count} of 8 tasks"


def maze_claims():
    """3, 4 and 6: what is trained on, and how long the window is."""
    with open(f"{results}/maze2d_medium.json", encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    published = tables.PUBLISHED["maze2d_medium_return_mean_and_standard_error"]
    here = lambda row, T: [
        rows[row][T][kind]["mean"] for kind in ("bc", "rc") if kind in rows[row][T]
    ]
    theirs = lambda row, T: [mean for mean, _ in published[f"T={T}"][row].values()]
    pair = lambda found: " / ".join(f"{x:.2f}" for x in found)
    both = lambda of, rows, T: sum((of(row, T) for row in rows), [])

    tuned = [
        f"unimask_{start}_finetune_{to}" for start in ("random", "bc_rc") for to in ("bc", "rc")
    ]
    others = ["dt_bc_timestep", "dt_rc_timestep", "nn_bc", "nn_rc"]
    ours, rest = both(here, tuned, "5"), both(here, others, "5")
    less = statistics.fmean(ours) - statistics.fmean(rest)
    yield (
        "3. Maze2D, T=5: finetuning decides. From random masks to BC / RC, and from both to BC / RC; "
        "against Decision Transformer and feed-forward net",
        f"{pair(both(theirs, tuned, '5'))}; against about 1.1 to 1.7",
        f"{pair(ours)}; against {pair(rest)}",
        f"{'no' if less < 0.25 else 'yes'}: {less:.2f} more on average",
    )
    gpt, single = ["dt_bc", "dt_rc"], ["unimask_bc", "unimask_rc"]
    more = statistics.fmean(both(here, gpt, "10")) - statistics.fmean(both(here, single, "10"))
    yield (
        "4. T=10: bidirectional models degrade, Decision-GPT wins. BC / RC of Decision-GPT against UniMASK",
        f"{pair(both(theirs, gpt, '10'))} against {pair(both(theirs, single, '10'))}",
        f"{pair(both(here, gpt, '10'))} against {pair(both(here, single, '10'))}",
        "no: level" if abs(more) < 0.05 else f"{'yes' if more > 0 else 'no'}: {more:.2f} more",
    )
    yield first_return()
    random = here("unimask_random", "10")
    lines = run.read_results(f"{results}/maze2d_medium_paper.jsonl")
    paper = [line for line in lines if line["row"] == "unimask_random_T10"]
    returns = [statistics.fmean(tables.returns_of(paper, x)) for x in ("bc", "rc")]
    yield (
        "6. Random masks alone drive. BC / RC at T=10",
        f"{pair(theirs('unimask_random', '10'))} after 360,000 steps",
        f"{pair(random)} after 8,000 steps; {pair(returns)} by the published recipe and steps, "
        f"{tables.count(tables.seeds_of(paper))}",
        "yes" if min(random + returns) > 2.2 else "no",
    )


def first_return():
    """5: the return shown at the window's first timestep only, or at every one so far; same seeds."""
    texts, more = [], []
    for name, row in (("UniMASK", "unimask_rc_T5"), ("Decision-GPT", "dt_rc_T5")):
        every, first = (
            [line for line in run.read_results(f"{results}/{study}.jsonl") if line["row"] == row]
            for study in ("maze2d_returns", "maze2d_medium")
        )
        seeds = tables.seeds_of(every)
        first = [line for line in first if line["seed"] in seeds]
        first, every = tables.policy(first, "rc")["mean"], tables.policy(every, "rc_all")["mean"]
        texts.append(f"{name} {first:.2f} against {every:.2f}")
        more.append(first - every)
    verdict = "yes" if min(more) > 0.05 else "no" if max(more) < 0.05 else "in part"
    return (
        "5. A return shown at the first timestep only is better than one at every timestep (T=5)",
        "said, without a number",
        f"{', '.join(texts)} ({tables.count(seeds)})",
        f"{verdict}: {' and '.join(f'{x:+.2f}' for x in more)}",
    )


def main():
    columns = ("claim", "published", "here", "verdict")
    found = [dict(zip(columns, claim)) for claim in (*doorkey_claims(), *maze_claims())]
    path = f"{results}/claims.json"
    files.save_json(path, found)
    print("\n".join(tables.markdown(columns, [claim.values() for claim in found])))


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
