"""Run one line of a study: train, measure, write the result down. Called again, it does nothing.

    python repro/run.py --study=minigrid_500 --row=random config/minigrid_random.py --seed=0

Adds one line of JSON to repro/results/minigrid_500.jsonl: the command, seed, settings, versions,
minutes, results, and the log of training. Flags that are not settings of this script go to
train.py. If the study has a line of this row and seed, made with the same settings, there is
nothing to do. One that was made with others, of a file that has changed, or from a line that was
made anew with others, is replaced. An interrupted run goes on from its last checkpoint, unless its
dreams were made anew since. Paths count from the repository's root. --seeds=0,1,2 trains these at
once (train_seeds.py), for a GPU: a {seed} stands for each of them.
Read next: minigrid.sh, for the lines of a study; measure.py; figures.py.
"""

import ast
import contextlib
import fcntl
import functools
import hashlib
import json
import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import configurator  # and nothing that imports torch: a line that is done ends at once

import files

# ---- settings ------------------------------------------------------------------------------------
study = ""  # the results file that the line belongs to, e.g. minigrid_500
row = ""  # what is trained: with the seed it names the line
results = "repro/results"  # the folder of the results files
runs = "out/runs"  # the folder of the checkpoints
seeds = ""  # to train at once, e.g. "0,1,2", in the place of --seed
ask = False  # only tell, by the exit code, whether there is nothing to do
checkpoint = False  # make it again if its checkpoint is gone, because another run starts from it
# how it is measured (measure.py)
tasks = ""  # questions to ask; empty: all that the model can answer
sequences = 5000  # questions per task
rollouts = 1000  # episodes in each mode; in Maze2D, or in an environment
modes = ""  # how to play; empty: the eval_modes of training
env = ""  # a Gymnasium environment to play in
target_return = "x1.2"  # to ask for in the modes rc and rc_all
# --------------------------------------------------------------------------------------------------

OWN = configurator.configurable(globals())
MEASURED = ("tasks", "sequences", "rollouts", "modes", "env", "target_return")
COUNTS = {"sequences": (1, 10**8), "rollouts": (0, 10**8)}
# what changes no result, and so does not tell two runs apart
FREE = ("out_dir", "overwrite", "device", "compile", "threads", "wandb_log", "wandb_project")
# A checksum of our code for measure.py, taken while it is imported: files may change as a script runs.
TEXTS = [path.read_bytes() for path in sorted(ROOT.glob("[!.]*.py"))]
PROGRAM = hashlib.sha256(b"".join(TEXTS)).digest()
FORK = multiprocessing.get_context("fork")


def main(arguments):
    """arguments: those of this script and of train.py, as they were given."""
    configs, path = configs_of(arguments), Path(results, f"{study}.jsonl")
    if ask:
        sys.exit(not all(done(path, config) for config in configs))
    for config in (config for config in configs if not done(path, config)):
        start = Path(config["init_from"].removeprefix("finetune:"))
        if start.parent == Path(runs, study):  # another run of this study
            restore(start, results)
    with contextlib.ExitStack() as stack:
        todo = [config for config in configs if not done(path, config)]
        for config in todo:
            stack.enter_context(held(Path(config["out_dir"], "run.lock")))
        for config in configs:  # another process may have made one meanwhile
            name = f"{path}: {row}, seed {config['seed']}"
            print(f"{name}: {'there already' if done(path, config) else 'begins'}", flush=True)
        todo = [config for config in todo if not done(path, config)]
        training = train(arguments, todo) if todo else 0
        # Of a line whose checkpoint alone was gone the result stays as it is.
        for config in (config for config in todo if not has_line(path, config)):
            measure(path, arguments, config, training / len(todo))


def measure(path, arguments, config, training):
    """Add the line of a trained model to the results. training: the minutes that it took."""
    began, out = time.time(), Path(config["out_dir"])
    flags = [f"--{key}={globals()[key]}" for key in MEASURED]
    call(["repro/measure.py", f"--out_dir={out}", *flags], out)
    measured = json.loads((out / "measured.json").read_text(encoding="utf-8"))
    evaluation = (time.time() - began) / 60
    command = shlex.join(["python", "repro/run.py", *arguments])
    line = {"row": row, "seed": config["seed"], "command": command, "settings": settings_of(config)}
    line["minutes"] = {"training": round(training, 2), "evaluation": round(evaluation, 2)}
    line |= made_of(path, config)
    append(path, line | measured)
    name = f"{path}: {row}, seed {config['seed']}"
    print(f"{name}: made in {training + evaluation:.1f} minutes", flush=True)


# --------------------------------------------------------------------------------------------------
# The settings of a line


