"""The machinery of the reproductions: scripts, lists of runs, one run from end to end, and the ensemble."""

import fcntl
import importlib.util
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

import configurator
import ensemble
import evaluate
import heatmap
import job
import jobs
import model as models
import table

WORLDS = (("minigrid", "500"), ("minigrid", "50"), ("minigrid", "1000"), ("maze2d", "medium"))
STUDIES = [jobs.Study(*world, preset) for preset in ("default", "paper", "smoke") for world in WORLDS]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # where the scripts go by themselves


def parsed(run):
    words = shlex.split(run.line)
    assert words[:2] == ["python", "repro/job.py"]
    return job.read_job(words[2:])


# ---------------------------------------------------------------------------------------------------------------------
# The scripts themselves, in a copy of the repository


SCRIPTS = {  # script: rows, result files, whole files of results
    "minigrid": ("random random+finetune nn_bc dt_rc", 11, ["repro/results/minigrid_500.json", "assets/minigrid_heatmap.png"]),
    "curve": ("", 5, ["repro/results/minigrid_curve.json", "assets/minigrid_curve.png"]),
    "maze2d": ("unimask_random unimask_random_finetune_rc dt_bc nn_bc", 4,
               ["repro/results/maze2d_medium.json", "assets/maze2d_table.md"]),
    "ablation": ("base octaves mean flag", 4, ["assets/maze2d_ablation.md"]),
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_makes_its_figure_or_table_from_scratch(script, tmp_path):
    if script in ("maze2d", "ablation") and importlib.util.find_spec("d4rl") is None:
        pytest.skip("d4rl is not installed (requirements-maze.txt)")
    rows, runs, results = SCRIPTS[script]
    skipped = shutil.ignore_patterns(".*", "out", "assets", "results", "tests", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "copy", ignore=skipped)
    python = Path(sys.executable).parent
    environment = os.environ | {"SMOKE": "1", "ROWS": rows, "PATH": f"{python}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", tmp_path / "copy" / "repro" / f"{script}.sh"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    smoke = tmp_path / "copy" / "out" / "smoke"
    assert len(list(smoke.glob("repro/results/runs/*/*.json"))) == runs
    for name in results:
        assert (smoke / name).stat().st_size > 500


# ---------------------------------------------------------------------------------------------------------------------
# The ensemble


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities(doorkey_data):
    torch.manual_seed(0)
    members = [
        models.build(models.ModelConfig(n_layer=1, n_embd=16, n_head=2), doorkey_data.factors).eval() for _ in range(3)
    ]
    see = torch.rand(len(doorkey_data), 10, 3) < 0.5
    values = doorkey_data.tensors()
    together = ensemble.Ensemble(members)(values, see)
    for name in ("agent_pos", "action"):
        mean = sum(member(values, see)[name].softmax(dim=-1) for member in members) / 3
        torch.testing.assert_close(together[name].exp(), mean)
    asked = evaluate.questions(doorkey_data, ["past"], 20, 10, 0)
    assert evaluate.losses(ensemble.Ensemble(members), asked)["past"]["loss"] > 0  # as repro/ensemble.py asks it


def test_an_ensemble_is_of_finished_runs_of_its_task_only(tmp_path, monkeypatch):
    study = jobs.Study("minigrid", "500")
    monkeypatch.chdir(tmp_path)
    for seed in (0, 2, 10):
        os.makedirs(study.out_dir(f"random+finetune-past_s{seed}"))
    os.makedirs(study.out_dir("random+finetune-future_s1"))
    for seed in (0, 10):
        result_file(Path(study.runs) / f"random+finetune-past_s{seed}.json", {})
    assert list(ensemble.members(study, "past")) == [0, 10]


# ---------------------------------------------------------------------------------------------------------------------
# Lists of runs


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: f"{study.name}-{study.preset}")
def test_every_line_is_accepted_and_no_row_is_missing(study):
    runs = sum(jobs.phases(study, [0, 3]), [])
    per_seed, rows = (22, heatmap.ROWS) if study.world == "minigrid" else (30, table.ROWS)
    assert {run.row for run in runs} == set(rows) - {"ensemble"}  # which needs no training
    assert len(runs) == 2 * per_seed == len({run.name for run in runs})
    made = [parsed(run) for run in runs]
    assert len({str(one.out_dir) for one in made}) == len({one.flags["result"] for one in made}) == len(runs)
    for run, one in zip(runs, made):
        assert run.name.endswith(f"_s{one.config['seed']}")
        assert one.config["threads"] == 1
        assert one.flags["result"].startswith("out/") == (study.preset == "smoke")


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: f"{study.name}-{study.preset}")
def test_finetuning_starts_from_a_run_of_the_first_phase_with_the_same_seed_and_network(study):
    first, second = jobs.phases(study, [0, 3])
    starts = {str(parsed(run).out_dir): parsed(run).config for run in first}
    shape = ("model", "context", "n_layer", "n_head", "n_embd", "n_ff", "layout", "hidden", "norm", "octaves", "seed")
    for run in second:
        config = parsed(run).config
        start = starts[config["init_from"].removeprefix("finetune:")]
        assert [config[key] for key in shape] == [start[key] for key in shape]
    assert {parsed(run).config["init_from"] for run in first} == {"scratch"}


