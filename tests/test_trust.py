"""What a run promises whatever happens to it: kills, Ctrl-C, full disks, losses that explode, other surroundings."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_train import checkpoint, read_log, same

from data import Factor, Trajectories

TINY = (
    "--num_trajectories=20 --n_embd=32 --n_ff=32 --n_layer=1 --n_head=2 --batch_size=16 --dropout=0.2 --ema=0.9 "
    "--eval_sequences=20 --eval_tasks=past --warmup_iters=5 --threads=1"
).split()


def good(process):
    assert process.returncode == 0, process.stderr[-2000:]
    return process


def equal_runs(one, other):
    """Whether two out_dirs hold the same run: every bit of weights, optimiser and averages, and every byte of the log."""
    assert (one / "log.csv").read_bytes() == (other / "log.csv").read_bytes()
    for name in ("ckpt.pt", "best.pt"):
        ours, theirs = checkpoint(one, name), checkpoint(other, name)
        del ours["config"], theirs["config"]  # where it is written, and whether it was resumed
        assert same(ours, theirs), name


def files(folder):
    return {path.name for path in folder.iterdir()}


# ---- kills -----------------------------------------------------------------------------------------------------------


def kill_while_saving(number, moment):
    """In the process that calls it: SIGKILL at the given number of a rename, before or after it, or half way of a write."""
    rename, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == number:
            if moment == "half":
                os.truncate(source, os.path.getsize(source) // 2)
            if moment == "after":
                rename(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace


def test_a_run_killed_twenty_times_is_the_run_that_was_not(run_warm, tmp_path):
    flags = [*TINY, "--max_iters=240", "--eval_interval=8"]
    began = time.perf_counter()
    good(run_warm("train.py", *flags, "--out_dir=whole", cwd=tmp_path))
    duration, draw, kills, out_dir = time.perf_counter() - began, random.Random(4), 0, tmp_path / "killed"

    def attempt(seconds=300, inside=None):
        resume = ["--init_from=resume"] if (out_dir / "ckpt.pt").exists() else []
        process = run_warm(
            "train.py", *flags, *resume, "--out_dir=killed", cwd=tmp_path, seconds=seconds, inside=inside
        )
        assert process.returncode in (0, -signal.SIGKILL), process.stderr[-2000:]
        if process.returncode == 0 and kills < 20:
            shutil.rmtree(out_dir)  # it was over before it was killed: on a fast machine it begins again
        return process.returncode != 0

    while kills < 20:
        kills += attempt(seconds=draw.uniform(0, duration / 6))  # making data, in a step, an evaluation, a save
        number, moment = draw.randint(1, 7), draw.choice(["before", "half", "after"])
        kills += attempt(inside=lambda: kill_while_saving(number, moment))
    attempt()
    equal_runs(out_dir, tmp_path / "whole")
    assert files(out_dir) == {"config.json", "log.csv", "ckpt.pt", "best.pt"}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before", "half", "after"])
def test_a_run_killed_at_its_last_save_has_its_whole_log_when_resumed(number, moment, run_warm, tmp_path):
    flags = [*TINY, "--max_iters=4", "--eval_interval=4", "--learning_rate=3e-3"]
    good(run_warm("train.py", *flags, "--out_dir=whole", cwd=tmp_path))
    at = 4 + number  # config.json, then best.pt, log.csv and ckpt.pt at step 0, then these at step 4
    kill = lambda: kill_while_saving(at, moment)
    assert run_warm("train.py", *flags, "--out_dir=killed", cwd=tmp_path, inside=kill).returncode == -signal.SIGKILL
    good(run_warm("train.py", *flags, "--out_dir=killed", "--init_from=resume", cwd=tmp_path))
    equal_runs(tmp_path / "killed", tmp_path / "whole")


# ---- Ctrl-C and full disks -------------------------------------------------------------------------------------------


def interrupt_at_step(number):
    """In the process that calls it: Ctrl-C during the given step of training, counted from 1."""
    step = torch.optim.AdamW.step

    def counted(self, *args, **options):
        nonlocal number
        number -= 1
        if number == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args, **options)

    torch.optim.AdamW.step = counted


def test_ctrl_c_saves_the_step_it_is_in_and_says_how_to_go_on(run_warm, tmp_path):
    flags = [*TINY, "--max_iters=20", "--eval_interval=10"]
    good(run_warm("train.py", *flags, "--out_dir=whole", cwd=tmp_path))
    stopped = run_warm("train.py", *flags, "--out_dir=stopped", cwd=tmp_path, inside=lambda: interrupt_at_step(14))
    assert stopped.returncode == 1 and stopped.stderr.count("\n") == 1
    assert "stopped at step 14" in stopped.stderr and "--init_from=resume" in stopped.stderr
    assert checkpoint(tmp_path / "stopped")["iter"] == 14
    good(run_warm("train.py", *flags, "--out_dir=stopped", "--init_from=resume", cwd=tmp_path))
    equal_runs(tmp_path / "stopped", tmp_path / "whole")


@pytest.fixture
def disk(tmp_path):
    """A disk of one megabyte, and a function that fills it up to some free kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk to fill: {mounted.stderr.strip()}")

    def fill(kilobytes):
        free = shutil.disk_usage(folder).free
        (folder / "filler").write_bytes(bytes(free - 1024 * kilobytes))

    yield folder, fill
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("free", [0, 8, 64, 128])
def test_a_full_disk_ends_in_one_line_and_spares_the_last_checkpoint(free, disk, run_warm, refused):
    folder, fill = disk
    flags = [*TINY, "--decay_lr=False", "--eval_interval=5", "--learning_rate=3e-3"]
    good(run_warm("train.py", *flags, "--max_iters=5", "--out_dir=run", cwd=folder))
    before = {name: (folder / "run" / name).read_bytes() for name in ("ckpt.pt", "config.json")}
    fill(free)  # for nothing, config.json, best.pt or log.csv as well
    resume = [*flags, "--max_iters=20", "--out_dir=run", "--init_from=resume"]
    message = refused(run_warm("train.py", *resume, cwd=folder))
    assert "No space left" in message and "run/" in message and "--init_from=resume" in message
    assert files(folder / "run") == {"config.json", "log.csv", "ckpt.pt", "best.pt"}
    assert (folder / "run" / "ckpt.pt").read_bytes() == before["ckpt.pt"]
    assert json.loads((folder / "run" / "config.json").read_text())["max_iters"] in (5, 20)
    (folder / "filler").unlink()
    good(run_warm("train.py", *resume, cwd=folder))
    good(run_warm("train.py", *flags, "--max_iters=20", "--out_dir=whole", cwd=folder))
    equal_runs(folder / "run", folder / "whole")


