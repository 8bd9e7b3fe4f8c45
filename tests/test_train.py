"""The real train.py, end to end: what a run leaves, learns, starts from, resumes, and may replace."""

import json

import numpy as np
import pytest
import torch
from runs import (
    FAMILIES,
    LEFT,
    TINY,
    equal_runs,
    files,
    good,
    interrupt_at_step,
    read_log,
    same,
    saved,
    snapshot,
)

import bench
import checkpoint
import evaluate
import masks
import rollout
import traits
import worlds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the runs of this file live, each in an out_dir of its own."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def train(run_warm, folder):
    """train("name", *flags): run train.py with TINY settings into folder/name; its path."""

    def command(name, *flags, tiny=TINY, run=run_warm, **options):
        good(run("train.py", *tiny, f"--out_dir={name}", *flags, cwd=folder, **options))
        return folder / name

    return command


@pytest.fixture(scope="module")
def trained(train):
    """out_dir of a finished UniMASK run."""
    return train("trained", *FAMILIES["unimask"])


def test_the_learning_rate_rises_and_then_falls_along_a_cosine():
    run = bench.training({"max_iters": 30, "warmup_iters": 10, "learning_rate": 0.5})
    rising, falling = np.arange(1, 11) / 11, 0.5 + 0.5 * np.cos(np.pi * np.arange(21) / 20)
    expected = 0.5 * np.concatenate([rising, falling])
    np.testing.assert_allclose([run.lr_at(it) for it in range(31)], expected, atol=1e-12)


def test_a_checkpoint_is_chosen_by_other_episodes_than_those_reported(monkeypatch):
    seeds = []

    def measure(network, world, train, n, seed, modes, demos):
        seeds.append((n, seed))
        return {mode: {"return": {"mean": 1.0}} for mode in modes}

    run = bench.training({"eval_rollouts": 7, "keep_best": "return"})
    monkeypatch.setattr(rollout, "measure", measure)
    run.save = lambda *_: None
    run.evaluate_and_save(0)
    assert seeds == [(7, rollout.SELECTION_SEED)] and rollout.SELECTION_SEED != rollout.ROLLOUT_SEED


def test_with_factor_hiding_agent_and_key_are_hidden_apart():
    for probability, apart in (0.0, False), (0.5, True):
        run = bench.training({"factor_hiding": probability})
        run.reseed(0)
        see = masks.expand(run.get_batch(0)[1], run.factors)
        assert (see["agent_pos"] != see["key_pos"]).any() == apart


# ---- what a run leaves behind ----------------------------------------------------------------------


def check_run(kind, out_dir):
    assert files(out_dir) == LEFT
    config = json.loads((out_dir / "config.json").read_text())
    expected = {"model_type": kind, "num_trajectories": 20, "n_embd": 32, "max_iters": 30}
    assert expected.items() <= config.items() and config == saved(out_dir)["config"]
    rows = read_log(out_dir)
    assert [row["iter"] for row in rows] == ["0", "15", "30"]
    tasks = [task for task in masks.EIGHT if traits.can(kind, task)]
    assert len(tasks) >= 2
    assert all(0 < float(row[task]) < 20 for row in rows for task in tasks)
    assert all(float(row["train_loss"]) > 0 for row in rows[1:])
    assert saved(out_dir)["iter"] == 30


@pytest.mark.quick
def test_a_run_in_a_process_of_its_own(train, run):
    """Where its own imports must suffice: other tests run in forks of one that has them."""
    check_run("unimask", train("own", *FAMILIES["unimask"], run=run))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_run_leaves_config_log_and_checkpoints(kind, train):
    check_run(kind, train(f"left-{kind}", *FAMILIES[kind]))


def test_training_lowers_the_loss(train):
    flags = "--max_iters=150 --eval_interval=75 --eval_tasks=past,future --learning_rate=3e-3"
    rows = read_log(train("learns", *flags.split()))
    for task in ("past", "future"):
        assert float(rows[-1][task]) < float(rows[0][task]) - 0.5


def test_a_seed_is_a_run(trained, train):
    again = train("again", *FAMILIES["unimask"])
    assert (again / "log.csv").read_bytes() == (trained / "log.csv").read_bytes()
    assert same(saved(again)["weights"], saved(trained)["weights"])
    other = train("other", *FAMILIES["unimask"], "--seed=1", "--keep_best=none")
    assert (other / "log.csv").read_bytes() != (trained / "log.csv").read_bytes()
    assert not (other / "best.pt").exists()


