"""The study of locomotion in one file and one table, from the lines that locomotion.sh has made.

    python repro/locomotion.py

Writes repro/results/locomotion.json: of each row and mode the mean return over seeds, its standard
error over seeds (of a single one, over its episodes), the score, and the minutes of training; worlds
other than Hopper under "worlds". And the tables, locomotion.md.
"""

import json
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import files
import run
import tables

# ---- settings ------------------------------------------------------------------------------------
results = "repro/results"  # the folder of the results files
data = "out/locomotion_data"  # the folder of what make_locomotion.py has found
# --------------------------------------------------------------------------------------------------

NAMES = {
    "one": "one set of weights, random masks too",
    "one_short": "one set, smaller, 4,000 steps (`config/locomotion.py`)",
    "one_10": "one set, a context of 10, 8,000 steps",
    "bc": "behavior cloning alone",
    "bc_best": "behavior cloning of the best tenth",
    "rc": "return-conditioned alone",
    "dt": "Decision-GPT, returns at every timestep",
    "dt_actions": "Decision-GPT, past actions seen",
    "nn": "feed-forward net, both questions",
    "tenth": "one set, smaller, a tenth of the episodes",
    "films": "one set, smaller, a tenth, the rest as films",
}


def main():
    target = Path(results, "locomotion.json")
    old = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {"worlds": {}}
    old = old["worlds"] | {"hopper": old}
    found, minutes = {}, 0.0
    text = (
        "Mean return of 100 fresh episodes per seed, asked to clone or for a return, ± standard error "
        "over seeds (of one seed over its episodes). Score: D4RL's, of the best answer. By `bash "
        "repro/locomotion.sh`.\n\n"
    )
    for path in sorted(Path(results).glob("locomotion_*.jsonl")):
        name, lines = path.stem.removeprefix("locomotion_"), run.read_results(path)
        made = Path(data, f"{name}.json")  # gone some day: what is known of the data stays
        about = json.loads(made.read_text()) if made.exists() else old.get(name, {}).get("data", {})
        rows = {f"{row}, {mode}": cell for row, mode, cell in cells(lines)}
        found[name] = {"data": about, "rows": rows}
        text += f"## {about.get('env', name)}\n\n{table(rows)}\n"
        minutes += sum(sum(line["minutes"].values()) for line in lines)
    if not found:
        raise ValueError(f"{results} has no locomotion_*.jsonl: bash repro/locomotion.sh makes one")
    content = found.pop("hopper", {"data": {}, "rows": {}}) | {"worlds": found}
    content |= {"minutes": round(minutes, 1), "command": "bash repro/locomotion.sh"}
    files.save_json(target, content)
    files.save_text(target.with_suffix(".md"), text)
    print(text)


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
    """The rows as a table in Markdown: what each earns cloning, and asked for each return."""
    found = {}
    for name, cell in rows.items():
        row, mode = name.split(", ", 1)
        target = mode.partition(", asked for ")[2]
        found.setdefault(row, {})[target or "cloning"] = cell
    asked = dict.fromkeys(target for cells in found.values() for target in cells)
    asked = [x for x in asked if x == "cloning"] + [x for x in asked if x != "cloning"]
    heads = ["trained on", *asked, "score, at best", "seeds", "minutes"]
    lines = []
    for row, several in found.items():
        parts = [several.get(target) for target in asked]
        parts = [f"{x['return']:,.0f} ± {x['sem'] or 0:,.0f}" if x else "" for x in parts]
        scores = [cell["score"] for cell in several.values() if cell["score"] is not None]
        cell = next(iter(several.values()))
        parts += [f"{max(scores):.1f}" if scores else "", str(cell["seeds"]), str(cell["minutes"])]
        lines.append([NAMES.get(row, row), *parts])
    return "\n".join(tables.markdown(heads, lines)) + "\n"


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    configurator.apply(globals())
    main()