@pytest.mark.parametrize(
    "line",
    [
        "data.py make doorkey --n=2000 --out=some.npz",
        "evaluate.py --out_dir=run --sequences=20 --tasks=past,future",
        "plot.py curves run",
        "sample.py --out_dir=run --samples=2",
        "train.py --out_dir=new --max_iters=2 --num_trajectories=20",
    ],
)
def test_every_command_ends_in_one_line_on_a_full_disk(line, disk, run_warm, refused):
    folder, fill = disk
    good(run_warm("train.py", *TINY, "--max_iters=1", "--out_dir=run", cwd=folder))
    fill(0)
    assert "No space left" in refused(run_warm(*line.split(), cwd=folder))
    left = [path for path in folder.rglob("*.tmp") if path.stat().st_size]
    assert not left and files(folder / "run") == {"config.json", "log.csv", "ckpt.pt", "best.pt"}


# ---- losses that are not finite --------------------------------------------------------------------------------------


def with_one_mistake(rows=60, at=7):
    """Trajectories of continuous factors, of which one has an action whose squared error is infinite."""
    rng = np.random.default_rng(0)
    factors = [Factor("position", "STATE", "continuous", 2), Factor("action", "ACTION", "continuous", 1)]
    shape = lambda f: (rows, 10, f.size)
    made = Trajectories(factors, {f.name: rng.normal(size=shape(f)).astype(np.float32) for f in factors})
    made.values["action"][at] = 3e38
    return made


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(accumulation, run_warm, refused, tmp_path):
    """The step and the seed in the message lead to the first batch that asks for the one action that is out of bounds."""
    with_one_mistake().save(tmp_path / "mistake.npz")
    flags = [*TINY, "--dataset=mistake.npz", "--num_trajectories=50", "--task=behavior_cloning", "--batch_size=2"]
    flags += ["--eval_interval=10", "--max_iters=200", f"--gradient_accumulation={accumulation}", "--out_dir=run"]
    message = refused(run_warm("train.py", *flags, cwd=tmp_path))
    step = next(it for it in range(200) if any(asks_for_row(7, it * accumulation + k) for k in range(accumulation)))
    first_seed = np.random.SeedSequence([0, step * accumulation]).generate_state(1)[0]
    assert f"loss of step {step} is not finite" in message and f"seed {first_seed}," in message
    assert "--init_from=resume" in message and 10 <= step
    last = checkpoint(tmp_path / "run")
    assert last["iter"] == step // 10 * 10 == int(read_log(tmp_path / "run")[-1]["iter"])
    assert all(x.isfinite().all() for x in last["weights"].values())
    assert refused(run_warm("train.py", *flags, "--init_from=resume", cwd=tmp_path)) == message, "it can be replayed"