def test_the_rows_are_those_that_were_published_and_the_baselines():
    published = set(heatmap.published_rows(500))
    assert set(heatmap.ROWS) - {"ensemble"} == published | {"nn_bc", "nn_random", "dt_bc", "dt_rc"}
    assert {row for row, _, _ in table.published_cells()} <= set(table.ROWS)
    import masks

    assert list(jobs.MINIGRID_TASKS) == masks.MIXTURE


def test_every_config_is_accepted_and_writes_into_a_folder_of_its_own_name():
    defaults = job.train_defaults()
    for path in sorted((ROOT / "config").glob("*.py")):
        config = configurator.override(defaults, [str(path)])
        assert config["out_dir"] == f"out/{path.stem}", path
        assert path.read_text(encoding="utf-8").startswith('"""')


def test_settings_of_train_are_read_from_its_text():
    defaults = job.train_defaults()
    assert {"out_dir", "seed", "task", "ema", "threads", "learning_rate"} <= defaults.keys()
    assert defaults["learning_rate"] > 0 and isinstance(defaults["decay_lr"], bool)
    assert "config" not in defaults and "torch" not in defaults


@pytest.mark.parametrize(
    ("row", "n", "steps"),
    [
        ("random", 500, 50_000),  # 10,000 epochs of 500 / 100 steps
        ("behavior_cloning", 500, 3_000),  # 1,500 epochs of 500 / 250 steps
        ("random", 50, 100_000),  # ten times as many epochs, of one step: 50 / 100 rounds down to none
        ("reward_conditioned", 1000, 15_000),  # half as many, 750, of 1,000 / 50 steps
    ],
)
def test_paper_steps_follow_from_the_published_epochs(row, n, steps):
    study = jobs.Study("minigrid", str(n), "paper")
    runs = {run.row: parsed(run).config for run in jobs.phases(study, [0])[0]}
    assert runs[row]["max_iters"] == steps
    assert runs[row]["num_trajectories"] == n


def test_paper_settings_are_the_published_ones():
    study = jobs.Study("minigrid", "500", "paper")
    runs = {run.name: parsed(run).config for phase in jobs.phases(study, [0]) for run in phase}
    for config in runs.values():
        assert {key: config[key] for key in jobs.PAPER if key != "learning_rate"} == {
            key: value for key, value in jobs.PAPER.items() if key != "learning_rate"
        }
        assert config["dropout"] == 0.1
    past = runs["past_s0"]
    assert [past[key] for key in ("n_embd", "n_layer", "n_head", "n_ff", "batch_size", "state_weight")] == [
        32,
        4,
        4,
        128,
        250,
        0.5,
    ]
    tuned = runs["random+finetune-behavior_cloning_s0"]  # 10,000 epochs at 5e-6, in the batches of `random`
    assert (tuned["max_iters"], tuned["learning_rate"], tuned["n_layer"]) == (50_000, 5e-6, 2)


def test_paper_steps_of_the_maze():
    runs = {
        run.name: parsed(run).config
        for phase in jobs.phases(jobs.Study("maze2d", "medium", "paper"), [0])
        for run in phase
    }
    assert runs["unimask_bc_T5_s0"]["max_iters"] == 720_000
    assert runs["unimask_bc_T10_s0"]["max_iters"] == 360_000
    assert runs["unimask_random_finetune_rc_T5_s0"]["max_iters"] == 216_000
    assert runs["dt_rc_timestep_T10_s0"]["positions"] == "timestep"


def test_a_recipe_may_differ_by_number_of_trajectories():
    recipe = {"config": "minigrid_bc", "n_embd": 64, 50: {"n_embd": 32, "dropout": 0.2}}
    assert jobs.settled(recipe, 500) == ("config/minigrid_bc.py", {"n_embd": 64})
    assert jobs.settled(recipe, 50) == ("config/minigrid_bc.py", {"n_embd": 32, "dropout": 0.2})


def test_jobs_print_the_phase_that_is_asked_for():
    lines = subprocess.run(
        [sys.executable, "repro/jobs.py", "minigrid", "--seeds=0 1", "--phase=1"], capture_output=True, text=True
    )
    assert lines.returncode == 0 and len(lines.stdout.splitlines()) == 16
    assert all("--init_from=finetune:" in line for line in lines.stdout.splitlines())


