"""What a run promises whatever happens: kills, Ctrl-C, full disks, exploding losses, surroundings."""

import json
import os
import random
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from runs import LEFT, MODEL, equal_runs, files, good, interrupt_at_step, read_log, saved, snapshot

import worlds
from data import Factor, Trajectories

TINY = (
    MODEL
    + (
        "--num_trajectories=20 --batch_size=16 --dropout=0.2 --ema=0.9 --eval_sequences=20 "
        "--eval_tasks=past --warmup_iters=5 --threads=1"
    ).split()
)


# ---- kills -----------------------------------------------------------------------------------------


def kill_while_saving(number, moment):
    """In the process that calls it: SIGKILL at the given number of a rename.

    moment: before or after it, or with its file half written.
    """
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
    flags = [*TINY, "--max_iters=160", "--eval_interval=8"]
    began = time.perf_counter()
    good(run_warm("train.py", *flags, "--out_dir=whole", cwd=tmp_path))
    duration = time.perf_counter() - began
    draw, kills, out_dir = random.Random(4), 0, tmp_path / "killed"

    def attempt(seconds=300, inside=None):
        there = (out_dir / "ckpt.pt").exists()
        line = [*flags, "--init_from=resume" if there else "--overwrite=True", "--out_dir=killed"]
        process = run_warm("train.py", *line, cwd=tmp_path, seconds=seconds, inside=inside)
        assert process.returncode in (0, -signal.SIGKILL), process.stderr[-2000:]
        if process.returncode == 0 and kills < 20:
            shutil.rmtree(out_dir)  # it was over before it was killed: it begins again
        return process.returncode != 0

    while kills < 20:
        # while it makes data, in a step, an evaluation, a save
        kills += attempt(seconds=draw.uniform(0, duration / 5))
        number, moment = draw.randint(1, 7), draw.choice(["before", "half", "after"])
        kills += attempt(inside=lambda n=number, m=moment: kill_while_saving(n, m))
    attempt()
    equal_runs(out_dir, tmp_path / "whole")
    assert files(out_dir) == LEFT


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_run_killed_at_its_last_save_has_its_whole_log_when_resumed(number, run_warm, tmp_path):
    """best.pt, config.json, log.csv and ckpt.pt are written at step 0, and again at step 4."""
    flags = [*TINY, "--max_iters=4", "--eval_interval=4", "--learning_rate=3e-3"]
    good(run_warm("train.py", *flags, "--out_dir=whole", cwd=tmp_path))
    for moment in ("half", "after"):
        line = [*flags, f"--out_dir={moment}"]
        killed = run_warm(
            "train.py",
            *line,
            cwd=tmp_path,
            inside=lambda m=moment: kill_while_saving(4 + number, m),
        )
        assert killed.returncode == -signal.SIGKILL
        good(run_warm("train.py", *line, "--init_from=resume", cwd=tmp_path))
        equal_runs(tmp_path / moment, tmp_path / "whole")


# ---- Ctrl-C and full disks -------------------------------------------------------------------------


