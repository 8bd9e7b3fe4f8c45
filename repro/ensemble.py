"""A last row for the heatmap: the finetuned models of all seeds asked together, their probabilities averaged.

    python repro/ensemble.py --n=500      # from the checkpoints of random+finetune in out/runs/minigrid_500

It costs no training, and shows how much of the gap to the limit is the luck of one training run on few trajectories. It
is not comparable with the other rows, which are single models. Writes one result file per task beside the others.
Read next: heatmap.py.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch

import job
import jobs

ROW = "ensemble"


class Ensemble(torch.nn.Module):
    """Models of the same factors as one, which predicts the mean of their probabilities."""

    def __init__(self, models):
        super().__init__()
        self.models, self.factors, self.config = torch.nn.ModuleList(models), models[0].factors, models[0].config

    def forward(self, values, see, only=slice(None)):
        """{factor: log probabilities (B, T, classes)}"""
        outputs = [model(values, see, only) for model in self.models]
        average = lambda name: torch.stack([out[name].log_softmax(dim=-1) for out in outputs]).logsumexp(dim=0)
        return {name: average(name) - math.log(len(outputs)) for name in outputs[0]}


def members(study, task):
    """{seed: out_dir} of the finished models finetuned for a task."""
    folder, name = Path(study.out_dir("")), jobs.finetune_name(task)
    found = {int(path.name.rpartition("_s")[2]): path for path in folder.glob(f"{name}_s*")}
    return {seed: path for seed, path in sorted(found.items()) if job.read_result(f"{study.runs}/{path.name}.json")}


def measure(study, task, sequences):
    """The content of a result file: the ensemble's loss on the questions that all rows are asked."""
    import evaluate
    from model import load

    began, dirs = time.time(), members(study, task)
    if len(dirs) < 2:
        raise ValueError(
            f"an ensemble for {task} needs the checkpoints of two seeds in {study.out_dir('')}: run minigrid.sh"
        )
    network = Ensemble([load(str(path)) for path in dirs.values()]).eval()
    split = ("doorkey", int(study.variant), 0)
    asked, exact = job.test_questions(split, 10, sequences)
    losses = evaluate.losses(network, {task: asked[task]}, exact)
    return {
        "command": f"python repro/ensemble.py --n={study.variant}",
        "seed": 0,
        "settings": {"seeds": list(dirs), "report_tasks": task},
        "versions": job.versions(),
        "minutes": {"evaluation": round((time.time() - began) / 60, 2)},
        "results": {"best": {"losses": {task: job.numbers(losses[task])}}},
    }


def main():
    parser = jobs.study_arguments(
        argparse.ArgumentParser(description="evaluate the finetuned models of all seeds as one")
    )
    parser.add_argument("--n", type=int, default=500, help="trajectories that the models were trained on")
    args = parser.parse_args()
    job.configurator.one_line_errors()
    os.chdir(job.ROOT)
    torch.set_num_threads(1)
    study = jobs.Study("minigrid", str(args.n), args.preset, args.fraction)
    for task in jobs.MINIGRID_TASKS:
        content = measure(study, task, 40 if args.preset == "smoke" else job.FLAGS["sequences"])
        path = Path(f"{study.runs}/{ROW}-{task}_s0.json")
        job.write_whole(path, json.dumps(content, indent=1) + "\n")
        print(f"{task}: {content['results']['best']['losses'][task]}")


if __name__ == "__main__":
    main()
