"""The real commands, end to end: train.py and evaluate.py on tiny models, resumed, finetuned and misused."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import data
import doorkey
import evaluate
import masks
import model as models

ROOT = Path(__file__).resolve().parent.parent
TINY = (
    "--num_trajectories=20 --n_embd=32 --n_ff=32 --n_layer=1 --n_head=2 --batch_size=16 --max_iters=30 "
    "--eval_interval=15 --eval_sequences=50 --warmup_iters=5 --threads=1"
).split()
FAMILIES = {
    "unimask": ["--model=unimask", "--task=random"],
    "nn": ["--model=nn", "--task=behavior_cloning"],
    "dt": ["--model=dt", "--task=dt_bc+dt_rc"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the runs of this file live, each in an out_dir of its own."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def train(run_warm, folder):
    """train("name", *flags): run train.py with TINY settings into folder/name; returns the folder's path."""

    def command(name, *flags, tiny=TINY, run=run_warm):
        process = run("train.py", *tiny, f"--out_dir={name}", *flags, cwd=folder)
        assert process.returncode == 0, process.stderr[-2000:]
        (folder / name / "stdout").write_text(process.stdout)
        return folder / name

    return command


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, train, run):
    """(kind, out_dir) of a finished run of each model family, in a process of its own."""
    return request.param, train(request.param, *FAMILIES[request.param], run=run)


@pytest.fixture(scope="module")
def trained(train, folder):
    """out_dir of the finished UniMASK run."""
    return folder / "unimask" if (folder / "unimask").exists() else train("unimask", *FAMILIES["unimask"])