def test_ctrl_c_saves_the_step_it_is_in_and_says_how_to_go_on(run_warm, tmp_path):
    flags = [*TINY, "--max_iters=20", "--eval_interval=10"]
    good(run_warm("train.py", *flags, "--out_dir=whole", cwd=tmp_path))
    line = [*flags, "--out_dir=stopped"]
    stopped = run_warm("train.py", *line, cwd=tmp_path, inside=lambda: interrupt_at_step(14))
    assert stopped.returncode == 130 and stopped.stderr.count("\n") == 1
    assert "stopped at step 14" in stopped.stderr and "--init_from=resume" in stopped.stderr
    assert saved(tmp_path / "stopped")["iter"] == 14
    good(run_warm("train.py", *line, "--init_from=resume", cwd=tmp_path))
    equal_runs(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("how, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_machine_that_shuts_down_or_a_terminal_that_closes_is_ctrl_c(
    how, code, run_warm, tmp_path
):
    flags = [*TINY, "--max_iters=20", "--eval_interval=10"]
    inside = lambda: interrupt_at_step(14, how)
    stopped = run_warm("train.py", *flags, "--out_dir=stopped", cwd=tmp_path, inside=inside)
    assert stopped.returncode == code and "stopped at step 14" in stopped.stderr
    assert saved(tmp_path / "stopped")["iter"] == 14

    def ignored():  # as nohup has it
        signal.signal(how, signal.SIG_IGN)
        inside()

    good(run_warm("train.py", *flags, "--out_dir=whole", cwd=tmp_path, inside=ignored))
    resume = [*flags, "--out_dir=stopped", "--init_from=resume"]
    good(run_warm("train.py", *resume, cwd=tmp_path))
    equal_runs(tmp_path / "stopped", tmp_path / "whole")
    before = snapshot(tmp_path)
    again = good(run_warm("train.py", *resume, cwd=tmp_path))
    assert "already at step 20" in again.stdout and snapshot(tmp_path) == before


@pytest.mark.parametrize("script", ["evaluate.py", "masks.py", "rollout.py", "train.py"])
def test_ctrl_c_during_the_imports_is_one_line(script, refused, tmp_path):
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("no /proc to see what a process has imported")
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    line = [sys.executable, ROOT / script]
    with subprocess.Popen(line, text=True, **options) as process:
        while "numpy" not in open(f"/proc/{process.pid}/maps").read():
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", f"{script}: stopped by Ctrl-C\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["worlds.py --n=2000000 --out=x.npz", "maze2d.py --n=100000"])
def test_ctrl_c_while_data_are_made_is_one_line(line, run_warm, refused, tmp_path):
    def soon():
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, 0.5)

    process = run_warm(*line.split(), cwd=tmp_path, inside=soon)
    assert "stopped by Ctrl-C" in refused(process) and process.returncode == 130
    assert not list(tmp_path.iterdir())