SETTINGS = {
    "many": "--layout=factor --hidden=zero --positions=timestep --norm=post --ema=0.9 --context=6 "
    "--factor_hiding=0.3 --returns=with_state --task=past+future --dtype=bfloat16 --decay_lr=False",
    "rollouts": "--eval_rollouts=6 --keep_best=return --task=random_rc --eval_modes=bc,rc_states",
    "entries": "--task=all --layout=entry --positions=learned --fresh --grad_clip=0",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_other_settings_train_and_evaluate(name, train):
    rows = read_log(train(name, "--max_iters=4", "--eval_interval=2", *SETTINGS[name].split()))
    assert len(rows) == 3
    assert all(np.isfinite(float(x)) for row in rows[1:] for x in row.values())
    if name == "rollouts":
        assert {"return_bc", "return_rc_states"} <= rows[0].keys()


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_file_of_continuous_factors_trains(kind, train, folder, toy_data):
    toy_data.save(str(folder / "toy.npz"))
    flags = "--dataset=toy.npz --num_trajectories=0 --context=4 --fourier_features=2 "
    flags += "--tanh_actions --differences --max_iters=4 --eval_interval=2"
    rows = read_log(train(f"toy-{kind}", *FAMILIES[kind], *flags.split()))
    assert all(np.isfinite(float(x)) for row in rows[1:] for x in row.values())


def test_the_command_line_sets_layout_and_length_of_the_timestep_table(train, folder, toy_data):
    toy_data.save(str(folder / "toy.npz"))
    flags = "--dataset=toy.npz --num_trajectories=0 --max_iters=1 --context=4 "
    flags += "--layout=entry --positions=timestep --max_timestep=12"  # as long as its longest
    network = checkpoint.load(train("entry", *flags.split()))
    assert network.position.shape == (12, 32)
    assert len(network.features) == len(toy_data.factors)  # a token for each factor


# ---- which checkpoint is the best ------------------------------------------------------------------

UNSTABLE = "--max_iters=36 --eval_interval=3 --learning_rate=0.1 --grad_clip=0".split()


def lowest(rows, tasks):
    """The step at which the sum of the tasks' losses is lowest."""
    return int(min(rows, key=lambda row: sum(float(row[name]) for name in tasks))["iter"])


def test_the_best_checkpoint_is_that_of_the_lowest_loss(train):
    """And not the last one, nor one that improved on the one before it."""
    flags = [*UNSTABLE, "--eval_tasks=past,future", "--best_tasks=past", "--overwrite=True"]
    tested = False
    for seed in range(5):  # until one of them does both
        out_dir = train("unstable", *flags, f"--seed={seed}")
        rows = read_log(out_dir)
        best = saved(out_dir, "best.pt")["iter"]
        assert best == lowest(rows, ["past"])
        later = [float(row["past"]) for row in rows if int(row["iter"]) > best]
        tested |= any(b < a for a, b in zip(later, later[1:]))
        if tested:
            break
    assert tested, "in no run a later evaluation improves on the one before it"
    _, validation = worlds.train_and_validation("doorkey", 20, 0)
    mask_seed = evaluate.VALIDATION_SEED
    asked = evaluate.questions(validation, ["past", "future"], 50, 10, seed=mask_seed)
    again = evaluate.losses(checkpoint.load(out_dir), asked)["past"]["loss"]
    assert again == pytest.approx(min(float(row["past"]) for row in rows), rel=1e-4)


@pytest.mark.parametrize("keep_best, add", [("return", max), ("return_sum", sum)])
def test_the_best_checkpoint_is_that_of_the_highest_return_or_of_the_highest_sum(
    keep_best, add, train
):
    flags = f"--keep_best={keep_best} --eval_rollouts=30 --eval_modes=bc,rc --eval_tasks=past"
    out_dir = train(keep_best, *UNSTABLE, *flags.split())
    rows = read_log(out_dir)
    score = lambda row: add((float(row["return_bc"]), float(row["return_rc"])))
    assert saved(out_dir, "best.pt")["iter"] == int(max(rows, key=score)["iter"])


@pytest.mark.parametrize(
    "processor, units",
    [
        ({"amx_bf16": True, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "Intel Xeon"}, False),
        ({"amx_bf16": False, "avx512_bf16": True, "cpu_name": "AMD EPYC 9B45"}, True),
        ({"amx_bf16": False, "avx512_bf16": False, "cpu_name": "AMD Ryzen 7"}, False),
        ({"bf16": True}, False),
    ],
)
def test_products_are_in_bfloat16_where_the_processor_has_units_for_it(
    processor, units, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    small = {"n_embd": 16, "n_ff": 16, "n_layer": 1, "n_head": 2, "num_trajectories": 20}
    runs = [bench.training(small | {"dtype": dtype}) for dtype in ("float32", "bfloat16")]
    exact, asked = (run.train_step(0) for run in runs)
    assert (exact == asked) == (not units)


def test_by_turns_each_step_has_one_task_at_evenly_spread_timesteps():
    settings = {"task": "past+behavior_cloning", "by_turns": True, "batch_size": 20, "n_embd": 16}
    run = bench.training(settings | {"num_trajectories": 16})
    for it in range(4):
        _, see, predict = run.get_batch(it)
        i = predict.any(-1).sum(1) if it % 2 == 0 else see[..., 0].sum(1)  # (20,)
        assert i.bincount(minlength=11).tolist() == [0] + [2] * 10
        assert predict[..., 0].any() == (it % 2 == 0)
    mixed = bench.training(settings | {"num_trajectories": 16, "by_turns": False})
    _, _, predict = mixed.get_batch(0)
    assert predict[:10, :, 0].any() and not predict[10:, :, 0].any()
    for chosen in run, mixed:
        assert np.isfinite([chosen.train_step(it).item() for it in range(2)]).all()


@pytest.mark.parametrize("task", ["inverse_dynamics", "span(2,5)+inverse_dynamics"])
def test_the_trained_task_is_evaluated_and_chooses_the_best(task, train, run_warm, folder):
    """Also where it is none of the paper's eight, which would choose another checkpoint."""
    names, others = task.split("+"), set()
    for seed in range(5):  # until they would
        flags = [f"--task={task}", *UNSTABLE, f"--seed={seed}", "--overwrite=True"]
        out_dir = train("chosen-" + task[:4], *flags)
        rows = read_log(out_dir)
        assert set(masks.EIGHT) | set(names) <= rows[0].keys()
        best = saved(out_dir, "best.pt")["iter"]
        assert best == lowest(rows, names)
        others = {lowest(rows, masks.EIGHT), lowest(rows, [*masks.EIGHT, *names])}
        if best not in others:
            break
    assert best not in others, "the eight choose the same in every run"
    good(run_warm("evaluate.py", f"--out_dir={out_dir.name}", "--sequences=20", cwd=folder))
    assert list(json.loads((out_dir / "eval.json").read_text())) == [*masks.EIGHT, *names]


# ---- finetuning ------------------------------------------------------------------------------------

SHORT = "--max_iters=1 --task=past --eval_tasks=past --eval_sequences=20 --num_trajectories=20"
SHORT = [*SHORT.split(), "--threads=1"]


def test_finetuning_starts_from_the_weights_and_the_shape_of_the_other_run(trained, train):
    """One step at a learning rate of zero leaves what it started from."""
    for name, path in (("best", trained), ("ckpt", trained / "ckpt.pt")):
        flags = [f"--init_from=finetune:{path}", "--learning_rate=0.0", "--dropout=0.25"]
        out_dir = train(f"tuned-{name}", *flags, tiny=SHORT)
        assert same(saved(out_dir)["weights"], saved(trained, f"{name}.pt")["weights"])
        shape = {"n_embd": 32, "n_layer": 1, "dropout": 0.25}
        assert shape.items() <= saved(out_dir)["config"].items()
        assert shape.items() <= saved(out_dir)["model_config"].items()


@pytest.mark.parametrize("flag", ["--n_layer=3", "--n_layer=2", "--positions=learned", "a file"])
def test_finetuning_refuses_a_shape_that_contradicts_the_checkpoint(
    flag, trained, folder, run_warm, refused
):
    """Also one that is train.py's default: n_layer=3. It was asked for, so it must not be lost."""
    config = folder / "deeper.py"
    config.write_text("n_layer = 3\n")
    flag = str(config) if flag == "a file" else flag
    flags = [*SHORT, f"--init_from=finetune:{trained}", "--out_dir=contradicted", flag]
    message = refused(run_warm("train.py", *flags, cwd=folder))
    name = flag.strip("-").split("=")[0] if "=" in flag else "n_layer"
    assert name in message and "contradicts" in message and str(trained) in message
    assert not (folder / "contradicted").exists()


def test_finetuning_accepts_a_shape_that_is_said_again(trained, train):
    flags = ["--n_layer=1", "--n_embd=32", f"--init_from=finetune:{trained}"]
    assert saved(train("agrees", *flags, tiny=SHORT))["model_config"]["n_layer"] == 1


def test_finetuning_may_weigh_returns_anew_where_the_model_predicts_them(train, run_warm, folder):
    start = train("returns", "--return_weight=0.2", "--max_iters=1", "--task=random_return")
    flags = [f"--init_from=finetune:{start}", "--max_iters=1", "--task=random_return"]
    assert saved(train("anew", *flags, "--return_weight=0.5"))["config"]["return_weight"] == 0.5
    assert saved(train("as-it-is", *flags))["config"]["return_weight"] == 0.2
    flags += ["--return_weight=0", "--out_dir=none"]
    process = run_warm("train.py", *TINY, *flags, cwd=folder)
    assert "return_weight=0.0 contradicts" in process.stderr


@pytest.mark.parametrize("task", ["dt_bc", "past"])
def test_finetuning_takes_the_type_of_model_from_the_checkpoint(
    task, train, folder, run_warm, refused
):
    """So it can do that model's tasks, and no others, whatever train.py's default can do."""
    source = train(f"causal-{task}", *FAMILIES["dt"], "--max_iters=1")
    flags = ["--max_iters=1", "--eval_sequences=20", "--num_trajectories=20", "--threads=1"]
    line = [*flags, f"--init_from=finetune:{source}", f"--task={task}"]
    if task == "dt_bc":
        out_dir = train("causal-tuned", *line, tiny=[])
        assert saved(out_dir)["config"]["model_type"] == "dt"
    else:
        message = refused(run_warm("train.py", *line, "--out_dir=acausal", cwd=folder))
        assert "dt" in message and "past" in message and not (folder / "acausal").exists()


def test_a_finetuned_run_resumes_any_number_of_times(train, folder):
    """Its weights are its own by now: what it started from may be gone."""
    source = train("source", "--max_iters=2", "--n_layer=2")
    flags = ["--dropout=0.3", "--decay_lr=False", "--eval_interval=2", *SHORT]
    start = f"--init_from=finetune:{source}"
    whole = train("tuned-whole", *flags, start, "--max_iters=8", tiny=[])
    train("tuned", *flags, start, "--max_iters=2", tiny=[])
    source.rename(folder / "elsewhere")
    for steps in (4, 6, 8):
        train("tuned", *flags, f"--max_iters={steps}", "--init_from=resume", tiny=[])
    equal_runs(folder / "tuned", whole)


# ---- interruption ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_shorter_run_resumes_bit_for_bit(kind, train):
    flags = [*FAMILIES[kind], "--decay_lr=False", "--eval_interval=8", "--dropout=0.3"]
    flags += ["--eval_tasks=behavior_cloning", *(["--ema=0.9"] if kind == "dt" else [])]
    longer = train(f"longer-{kind}", *flags, "--max_iters=20")
    train(f"shorter-{kind}", *flags, "--max_iters=12")
    resumed = train(f"shorter-{kind}", *flags, "--max_iters=20", "--init_from=resume")
    ours, theirs = saved(resumed), saved(longer)
    assert same(ours["weights"], theirs["weights"])
    assert same(ours["raw_weights"], theirs["raw_weights"])
    assert same(ours["optimizer"], theirs["optimizer"])
    rows = [row for row in read_log(resumed) if row["iter"] != "12"]  # the end of the shorter one
    losses = [[row["behavior_cloning"] for row in log] for log in (rows, read_log(longer))]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["nn", "dt"])
def test_a_run_stopped_between_evaluations_resumes_bit_for_bit(kind, train, run_warm, folder):
    flags = [*FAMILIES[kind], "--max_iters=16", "--eval_interval=8", "--dropout=0.3"]
    whole = train(f"whole-{kind}", *flags)
    line = [*TINY, *flags, f"--out_dir=stopped-{kind}"]
    stopped = run_warm("train.py", *line, cwd=folder, inside=lambda: interrupt_at_step(11))
    assert stopped.returncode == 130 and "stopped at step 11" in stopped.stderr
    equal_runs(train(f"stopped-{kind}", *flags, "--init_from=resume"), whole)


def test_a_run_cannot_be_resumed_as_another_nor_is_it_damaged(trained, run_warm, refused):
    before = snapshot(trained)
    for flag, words in (("--n_embd=64", ("n_embd=64", "32")), ("--batch_size=8", ("8", "16"))):
        flags = [*TINY, *FAMILIES["unimask"], "--out_dir=trained", "--init_from=resume", flag]
        message = refused(run_warm("train.py", *flags, cwd=trained.parent))
        assert all(word in message for word in words), message
    assert snapshot(trained) == before


# ---- a folder that holds another run ---------------------------------------------------------------


def test_another_run_in_the_same_folder_is_refused(train, run_warm, refused, folder):
    finished = train("finished", "--max_iters=2")
    stop = {"inside": lambda: interrupt_at_step(1)}
    run_warm("train.py", *TINY, "--out_dir=begun", cwd=folder, **stop)
    for out_dir in (finished, folder / "begun"):
        before = snapshot(out_dir)
        assert f"{out_dir}/ckpt.pt" in before
        for flags in ([], ["--seed=1"], ["--init_from=finetune:finished"]):
            line = [*TINY, "--max_iters=3", f"--out_dir={out_dir.name}", *flags]
            message = refused(run_warm("train.py", *line, cwd=folder))
            assert out_dir.name in message and "--overwrite=True" in message
            assert snapshot(out_dir) == before


def test_overwriting_leaves_nothing_of_the_other_run(train, run_warm, refused, folder):
    out_dir = train("replaced", "--max_iters=2")
    for name in ("eval.json", "rollouts.json"):
        (out_dir / name).write_text("{}")
    before = snapshot(out_dir)
    line = [*TINY, "--out_dir=replaced", "--overwrite=True"]
    best = "--dataset=maze2d-umaze --context=5 --task=random_return --return_weight=1 --eval_rollouts=2"
    for wrong in (
        "--dataset=missing.npz",
        "--task=all --batch_size=4",
        f"{best} --eval_modes=best",
    ):
        refused(run_warm("train.py", *line, *wrong.split(), cwd=folder))
        assert snapshot(out_dir) == before, "what is refused replaces nothing"
    train("replaced", "--overwrite=True", "--max_iters=3", "--seed=1", "--keep_best=none")
    assert files(out_dir) == LEFT - {"best.pt"}  # which evaluate.py would have taken for this one
    assert checkpoint.read(out_dir)["iter"] == 3 and checkpoint.read(out_dir)["config"]["seed"] == 1


# ---- overfitting -----------------------------------------------------------------------------------

OVERFIT = (
    "--num_trajectories=8 --data_seed=3 --batch_size=40 --n_embd=64 --n_ff=64 --n_head=4 --n_layer=2 "
    "--norm=pre --dropout=0 --weight_decay=0 --warmup_iters=20 --learning_rate=3e-3 --grad_clip=1 "
    "--eval_interval=1000 --eval_sequences=20 --threads=1"
).split()
BY_HEART = {  # type of model: what it is trained on, for how many steps, and what it is asked
    "unimask": ("random", 600, ["behavior_cloning", "goal_conditioned", "waypoint", "future"]),
    "nn": ("behavior_cloning", 300, ["behavior_cloning"]),
    "dt": ("dt_bc", 100, ["dt_bc", "behavior_cloning"]),
}


@pytest.mark.parametrize("kind", BY_HEART)
def test_a_model_learns_a_few_trajectories_by_heart(kind, train):
    """Their starts differ, so a task that shows the first state can reach a loss of zero."""
    task, steps, asked = BY_HEART[kind]
    flags = [f"--model_type={kind}", f"--task={task}", f"--max_iters={steps}"]
    out_dir = train(f"heart-{kind}", *flags, tiny=OVERFIT)
    memorised, _ = worlds.train_and_validation("doorkey", 8, 3)
    first = [memorised.values[name][:, 0] for name in ("agent_pos", "key_pos")]
    assert len(set(zip(*first))) == 8
    questions = evaluate.questions(memorised, asked, 400, 10, seed=1)
    results = evaluate.losses(checkpoint.load(out_dir / "ckpt.pt"), questions)
    for name in asked:
        assert results[name]["loss"] < 0.1, f"{name}: {results[name]['loss']}"
