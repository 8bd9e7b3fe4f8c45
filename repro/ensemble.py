"""One more row of the heatmap: the finetuned models of all seeds as one, probabilities averaged.

    python repro/ensemble.py --study=minigrid_500    # from the checkpoints in out/runs/minigrid_500

It costs no training. It shows how much of the gap to the limit is the luck of one training run on
few trajectories. It is no single model, so other rows are not compared with it. Adds a line for
each task to the results. Read next: figures.py.
"""

import math
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import torch

import checkpoint
import masks
import measure
import run

# ---- settings ------------------------------------------------------------------------------------
study = "minigrid_500"  # a results file of DoorKey
results = "repro/results"  # the folder of the results files
runs = "out/runs"  # the folder of the checkpoints
# --------------------------------------------------------------------------------------------------


class Ensemble(torch.nn.Module):
    """Models of the same factors as one, which predicts the mean of their probabilities."""

    def __init__(self, networks):
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)
        first = networks[0]
        self.config, self.factors, self.predicted = first.config, first.factors, first.predicted

    def forward(self, values, see, at=None):
        """{factor: log probabilities (B, T or 1, classes)}"""
        outputs, mean = [network(values, see, at) for network in self.networks], {}
        for name in outputs[0]:
            each = torch.stack([y[name].log_softmax(dim=-1) for y in outputs])
            mean[name] = each.logsumexp(dim=0) - math.log(len(outputs))
        return mean


def main():
    torch.set_num_threads(1)
    path = Path(results, f"{study}.jsonl")
    lines = run.read_results(path)
    for task in masks.EIGHT:
        began, row = time.time(), f"random+finetune-{task}"
        members = sorted((x for x in lines if x["row"] == row), key=lambda x: x["seed"])
        seeds = [x["seed"] for x in members]
        settings = {"seeds": seeds, "report_tasks": task}
        # their losses show whether an ensemble was made of these members, or of earlier ones
        settings["losses"] = [x["results"]["best"]["losses"][task]["loss"] for x in members]
        if settings in [x["settings"] for x in lines]:
            print(f"{path}: ensemble-{task}: there already")
            continue
        if len(seeds) < 2:
            print(f"{path}: ensemble-{task}: it needs two seeds of {row}")
            continue
        folders = [f"{runs}/{study}/{row}_s{seed}" for seed in seeds]
        for folder in folders:
            run.restore(folder, results)
        saved = [checkpoint.read(folder) for folder in folders]
        network = Ensemble([checkpoint.from_plain(content) for content in saved]).eval()
        n = members[0]["settings"].get("report_sequences", run.OWN["sequences"])  # questions
        losses = measure.ask(network, saved[0]["config"], [task], n)
        run.append(path, {
            "row": f"ensemble-{task}",
            "seed": 0,
            "command": f"python repro/ensemble.py --study={study}",
            "settings": settings,
            "versions": measure.versions("cpu"),
            "minutes": {"evaluation": round((time.time() - began) / 60, 2)},
            "results": {"best": {"losses": losses}},
        })  # fmt: skip
        print(f"{path}: ensemble-{task}: {losses[task]['loss']:.3f}")


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
