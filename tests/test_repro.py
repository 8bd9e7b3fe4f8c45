"""The machinery of the reproductions: the lines of the scripts, one run from end to end."""

import configurator

import importlib.util
import io
import itertools
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT

import checkpoint
import cost
import demonstrator
import ensemble
import evaluate
import masks
import maze2d
import measure
import model
import rollouts
import run
import tables
import traits
import worlds

needs_d4rl = pytest.mark.skipif(importlib.util.find_spec("d4rl") is None, reason="needs d4rl")
OTHER = "SEEDS=0 CONTEXTS=5 ROWS='unimask_bc unimask_rc dt_bc dt_rc nn_bc nn_rc' bash maze2d.sh"
CLONES = "ROWS='unimask_bc_10000 unimask_bc_3000'"
SHORT = "SEEDS=0 ROWS='one_short bc' bash locomotion.sh"
COMMITTED = (  # the commands that made what is committed: the number of lines
    ("bash minigrid.sh", 132),
    ("N=50 SEEDS='0 1 2' bash minigrid.sh", 66),
    ("N=1000 SEEDS='0 1 2' bash minigrid.sh", 66),
    ("bash curve.sh", 15),
    ("bash dream.sh", 24),
    ("N=50 bash dream.sh", 24),
    ("N=1000 bash dream.sh", 24),
    ("bash maze2d.sh", 90),
    ("WORLDS=maze2d SEEDS='0 1' bash one.sh", 8),
    ("WORLDS=doorkey bash one.sh", 6),
    ("bash claims.sh", 6),
    (f"MAZE=umaze {OTHER}", 6),
    ("MAZE=large " + OTHER.replace("SEEDS=0", "SEEDS='0 1'"), 12),
    ("MAZE=large bash demonstrations.sh", 6),
    (f"MAZE=medium {CLONES} bash demonstrations.sh", 4),
    ("bash ablation.sh", 42),
    ("ROWS='one bc rc bc_best' bash locomotion.sh", 12),
    ("SEEDS=0 ROWS='one_short one_10 dt dt_actions nn tenth films' bash locomotion.sh", 7),
    (f"WORLD=CartPole-v1 NAME=cartpole TARGETS=100,300,500 {SHORT}", 2),
    (f"WORLD=HalfCheetah-v5 NAME=halfcheetah TARGETS=500,1500,2500 {SHORT}", 2),
)
MORE = (
    "GPU=1 bash minigrid.sh",
    "PAPER=1 bash minigrid.sh",
    "PAPER=1 N=50 bash minigrid.sh",
    "PAPER=1 bash maze2d.sh",
)
SMOKE = ("SMOKE=1 bash minigrid.sh", "SMOKE=1 N=50 bash minigrid.sh", "SMOKE=1 bash maze2d.sh",
         "SMOKE=1 PAPER=1 bash minigrid.sh", "SMOKE=1 bash ablation.sh", "SMOKE=1 bash one.sh",
         "SMOKE=1 bash locomotion.sh", "SMOKE=1 bash demonstrations.sh")  # fmt: skip


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Where the scripts go by themselves; and settings of run.py are as they were afterwards."""
    monkeypatch.chdir(ROOT)
    for key, value in run.OWN.items():
        monkeypatch.setattr(run, key, value)


def script_lines(command):
    """The arguments of run.py in each line that a script would run."""
    name = next(word for word in shlex.split(command) if word.endswith(".sh"))
    command = f"LIST=1 {command.replace(name, f'repro/{name}')}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    trained = [words[2:] for words in lines if words[:2] == ["python", "repro/run.py"]]
    assert len(trained) == len(lines) or name == "dream.sh"  # which also dreams
    return trained


def settle(arguments, seed=None):
    """Give run.py its settings from a line's arguments; returns train.py's, in full.

    seed: which one is meant of a line that trains several at once.
    """
    vars(run).update(configurator.override(run.OWN, run.split(arguments)[0]))
    return run.train_settings([word.replace("{seed}", str(seed)) for word in arguments])


# --------------------------------------------------------------------------------------------------
# The lines of the scripts


@pytest.mark.parametrize(("command", "number"), COMMITTED)
def test_a_committed_study_is_what_its_script_would_make(command, number):
    lines, studies = script_lines(command), {}
    assert len(lines) == number
    for arguments in lines:
        config = settle(arguments)
        if run.study not in studies:
            studies[run.study] = run.read_results(f"{run.results}/{run.study}.jsonl")
        key = run.row, config["seed"]
        (line,) = [x for x in studies[run.study] if (x["row"], x["seed"]) == key]
        assert line["settings"] == run.settings_of(config)
        words = shlex.split(line["command"])[2:]  # as it was given when the line was made
        assert run.settings_of(settle(words, line["seed"])) == line["settings"]


@pytest.mark.parametrize("command", [command for command, _ in COMMITTED] + list(MORE + SMOKE))
def test_every_line_can_be_trained_and_starts_from_another_one(command):
    shape = ("model_type", "context", "n_layer", "n_head", "n_embd", "n_ff", "layout", "hidden",
             "norm", "embedding", "fourier_features")  # fmt: skip
    made, rows = {}, set()
    for arguments in script_lines(command):
        config = settle(arguments, seed=0)
        traits.check(config["model_type"], config["task"])
        rows.add(run.row)
        start = config["init_from"].removeprefix("finetune:")
        if start != "scratch":  # it was listed before, and has the same network
            assert [config[key] for key in shape] == [made[start][key] for key in shape]
            assert made[start]["seed"] == (0 if "PAPER" in command else config["seed"])
        assert config["out_dir"] not in made
        assert config["out_dir"].startswith("out/smoke/" if "SMOKE" in command else "out/runs/")
        assert config["threads"] == 1
        made[config["out_dir"]] = config
    if "ROWS" not in command and "bash minigrid.sh" in command:
        whole = {row.partition("-")[0] for row in rows}
        assert whole == set(tables.HEATMAP) - {tables.ENSEMBLE, *tables.ELSEWHERE}
        assert {row.partition("-")[2] for row in rows} == {"", *masks.EIGHT}
    elif "ROWS" not in command and "bash maze2d.sh" in command:
        assert {row.rpartition("_T")[0] for row in rows} == set(tables.MAZE) - {
            "unimask_one",
            "unimask_random_long",
        }
    elif "ablation" in command:
        assert rows == set(tables.CHANGED)


def test_the_ablation_changes_one_thing_at_a_time():
    settings = {}
    for arguments in script_lines("SEEDS=3 bash ablation.sh"):
        config = settle(arguments)
        settings[run.row] = run.settings_of(config)
    base = settings.pop("base")
    for row, other in settings.items():
        changed = {key for key in base | other if base.get(key) != other.get(key)}
        assert len(changed) == 1 + (row in ("narrow", "plain", "neither")), row


def test_a_grid_search_has_a_line_for_each_pair_of_values_and_seed():
    found = set()
    words = "config/minigrid_bc.py learning_rate=3e-4,1e-3 task=past,past+future --max_iters=7"
    for arguments in script_lines(f"SEEDS='0 1' bash sweep.sh {words}"):
        config = settle(arguments)
        # rows of one table differ in the two settings alone
        assert (run.study, run.results) == ("sweep_minigrid_bc--max_iters=7", "out/sweep")
        pair = dict(part.split("=") for part in run.row.split(","))
        expected = config["learning_rate"], config["task"]
        assert (float(pair["learning_rate"]), pair["task"]) == expected
        assert (config["max_iters"], config["n_embd"]) == (7, 32)  # of the flag, of the file
        found.add((config["learning_rate"], config["task"], config["seed"]))
    rates, mixtures = (3e-4, 1e-3), ("past", "past+future")
    assert found == set(itertools.product(rates, mixtures, (0, 1)))


def test_what_a_script_would_take_is_told_from_its_lines(run_warm, tmp_path, monkeypatch, capsys):
    tiny = f"python repro/run.py --study=s --row=all --task=all --by_turns=True {shlex.join(TINY)}"
    lines = [f"{tiny} --seed={seed} --max_iters=100 --init_from=finetune:gone" for seed in (0, 1)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    monkeypatch.setattr(cost, "result", str(tmp_path / "cost.json"))
    monkeypatch.setattr(cost, "steps", 2)
    cost.main()
    found = json.loads((tmp_path / "cost.json").read_text())
    first, second = found["lines"]
    assert first | {"seed": 1} == second and first["evaluations"] == 101
    assert 0 < first["step_ms"] < 1000 and "2 lines, 0.0 core-hours" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("python repro/generality.py\n"))
    cost.main()
    assert "not timed: python repro/generality.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        "ROWS=randm bash minigrid.sh",
        "bash sweep.sh a=1,2 b=2",
        "bash sweep.sh config/minigrid_bc.py seed=1,2 n_ff=32",
        "JOBS=0 bash minigrid.sh",
    ],
)
def test_a_script_refuses_what_it_does_not_know(command):
    line = f"LIST=1 {command.replace('bash ', 'bash repro/')}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert re.match("there is no row 'randm'|usage: bash|JOBS=0 is not|seeds are", done.stderr)


def test_every_config_is_accepted_and_writes_into_a_folder_of_its_own_name():
    defaults = run.train_defaults()
    assert {"out_dir", "seed", "task", "ema", "threads"} <= defaults.keys()
    for path in sorted((ROOT / "config").glob("*.py")):
        assert configurator.override(defaults, [str(path)])["out_dir"] == f"out/{path.stem}"


@pytest.mark.parametrize(
    "command",
    [
        "ROWS=nn_bc bash repro/minigrid.sh",
        pytest.param("ROWS=nn_bc bash repro/maze2d.sh", marks=needs_d4rl),
    ],
)
def test_a_script_makes_its_table_and_figure_from_scratch(command, tmp_path):
    skipped = shutil.ignore_patterns(".*", "out", "assets", "results", "tests", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=skipped)
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"SMOKE=1 {command}"],
        cwd=copy, env=os.environ | {"PATH": python}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    (path,) = (copy / "out" / "smoke" / "results").glob("*.jsonl")
    lines = run.read_results(path)
    assert [line["row"] for line in lines] in (["nn_bc"], ["nn_bc_T5", "demonstrator"])
    assert all(path.with_suffix(ending).stat().st_size > 500 for ending in (".json", ".md"))


# --------------------------------------------------------------------------------------------------
# One run


@pytest.fixture
def line(tmp_path, monkeypatch, capfd):
    """line("random", "--n_embd=32"): run.py makes a tiny line of a study in tmp_path.

    Returns what it printed. line.calls: the commands that it ran. line.fail: a command that fails
    when it is reached.
    """
    real = run.call

    def call(command, out):
        line.calls.append(command)
        if line.fail in command:
            raise ValueError(f"{line.fail} failed")
        real(command, out)

    def line(row, *flags):
        arguments = [f"--row={row}", "--study=s", f"--results={tmp_path}/results", *TINY, *flags]
        arguments += [f"--runs={tmp_path}/runs"]
        settle(arguments, seed=0)
        line.calls.clear()
        run.main(arguments)
        return capfd.readouterr().out

    monkeypatch.setattr(run, "call", call)
    monkeypatch.chdir(ROOT)
    line.calls, line.fail = [], None
    return line


TINY = ["--max_iters=2", "--eval_interval=1", "--eval_sequences=16", "--batch_size=8", "--n_head=2",
        "--n_embd=16", "--n_layer=1", "--n_ff=16", "--sequences=24", "--tasks=past"]  # fmt: skip


def test_a_run_is_made_once_and_anew_with_other_settings(line, tmp_path):
    path = tmp_path / "results" / "s.jsonl"
    assert "made in" in line("random")
    (first,) = run.read_results(path)
    assert first["results"]["best"]["losses"].keys() == {"past"}
    assert first["log"]["iter"] == [0, 1, 2] and first["iters"]["last"] == 2
    assert first["settings"]["n_embd"] == 16 and first["settings"]["report_sequences"] == 24
    assert first["versions"].keys() - {"gpu"} == {"python", "torch", "numpy", "cpu"}
    assert first["minutes"]["training"] >= 0 and first["parameters"] > 1000
    assert "there already" in line("random", "--threads=2")  # which changes the time only
    assert not line.calls
    line("random", "--seed=1")
    line("random", "--learning_rate=3e-3")
    assert "--overwrite=True" in line.calls[0]
    changed, other = run.read_results(path)
    assert (changed["seed"], other["seed"]) == (0, 1)
    assert changed["settings"] == first["settings"] | {"learning_rate": 3e-3}


def test_a_run_is_made_anew_when_its_file_has_changed(line, tmp_path, toy_data):
    path, flags = (
        tmp_path / "toy.npz",
        ["--num_trajectories=0", "--context=5", "--learning_rate=1e-3"],
    )
    toy_data.save(str(path))
    line("random", f"--dataset={path}", *flags)
    (first,) = run.read_results(tmp_path / "results" / "s.jsonl")
    assert "there already" in line("random", f"--dataset={path}", *flags)
    toy_data[::-1].save(str(path))
    assert "made in" in line("random", f"--dataset={path}", *flags)
    assert "--overwrite=True" in line.calls[0]
    (second,) = run.read_results(tmp_path / "results" / "s.jsonl")
    assert first["data"] != second["data"] and first["results"] != second["results"]
    path.unlink()  # who has the results alone need not make them again
    assert "there already" in line("random", f"--dataset={path}", *flags)


def test_a_run_is_made_anew_when_what_it_is_finetuned_from_was(line, tmp_path):
    tuned = "tuned", f"--init_from=finetune:{tmp_path}/runs/s/random_s0", "--task=past"
    line("random")
    line(*tuned)
    assert "there already" in line(*tuned)
    line("random", "--learning_rate=3e-3")
    assert "made in" in line(*tuned)
    assert "there already" in line(*tuned)


def test_seeds_at_once_are_lines_as_if_made_one_by_one(line, tmp_path):
    path = tmp_path / "results" / "s.jsonl"
    line("random", "--seed=2")
    text = line("random", "--seeds=0,2,3", "--seed={seed}")
    assert "seed 2: there already" in text and text.count("made in") == 2
    trained = line.calls[0]
    assert trained[0] == "train_seeds.py" and "--seeds=0,3" in trained
    alone, *others = run.read_results(path)
    assert [x["seed"] for x in others] == [0, 3] and len(line.calls) == 3
    for other in others:
        assert other.keys() == alone.keys()
        ours, theirs = (
            {k: v for k, v in x["settings"].items() if k != "seed"} for x in (other, alone)
        )
        assert ours == theirs
    assert others[0]["results"] != others[1]["results"]


def test_a_killed_run_goes_on(line, tmp_path):
    line("random", "--seed=1")
    (whole,) = run.read_results(tmp_path / "results" / "s.jsonl")
    line.fail = "repro/measure.py"  # as if killed when training was over
    with pytest.raises(ValueError, match="failed"):
        line("random")
    assert run.read_results(tmp_path / "results" / "s.jsonl") == [whole]
    line.fail = None
    line("random")
    assert "--init_from=resume" in line.calls[0]
    assert len(run.read_results(tmp_path / "results" / "s.jsonl")) == 2
    # in the middle of training: the result is that of a run that was not interrupted
    shutil.rmtree(tmp_path / "runs" / "s" / "random_s1")
    (tmp_path / "results" / "s.jsonl").unlink()
    line.fail = "repro/measure.py"
    with pytest.raises(ValueError, match="failed"):
        line("random", "--seed=1", "--max_iters=1")
    state = tmp_path / "runs" / "s" / "random_s1" / "run.json"
    content = json.loads(state.read_text())
    content["settings"]["max_iters"] = 2
    state.write_text(json.dumps(content))
    line.fail = None
    line("random", "--seed=1")
    assert "--init_from=resume" in line.calls[0]
    (resumed,) = run.read_results(tmp_path / "results" / "s.jsonl")
    assert resumed["results"] == whole["results"] and resumed["log"] == whole["log"]


def test_a_result_stays_when_its_checkpoint_alone_is_made_again(line, tmp_path):
    """On another machine it would be another one, to rounding."""
    path, folder = tmp_path / "results" / "s.jsonl", tmp_path / "runs" / "s" / "random_s0"
    line("random")
    before = path.read_bytes()
    shutil.rmtree(folder)
    line("random", "--checkpoint=True")
    assert run.has_checkpoint(folder) and len(line.calls) == 1  # trained, and not measured
    assert path.read_bytes() == before


def test_a_start_whose_checkpoint_is_gone_is_made_again(line, tmp_path, monkeypatch):
    line("random", "--learning_rate=3e-3")
    start = tmp_path / "runs" / "s" / "random_s0"
    shutil.rmtree(start)
    again = []
    failed = lambda command, **options: again.append(command) or Failed()
    monkeypatch.setattr(run.subprocess, "run", failed)
    with pytest.raises(ValueError, match="could not be made again"):
        line("tuned", f"--init_from=finetune:{start}", "--task=past")
    (command,) = again
    assert "--row=random" in command and "--learning_rate=3e-3" in command
    assert command[-1] == "--checkpoint=True"
    config = settle(command[2:])
    (made,) = run.read_results(tmp_path / "results" / "s.jsonl")
    assert not run.done(tmp_path / "results" / "s.jsonl", config)
    run.checkpoint = False
    assert run.done(tmp_path / "results" / "s.jsonl", config)


def test_a_start_that_was_stopped_comes_to_its_end_first(line, tmp_path):
    start, path = tmp_path / "runs" / "s" / "random_s0", tmp_path / "results" / "s.jsonl"
    tuned = "tuned", f"--init_from=finetune:{start}", "--task=past"
    line("random")
    log = (start / "log.csv").read_text()
    line("shorter", "--max_iters=1", "--decay_lr=False")
    for name in (
        "ckpt.pt",
        "best.pt",
        "log.csv",
    ):  # as if it were made again, and stopped at step 1
        shutil.copy(start.with_name("shorter_s0") / name, start / name)
    whole = path.read_text()
    path.write_text("")  # no line says how to go on
    with pytest.raises(ValueError, match="random_s0 is not finished"):
        line(*tuned)
    path.write_text(whole)
    saved = torch.load(start / "ckpt.pt", weights_only=True)
    saved["config"]["decay_lr"] = True
    torch.save(saved, start / "ckpt.pt")
    assert "made in" in line(*tuned)
    assert len((start / "log.csv").read_text().splitlines()) == len(log.splitlines())


def test_a_start_of_other_settings_than_its_line_says_is_made_again(line, tmp_path, monkeypatch):
    line("random")
    start, again = tmp_path / "runs" / "s" / "random_s0", []
    run.restore(start, tmp_path / "results")  # it is there
    state = json.loads((start / "run.json").read_text())
    state["settings"]["n_embd"] = 32
    (start / "run.json").write_text(json.dumps(state))
    failed = lambda command, **options: again.append(command) or Failed()
    monkeypatch.setattr(run.subprocess, "run", failed)
    with pytest.raises(ValueError, match="could not be made again"):
        run.restore(start, tmp_path / "results")
    assert f"--runs={tmp_path}/runs" in again[0] and f"--results={tmp_path}/results" in again[0]


def test_a_start_that_a_gpu_made_is_made_again_without_one(tmp_path, monkeypatch):
    words = "--study=s --row=random --device=cuda --compile --seeds=0,4 --seed={seed} --n_embd=32"
    made = {"row": "random", "seed": 4, "command": f"python repro/run.py {words}"}
    made["settings"] = {}
    again = []
    failed = lambda command, **options: again.append(command) or Failed()
    monkeypatch.setattr(run.subprocess, "run", failed)
    run.append(tmp_path / "s.jsonl", made)
    with pytest.raises(ValueError, match="could not be made again"):
        run.restore(tmp_path / "s" / "random_s4", tmp_path)
    (command,) = again
    wanted = ["--study=s", "--row=random", "--seed=4", "--n_embd=32"]
    wanted += [f"--results={tmp_path}", f"--runs={tmp_path}", "--checkpoint=True"]
    assert command[2:] == wanted


class Failed:
    returncode = 1


def test_a_failing_script_is_named_with_its_last_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("print('step 1'); raise SystemExit('no such task')")
    with pytest.raises(ValueError, match=r"train.py ended with exit code 1 .*no such task"):
        run.call(["train.py"], tmp_path)


def test_lines_run_at_once_and_one_that_fails_does_not_stop_the_others(tmp_path):
    script = tmp_path / "note.py"
    script.write_text(
        "import sys, time, torch; from pathlib import Path; here = Path(__file__).parent\n"
        "Path(here, sys.argv[1]).touch()\n"
        "if sys.argv[2] == 'fail': sys.exit('no such task')\n"
        "if sys.stdin.read(): sys.exit('it has lines to read')\n"
        "while not Path(here, sys.argv[2]).exists(): time.sleep(0.01)\n"
    )
    # the first two wait for each other, the third for what a shell makes
    lines = [f"python {script} one two", f"python {script} two one", f"python {script} bad fail"]
    lines += [f"python {script} three shell", f"test -d {tmp_path} && touch {tmp_path}/shell"]
    lines += ["", *["true"] * 5]
    done = subprocess.run(
        [sys.executable, ROOT / "repro" / "lines.py", "--jobs=2"],
        input="\n".join(lines), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no such task\n")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("note.py", "one", "two", "three", "bad", "shell")
    }


def test_lines_outlive_who_reads_what_they_print(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.py").write_text("print('x'); open(__file__ + '.made', 'w')")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, ROOT / "repro" / "lines.py"], stdout=full, stderr=subprocess.PIPE,
            input=f"python {tmp_path}/a.py\npython {tmp_path}/b.py\n", text=True,
        )  # fmt: skip
    assert done.returncode == 0 and "what is printed is lost" in done.stderr
    assert {"a.py.made", "b.py.made"} < {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("when", ["while it imports", "while a line runs"])
def test_ctrl_c_ends_a_script_of_lines_and_is_heard_by_the_lines(when, tmp_path):
    script = tmp_path / "wait.py"
    script.write_text(
        "import time; from pathlib import Path; here = Path(__file__).parent\n"
        "try: Path(here, 'begun').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt: Path(here, 'heard').touch()\n"
    )
    line = f"echo 'python {script}' | {sys.executable} repro/lines.py; touch {tmp_path}/after"
    with subprocess.Popen(["bash", "-c", line], cwd=ROOT, start_new_session=True) as process:
        wait_for(tmp_path / "begun") if when == "while a line runs" else time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == -signal.SIGINT and not (tmp_path / "after").exists()
    if when == "while a line runs":
        wait_for(tmp_path / "heard")


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.01)


def test_limits_are_kept_until_the_questions_or_the_program_change(
    tmp_path, monkeypatch, doorkey_data
):
    made, real = [], evaluate.limits
    monkeypatch.setattr(evaluate, "limits", lambda *a: made.append(a) or real(*a))
    monkeypatch.setattr(run, "ROOT", tmp_path)
    ask = lambda seed: evaluate.questions(doorkey_data, ["past", "future"], 20, 10, seed)

    def kept(seed):
        found, exact = measure.kept_limits(doorkey_data, ask(seed)), real(doorkey_data, ask(seed))
        for task, nats in exact.items():
            assert all(torch.equal(found[task][name], x) for name, x in nats.items())
        return len(made)

    assert [kept(0), kept(0), kept(1), kept(0)] == [1, 1, 2, 2]
    monkeypatch.setattr(run, "PROGRAM", b"another")
    assert [kept(0), kept(0)] == [3, 3]
    for path in (tmp_path / "out" / "limits").iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    assert [kept(0), kept(0)] == [4, 4]


def add_ten(path, seed):
    for row in range(10):
        run.append(path, {"row": str(row), "seed": seed})


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "s.jsonl"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=add_ten, args=(path, seed)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = run.read_results(path)
    assert len(lines) == 30 == len({(line["row"], line["seed"]) for line in lines})
    run.append(path, {"row": "3", "seed": 1, "new": True})
    assert [x for x in run.read_results(path) if "new" in x] == [
        {"row": "3", "seed": 1, "new": True}
    ]
    assert len(run.read_results(path)) == 30


def test_a_line_says_what_its_best_checkpoint_loses_on_test_trajectories(line, tmp_path, run_warm):
    line("random")
    folder = tmp_path / "runs" / "s" / "random_s0"
    last = checkpoint.read(str(folder / "ckpt.pt"))
    last["weights"] = {name: 3 * x for name, x in last["weights"].items()}
    checkpoint.save(str(folder / "ckpt.pt"), last)
    assert run_warm("repro/measure.py", f"--out_dir={folder}", *TINY[-2:], cwd=ROOT).returncode == 0
    measured = json.loads((folder / "measured.json").read_text())["results"]["best"]["losses"]
    network, trained = checkpoint.open_run(str(folder))  # best.pt
    tests = worlds.evaluation_set(*worlds.source_of(trained), "test")
    asked = evaluate.questions(tests, ["past"], 24, 10, evaluate.seed)
    expected = evaluate.losses(network, asked)["past"]["loss"]
    assert measured["past"]["loss"] == pytest.approx(expected, abs=1e-6)


def test_a_mistake_ends_in_one_line(tmp_path, run_warm, refused):
    line = ["--study=s", "--row=a", f"--results={tmp_path}", f"--runs={tmp_path}"]
    assert "n_embed" in refused(run_warm("repro/run.py", *line, "--n_embed=3", cwd=tmp_path))
    assert "--study" in refused(run_warm("repro/run.py", "--seed=3", cwd=tmp_path))
    for script in ("repro/run.py", "repro/measure.py"):
        flags = line if "run" in script else []
        wrong = run_warm(script, *flags, "--sequences=-1", cwd=tmp_path)
        assert "sequences=-1" in refused(wrong)
    for study in ("minigrid_7", "masks"):
        line = [f"--study={study}", f"--results={tmp_path}"]
        assert "no line yet" in refused(run_warm("repro/figures.py", *line, cwd=tmp_path))
    nowhere = run_warm("repro/measure.py", "--out_dir=nowhere", cwd=tmp_path)
    assert "nowhere" in refused(nowhere)


# --------------------------------------------------------------------------------------------------
# The ensemble, the demonstrator, pictures of rollouts


def networks(factors, number):
    torch.manual_seed(0)
    config = model.ModelConfig(n_layer=1, n_embd=16, n_head=2, n_ff=16)
    return [model.build(config, factors).eval() for _ in range(number)]


def test_an_ensemble_predicts_the_mean_of_its_members_probabilities(doorkey_data):
    members = networks(doorkey_data.factors, 3)
    see = torch.rand(len(doorkey_data), 10, 3) < 0.5
    values, together = doorkey_data.tensors(), ensemble.Ensemble(members)
    for name in ("agent_pos", "action"):
        mean = sum(member(values, see)[name].softmax(dim=-1) for member in members) / 3
        torch.testing.assert_close(together(values, see)[name].exp(), mean)
    asked = evaluate.questions(doorkey_data, ["past", "forward_dynamics"], 20, 10, 0)
    losses = evaluate.losses(together, asked)  # as ensemble.py asks it
    assert all(losses[task]["loss"] > 0 for task in asked)


def test_an_ensemble_is_of_the_finished_runs_of_its_task(line, tmp_path, run_warm):
    row = "random+finetune-past"
    line(row)
    flags = ["--study=s", f"--results={tmp_path}/results", f"--runs={tmp_path}/runs"]
    assert "needs two seeds" in run_warm("repro/ensemble.py", *flags, cwd=tmp_path).stdout
    line(row, "--seed=3")
    done = run_warm("repro/ensemble.py", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {x["row"]: x for x in run.read_results(tmp_path / "results" / "s.jsonl")}
    assert set(lines) == {row, "ensemble-past"}
    assert lines["ensemble-past"]["settings"]["seeds"] == [0, 3]
    members = [x["results"]["best"]["losses"]["past"] for x in lines.values()]
    assert members[0]["limit"] == members[1]["limit"]  # they were asked the same
    again = run_warm("repro/ensemble.py", *flags, cwd=tmp_path)
    assert "ensemble-past: there already" in again.stdout
    line(row, "--learning_rate=3e-3")  # a member is another one now
    again = run_warm("repro/ensemble.py", *flags, cwd=tmp_path)
    assert "there already" not in again.stdout and again.returncode == 0
    assert len(run.read_results(tmp_path / "results" / "s.jsonl")) == 3


@needs_d4rl
def test_the_demonstrator_plays_to_the_goal_and_its_rollouts_are_drawn(tmp_path):
    env = worlds.environment("maze2d-umaze", 16, seed=1)
    start, goal = env.qpos.copy(), env.goal.copy()
    positions, rewards = demonstrator.demonstrate(env, "umaze", noise=0.0)
    assert positions.shape == (16, 200, 2) and rewards.shape == (16, 200)
    assert (positions[:, 0] == start).all()
    left = ((env.qpos - goal) ** 2).sum(axis=1) ** 0.5
    assert left.mean() < 0.5  # it is the expert
    before = ((start - goal) ** 2).sum(axis=1) ** 0.5
    assert abs(rewards.sum(axis=1) - (before - left)).max() < 1e-9
    env = worlds.environment("maze2d-umaze", 16, seed=1)
    noisy = demonstrator.demonstrate(env, "umaze", maze2d.NOISE)[1]
    assert noisy.sum(axis=1).mean() < rewards.sum(axis=1).mean()
    paths = dict.fromkeys(("model", "demonstrator"), positions)
    returns = dict.fromkeys(paths, rewards.sum(axis=1))
    rollouts.draw(str(tmp_path / "a.png"), "umaze", range(16), goal, paths, returns)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_drawn_rollouts_are_the_first_and_the_worst():
    ours, theirs = torch.arange(40.0).numpy(), torch.arange(40.0).numpy()
    ours[[30, 5]] -= 7.0, 9.0
    chosen = rollouts.choose(ours, theirs)
    assert chosen[:8].tolist() == list(range(8)) and chosen[8:10].tolist() == [5, 30]
    assert len(chosen) == 16