def read_log(out_dir):
    with open(out_dir / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def checkpoint(out_dir, name="ckpt.pt"):
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


# ---- what a run leaves behind ----------------------------------------------------------------------------------------


def test_a_run_leaves_config_log_and_checkpoints(family):
    kind, out_dir = family
    assert {path.name for path in out_dir.iterdir()} == {"config.json", "log.csv", "ckpt.pt", "best.pt", "stdout"}
    config = json.loads((out_dir / "config.json").read_text())
    assert {"model": kind, "num_trajectories": 20, "n_embd": 32, "max_iters": 30, "seed": 0}.items() <= config.items()
    rows = read_log(out_dir)
    assert [row["iter"] for row in rows] == ["0", "15", "30"]
    tasks = [task for task in masks.MIXTURE if masks.can(kind, task)]
    assert len(tasks) >= 2 and all(0 < float(row[task]) < 20 for row in rows for task in tasks)
    assert all(float(row["train_loss"]) > 0 for row in rows[1:])
    assert "data and masks" in (out_dir / "stdout").read_text().splitlines()[-1]
    assert checkpoint(out_dir)["iter"] == 30


def test_training_lowers_the_loss(train):
    rows = read_log(
        train("learns", "--max_iters=150", "--eval_interval=75", "--eval_tasks=past,future", "--learning_rate=3e-3")
    )
    for task in ("past", "future"):
        assert float(rows[-1][task]) < float(rows[0][task]) - 0.5


def test_evaluate_writes_loss_limit_and_gap_of_every_task(family, run, folder):
    kind, out_dir = family
    process = run("evaluate.py", f"--out_dir={out_dir.name}", "--sequences=60", cwd=folder)
    assert process.returncode == 0, process.stderr[-2000:]
    results = json.loads((out_dir / "eval.json").read_text())
    assert set(results) == {task for task in masks.MIXTURE if masks.can(kind, task)}
    for task, row in results.items():
        assert task in process.stdout
        assert (
            row["loss"] > 0 and row["limit"] >= 0 and row["gap"] == pytest.approx(row["loss"] - row["limit"], abs=1e-6)
        )
    (out_dir / "eval.json").unlink()


def test_evaluate_asks_the_tasks_it_is_told_of_the_data_it_is_told(trained, run_warm, folder):
    tables = []
    for flags in (["--split=val"], ["--split=val"], ["--split=test"]):
        process = run_warm(
            "evaluate.py", "--out_dir=unimask", "--sequences=40", "--tasks=past,span(2,5)", *flags, cwd=folder
        )
        assert process.returncode == 0, process.stderr[-2000:]
        tables.append(json.loads((trained / "eval.json").read_text()))
    (trained / "eval.json").unlink()
    assert set(tables[0]) == {"past", "span(2,5)"}
    assert tables[0] == tables[1] and tables[0]["past"]["loss"] != tables[2]["past"]["loss"]


def test_the_best_checkpoint_is_that_of_the_lowest_loss(train):
    flags = "--eval_tasks=past,future --best_tasks=past --eval_interval=3 --learning_rate=0.1 --grad_clip=0".split()
    out_dir = train("unstable", *flags)
    losses = {int(row["iter"]): float(row["past"]) for row in read_log(out_dir)}
    lowest = min(losses, key=losses.get)
    later = [loss for it, loss in losses.items() if it > lowest]
    assert any(b < a for a, b in zip(later, later[1:]))  # later ones improve on those before, but not on the lowest
    best = checkpoint(out_dir, "best.pt")
    assert best["iter"] == lowest
    config = json.loads((out_dir / "config.json").read_text())
    _, validation = data.train_and_validation("doorkey", 20, config["data_seed"])
    asked = evaluate.questions(validation, ["past", "future"], 50, 10, evaluate.VALIDATION_SEED)
    assert evaluate.losses(models.load(out_dir), asked)["past"]["loss"] == pytest.approx(min(losses.values()), rel=1e-4)


def test_a_seed_is_a_run(trained, train):
    again = train("again", *FAMILIES["unimask"])
    assert (again / "log.csv").read_bytes() == (trained / "log.csv").read_bytes()
    assert same(checkpoint(again)["weights"], checkpoint(trained)["weights"])
    other = train("other", *FAMILIES["unimask"], "--seed=1", "--keep_best=none")
    assert (other / "log.csv").read_bytes() != (trained / "log.csv").read_bytes()
    assert not (other / "best.pt").exists()


@pytest.mark.parametrize(
    "name, flags",
    [
        (
            "options",
            "--layout=factor --hidden=zero --positions=timestep --norm=pre --ema=0.9 --gradient_accumulation=2 "
            "--factor_hiding=0.3 --returns=all_half --task=past+future --dtype=bfloat16 --fresh --decay_lr=False "
            "--context=6",
        ),
        (
            "rollouts",
            "--eval_rollouts=6 --keep_best=return --task=random_rc --eval_modes=bc,rc_states --positions=learned",
        ),
        ("doorkey16", "--dataset=doorkey16 --task=all --layout=entry"),
    ],
)
def test_other_settings_train_and_evaluate(name, flags, train):
    rows = read_log(train(name, "--max_iters=4", "--eval_interval=2", *flags.split()))
    assert len(rows) == 3
    assert all(np.isfinite(float(x)) for row in rows[1:] for x in row.values())
    if name == "rollouts":
        assert {"return_bc", "return_rc_states"} <= rows[0].keys()


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_file_of_continuous_factors_trains_and_evaluates(kind, train, run_warm, folder, toy_data):
    toy_data.save(folder / "toy.npz")
    flags = ["--dataset=toy.npz", "--context=4", "--octaves=2", "--tanh_actions", "--max_iters=4", "--eval_interval=2"]
    out_dir = train(f"toy-{kind}", *FAMILIES[kind], *flags)
    assert all(np.isfinite(float(x)) for row in read_log(out_dir)[1:] for x in row.values())
    if kind == "unimask":
        assert run_warm("evaluate.py", f"--out_dir=toy-{kind}", "--sequences=20", cwd=folder).returncode == 0
        results = json.loads((out_dir / "eval.json").read_text())
        assert all(row["loss"] > 0 and row["limit"] is None and row["gap"] is None for row in results.values())


# ---- finetuning ------------------------------------------------------------------------------------------------------


def test_finetuning_starts_from_the_weights_of_the_other_run(trained, train):
    """One step at a learning rate of zero leaves what it started from; the shape comes from the checkpoint."""
    flags = ["--learning_rate=0.0", "--max_iters=1", "--task=past", "--eval_tasks=past", "--eval_sequences=20"]
    for name, path in (("tuned-best", trained), ("tuned-last", trained / "ckpt.pt")):
        out_dir = train(name, f"--init_from=finetune:{path}", *flags, tiny=["--threads=1"])
        source = checkpoint(trained, "best.pt" if path == trained else "ckpt.pt")
        assert same(checkpoint(out_dir)["weights"], source["weights"])
        assert json.loads((out_dir / "config.json").read_text())["n_embd"] == 32
    assert not same(checkpoint(trained)["weights"], checkpoint(train("scratch", "--max_iters=1"))["weights"])


def test_a_finetuning_run_resumes_with_the_same_command(trained, train):
    flags = [
        f"--init_from=finetune:{trained}",
        "--task=past",
        "--eval_tasks=past",
        "--eval_sequences=20",
        "--decay_lr=False",
    ]
    train("tuned", *flags, "--max_iters=2", tiny=["--threads=1"])
    resumed = train("tuned", *flags, "--max_iters=4", "--init_from=resume", tiny=["--threads=1"])
    whole = train("tuned-whole", *flags, "--max_iters=4", "--eval_interval=2", tiny=["--threads=1"])
    assert same(checkpoint(resumed)["weights"], checkpoint(whole)["weights"])


# ---- interruption ----------------------------------------------------------------------------------------------------

LONG = ["--max_iters=120", "--eval_interval=20", "--eval_tasks=past", "--dropout=0.3"]


def resumed_equals_whole(resumed, whole):
    ours, theirs = checkpoint(resumed), checkpoint(whole)
    assert same(ours["weights"], theirs["weights"])
    assert same(ours["optimizer"], theirs["optimizer"])
    assert (resumed / "log.csv").read_bytes() == (whole / "log.csv").read_bytes()
    assert same(checkpoint(resumed, "best.pt")["weights"], checkpoint(whole, "best.pt")["weights"])


@pytest.fixture(scope="module")
def whole(train):
    return train("whole", *LONG)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_resumes_bit_for_bit(how, whole, train, folder):
    out_dir = folder / how.name
    command = [sys.executable, ROOT / "train.py", *TINY, *LONG, f"--out_dir={how.name}"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not ((out_dir / "log.csv").exists() and len(read_log(out_dir)) >= 2):
        time.sleep(0.002)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0, "the run ended before it was stopped"
    assert len(read_log(out_dir)) < 7
    if how == signal.SIGINT:
        assert "resume" in errors and "Traceback" not in errors
    resumed_equals_whole(train(how.name, *LONG, "--init_from=resume"), whole)


@pytest.mark.parametrize(
    "kind, flags", [("unimask", []), ("nn", []), ("dt", ["--ema=0.9", "--gradient_accumulation=2"])]
)
def test_a_shorter_run_resumes_bit_for_bit(kind, flags, train):
    common = [*FAMILIES[kind], "--decay_lr=False", "--eval_interval=8", "--eval_tasks=behavior_cloning", *flags]
    longer = train(f"longer-{kind}", *common, "--max_iters=24")
    train(f"shorter-{kind}", *common, "--max_iters=8")
    resumed_equals_whole(train(f"shorter-{kind}", *common, "--max_iters=24", "--init_from=resume"), longer)


# ---- overfitting -----------------------------------------------------------------------------------------------------

OVERFIT = (
    "--num_trajectories=8 --data_seed=3 --batch_size=40 --n_embd=64 --n_ff=64 --n_head=4 --n_layer=2 "
    "--norm=pre --dropout=0 --weight_decay=0 --warmup_iters=20 --learning_rate=3e-3 --grad_clip=1 "
    "--eval_interval=1000 --eval_sequences=20 --threads=1"
).split()


@pytest.mark.parametrize(
    "kind, task, steps, asked",
    [
        (
            "unimask",
            "random",
            600,
            ["behavior_cloning", "reward_conditioned", "goal_conditioned", "waypoint", "future"],
        ),
        ("unimask", "behavior_cloning", 120, ["behavior_cloning"]),
        ("unimask", "reward_conditioned", 120, ["reward_conditioned"]),
        ("nn", "behavior_cloning", 300, ["behavior_cloning"]),
        ("dt", "dt_bc", 100, ["dt_bc", "behavior_cloning"]),
    ],
)
def test_a_model_learns_a_few_trajectories_by_heart(kind, task, steps, asked, train):
    """Their starts differ, so the first state tells them apart: every task that shows it can reach a loss of zero."""
    out_dir = train(f"heart-{kind}-{task}", f"--model={kind}", f"--task={task}", f"--max_iters={steps}", tiny=OVERFIT)
    memorised, _ = data.train_and_validation("doorkey", 8, 3)
    starts = {
        (agent, key) for agent, key in zip(memorised.values["agent_pos"][:, 0], memorised.values["key_pos"][:, 0])
    }
    assert len(starts) == 8
    results = evaluate.losses(models.load(out_dir / "ckpt.pt"), evaluate.questions(memorised, asked, 400, 10, seed=1))
    for name in asked:
        assert results[name]["loss"] < 0.1, f"{name}: {results[name]['loss']}"


# ---- misuse ----------------------------------------------------------------------------------------------------------

MISUSE = {  # command: words that its one line on stderr must hold
    "train.py --lerning_rate=1": ["lerning_rate", "learning_rate"],
    "train.py --batch_size=many": ["batch_size", "many", "int"],
    "train.py --batch_size=0": ["batch_size", "0"],
    "train.py --task=pasta": ["pasta", "past"],
    "train.py --task=None": ["task"],
    "train.py --model=dt --task=past": ["dt", "past", "dt_bc"],
    "train.py --task=dt_bc": ["unimask", "dt_bc"],
    "train.py --model=gpt": ["gpt", "unimask"],
    "train.py --eval_tasks=past,futur": ["futur", "future"],
    "train.py --eval_tasks=past --best_tasks=future": ["best_tasks", "future"],
    "train.py --dataset=missing.npz": ["missing.npz"],
    "train.py --dataset=truncated.npz": ["truncated.npz"],
    "train.py --dataset=dorkey": ["dorkey", "doorkey"],
    "train.py --context=11": ["11", "10"],
    "train.py --context=1 --task=goal_conditioned": ["1", "short"],
    "train.py --n_head=3": ["n_head", "3"],
    "train.py --dataset=whole.npz --num_trajectories=500": ["whole.npz", "500"],
    "train.py --seed=-1": ["seed", "-1"],
    "train.py --fresh --dataset=whole.npz": ["whole.npz"],
    "train.py --eval_rollouts=2 --eval_modes=bc,cc": ["cc", "bc_states"],
    "train.py --eval_rollouts=2 --dataset=nowhere.npz": ["nowhere.npz"],
    "train.py --init_from=resume": ["checkpoint"],
    "train.py --init_from=scrtch": ["scrtch", "scratch"],
    "train.py --init_from=finetune:missing.pt": ["missing.pt"],
    "train.py --init_from=finetune:truncated.pt": ["truncated.pt"],
    "train.py --init_from=finetune:unimask --dataset=doorkey16": ["doorkey16", "factors"],
    "train.py --init_from=finetune:unimask --model=dt --task=dt_bc": ["dt"],
    "train.py --out_dir=a_file": ["a_file"],
    "train.py --out_dir=a_file/below": ["a_file"],
    "evaluate.py --out_dir=missing": ["missing"],
    "evaluate.py --out_dir=unimask --tasks=dt_bc": ["unimask", "dt_bc"],
    "evaluate.py --out_dir=unimask --split=tets": ["tets", "test"],
    "evaluate.py --out_dir=unimask --sequences=0": ["sequences", "0"],
}


@pytest.fixture(scope="module")
def place(trained, folder, toy_data):
    """A folder with good and damaged files to misuse."""
    here = folder / "misuse"
    here.mkdir()
    (here / "unimask").symlink_to(trained)
    doorkey.make_dataset(40, seed=0).save(here / "whole.npz")
    toy_data.save(here / "nowhere.npz")
    (here / "truncated.npz").write_bytes((here / "whole.npz").read_bytes()[:3000])
    (here / "truncated.pt").write_bytes((trained / "best.pt").read_bytes()[:3000])
    (here / "a_file").write_text("not a folder")
    return here


def snapshot(*folders):
    """{path: content} of all files in the folders, and None for the folders below."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("line", MISUSE)
def test_misuse_ends_in_one_line_that_names_it_and_writes_nothing(line, place, trained, run_warm, refused):
    script, *given = line.split()
    short = [
        "--max_iters=2",
        "--eval_sequences=20",
        "--n_embd=16",
        "--n_layer=1",
        "--num_trajectories=20",
        "--out_dir=new",
    ]
    short = [flag for flag in short if script == "train.py" and flag.split("=")[0] not in line]
    before = snapshot(place, trained)
    try:
        message = refused(run_warm(script, *short, *given, cwd=place))
        assert all(word in message for word in MISUSE[line]), message
        assert snapshot(place, trained) == before, "a refused command wrote something"
    finally:
        shutil.rmtree(place / "new", ignore_errors=True)


def test_a_run_cannot_be_resumed_as_another_nor_is_it_damaged(whole, run_warm, refused, folder):
    before = snapshot(whole)
    message = refused(
        run_warm("train.py", *TINY, *LONG, "--out_dir=whole", "--init_from=resume", "--n_embd=64", cwd=folder)
    )
    assert "n_embd" in message and "64" in message and "32" in message
    assert snapshot(whole) == before
