"""How general is a model? Its mean gap over 1,000 questions that no training distribution names.

    python repro/generality.py --study=masks_doorkey      # after masks.sh has trained them

Ten families of structured questions, 100 of each, about test trajectories of DoorKey: every second
state, two waypoints at random times, the first and the last action, the agent known and the key
hidden, and so on. All that is not seen is asked for. The gap of a question is the mean loss of its
entries, summed over factors, less that of the exact posterior. Writes
repro/results/generality.json. Read next: masks.sh.
"""

import json
import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import configurator

import numpy as np
import torch

import bayes
import checkpoint
import doorkey
import evaluate
import files
import model
import run
import worlds

# ---- settings ------------------------------------------------------------------------------------
study = "masks_doorkey"  # the results file with the runs
rows = ""  # of the study, each a single set of weights: "random,all"; empty: all of them
results = "repro/results"  # the folder of the results files
runs = "out/runs"  # the folder of the checkpoints: what is missing is trained again
# --------------------------------------------------------------------------------------------------

EACH = 100  # questions of a family
T = doorkey.LENGTH


def spread(generator, n, size=T):
    """(n, size) for each row a random order of 0..size-1: below k it marks k random places."""
    return torch.rand(n, size, generator=generator).argsort(dim=1)


def families(n, generator):
    """{family: {factor: (n, T) bool} what is seen}."""
    t, no = torch.arange(T).expand(n, T), torch.zeros(n, T, dtype=torch.bool)
    draw = lambda low, high: torch.randint(low, high + 1, (n, 1), generator=generator)
    first_last = (t == 0) | (t == T - 1)
    begin, length = draw(0, T - 4), draw(2, 4)
    within = (t >= begin) & (t < begin + length)
    seen = {  # family: agent, key, action, return
        "every second state": (t % 2 == 0, t % 2 == 0, no, no),
        "two waypoints": (*[spread(generator, n) < 2] * 2, no, no),
        "first and last action": (t == 0, t == 0, first_last, no),
        "agent known, key hidden": (~no, no, no, no),
        "key known, agent hidden": (no, ~no, ~no, no),
        "actions alone": (no, no, ~no, no),
        "a stretch in the middle": (within, within, within, no),
        "every third step": (*[t % 3 == draw(0, 2)] * 3, no),
        "a return and the last state": (t == T - 1, t == T - 1, no, t == 0),
        "five entries": (spread(generator, n) < 2, spread(generator, n) < 1,
                         spread(generator, n) < 2, no),
    }  # fmt: skip
    names = ("agent_pos", "key_pos", "action", "return_to_go")
    return {family: dict(zip(names, parts)) for family, parts in seen.items()}


def questions():
    """{family: (trajectories, values, see, predict)}, always the same."""
    demos, generator = worlds.evaluation_set("doorkey", 0, 0, "test"), torch.Generator()
    generator.manual_seed(0)
    found = {}
    for number, (family, see) in enumerate(families(EACH, generator).items()):
        some = demos[np.arange(number * EACH, (number + 1) * EACH) % len(demos)]
        predict = {name: ~mask for name, mask in see.items()}
        predict["return_to_go"] = torch.zeros_like(predict["action"])
        values = some.tensors() | {"timestep": torch.arange(T).expand(EACH, T)}
        found[family] = some, values, see, predict
    return found


def per_question(entries, predict):
    """(n,) the mean of each question's entries {factor: (n, T)}, summed over factors."""
    total = 0.0
    for name, entry in entries.items():
        asked = predict[name]
        summed = torch.where(asked, torch.as_tensor(entry).double(), 0.0).sum(dim=1)
        total = total + summed / asked.sum(dim=1).clamp(min=1)
    return total


def main():
    torch.set_num_threads(1)
    path, asked = Path(results, "generality.json"), questions()
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": {}}
    limits = {}
    for family, (some, _, see, predict) in asked.items():
        limits[family] = per_question(bayes.surprisal(some, see), predict)
    content["command"] = "python repro/generality.py"
    content["limit"] = {family: x.mean().item() for family, x in limits.items()}
    lines = run.read_results(Path(results, f"{study}.jsonl"))
    for row in rows.split(",") if rows else dict.fromkeys(line["row"] for line in lines):
        means = {}
        for seed in sorted(line["seed"] for line in lines if line["row"] == row):
            folder = Path(runs, study, f"{row}_s{seed}")
            run.restore(folder, results)
            network = checkpoint.load(str(folder))
            for family, (_, values, see, predict) in asked.items():
                outputs = evaluate.answer(network, values, see)
                nats = per_question(model.entry_losses(network, outputs, values), predict)
                gap = (nats - limits[family]).mean().item()
                means.setdefault(family, []).append(gap)
        if not means:  # of this row nothing was made
            continue
        gaps = [statistics.fmean(seeds) for seeds in zip(*means.values())]  # of each seed
        content["rows"][row] = {
            "gap": statistics.fmean(gaps),
            "std": statistics.stdev(gaps) if len(gaps) > 1 else None,
            "seeds": len(gaps),
            "families": {family: statistics.fmean(x) for family, x in means.items()},
        }
        print(f"{row}: {statistics.fmean(gaps):.3f}", flush=True)
        files.save_json(str(path), content)


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
