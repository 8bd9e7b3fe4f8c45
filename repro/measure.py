"""Measure one trained model for a study: losses on test questions, and returns of fresh episodes.

    python repro/measure.py --out_dir=out/runs/minigrid_500/random_s0

Every model of a study is asked the same questions, whatever it can do: 5,000 per task, on test
trajectories (DoorKey: 1,000 of another data seed). In the maze, or in an environment of Gymnasium if
one is named, it plays episodes that training never played, the same for all models of a seed. It is
the best checkpoint of its training, or the last where none was kept.
Writes out_dir/measured.json, which run.py adds to the results. Read next: figures.py.
"""

import contextlib
import csv
import hashlib
import os
import pickle
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import numpy
import torch

import checkpoint
import evaluate
import files
import model
import rollout
import run
import traits
import worlds

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/runs/minigrid_500/random_s0"  # a folder that train.py made
tasks = ""  # questions to ask, e.g. "past,future"; empty: all that the model can answer
sequences = 5000  # questions per task
rollouts = 1000  # episodes in each mode; in Maze2D, or in an environment
modes = ""  # how to play, of rollout.MODES; empty: the eval_modes of training
env = ""  # a Gymnasium environment to play in, e.g. "Hopper-v5"
target_return = "x1.2"  # to ask for in the modes rc and rc_all, as in rollout.py
# --------------------------------------------------------------------------------------------------


def main():
    configurator.check(globals(), run.COUNTS)
    torch.set_num_threads(1)
    path = os.path.join(out_dir, "best.pt")
    saved = checkpoint.read(path if os.path.exists(path) else os.path.join(out_dir, "ckpt.pt"))
    trained, log = saved["config"], read_log()
    network = checkpoint.from_plain(saved).to(trained["device"]).eval()
    extra = worlds.tasks_of(trained["dataset"])
    able = traits.chosen(tasks, network.config.model_type, extra=extra)
    best = {"losses": ask(network, trained, able, sequences)}
    maze = trained["dataset"].startswith("maze2d")
    if rollouts and (env or maze):
        best["rollouts"] = play(network, trained)
    if rollouts and maze:  # and what it earned in the episodes that it was chosen by
        at = log["iter"].index(saved["iter"])
        names = [name for name in log if name.startswith("return_")]
        best["selection"] = {name.removeprefix("return_"): log[name][at] for name in names}
    content = {
        "versions": versions(trained["device"]),
        "parameters": model.num_params(network),
        "iters": {"best": saved["iter"], "last": log["iter"][-1]},
        "results": {"best": best},
        "log": log,
    }
    files.save_json(f"{out_dir}/measured.json", content)


def ask(network, trained, tasks, n):
    """{task: {"loss", "se", "limit", "gap", "gap_se"}} on n test questions for each task."""
    trajectories = worlds.evaluation_set(*worlds.source_of(trained), "test")
    how = network.config.context, evaluate.seed, trained.get("returns", "unchanged")
    asked = evaluate.questions(trajectories, tasks, n, *how)
    losses = evaluate.losses(network, asked, kept_limits(trajectories, asked))
    return {task: rounded(row) for task, row in losses.items()}


def kept_limits(trajectories, asked):
    """evaluate.limits(), which take longer than a model does: a twelfth of the heatmap's time.

    Each study asks the same, so they are kept in out/limits. Their name is a checksum of the
    questions and of our code: answers of another program have another name.
    """
    checksum = hashlib.sha256(run.PROGRAM)
    arrays = lambda x: {k: v.numpy() for k, v in x.items()} if isinstance(x, dict) else x.numpy()
    for task, parts in asked.items():
        checksum.update(pickle.dumps((task, [arrays(part) for part in parts])))
    path = run.ROOT / "out" / "limits" / f"{checksum.hexdigest()[:16]}.pt"
    with contextlib.suppress(Exception):  # there are none, or the file is damaged
        return torch.load(path)
    exact = evaluate.limits(trajectories, asked)
    checkpoint.save(str(path), exact)
    return exact


def play(network, trained):
    """{mode: {measure: {"mean", "sem"}}} over fresh episodes, the same for all models of a seed."""
    source = worlds.source_of(trained)
    train, _ = worlds.train_and_validation(*source)
    chosen = rollout.parse_modes(modes or trained["eval_modes"])
    ahead = any(mode.startswith(rollout.AHEAD) for mode in chosen)
    demos = worlds.evaluation_set(*source, "test") if ahead else None
    game, found = (train, rollouts, rollout.ROLLOUT_SEED + trained["seed"]), {}
    targets, options = rollout.parse_targets(target_return), {"demos": demos, "env_id": env or None}
    for label, row in rollout.measured(
        network, trained["dataset"], game, chosen, targets, **options
    ):
        row |= rollout.score(row["return"], env)
        found[label] = {name: rounded(x) for name, x in row.items()}
    return found


def rounded(row):
    """The numbers of a dictionary, for a file that people read."""
    return {
        k: round(x, 6) if isinstance(x, float) else x
        for k, x in row.items()
        if not isinstance(x, dict)
    }


def read_log():
    """The columns of log.csv without those that follow from others: {name: [number or None]}."""
    with open(f"{out_dir}/log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {}
    for name in rows[0]:
        if name != "lr" and not name.endswith("_gap"):
            number = int if name == "iter" else lambda text: float(f"{float(text):.5g}")
            columns[name] = [number(line[name]) if line[name] else None for line in rows]
    return columns


def versions(device):
    """The software that made a result, and the processor, or the device that it was trained on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }
    gpu = {"gpu": torch.cuda.get_device_name()} if device.startswith("cuda") else {}
    return found | {"cpu": (names or [platform.machine()])[0]} | gpu


if __name__ == "__main__":
    configurator.apply(globals())
    main()