def split(arguments):
    """(those of this script, those of train.py)."""
    own = [
        word for word in arguments if word[2:].partition("=")[0] in OWN or word in ("-h", "--help")
    ]
    return own, [word for word in arguments if word not in own]


def configs_of(arguments):
    """train.py's settings in full, for each of the seeds."""
    if not seeds:
        return [train_settings(arguments)]
    given = [[word.replace("{seed}", n) for word in arguments] for n in seeds.split(",")]
    return [train_settings(words) for words in given]


def train_settings(arguments):
    """train.py's settings in full. Raises ValueError for what train.py would refuse."""
    if not study or not row:
        raise ValueError("--study and --row name the line: --study=minigrid_500 --row=random")
    configurator.check(globals(), COUNTS)
    config = configurator.override(train_defaults(), split(arguments)[1])
    config["out_dir"] = f"{runs}/{study}/{row}_s{config['seed']}"
    return config


@functools.cache
def train_defaults():
    """train.py's settings and their defaults, read from its text: importing it would train."""
    values = {}
    for statement in ast.parse((ROOT / "train.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            if statement.targets[0].id == "config":  # what follows is no setting
                return configurator.configurable(values)
            values[statement.targets[0].id] = ast.literal_eval(statement.value)
    raise ValueError("train.py has no line `config = ...` that ends its settings")


def settings_of(config):
    """What a result depends on: what differs from train.py's defaults, and how it is measured."""
    defaults = train_defaults()
    changed = {k: v for k, v in config.items() if k not in FREE and v != defaults[k]}
    measured = {f"report_{key}": globals()[key] for key in MEASURED if globals()[key] != OWN[key]}
    return changed | measured


# --------------------------------------------------------------------------------------------------
# The results file


def read_results(path):
    """The lines of a results file, [{"row", "seed", ...}]; [] if there is none."""
    if not Path(path).exists():
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def append(path, line):
    """Add a line to a results file, in the place of one of the same row and seed."""
    with held(ROOT / "out" / "locks" / Path(path).name):
        lines, key = read_results(path), (line["row"], line["seed"])
        places = [i for i, old in enumerate(lines) if (old["row"], old["seed"]) == key]
        place = places[0] if places else len(lines)
        lines[place : place + 1] = [line]
        files.save_text(path, "".join(json.dumps(content) + "\n" for content in lines))


def done(path, config):
    """Whether the study has this line, made with these settings (and its checkpoint, if needed)."""
    there = not checkpoint or ready(config["out_dir"], settings_of(config))
    return has_line(path, config) and there


def has_line(path, config):
    same = [x for x in read_results(path) if (x["row"], x["seed"]) == (row, config["seed"])]
    if not same or same[0]["settings"] != settings_of(config):
        return False
    return all(same[0].get(name, x) == x for name, x in made_of(path, config).items())


def made_of(path, config):
    """Checksums of what a run is made of, as far as it is there, that may change behind its settings.

    "data": of a file of trajectories. "start": of the settings of the line that it is finetuned from.
    """
    found, dataset = {}, Path(config["dataset"])
    if dataset.is_file():
        found["data"] = zlib.crc32(dataset.read_bytes())
    start = Path(config["init_from"].removeprefix("finetune:"))
    for line in read_results(path) if start.parent == Path(runs, study) else ():
        if f"{line['row']}_s{line['seed']}" == start.name:
            found["start"] = zlib.crc32(json.dumps(line["settings"], sort_keys=True).encode())
    return found


def has_checkpoint(folder):
    return any(Path(folder, name).exists() for name in ("best.pt", "ckpt.pt"))


def ready(folder, settings):
    """Whether a run is complete, and was made with these settings, of a line."""
    state = Path(folder, "run.json")
    made = json.loads(state.read_text(encoding="utf-8"))["settings"] if state.exists() else settings
    return complete(folder) and made == settings


def complete(folder):
    """Whether a run has come to its last step: what was stopped on the way has a checkpoint, too."""
    config, log = Path(folder, "config.json"), Path(folder, "log.csv")
    if not has_checkpoint(folder) or not (config.exists() and log.exists()):
        return has_checkpoint(folder)  # a checkpoint alone, from elsewhere
    last = log.read_text(encoding="utf-8").splitlines()[-1].partition(",")[0]
    return last == str(json.loads(config.read_text(encoding="utf-8"))["max_iters"])


@contextlib.contextmanager
def held(path):
    """Hold a lock, waiting until it is free: two processes never make the same run or file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


# --------------------------------------------------------------------------------------------------
# Training


def restore(folder, results):
    """Make a run RUNS/STUDY/ROW_sSEED (again), unless it is there as its line in the results says.

    It is made by itself and on a CPU, also if it was one of several seeds on a GPU: who asks for it
    may have none.
    """
    folder, other = Path(folder), ("--seeds", "--device", "--compile", "--results", "--runs")
    for line in read_results(Path(results, f"{folder.parent.name}.jsonl")):
        if f"{line['row']}_s{line['seed']}" == folder.name and not ready(folder, line["settings"]):
            words = [w.replace("{seed}", str(line["seed"])) for w in shlex.split(line["command"])]
            again = [sys.executable, *(word for word in words[1:] if not word.startswith(other))]
            again += [f"--results={results}", f"--runs={folder.parent.parent}", "--checkpoint=True"]
            if subprocess.run(again, cwd=ROOT).returncode:
                raise ValueError(f"{folder} is gone, and could not be made again")
    if has_checkpoint(folder) and not complete(folder):
        raise ValueError(f"{folder} is not finished: make it first, by the same script")


def train(arguments, configs):
    """Run train.py to its end, from its checkpoint if there is one. Returns minutes of training.

    configs: settings that differ in their seed; of several it is train_seeds.py.
    """
    path = Path(results, f"{study}.jsonl")
    states = [state_of(path, config) for config in configs]
    resume, earlier = all(x is not None for x in states), max(x or 0.0 for x in states)
    began = time.time()
    for config in configs:
        state = {"settings": settings_of(config), "of": made_of(path, config), "began": began}
        state |= {"minutes": earlier if resume else 0.0}
        files.save_json(Path(config["out_dir"], "run.json"), state)
    out_dir = configs[0]["out_dir"]
    own = [f"--max_iters={configs[0]['max_iters']}"]
    own += ["--init_from=resume"] if resume else ["--overwrite=True"]
    if seeds:
        numbers = ",".join(str(config["seed"]) for config in configs)
        own += [f"--seeds={numbers}", f"--out_dir={runs}/{study}/{row}_s{{seed}}"]
        given = [word for word in split(arguments)[1] if not word.startswith("--seed=")]
        call(["train_seeds.py", *given, *own], Path(out_dir))
    else:
        call(["train.py", *split(arguments)[1], *own, f"--out_dir={out_dir}"], Path(out_dir))
    return (earlier if resume else 0.0) + (time.time() - began) / 60


def state_of(path, config):
    """The minutes that an interrupted run has taken; None if there is nothing to go on from."""
    out = Path(config["out_dir"])
    state_file, saved = out / "run.json", out / "ckpt.pt"
    if not (state_file.exists() and saved.exists()):
        return None
    state = json.loads(state_file.read_text(encoding="utf-8"))
    dreams = Path(config["dreams"] or ROOT)
    dreamt_anew = dreams.is_file() and dreams.stat().st_mtime > saved.stat().st_mtime
    changed = state["settings"] != settings_of(config) or state.get("of") != made_of(path, config)
    if changed or dreamt_anew:
        return None
    # what the last session did after its last checkpoint is lost, and not counted
    return state["minutes"] + max(0.0, saved.stat().st_mtime - state["began"]) / 60


def call(command, out):
    """Run a script of the repository, its text in out/run.log. Raises ValueError if it fails.

    It holds this process's locks too: should that be killed alone, no second one trains beside it.
    """
    with open(out / "run.log", "a", encoding="utf-8") as log:
        script = FORK.Process(target=as_main, args=(command, (log, log)))
        script.start()
    # Ctrl-C reaches train.py too, which saves and ends: wait for that. Pass on a plain kill.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: script.terminate())
    script.join()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if script.exitcode:
        text = (out / "run.log").read_text(encoding="utf-8").strip() or "it said nothing"
        reason = f"ended with exit code {script.exitcode} (see {out}/run.log)"
        raise ValueError(f"{row}: {command[0]} {reason}: {text.splitlines()[-1]}")


def as_main(command, streams=()):
    """In a fork: run a script as the interpreter would, errors and all.

    What the process has imported need not be imported again. command: the script's path and
    arguments. streams: files for what it prints, and for its errors.
    """
    for number, file in enumerate(streams, start=1):
        os.dup2(file.fileno(), number)
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, handler in defaults.items():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
    sys.argv, configurator.SCRIPT = command, command[0]
    sys.path.insert(0, os.path.dirname(os.path.abspath(command[0])))
    configurator.one_line_errors()
    try:
        runpy.run_path(command[0], run_name="__main__")
    except (Exception, KeyboardInterrupt):
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        sys.stdout.flush()  # before the words of a SystemExit


if __name__ == "__main__":
    os.chdir(ROOT)
    arguments = sys.argv[1:]
    configurator.apply(globals(), split(arguments)[0])
    main(arguments)