def test_a_run_and_its_evaluation_survive_a_reader_who_leaves(tmp_path):
    """As with `| head -1`."""
    for line in ([*TINY, "--max_iters=4", "--eval_interval=1"], ["--sequences=20"]):
        script = "evaluate.py" if len(line) == 1 else "train.py"
        read, write = os.pipe()
        os.close(read)
        process = subprocess.run(
            [sys.executable, ROOT / script, *line, "--out_dir=run"],
            cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(write)
        assert process.returncode == 0 and process.stderr == ""
    assert files(tmp_path / "run") == LEFT | {"eval.json"}
    assert saved(tmp_path / "run")["iter"] == 4


def test_what_is_printed_is_there_at_once_if_python_is_told_so(tmp_path):
    line = [sys.executable, ROOT / "train.py", *TINY, "--max_iters=1000000000"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE}
    with subprocess.Popen(line, stderr=subprocess.DEVNULL, **options) as process:
        try:
            assert select.select([process.stdout], [], [], 60)[0], "nothing in a minute"
        finally:
            process.kill()


def test_closed_streams_and_a_full_output_change_no_run(tmp_path):
    """Else a checkpoint would get the number of a stream that was closed."""
    line = [sys.executable, ROOT / "train.py", *TINY, "--max_iters=4", "--eval_interval=2"]
    for name, streams in {"closed": "<&- >&- 2>&-", "full": ">/dev/full"}.items():
        text = f"{shlex.join(map(str, line))} --out_dir={name} {streams}"
        options = {"cwd": tmp_path, "capture_output": True, "text": True}
        process = subprocess.run(["bash", "-c", text], **options)
        lost = "what is printed is lost: No space left on device\n"
        assert (process.returncode, process.stderr) == (0, lost if name == "full" else "")
    equal_runs(tmp_path / "closed", tmp_path / "full")


# ---- one run in one folder -------------------------------------------------------------------------


def test_a_folder_belongs_to_the_run_that_is_on(start_warm, run_warm, refused, tmp_path):
    flags = [*TINY, "--eval_interval=1", "--out_dir=run"]
    first = start_warm("train.py", *flags, "--max_iters=100000", cwd=tmp_path)
    while not (tmp_path / "run" / "ckpt.pt").exists():
        time.sleep(0.01)
    for flag in ("--init_from=resume", "--overwrite=True"):
        second = run_warm("train.py", *flags, "--max_iters=100000", flag, cwd=tmp_path)
        assert "another run is on in run" in refused(second)
    assert first(seconds=0).returncode == -signal.SIGKILL
    good(run_warm("train.py", *flags, "--overwrite=True", "--max_iters=2", cwd=tmp_path))
    assert files(tmp_path / "run") == LEFT and saved(tmp_path / "run")["iter"] == 2
    # nor is the run that another one starts from
    line = [*TINY[4:], "--out_dir=run", "--overwrite=True", "--init_from=finetune:run"]
    before = snapshot(tmp_path)
    for source in ("", "/best.pt"):
        assert "own folder" in refused(
            run_warm("train.py", *line[:-1], line[-1] + source, cwd=tmp_path)
        )
    assert snapshot(tmp_path) == before


def test_a_data_file_that_was_replaced_is_noticed(run_warm, refused, tmp_path):
    flags = [*TINY, "--dataset=data.npz", "--context=5", "--out_dir=run", "--eval_interval=2"]
    flags += ["--decay_lr=False"]
    with_one_mistake(at=slice(0)).save(tmp_path / "data.npz")
    good(run_warm("train.py", *flags, "--max_iters=2", cwd=tmp_path))
    dreams, _ = worlds.train_and_validation(str(tmp_path / "data.npz"), 0, 0)
    mark = {"dreamed": np.full(len(dreams), worlds.fingerprint("", dreams))}
    replace(dreams, extras=mark).save(tmp_path / "dreams.npz")
    student = [*flags, "--max_iters=2", "--dreams=dreams.npz", "--out_dir=student"]
    good(run_warm("train.py", *student, "--num_trajectories=0", cwd=tmp_path))
    resume = [*flags, "--init_from=resume", "--max_iters=4"]
    other = with_one_mistake(at=slice(0))
    other.values["position"][3, 4] += 1
    other.save(tmp_path / "data.npz")
    before = snapshot(tmp_path)
    assert "data.npz has changed" in refused(run_warm("train.py", *resume, cwd=tmp_path))
    # what it was trained on, or what its dreams were made of, may be test data now
    for name in ("run", "student"):
        evaluation = f"--out_dir={name}", "--sequences=5"
        assert "data.npz has changed" in refused(run_warm("evaluate.py", *evaluation, cwd=tmp_path))
    assert snapshot(tmp_path) == before
    with_one_mistake(at=slice(0)).save(tmp_path / "data.npz")
    good(run_warm("train.py", *resume, cwd=tmp_path))
    good(run_warm("evaluate.py", *evaluation, cwd=tmp_path))


def test_data_of_states_alone_are_trained_on_and_evaluated(run_warm, tmp_path):
    made = with_one_mistake(at=slice(0))
    factors = [f for f in made.factors if f.group == "STATE"]
    values = {f.name: made.values[f.name] for f in factors}
    Trajectories(factors, values).save(tmp_path / "data.npz")
    flags = [*TINY, "--dataset=data.npz", "--context=5", "--out_dir=run", "--max_iters=2"]
    flags += ["--eval_tasks="]
    done = [run_warm("train.py", *flags, cwd=tmp_path),
            run_warm("evaluate.py", "--out_dir=run", "--sequences=20", cwd=tmp_path)]  # fmt: skip
    for process in done:
        assert "behavior_cloning is left out" in good(process).stdout
    assert "past" in json.loads((tmp_path / "run" / "eval.json").read_text())


@pytest.fixture
def disk(tmp_path):
    """A disk of one megabyte, and a function that fills it up to some free kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder]
    mounted = subprocess.run(line, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk to fill: {mounted.stderr.strip()}")

    def fill(kilobytes):
        free = shutil.disk_usage(folder).free
        (folder / "filler").write_bytes(bytes(free - 1024 * kilobytes))

    yield folder, fill
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("free", [0, 8, 64, 128])
def test_a_full_disk_ends_in_one_line_and_spares_the_last_checkpoint(free, disk, run_warm, refused):
    """Room for nothing; for config.json; for best.pt; for log.csv as well."""
    folder, fill = disk
    flags = [*TINY, "--decay_lr=False", "--eval_interval=5", "--learning_rate=3e-3"]
    good(run_warm("train.py", *flags, "--max_iters=5", "--out_dir=run", cwd=folder))
    before = (folder / "run" / "ckpt.pt").read_bytes()
    fill(free)
    resume = [*flags, "--max_iters=20", "--out_dir=run", "--init_from=resume"]
    message = refused(run_warm("train.py", *resume, cwd=folder))
    assert "No space left" in message and "run/" in message and "--init_from=resume" in message
    assert files(folder / "run") == LEFT
    assert (folder / "run" / "ckpt.pt").read_bytes() == before
    assert json.loads((folder / "run" / "config.json").read_text())["max_iters"] in (5, 20)
    (folder / "filler").unlink()
    good(run_warm("train.py", *resume, cwd=folder))
    good(run_warm("train.py", *flags, "--max_iters=20", "--out_dir=whole", cwd=folder))
    equal_runs(folder / "run", folder / "whole")


FULL = [
    "worlds.py --n=2000 --out=some.npz",
    "evaluate.py --out_dir=run --sequences=20 --tasks=past,future",
    "rollout.py --out_dir=run --episodes=4",
    "plot.py --figure=curves --out_dir=run",
    "sample.py --out_dir=run --samples=2",
    "train.py --out_dir=new --max_iters=2 --num_trajectories=20 --eval_sequences=20",
]


def test_every_command_ends_in_one_line_on_a_full_disk(disk, run_warm, refused):
    folder, fill = disk
    good(run_warm("train.py", *TINY, "--max_iters=1", "--out_dir=run", cwd=folder))
    fill(0)
    for line in FULL:
        assert "No space left" in refused(run_warm(*line.split(), cwd=folder)), line
        left = [path for path in folder.rglob("*.tmp") if path.stat().st_size]
        assert not left and files(folder / "run") == LEFT, line


def test_a_folder_that_may_not_be_written_is_refused_in_one_line(run_warm, refused, tmp_path):
    good(run_warm("train.py", *TINY, "--max_iters=1", "--out_dir=run", cwd=tmp_path))
    # root may write to any folder, but not where a folder is in the file's place
    (tmp_path / "run" / "config.json").unlink()
    (tmp_path / "run" / "config.json" / "full").mkdir(parents=True)
    before = snapshot(tmp_path)
    line = [*TINY, "--max_iters=2", "--out_dir=run", "--init_from=resume", "--decay_lr=False"]
    message = refused(run_warm("train.py", *line, cwd=tmp_path))
    assert "run" in message
    ours = f"{tmp_path}/run/ckpt.pt"
    assert snapshot(tmp_path)[ours] == before[ours]
    if os.geteuid():
        os.chmod(tmp_path, 0o500)
        assert "new" in refused(run_warm("train.py", *TINY, "--out_dir=new", cwd=tmp_path))
        os.chmod(tmp_path, 0o700)


# ---- losses that are not finite --------------------------------------------------------------------


def with_one_mistake(rows=70, at=7):
    """Trajectories of continuous factors: one has an action whose squared error is infinite."""
    rng = np.random.default_rng(0)
    factors = [
        Factor("position", "STATE", "continuous", 2),
        Factor("action", "ACTION", "continuous", 1, (0.0,), (1.0,), (1.0,)),  # its own statistics
    ]
    values = {f.name: rng.normal(size=(rows, 10, f.size)).astype(np.float32) for f in factors}
    values["action"][at] = 3e38
    return Trajectories(factors, values)


def test_a_loss_that_is_not_finite_stops_the_run_before_it_overwrites_a_checkpoint(
    run_warm, refused, tmp_path
):
    """The message names the steps since the last evaluation, among which is the one that broke."""
    with_one_mistake().save(str(tmp_path / "mistake.npz"))
    flags = [*TINY, "--dataset=mistake.npz", "--num_trajectories=50", "--task=behavior_cloning"]
    flags += ["--batch_size=2", "--eval_interval=10", "--max_iters=200", "--out_dir=run"]
    message = refused(run_warm("train.py", *flags, cwd=tmp_path))
    last = saved(tmp_path / "run")
    first = last["iter"]
    assert first % 10 == 0 and first == int(read_log(tmp_path / "run")[-1]["iter"])
    assert f"between steps {first} and {first + 10} is not finite" in message
    assert "learning_rate" in message
    assert all(x.isfinite().all() for x in last["weights"].values())
    assert all(x.isfinite().all() for x in last["raw_weights"].values())
    before = snapshot(tmp_path)
    again = refused(run_warm("train.py", *flags, "--init_from=resume", cwd=tmp_path))
    assert again == message and snapshot(tmp_path) == before, "it can be replayed"


def test_weights_that_explode_never_reach_a_checkpoint(run_warm, refused, tmp_path):
    data, flags = str(tmp_path / "data.npz"), [*TINY, "--dataset=data.npz", "--context=5"]
    with_one_mistake(at=69).save(data)  # in validation: the first evaluation meets it
    message = refused(run_warm("train.py", *flags, "--out_dir=run", cwd=tmp_path))
    assert "steps 0 and 0 is not finite" in message and "resume" not in message
    assert not files(tmp_path / "run")
    with_one_mistake(at=slice(0)).save(data)  # no mistake, but a learning rate that is one
    flags += ["--learning_rate=1e30", "--warmup_iters=0", "--eval_interval=4", "--max_iters=20"]
    message = refused(run_warm("train.py", *flags, "--out_dir=run", cwd=tmp_path))
    assert "steps 0 and 4 is not finite" in message
    assert saved(tmp_path / "run")["iter"] == 0
    # Ctrl-C saves at once: but not that
    line = [*flags, "--out_dir=run", "--overwrite=True"]
    message = refused(
        run_warm("train.py", *line, cwd=tmp_path, inside=lambda: interrupt_at_step(2))
    )
    assert "steps 0 and 2 is not finite" in message
    assert saved(tmp_path / "run")["iter"] == 0


# ---- surroundings ----------------------------------------------------------------------------------


def test_locale_hash_order_folder_and_leftovers_change_nothing(run_warm, tmp_path):
    out_dir = f"--out_dir={tmp_path}/läufe"
    train = [*TINY, "--max_iters=12", "--eval_interval=6", "--eval_tasks=", out_dir, "--task=all"]
    lines = [
        ["train.py", *train],
        ["evaluate.py", out_dir, "--sequences=40"],
    ]
    for line in lines:
        good(run_warm(*line, cwd=tmp_path))
    (tmp_path / "läufe").rename(tmp_path / "first")
    elsewhere = tmp_path / "elsewhere"
    for name in ("config", "tqdm"):  # what lies about in the folder is not imported
        (elsewhere / name).mkdir(parents=True)
    surroundings = {"LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    surroundings |= {"PYTHONHASHSEED": "2"}
    options = {"cwd": elsewhere, "env": os.environ | surroundings, "text": True}
    for script, *flags in lines:
        command = [sys.executable, ROOT / script, *flags]
        good(subprocess.run(command, capture_output=True, **options))
    equal_runs(tmp_path / "läufe", tmp_path / "first")
    ours, theirs = (tmp_path / folder / "eval.json" for folder in ("läufe", "first"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert files(elsewhere) == {"config", "tqdm"}


def test_importing_a_module_changes_nothing_in_the_process(run_warm, tmp_path):
    """Threads and seeds are set by the commands alone."""
    modules = sorted(path.stem for path in ROOT.glob("*.py") if path.stem != "train")
    (tmp_path / "importing_all.py").write_text(f"""
import importlib, sys, torch
for name in {modules}:
    sys.modules.pop(name, None)
torch.set_num_threads(3)
state = torch.random.get_rng_state()
for name in {modules}:
    importlib.import_module(name)
assert torch.get_num_threads() == 3 and torch.equal(state, torch.random.get_rng_state())
""")
    good(run_warm(tmp_path / "importing_all.py", cwd=tmp_path))