def asks_for_row(row, number):
    """Whether the batch of this number in the test above draws this trajectory (its action is always asked for)."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([0, number]).generate_state(1)[0]))
    return row in torch.randint(50, (2,), generator=generator)


def test_weights_that_explode_never_reach_a_checkpoint(run_warm, refused, tmp_path):
    with_one_mistake(at=59).save(tmp_path / "data.npz")  # the mistake is in validation: met by the first evaluation
    message = refused(run_warm("train.py", *TINY, "--dataset=data.npz", "--out_dir=run", "--context=5", cwd=tmp_path))
    assert "validation loss at step 0 is not finite" in message and "resume" not in message
    assert files(tmp_path / "run") == {"config.json"}
    with_one_mistake(at=slice(0)).save(tmp_path / "data.npz")  # no mistake, but a learning rate that is one
    flags = ["--dataset=data.npz", "--learning_rate=1e30", "--warmup_iters=0", "--eval_interval=4", "--max_iters=20"]
    message = refused(run_warm("train.py", *TINY, *flags, "--out_dir=run", "--context=5", cwd=tmp_path))
    assert "loss of step 1 is not finite" in message
    assert checkpoint(tmp_path / "run")["iter"] == 0
    interrupt = lambda: interrupt_at_step(2)  # which saves at once: but not that
    message = refused(
        run_warm("train.py", *TINY, *flags, "--out_dir=run", "--context=5", cwd=tmp_path, inside=interrupt)
    )
    assert "loss of step 1 is not finite" in message
    assert checkpoint(tmp_path / "run")["iter"] == 0


# ---- surroundings ----------------------------------------------------------------------------------------------------


def test_locale_hash_order_folder_and_leftovers_change_nothing(run_warm, tmp_path):
    train = [*TINY, "--max_iters=12", "--eval_interval=6", "--eval_tasks=", f"--out_dir={tmp_path}/läufe", "--task=all"]
    evaluate = [f"--out_dir={tmp_path}/läufe", "--sequences=40", "--rollouts=5"]
    for script, flags in (("train.py", train), ("evaluate.py", evaluate)):
        good(run_warm(script, *flags, cwd=tmp_path))
    (tmp_path / "läufe").rename(tmp_path / "first")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config").mkdir()
    (elsewhere / "tqdm").mkdir()  # what lies about in the folder is not imported
    surroundings = {"LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "2"}
    for script, flags in (("train.py", train), ("evaluate.py", evaluate)):
        line = [sys.executable, ROOT / script, *flags]
        good(subprocess.run(line, cwd=elsewhere, capture_output=True, text=True, env=os.environ | surroundings))
    equal_runs(tmp_path / "läufe", tmp_path / "first")
    for name in ("eval.json", "rollouts.json"):
        assert (tmp_path / "läufe" / name).read_bytes() == (tmp_path / "first" / name).read_bytes(), name
    assert files(elsewhere) == {"config", "tqdm"}
