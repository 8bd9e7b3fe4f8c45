"""One run of a reproduction: train, evaluate, and write one small JSON. Called again, it does nothing.

    python repro/job.py --result=repro/results/runs/minigrid_500/random_s0.json config/minigrid_random.py --seed=0

Everything but the flags below goes to train.py. If the result file is whole and was made with the same settings, there
is nothing to do; a run that was interrupted goes on from its last checkpoint. Evaluation is on test trajectories
(DoorKey: 1,000 of another data seed) and, in Maze2D, on fresh episodes that training never played; of the best
checkpoint, and in Maze2D of the last one too. Relative paths count from the repository's root, wherever this is called.
Read next: jobs.py, which lists the runs of a reproduction; heatmap.py and table.py, which collect them.
"""

import ast
import csv
import fcntl
import functools
import hashlib
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import configurator  # torch is imported after training only: a job that is done ends at once

FLAGS = {  # of this script; all others are train.py's
    "result": "",  # the JSON to write
    "sequences": 5000,  # questions per task
    "tasks": "",  # that are asked; empty: all that the model can do
    "rollouts": 1000,  # episodes in each mode; Maze2D only
    "modes": "",  # of evaluate.ROLLOUT_MODES; empty: those of eval_modes, which training was followed by
    "checkpoint": False,  # not done without its checkpoint, because another run is to start from it
}
FREE = ("out_dir", "device", "compile", "wandb_log", "wandb_project", "threads")  # they change no result


@dataclass
class Job:
    """A run: the settings of train.py in full, those that tell it from others, and where it leaves its files."""

    config: dict
    flags: dict
    arguments: list  # for train.py
    command: str

    @property
    def out_dir(self):
        return Path(self.config["out_dir"])

    @property
    def settings(self):
        """What the result depends on: the settings that differ from train.py's, and how it is evaluated."""
        defaults = train_defaults()
        chosen = {k: v for k, v in self.config.items() if k not in FREE and v != defaults[k]}
        evaluated = {k: self.flags[k] for k in ("sequences", "tasks", "rollouts", "modes")}
        return chosen | {f"report_{k}": v for k, v in evaluated.items() if v != FLAGS[k]}


def main():
    configurator.one_line_errors()
    os.chdir(ROOT)
    job = read_job(sys.argv[1:])
    reason = todo(job)
    print(f"{job.flags['result']}: {reason or 'there already'}", flush=True)
    if not reason:
        return
    job.out_dir.mkdir(parents=True, exist_ok=True)
    with open(job.out_dir / "job.lock", "w", encoding="utf-8") as lock:
        hold(lock, job)
        training = train(job, lock)
        began = time.time()
        content = measure(job)
        content["minutes"] = {"training": round(training, 2), "evaluation": round((time.time() - began) / 60, 2)}
        write_result(job, content)
    print(f"wrote {job.flags['result']} after {training:.1f} minutes of training")


def read_job(arguments):
    """The Job that a command line asks for. Raises ValueError for settings that train.py would refuse."""
    own = [arg for arg in arguments if arg.startswith("--") and arg[2:].partition("=")[0] in FLAGS]
    rest = [arg for arg in arguments if arg not in own]
    flags = configurator.override(FLAGS, own)
    if not flags["result"].endswith(".json"):
        raise ValueError(f"--result={flags['result']} must name the .json file to write")
    if not any(arg.startswith("--out_dir=") for arg in rest):
        rest.append("--out_dir=" + str(Path("out/runs", *Path(flags["result"]).with_suffix("").parts[-2:])))
    config = configurator.override(train_defaults(), rest)
    return Job(config, flags, rest, "python repro/job.py " + shlex.join(arguments))


@functools.cache
def train_defaults():
    """train.py's settings and their defaults, read from its text: importing it would train."""
    values = {}
    for statement in ast.parse((ROOT / "train.py").read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.Assign):
            continue
        name = statement.targets[0].id
        if name == "config":
            return configurator.configurable(values)
        values[name] = ast.literal_eval(statement.value)
    raise ValueError("train.py has no line `config = ...` that ends its settings")


# ---------------------------------------------------------------------------------------------------------------------
# What is there already


def todo(job):
    """Why there is something to do, or "" if the result file is whole and was made with this job's settings."""
    found = read_result(job.flags["result"])
    if found is None:
        return "not there yet"
    if job.flags["checkpoint"] and not any((job.out_dir / name).exists() for name in ("best.pt", "ckpt.pt")):
        return "there, but not the checkpoint that another run starts from"
    old, new = found["settings"], job.settings
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return f"made with another {', '.join(changed)}" if changed else ""


def read_result(path):
    """The content of a result file, or None if there is none that is whole."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return (
        content if isinstance(content, dict) and {"results", "settings", "seed", "minutes"} <= content.keys() else None
    )


def hold(lock, job):
    """Keep a second process from the same run, until this one ends. Raises ValueError if it is held."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(f"another process is at work on {job.out_dir}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Training


def train(job, lock):
    """Run train.py to its end, from the last checkpoint if it was interrupted. Returns the minutes of all sessions."""
    earlier, state_file = 0.0, job.out_dir / "job.json"
    state = json.loads(state_file.read_text(encoding="utf-8")) if state_file.exists() else {}
    checkpoint = job.out_dir / "ckpt.pt"
    resume = checkpoint.exists() and state.get("settings") == job.settings
    if resume:  # what the interrupted session did after its last checkpoint is lost, and not counted
        earlier = state["minutes"] + max(0.0, checkpoint.stat().st_mtime - state["began"]) / 60
    else:
        for name in ("ckpt.pt", "best.pt", "log.csv", "train.log"):
            (job.out_dir / name).unlink(missing_ok=True)
    began = time.time()
    write_whole(state_file, json.dumps({"settings": job.settings, "began": began, "minutes": earlier}))
    run_train([*job.arguments, *(["--init_from=resume"] if resume else [])], job.out_dir / "train.log", lock)
    return earlier + (time.time() - began) / 60


