"""What the tests of commands share: tiny settings, how to read a run, and how to compare two."""

import csv
import os
import signal

import torch

import bench
import model
import train_seeds

MODEL = "--n_embd=32 --n_ff=32 --n_layer=1 --n_head=2".split()
TINY = (
    MODEL
    + (
        "--num_trajectories=20 --batch_size=16 --max_iters=30 --eval_interval=15 --eval_sequences=50 "
        "--warmup_iters=5 --threads=1"
    ).split()
)
FAMILIES = {
    "unimask": ["--model_type=unimask", "--task=random"],
    "nn": ["--model_type=nn", "--task=behavior_cloning"],
    "dt": ["--model_type=dt", "--task=dt_bc+dt_rc"],
}
LEFT = {"config.json", "log.csv", "ckpt.pt", "best.pt"}  # what a run leaves in its folder


def good(process):
    assert process.returncode == 0, process.stderr[-2000:]
    return process


def read_log(out_dir):
    with open(out_dir / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def saved(out_dir, name="ckpt.pt"):
    """What a checkpoint of a run holds."""
    return torch.load(out_dir / name, weights_only=True)


def same(one, other):
    """Whether two nests of dictionaries, lists, tensors and numbers agree in every bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def equal_runs(one, other):
    """Assert that two folders hold the same run: every bit of weights, optimiser and averages."""
    assert (one / "log.csv").read_bytes() == (other / "log.csv").read_bytes()
    for name in ("ckpt.pt", "best.pt"):
        ours, theirs = saved(one, name), saved(other, name)
        del ours["config"], theirs["config"]  # where it is written, and whether it was resumed
        assert same(ours, theirs), name


def furthest(one, other):
    """The largest difference between the weights of two runs, but for the keys' bias.

    Softmax does not depend on it: its gradient is nothing but rounding errors, which AdamW scales
    up to whole steps.
    """
    ours, theirs = saved(one)["weights"], saved(other)["weights"]
    difference = {name: (ours[name] - theirs[name]).abs() for name in ours}
    for name in difference:
        if name.endswith("qkv.bias"):
            difference[name].view(3, -1)[1] = 0
    return max(x.max().item() for x in difference.values())


def files(folder):
    return {path.name for path in folder.iterdir()}


def snapshot(*folders):
    """{path: content} of all files in the folders, and None for the folders below."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def interrupt_at_step(number, how=signal.SIGINT):
    """In the process that calls it: Ctrl-C during the given step of training, counted from 1."""
    step = model.AdamW.step

    def counted(self, *args, **options):
        nonlocal number
        number -= 1
        if number == 0:
            os.kill(os.getpid(), how)
        return step(self, *args, **options)

    model.AdamW.step = counted


def at_once(settings, seeds="0,1"):
    """The step of several seeds, set up with settings of train.py."""
    quick = {"eval_tasks": "behavior_cloning", "eval_sequences": 1, "dropout": 0.0}
    train_seeds.seeds = seeds
    return train_seeds.Together(train_seeds.set_up_all(bench.flags(settings | quick)))
