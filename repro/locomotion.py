"""The study of locomotion in one file and one table, from the lines that locomotion.sh has made.

    python repro/locomotion.py --study=locomotion_hopper

Writes repro/results/STUDY.json: of each row and mode the mean return over seeds, its standard error
over seeds (of a single one, over its episodes), the score and the minutes; and the table, STUDY.md.
"""

import json
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator
import run

# ---- settings ------------------------------------------------------------------------------------
study = "locomotion_hopper"  # a results file
results = "repro/results"  # the folder of the results files
data = "out/locomotion_data"  # the folder of what make_locomotion.py has found
# --------------------------------------------------------------------------------------------------

NAMES = {
    "one": "one set of weights, random masks too",
    "bc": "behavior cloning alone",
    "bc_best": "behavior cloning of the best tenth",
    "rc": "return-conditioned alone",
    "dt": "Decision-GPT, returns at every timestep",
    "nn": "feed-forward net, both questions",
    "tenth": "one set, a tenth of the episodes",
    "films": "one set, a tenth, and the rest as films",
}


def main():
    lines = run.read_results(f"{results}/{study}.jsonl")
    if not lines:
        raise ValueError(
            f"{results}/{study}.jsonl has no line: bash repro/locomotion.sh makes some"
        )
    rows = {f"{row}, {mode}": cell for row, mode, cell in cells(lines)}
    target = Path(results, f"{study}.json")
    made = Path(data, study.replace("locomotion_", "") + ".json")
    # the data are gone some day: what is known of them stays
    old = json.loads(target.read_text(encoding="utf-8"))["data"] if target.exists() else {}
    found = json.loads(made.read_text(encoding="utf-8")) if made.exists() else old
    minutes = round(sum(sum(line["minutes"].values()) for line in lines), 1)
    content = {
        "data": found,
        "rows": rows,
        "minutes": minutes,
        "command": "bash repro/locomotion.sh",
    }
    with configurator.whole_file(target) as unfinished:
        Path(unfinished).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    with configurator.whole_file(Path(results, f"{study}.md")) as unfinished:
        Path(unfinished).write_text(table(rows), encoding="utf-8")
    print(table(rows))


def cells(lines):
    """(row, mode, {"return", "sem", "score", "seeds", "minutes"}) of all lines."""
    for row in dict.fromkeys(line["row"] for line in lines):
        own = [line for line in lines if line["row"] == row]
        played = [line["results"]["best"]["rollouts"] for line in own]
        minutes = statistics.mean(line["minutes"]["training"] for line in own)
        for mode in dict.fromkeys(mode for found in played for mode in found):
            several = [found[mode] for found in played if mode in found]
            earned = [found["return"]["mean"] for found in several]
            n = len(earned)
            error = statistics.stdev(earned) / n**0.5 if n > 1 else several[0]["return"]["sem"]
            scores = [found["score"]["mean"] for found in several if "score" in found]
            yield (
                row,
                mode,
                {
                    "return": round(statistics.mean(earned), 1),
                    "sem": None if error is None else round(error, 1),
                    "score": round(statistics.mean(scores), 1) if scores else None,
                    "seeds": n,
                    "minutes": round(minutes, 1),
                },
            )


def table(rows):
    """The rows as a table in Markdown."""
    lines = [
        "| trained on | asked for | return | score | seeds | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for name, cell in rows.items():
        row, mode = name.split(", ", 1)
        kind, _, target = mode.partition(", asked for ")
        asked = target or ("nothing: cloning" if kind.startswith("bc") else kind)
        earned = f"{cell['return']:.0f} ± {cell['sem'] or 0:.0f}"
        score = "" if cell["score"] is None else f"{cell['score']:.1f}"
        words = NAMES.get(row, row), asked, earned, score, cell["seeds"], cell["minutes"]
        lines.append(f"| {' | '.join(map(str, words))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    configurator.apply(globals())
    main()
