"""How fast is it, and how far from the machine's limit: each claim about speed, measured.

    python bench.py --json=bench.json                           # 3 minutes on two idle cores
    python bench.py --measure=steps --configurations=doorkey    # what a DoorKey training step costs
    python bench.py --measure=seeds --device=cuda               # several seeds at once, on a GPU

It prints Markdown tables and writes the numbers as JSON. Times are medians (those of seeds: means),
of one thread. The models are the published ones at the task "random", in fp32, with fresh weights.
A step is train.py's own.
Its limit is the time of the matrix products of its linear layers alone: no code with these layers
can be faster. The two take turns, so that a busy machine hits both.
Before this: train.py, evaluate.py and rollout.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import contextlib
import io
import itertools
import os
import statistics
import tempfile
import time

import torch
import torch.nn as nn

import checks
import evaluate
import files
import masks
import maze2d
import model
import rollout
import train_seeds
import worlds

# ---- settings ------------------------------------------------------------------------------------
json = ""  # a file for all numbers
measure = "steps,seconds"  # and seeds
configurations = "doorkey,maze2d_5,maze2d_10"  # of steps and seeds
repetitions = 100  # training steps of each configuration
sequences = 5000  # validation questions per task
rollouts = 1000  # episodes
device = "cpu"  # where several seeds at once are trained: or "cuda"
# --------------------------------------------------------------------------------------------------

PUBLISHED = {  # settings of train.py
    "n_embd": 128, "n_ff": 128, "hidden": "zero", "norm": "post", "task": "random",
    "batch_size": 100, "learning_rate": 1e-4, "weight_decay": 1e-4, "grad_clip": 0.5,
}  # fmt: skip
DOORKEY = {"dataset": "doorkey", "num_trajectories": 500, "n_layer": 2, "n_head": 8}
MAZE = {"dataset": "maze2d-medium", "num_trajectories": 900, "n_layer": 4, "n_head": 16}
CONFIGURATIONS = {
    "doorkey": PUBLISHED | DOORKEY | {"dropout": 0.1, "context": 10},
    "maze2d_5": PUBLISHED | MAZE | {"dropout": 0.0, "context": 5},
    "maze2d_10": PUBLISHED | MAZE | {"dropout": 0.0, "context": 10},
}
MEASURES = ("steps", "seconds", "seeds")


def main():
    check_settings()
    torch.set_num_threads(1)
    checks.device(device)
    runs = {name: CONFIGURATIONS[name] for name in chosen(configurations)}
    load = os.getloadavg()[0]  # processes at work in the last minute, on average
    results = {"torch": torch.__version__, "load": load}
    for name in chosen(measure):
        function = globals()[f"measure_{name}"]
        results[name] = function(runs)
        print_table(function.__doc__, results[name])
    if json:
        files.save_json(json, results)
        print(f"\nwrote {json}")


# ---- what is timed -------------------------------------------------------------------------------
def flags(settings):
    return [f"--{key}={value}" for key, value in settings.items()]


def training(settings, set_up=train_seeds.set_up):
    """train.py as a module, set up with these settings up to its loop: train_step, network, ..."""
    quick = {"eval_tasks": "behavior_cloning", "eval_sequences": 1}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return set_up(flags(quick | settings | {"out_dir": folder + "/{seed}"}))


def steps(run, n):
    """Take the first n steps of a training()."""
    for it in range(n):
        run.train_step(it)


def linear_products(network, *rows):
    """A function that computes the three matrix products of every linear layer, and no more.

    rows: B * T of one network; S, B * T of several at once.
    """
    where = next(network.parameters()).device
    jobs, random = [], lambda *shape: torch.randn(*rows[:-1], *shape, device=where)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            weight = random(layer.out_features, layer.in_features)
            x, gradient = random(rows[-1], layer.in_features), random(rows[-1], layer.out_features)
            jobs += [(x, weight.mT), (gradient.mT, x)]
            if "embedding" not in name:  # nobody needs the gradient of the data
                jobs.append((gradient, weight))
    jobs = [(a, b, a @ b) for a, b in jobs]
    return lambda: [torch.matmul(a, b, out=out) for a, b, out in jobs]


def take_turns(functions, turns, warm_up=3):
    """{name: median seconds} of functions {name: function}, which run one after the other."""
    seconds = {name: [] for name in functions}
    for turn in range(-warm_up, turns):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(each) for name, each in seconds.items()}


def milliseconds(step):
    """Of a step(it), over many, on a device that is waited for at the end only."""
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    for it in range(-5, repetitions):  # the first are warming up
        if it == 0:
            wait()
            began = time.perf_counter()
        step(it + 5)
    wait()
    return 1000 * (time.perf_counter() - began) / repetitions


# ---- the measures: of runs {name: settings of train.py}, rows {name: {column: number}} -----------
# The docstring of each is the title of its table.
def measure_steps(runs):
    """Milliseconds of a training step, of its parts, and of its limit (gemm)"""
    rows = {}
    for name, settings in runs.items():
        run, random = training(settings), torch.Generator()
        B, T, network = settings["batch_size"], settings["context"], run.network
        compared = {"step_ms": lambda: steps(run, 1), "gemm_ms": linear_products(network, B * T)}
        parts = {
            "data_ms": lambda: run.windows.draw(B, random),
            "masks_ms": lambda: masks.draw(settings["task"], B, T, random),
        }
        seconds = take_turns(compared, repetitions) | take_turns(parts, repetitions)
        row = {part: 1000 * value for part, value in seconds.items()}
        row["times_limit"] = row["step_ms"] / row["gemm_ms"]
        rows[name] = row | {"parameters": model.num_params(network)}
    return rows


def measure_seeds(runs):
    """Milliseconds of a step of one seed, of six at once, and of its limit, with train_seeds.py"""
    rows, kinds = {}, (False, True) if device != "cpu" else (False,)
    for name, settings in runs.items():
        B, T = settings["batch_size"], settings["context"]
        for count, compiled in itertools.product((1, 6), kinds):
            train_seeds.seeds = ",".join(map(str, range(count)))
            asked = settings | {"device": device, "compile": compiled}
            together = train_seeds.Together(training(asked, train_seeds.set_up_all))
            row = {"step_ms": milliseconds(together.step)}
            products = linear_products(together.network, count, B * T)
            if device != "cpu":  # recorded as a step is, they never wait for the CPU
                products()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    products()
                products = graph.replay
            row["gemm_ms"] = milliseconds(lambda it, products=products: products())
            row["sequences_per_s"] = 1000 * B * count / row["step_ms"]
            rows[f"{name}, {count} at once" + ", compiled" * compiled] = row
    return rows


def measure_seconds(runs):
    """Seconds of validation on DoorKey, eight tasks, and of episodes of 200 steps in Maze2D, T=10"""
    run = training(CONFIGURATIONS["doorkey"])
    network, driver = run.network.eval(), training(CONFIGURATIONS["maze2d_10"]).network.eval()
    seed = evaluate.VALIDATION_SEED
    asked = evaluate.questions(run.validation, masks.EIGHT, sequences, 10, seed)
    exact = evaluate.limits(run.validation, asked)
    fresh = lambda: worlds.environment("maze2d-medium", rollouts, rollout.ROLLOUT_SEED)
    functions = {
        f"{sequences} questions a task": lambda: evaluate.losses(network, asked, exact),
        f"{rollouts} episodes": lambda: rollout.play(driver, fresh()),
    }
    rows = {name: {} for name in functions}
    for n in (1, 2):
        torch.set_num_threads(n)
        for name, seconds in take_turns(functions, 2, warm_up=0).items():
            rows[name][f"threads_{n}"] = seconds
    return rows


# ---- settings and tables -------------------------------------------------------------------------
def check_settings():
    """Refuse what cannot work before minutes have passed."""
    counts = dict.fromkeys(("repetitions", "sequences", "rollouts"), (1, 10**6))
    configurator.check(globals(), counts)
    for name, known in ("measure", MEASURES), ("configurations", tuple(CONFIGURATIONS)):
        for one in chosen(globals()[name]):
            configurator.check({name: one}, {name: known})
    if json:
        files.check_writable(json, ".json")
    if "maze" in configurations or "seconds" in measure:
        maze2d.layout("medium")  # is it installed?


def chosen(text):
    return [name for name in text.split(",") if name]


def print_table(title, rows):
    """Markdown, fit for a README. rows: {name: {column: number}}."""
    columns = list(next(iter(rows.values()), ()))
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, row in rows.items():
        cells = [f"{x:,.2f}" if isinstance(x, float) else f"{x:,}" for x in row.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    configurator.apply(globals())
    main()