# ---------------------------------------------------------------------------------------------------------------------
# One run


def result_file(path, settings, **content):
    whole = {"seed": 0, "settings": settings, "minutes": {"training": 1.0, "evaluation": 0.5}, "results": {}} | content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole))


def test_a_result_is_done_if_whole_and_of_the_same_settings(tmp_path):
    result, out = tmp_path / "a.json", tmp_path / "out"
    arguments = [f"--result={result}", f"--out_dir={out}", "--n_embd=64"]
    one = job.read_job(arguments)
    assert job.todo(one) == "not there yet"
    result.write_text('{"seed": 0, "settings": {"n_em')  # cut off
    assert job.todo(one) == "not there yet"
    result_file(result, one.settings)
    assert job.todo(one) == ""
    assert job.todo(job.read_job([*arguments, "--threads=2"])) == ""  # changes the time only
    assert job.todo(job.read_job([*arguments, "--n_embd=32"])) == "made with another n_embd"
    assert job.todo(job.read_job([*arguments, "--sequences=7"])) == "made with another report_sequences"
    needed = job.read_job([*arguments, "--checkpoint"])  # another run is to start from it
    assert "checkpoint" in job.todo(needed)
    out.mkdir()
    (out / "best.pt").touch()
    assert job.todo(needed) == ""


def test_a_mistake_ends_in_one_line(tmp_path, run, refused):
    assert "n_embed" in refused(run("repro/job.py", f"--result={tmp_path}/a.json", "--n_embed=3", cwd=tmp_path))
    assert "--result" in refused(run("repro/job.py", "--seed=3", cwd=tmp_path))
    assert "minigrid.sh" in refused(run("repro/heatmap.py", "--n=7", cwd=tmp_path))


TINY = ["--max_iters=2", "--eval_interval=1", "--eval_sequences=16", "--batch_size=8", "--n_embd=16", "--n_head=2",
        "--n_layer=1", "--n_ff=16", "--threads=1", "--sequences=24", "config/minigrid_random.py"]  # fmt: skip


def test_a_run_from_training_to_the_heatmap(tmp_path, run):
    folder = tmp_path / "runs"
    result, out = folder / "random_s0.json", tmp_path / "out"
    command = ("repro/job.py", f"--result={result}", f"--out_dir={out}", *TINY)
    done = run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = json.loads(result.read_text())
    losses = made["results"]["best"]["losses"]
    assert list(losses) == list(jobs.MINIGRID_TASKS)
    assert all(math.isclose(x["gap"], x["loss"] - x["limit"], abs_tol=1e-5) for x in losses.values())
    assert made["log"]["iter"] == [0, 1, 2] and made["iters"]["last"] == 2 and made["parameters"] > 1000
    assert made["versions"].keys() == {"python", "torch", "numpy", "cpu"} and made["minutes"]["training"] > 0

    before, began = result.stat().st_mtime_ns, time.perf_counter()
    again = run(*command, cwd=tmp_path)
    assert "there already" in again.stdout and result.stat().st_mtime_ns == before
    assert time.perf_counter() - began < 5  # it does not even import torch

    result.unlink()  # as if killed before it was written: training goes on from the checkpoint, and finds it done
    assert run(*command, cwd=tmp_path).returncode == 0
    assert "init_from = 'resume'" in (out / "train.log").read_text()
    resumed = json.loads(result.read_text())
    assert resumed["results"] == made["results"] and resumed["settings"] == made["settings"]

    cells, runs = heatmap.collect(folder)
    found = heatmap.summary(cells, runs, parallel=2, command="a command")
    heatmap.draw(found, tmp_path / "assets" / "figure.png", "one run")
    assert (tmp_path / "assets" / "figure.png").stat().st_size > 10_000
    assert found["rows"]["random"]["past"] == {"mean": losses["past"]["loss"], "std": None, "n": 1}


def test_two_processes_never_make_the_same_run(tmp_path, run):
    with open(tmp_path / "job.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = run("repro/job.py", f"--result={tmp_path}/a.json", f"--out_dir={tmp_path}", *TINY, cwd=tmp_path)
    assert "another process" in process.stderr and process.returncode == 1
    assert not (tmp_path / "train.log").exists()


def test_a_failing_run_leaves_no_result_and_says_why(tmp_path, run, refused):
    result = tmp_path / "runs" / "a_s0.json"
    message = refused(
        run("repro/job.py", f"--result={result}", f"--out_dir={tmp_path}/out", "--task=pst", cwd=tmp_path)
    )
    assert "did you mean 'past'" in message and not result.exists()
