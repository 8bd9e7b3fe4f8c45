"""Several processes train what one would: the same batches, gradients, weights; one of them writes."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from runs import (
    LEFT,
    MODEL,
    equal_runs,
    files,
    furthest,
    good,
    interrupt_at_step,
    read_log,
    same,
    saved,
)  # fmt: skip

TINY = (
    MODEL
    + (
        "--num_trajectories=20 --batch_size=12 --dropout=0 --eval_tasks=past --eval_sequences=40 "
        "--warmup_iters=5 --learning_rate=3e-3 --threads=1 --decay_lr=False"
    ).split()
)


@pytest.fixture(scope="module")
def together(start_warm):
    """together(2, *flags, cwd=folder): train.py in several processes, as torchrun starts them."""

    def command(processes, *flags, cwd, inside=lambda rank: None):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]

        def become(rank):
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK=str(rank))
            os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
            inside(rank)

        line = ["train.py", *TINY, *flags]
        running = [
            start_warm(*line, cwd=cwd, inside=lambda rank=rank: become(rank))
            for rank in range(processes)
        ]
        return [finish(300) for finish in running]

    return command


SETTINGS = {
    "a mixture of tasks": ["--task=all"],
    "shares that ask nothing of a factor": [
        "--task=behavior_cloning+forward_dynamics",
        "--batch_size=2",
        "--learning_rate=3e-4",  # of gradients this small AdamW makes steps of their rounding
    ],
    "factors hidden on their own": ["--task=random", "--factor_hiding=0.3", "--grad_clip=0"],
    "averaged, fresh": ["--ema=0.9", "--fresh", "--state_weight=0.5"],
    "Decision-GPT": ["--model_type=dt", "--task=dt_bc+dt_rc", "--eval_tasks=behavior_cloning"],
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_processes_with_shares_of_a_batch_are_one_process_with_the_whole(
    settings, together, run_warm, tmp_path
):
    flags = [*SETTINGS[settings], "--max_iters=30", "--eval_interval=15"]
    good(run_warm("train.py", *TINY, *flags, "--out_dir=one", cwd=tmp_path))
    for process in together(2, *flags, "--out_dir=two", cwd=tmp_path):
        good(process)
    assert furthest(tmp_path / "one", tmp_path / "two") < 1e-5
    for ours, theirs in zip(read_log(tmp_path / "one"), read_log(tmp_path / "two")):
        assert ours.keys() == theirs.keys()
        for name in ours:  # the training loss too is that of the whole batch
            if ours[name] != theirs[name]:
                assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4), name


def test_a_run_goes_on_under_another_number_of_processes(together, run_warm, tmp_path):
    long, short = ["--max_iters=40", "--eval_interval=20"], ["--max_iters=20", "--eval_interval=20"]
    good(run_warm("train.py", *TINY, *long, "--out_dir=whole", cwd=tmp_path))
    good(run_warm("train.py", *TINY, *short, "--out_dir=parts", cwd=tmp_path))
    first, second = together(2, *long, "--out_dir=parts", "--init_from=resume", cwd=tmp_path)
    good(first), good(second)
    assert "step 40" in first.stdout and not second.stdout + second.stderr, "only one prints"
    assert furthest(tmp_path / "whole", tmp_path / "parts") < 1e-5
    assert [row["iter"] for row in read_log(tmp_path / "parts")] == ["0", "20", "40"]


def test_ctrl_c_that_reaches_them_at_different_steps_saves_once(together, tmp_path):
    flags = ["--max_iters=20", "--eval_interval=10"]
    options = {"cwd": tmp_path, "inside": lambda rank: interrupt_at_step(13 - rank)}
    first, second = together(2, *flags, "--out_dir=stopped", **options)
    assert "stopped at step 13 and saved" in first.stderr and first.returncode == 130
    assert second.stderr.count("\n") == 1 and second.returncode == 1
    for process in together(2, *flags, "--out_dir=whole", cwd=tmp_path):
        good(process)
    for process in together(2, *flags, "--out_dir=stopped", "--init_from=resume", cwd=tmp_path):
        good(process)
    equal_runs(tmp_path / "stopped", tmp_path / "whole")


def test_torchrun_trains_and_repeats_to_the_bit(together, tmp_path):
    flags = ["--max_iters=6", "--eval_interval=3", "--dropout=0.3"]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    line += [ROOT / "train.py", *TINY, *flags, "--out_dir=run"]
    process = good(subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300))
    assert process.stdout.count("step 6:") == 1
    assert files(tmp_path / "run") == LEFT
    for process in together(2, *flags, "--out_dir=again", cwd=tmp_path):
        good(process)
    assert same(saved(tmp_path / "run")["weights"], saved(tmp_path / "again")["weights"])


def test_dropout_differs_between_processes(together, run_warm, tmp_path):
    """With rows all alike and everything asked for, equal dropout would make the shares equal."""
    flags = ["--num_trajectories=1", "--task=dt_bc", "--model_type=dt", "--max_iters=1"]
    flags += ["--eval_tasks=behavior_cloning", "--dropout=0.5", "--grad_clip=0"]
    for process in together(2, *flags, "--batch_size=2", "--out_dir=two", cwd=tmp_path):
        good(process)
    good(run_warm("train.py", *TINY, *flags, "--batch_size=1", "--out_dir=one", cwd=tmp_path))
    optimizers = [saved(tmp_path / name)["optimizer"] for name in ("one", "two")]
    moments = [optimizer["state"][0]["exp_avg"] for optimizer in optimizers]
    assert not torch.allclose(*moments, rtol=1e-3)


def test_a_batch_that_cannot_be_shared_is_refused(together, refused, tmp_path):
    for process in together(2, "--batch_size=7", "--out_dir=new", cwd=tmp_path):
        message = refused(process)
        assert "batch_size=7" in message and "2 processes" in message
    assert not list(tmp_path.iterdir())


def full_disk(_):
    raise OSError(28, "No space left on device")


def test_a_process_that_is_left_alone_ends_in_one_line(together, refused, tmp_path):
    """A full disk, or Ctrl-C, ends the first process; the others do not wait for it for ever."""
    options = {"cwd": tmp_path, "inside": lambda rank: setattr(os, "fsync", full_disk)}
    first, second = together(2, "--max_iters=5", "--out_dir=out", **options)
    assert "cannot write out/best.pt: No space left" in refused(first)
    assert "process 1: another process of this run has ended" in refused(second)
