"""Several processes train what one process would: the same batches, gradients and weights; only one of them writes."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from test_train import checkpoint, read_log, same
from test_trust import equal_runs, interrupt_at_step

import distributed
import doorkey
import masks
import model as models

TINY = (
    "--num_trajectories=20 --n_embd=32 --n_ff=32 --n_layer=1 --n_head=2 --batch_size=12 --dropout=0 --eval_tasks=past "
    "--eval_sequences=40 --warmup_iters=5 --learning_rate=3e-3 --threads=1 --decay_lr=False"
).split()


@pytest.fixture(scope="module")
def together(start_warm):
    """together(2, *flags, cwd=folder): train.py in several processes at once, as torchrun starts them; all that finished."""

    def command(processes, *flags, cwd, inside=lambda rank: None):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]

        def become(rank):
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(processes), MASTER_ADDR="localhost", MASTER_PORT=str(port))
            sys.modules.pop("distributed")  # it read them when it was imported
            inside(rank)

        running = [
            start_warm("train.py", *TINY, *flags, cwd=cwd, inside=lambda rank=rank: become(rank))
            for rank in range(processes)
        ]
        return [finish(300) for finish in running]

    return command


def furthest(one, other):
    """The largest difference between the weights of two runs, but for the keys' bias.

    Softmax does not depend on it: its gradient is nothing but rounding errors, which AdamW scales up to whole steps.
    """
    ours, theirs = checkpoint(one)["weights"], checkpoint(other)["weights"]
    difference = {name: (ours[name] - theirs[name]).abs() for name in ours}
    for name in difference:
        if name.endswith("qkv.bias"):
            difference[name].view(3, -1)[1] = 0
    return max(x.max().item() for x in difference.values())


SETTINGS = {
    "a mixture of tasks": ["--task=all"],
    "factors hidden on their own": ["--task=random", "--factor_hiding=0.3", "--grad_clip=0"],
    "accumulated, averaged, fresh": ["--gradient_accumulation=2", "--ema=0.9", "--fresh"],
    "Decision-GPT": ["--model=dt", "--task=dt_bc+dt_rc", "--eval_tasks=behavior_cloning"],
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_processes_with_shares_of_a_batch_are_one_process_with_the_whole(settings, together, run_warm, tmp_path):
    flags = [*SETTINGS[settings], "--max_iters=50", "--eval_interval=25"]
    assert run_warm("train.py", *TINY, *flags, "--out_dir=one", cwd=tmp_path).returncode == 0
    for process in together(2, *flags, "--out_dir=two", cwd=tmp_path):
        assert process.returncode == 0, process.stderr[-2000:]
    assert furthest(tmp_path / "one", tmp_path / "two") < 1e-5
    for ours, theirs in zip(read_log(tmp_path / "one"), read_log(tmp_path / "two")):
        assert ours.keys() == theirs.keys()
        numbers = [(float(ours[name]), float(theirs[name])) for name in ours if ours[name] != theirs[name]]
        assert all(a == pytest.approx(b, rel=1e-4) for a, b in numbers), (
            "the training loss too is that of the whole batch"
        )


def test_a_run_goes_on_under_another_number_of_processes(together, run_warm, tmp_path):
    long, short = ["--max_iters=40", "--eval_interval=20"], ["--max_iters=20", "--eval_interval=20"]
    assert run_warm("train.py", *TINY, *long, "--out_dir=whole", cwd=tmp_path).returncode == 0
    assert run_warm("train.py", *TINY, *short, "--out_dir=parts", cwd=tmp_path).returncode == 0
    first, second = together(2, *long, "--out_dir=parts", "--init_from=resume", cwd=tmp_path)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "step 40" in first.stdout and not second.stdout + second.stderr, "only the first process prints"
    assert furthest(tmp_path / "whole", tmp_path / "parts") < 1e-5
    assert [row["iter"] for row in read_log(tmp_path / "parts")] == ["0", "20", "40"]


def test_ctrl_c_that_reaches_them_at_different_steps_saves_once(together, tmp_path):
    flags = ["--max_iters=20", "--eval_interval=10"]
    interrupt = lambda rank: interrupt_at_step(13 - rank)
    first, second = together(2, *flags, "--out_dir=stopped", cwd=tmp_path, inside=interrupt)
    assert "stopped at step 13 and saved" in first.stderr and first.returncode == 1
    assert second.stderr.count("\n") == 1 and second.returncode == 1
    assert all(process.returncode == 0 for process in together(2, *flags, "--out_dir=whole", cwd=tmp_path))
    resumed = together(2, *flags, "--out_dir=stopped", "--init_from=resume", cwd=tmp_path)
    assert all(process.returncode == 0 for process in resumed)
    equal_runs(tmp_path / "stopped", tmp_path / "whole")


def test_torchrun_trains_and_three_processes_repeat_to_the_bit(together, tmp_path):
    flags = ["--max_iters=6", "--eval_interval=3", "--dropout=0.3"]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3", ROOT / "train.py"]
    line += [*TINY, *flags, "--out_dir=run"]
    process = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.count("step 6:") == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "log.csv", "ckpt.pt", "best.pt"}
    assert all(process.returncode == 0 for process in together(3, *flags, "--out_dir=again", cwd=tmp_path))
    assert same(checkpoint(tmp_path / "run")["weights"], checkpoint(tmp_path / "again")["weights"])


def test_dropout_differs_between_processes(together, run_warm, tmp_path):
    """With rows that are all alike and everything asked for, equal dropout would make the shares equal."""
    flags = ["--num_trajectories=1", "--task=dt_bc", "--model=dt", "--eval_tasks=behavior_cloning", "--max_iters=1"]
    flags += ["--dropout=0.5", "--grad_clip=0", "--batch_size=2"]
    assert all(process.returncode == 0 for process in together(2, *flags, "--out_dir=two", cwd=tmp_path))
    assert run_warm("train.py", *TINY, *flags, "--batch_size=1", "--out_dir=one", cwd=tmp_path).returncode == 0
    moments = [checkpoint(tmp_path / name)["optimizer"]["state"][0]["exp_avg"] for name in ("one", "two")]
    assert not torch.allclose(*moments, rtol=1e-3)


def test_a_batch_that_cannot_be_shared_is_refused(together, refused, tmp_path):
    for process in together(2, "--batch_size=7", "--out_dir=new", cwd=tmp_path):
        message = refused(process)
        assert "batch_size=7" in message and "2 processes" in message
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_left_alone_ends_in_one_line(together, refused, tmp_path):
    """A full disk, or Ctrl-C, ends the first process alone; the others do not wait for it for ever."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "best.pt.tmp").mkdir()  # nothing can be written there
    first, second = together(2, "--max_iters=5", "--out_dir=out", cwd=tmp_path)
    assert "cannot write out/best.pt" in refused(first)
    assert "process 1: another process of this run has ended" in second.stderr and second.returncode == 1


@pytest.mark.parametrize("task", ["all", "behavior_cloning", "span(2,3)"])
def test_means_over_shares_add_up_to_the_mean_over_the_batch(task, monkeypatch, generator):
    """Also where a share has nothing to predict of a factor, and shares have different numbers of predicted entries."""
    made = doorkey.make_dataset(12, seed=0)
    network = models.build(models.ModelConfig(n_embd=16, n_ff=16, n_layer=1, n_head=2, dropout=0.0), made.factors)
    values, weights = made.tensors(), {"agent_pos": 2.0, "key_pos": 1.0, "action": 0.5, "return_to_go": 1.0}
    see, predict = masks.draw(task, 12, 10, generator)
    predict[:4, :, masks.ACTION] = False
    whole, _ = models.loss(network(values, see), values, predict, made.factors, weights)
    total = 0.0
    monkeypatch.setattr(distributed, "world_size", 3)
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", rank)
        own = distributed.own_weights(weights, predict, made.factors)
        mine, seen, asked = map(distributed.own_rows, (values, see, predict))
        total = total + models.loss(network(mine, seen), mine, asked, made.factors, own)[0]
    assert total.item() == pytest.approx(whole.item(), rel=1e-6)