def run_train(arguments, log, lock):
    """train.py as a process of its own, its text in `log`. Raises ValueError, with its last line, if it fails.

    It holds the lock too: should this process be killed alone, no second one trains beside it.
    """
    with open(log, "a", encoding="utf-8") as file:
        command = [sys.executable, "train.py", *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, pass_fds=[lock.fileno()]
        )
        # Ctrl-C reaches train.py too, which saves and ends; wait for that. A plain kill is passed on.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        code = process.wait()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if code:
        lines = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"]
        raise ValueError(f"train.py ended with exit code {code} (see {log}): {lines[-1]}")


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


def measure(job):
    """{"results": {"best": ...}, ...}: losses of the best checkpoint; in Maze2D returns, and the "last" one's too."""
    import torch

    import data
    import evaluate
    from model import from_plain, load_checkpoint, num_params

    config = job.config
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    split = (config["dataset"], config["num_trajectories"], config["data_seed"])
    asked, exact = test_questions(split, config["context"], job.flags["sequences"])
    log = read_log(job.out_dir / "log.csv")
    results, iters = {}, {}
    maze = config["dataset"].startswith("maze2d")
    for which, name in (("best", "best.pt"), ("last", "ckpt.pt"))[: 1 + maze]:
        path = job.out_dir / name
        saved = load_checkpoint(str(path if path.exists() else job.out_dir / "ckpt.pt"), config["device"])
        iters[which] = saved["iter"]
        if which == "last" and iters["last"] == iters["best"]:
            results["last"] = results["best"]
            continue
        network = from_plain(saved).to(config["device"]).eval()
        able = evaluate.chosen_tasks(job.flags["tasks"], network.config.model, config["dataset"])
        losses = evaluate.losses(network, {task: asked[task] for task in able}, exact)
        results[which] = {"losses": {task: numbers(row) for task, row in losses.items()}}
        if maze and job.flags["rollouts"]:
            results[which]["rollouts"] = play(network, job, data.train_and_validation(*split)[0])
            results[which]["selection"] = selection(log, saved["iter"])
    iters["last"] = log["iter"][-1]
    return {"results": results, "iters": iters, "parameters": num_params(network), "log": log}


def test_questions(split, context, sequences):
    """The same questions on test trajectories for every run, whatever its model can do: {task: ...}; their limits."""
    import evaluate

    trajectories = evaluate.evaluation_set(*split, "test")
    asked = evaluate.questions(
        trajectories, evaluate.default_tasks("unimask", split[0]), sequences, context, evaluate.seed
    )
    return asked, cached_limits(trajectories, asked)


def cached_limits(trajectories, asked):
    """evaluate.limits(), kept in out/limits under a fingerprint of the questions: they are the same in every run."""
    import torch

    import evaluate

    if not trajectories.world.startswith("doorkey"):
        return None
    digest = hashlib.sha256((ROOT / "bayes.py").read_bytes())
    for task, (values, see, predict) in asked.items():
        digest.update(task.encode())
        for tensor in (*values.values(), see, predict):
            digest.update(tensor.contiguous().numpy().tobytes())
    path = Path("out/limits") / f"{digest.hexdigest()[:16]}.pt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        torch.save(evaluate.limits(trajectories, asked), beside)
        os.replace(beside, path)
    return torch.load(path, weights_only=True)


def play(network, job, train):
    """{mode: {measure: {mean, sem}}} over fresh episodes, the same for all runs of a seed; training played others."""
    import evaluate

    modes = (job.flags["modes"] or job.config["eval_modes"]).split(",")
    seed = evaluate.ROLLOUT_SEED + job.config["seed"]
    played = evaluate.play(network, job.config["dataset"], train, job.flags["rollouts"], seed, modes)
    return {mode: {name: numbers(x) for name, x in measures.items()} for mode, measures in played.items()}


def selection(log, it):
    """{mode: mean return} that training measured at this step on its selection episodes, {} if it played none."""
    at = log["iter"].index(it)
    return {name.removeprefix("return_"): column[at] for name, column in log.items() if name.startswith("return_")}


def numbers(row):
    """The numbers of a dictionary, rounded for a file that people read."""
    return {key: round(x, 6) if isinstance(x, float) else x for key, x in row.items() if not isinstance(x, dict)}


def read_log(path):
    """The columns of log.csv, without those that follow from others: {name: list of numbers, None where empty}."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "lr" and not name.endswith("_gap")}
    number = lambda name, text: None if text == "" else int(text) if name == "iter" else float(f"{float(text):.5g}")
    return {name: [number(name, text) for text in column] for name, column in columns.items()}


# ---------------------------------------------------------------------------------------------------------------------
# The result file


def write_result(job, content):
    """What made the numbers first, then the numbers, the log of training last."""
    about = {"command": job.command, "seed": job.config["seed"], "settings": job.settings, "versions": versions()}
    order = ("minutes", "parameters", "iters", "results", "log")
    text = json.dumps(about | {key: content[key] for key in order}, indent=1)
    # a list of numbers on one line, and a dictionary of numbers as well
    text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: re.sub(r"\s*\n\s*", " ", match[0]), text)
    write_whole(Path(job.flags["result"]), text + "\n")


def write_whole(path, text):
    """Write beside and rename, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with configurator.beside(path) as unfinished:
        Path(unfinished).write_text(text, encoding="utf-8")


def versions():
    """The software and the processor that made a result."""
    import numpy
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "cpu": processor(),
    }


def processor():
    """The processor's name, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
