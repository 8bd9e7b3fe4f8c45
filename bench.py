"""How fast is it, and how far from the machine's limit: every claim about speed or memory is measured here, in one run.

    python bench.py --json=bench.json                         # under 3 minutes on two idle cores
    python bench.py --measure=steps --configurations=doorkey  # only what a DoorKey training step costs

It prints Markdown tables and writes the numbers as JSON. Times are medians, and what is compared takes turns, so that a
busy machine hits both sides; it should be idle all the same. The models are the published ones (hidden="zero", no other
input features) at the task "random" in fp32. Their weights are fresh: what they have learned does not change the cost.

The limit of a step is the time of the matrix products of its linear layers alone, as plain fp32 products of the same
shapes, taken between the steps: no code with these layers can be faster. Attention's products are not in the limit but
beside it: at a context of 10 they are a thousand tiny ones, which cost what their kernel makes of them.
Before this: train.py, whose step is repeated here (tests/test_bench.py: to the bit), and evaluate.py.
"""

import contextlib
import functools
import importlib.util
import io
import itertools
import math
import multiprocessing
import os
import platform
import runpy
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

import configurator
import data
import evaluate
import masks
import maze2d
from attention import Dropout, attend
from model import ModelConfig, build, configure_optimizer, loss, num_params

# ---- settings --------------------------------------------------------------------------------------------------------
json = ""  # a file for all numbers
measure = "steps,memory,throughput,validation,rollout"  # which of MEASUREMENTS; empty: only the three at the end
configurations = "doorkey,maze2d_5,maze2d_10"  # whose steps and memory to measure
repetitions = 100  # training steps of each configuration
rounds = 2  # repetitions of what takes seconds: throughput, validation, rollouts
sequences = 5000  # validation questions per task
rollouts = 1000  # episodes
threads = 1  # of the training steps
cores = 2  # throughput, validation and rollouts are measured on one thread and on this many
growth = False  # measure also how a step grows
compile = False  # measure also what torch.compile gains and costs
profile = False  # write also where a step's time goes, operator by operator, to profile.txt beside the JSON
# ----------------------------------------------------------------------------------------------------------------------

PUBLISHED = {  # by the names of train.py's settings
    "n_embd": 128, "n_ff": 128, "hidden": "zero", "norm": "post", "task": "random", "batch_size": 100,
    "learning_rate": 1e-4, "weight_decay": 1e-4, "grad_clip": 0.5,
}  # fmt: skip
DOORKEY = {"dataset": "doorkey", "num_trajectories": 500, "n_layer": 2, "n_head": 8, "dropout": 0.1, "context": 10}
MAZE = {"dataset": "maze2d-medium", "num_trajectories": 900, "n_layer": 4, "n_head": 16, "dropout": 0.0}
CONFIGURATIONS = {"doorkey": PUBLISHED | DOORKEY} | {f"maze2d_{T}": PUBLISHED | MAZE | {"context": T} for T in (5, 10)}
GROWTH = [{"context": T} for T in (10, 50, 200)] + [{"n_embd": d, "n_ff": d} for d in (64, 256, 512)]
GROWTH += [{"batch_size": B} for B in (25, 400)]
PARTS = ("data", "masks", "forward", "backward", "optimiser")  # of a training step
MEASUREMENTS = ("steps", "memory", "throughput", "validation", "rollout", "growth", "compile", "profile")
processes = functools.partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"))
fresh_processes = functools.partial(processes, max_tasks_per_child=1)
median_ms = lambda turns: 1000 * statistics.median(seconds for seconds, _ in turns)
chosen = lambda text: [name for name in text.split(",") if name]
trajectories = functools.cache(data.train_and_validation)
lasting_step = functools.cache(lambda name: trainer(CONFIGURATIONS[name])[1])  # the same at every call in a process


def main():
    configurator.apply(globals())
    check_settings()
    torch.set_num_threads(threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # processes at work in the last minute, on average
    maze = all(importlib.util.find_spec(package) for package in ("d4rl", "mujoco"))
    names = [name for name in chosen(configurations) if maze or name == "doorkey"]
    results = dict.fromkeys([*CONFIGURATIONS, "rollout_1000_s", "validation_s"]) | {name: {} for name in names}
    results |= {"threads": threads, "torch": torch.__version__, "cpu": cpu(), "cpu_count": os.cpu_count(), "load": load}
    print(f"torch {torch.__version__} on {cpu()}, {os.cpu_count()} cores; threads: {threads}, unless said otherwise")
    if load > 0.5:
        print(f"WARNING: this machine is busy (load average {load:.1f}): all is slower, two threads most of all")
    if not maze:
        print("NOTE: without d4rl there is no Maze2D to measure (see requirements-maze.txt)")
    for name in chosen(measure) + [name for name in MEASUREMENTS[5:] if globals()[name]]:
        if maze or name != "rollout":
            globals()[f"measure_{name}"](results, names)
    if json:
        evaluate.save_json(json, results)
        print(f"\nwrote {json}")


# ---- a training step, and its limit ----------------------------------------------------------------------------------
def measure_steps(results, names):
    """Milliseconds of a step, of its parts and of its matrix products, which take turns with the steps."""
    for name in names:
        configuration = CONFIGURATIONS[name]
        network, step = trainer(configuration)
        products = linear_products(network, configuration), attention_products(configuration)
        steps, gemm, bmm = take_turns([step, *products], repetitions)
        parts = {f"{part}_ms": 1000 * statistics.median(split[part] for _, split in steps) for part in PARTS}
        cost = {"step_ms": median_ms(steps), **parts, "gemm_ms": median_ms(gemm), "bmm_ms": median_ms(bmm)}
        cost["times_limit"] = cost["step_ms"] / cost["gemm_ms"]
        cost["times_all_products"] = cost["step_ms"] / (cost["gemm_ms"] + cost["bmm_ms"])
        results[name] |= cost | {"parameters": num_params(network)}
    print_table("A training step (gemm: linear products; bmm: attention's)", {name: results[name] for name in names})


def trainer(configuration, train=None, compiled=False):
    """A fresh network, and a function that takes one training step as train.py does and returns {part: seconds}."""
    train = train or trajectories(configuration["dataset"], configuration["num_trajectories"], 0)[0]
    torch.manual_seed(0)
    shape = {key: value for key, value in configuration.items() if key in ModelConfig.__dataclass_fields__}
    network = build(ModelConfig(**shape), train.factors).train()
    stepping = torch.compile(network) if compiled else network
    optimizer = configure_optimizer(network, configuration["learning_rate"], configuration["weight_decay"])
    values, lengths, weights = train.tensors(), torch.as_tensor(train.lengths), {f.name: 1.0 for f in network.factors}
    B, T, task = (configuration[key] for key in ("batch_size", "context", "task"))
    generator, numbers = torch.Generator(), itertools.count()

    def step():
        clock = [time.perf_counter()]
        tick = lambda: clock.append(time.perf_counter())
        for_batch, for_dropout = np.random.SeedSequence([0, next(numbers)]).generate_state(2).tolist()
        torch.default_generator.manual_seed(for_dropout)
        batch = data.sample_windows(values, lengths, B, T, generator.manual_seed(for_batch))
        tick()
        see, predict = masks.draw(task, B, T, generator)
        tick()
        value, _ = loss(stepping(batch, see), batch, predict, network.factors, weights)
        tick()
        value.backward()
        tick()
        torch.nn.utils.clip_grad_norm_(network.parameters(), configuration["grad_clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tick()
        return dict(zip(PARTS, np.diff(clock).tolist()))

    return network, step


def linear_products(network, configuration):
    """A function that computes the three matrix products of every linear layer, and nothing else."""
    rows, jobs = configuration["batch_size"] * configuration["context"], []
    for name, weight in network.named_parameters():
        if weight.dim() == 2 and not name.startswith("position"):
            outputs, inputs = weight.shape
            x, gradient, weight = torch.randn(rows, inputs), torch.randn(rows, outputs), weight.detach().clone()
            jobs += [(x, weight.t(), torch.empty(rows, outputs)), (gradient.t(), x, torch.empty(outputs, inputs))]
            if not name.startswith("inputs"):  # nobody needs the gradient of the data
                jobs.append((gradient, weight, torch.empty(rows, inputs)))
    return lambda: [torch.mm(a, b, out=out) for a, b, out in jobs]


def attention_products(configuration):
    """A function that computes the six batched products of every attention layer, and nothing else."""
    (n, T, hs), jobs = head_shape(configuration), []
    for _ in range(configuration["n_layer"]):
        q, k, v, y = torch.randn(4, n, T, hs)  # y: the gradient of the output
        weights, scores = torch.randn(2, n, T, T)  # scores: their gradient
        jobs += [(a, b, torch.empty(n, T, T)) for a, b in ((q, k.mT), (y, v.mT))]
        jobs += [(a, b, torch.empty(n, T, hs)) for a, b in ((weights, v), (weights.mT, y), (scores, k), (scores.mT, q))]
    return lambda: [torch.bmm(a, b, out=out) for a, b, out in jobs]


def head_shape(configuration):
    B, T, d, n_head = (configuration[key] for key in ("batch_size", "context", "n_embd", "n_head"))
    return B * n_head, T, d // n_head


def take_turns(functions, turns, warm_up=3):
    """Call them one after the other, `turns` times after the warm-up. Returns a list of (seconds, result) for each."""
    taken = [[] for _ in functions]
    for turn in range(-warm_up, turns):
        for function, mine in zip(functions, taken):
            clock = time.perf_counter()
            result = function()
            if turn >= 0:
                mine.append((time.perf_counter() - clock, result))
    return taken


# ---- in processes of their own: memory and throughput ----------------------------------------------------------------
def measure_memory(results, names):
    """The most that train.py holds, evaluations included. All run at once: nothing is timed."""
    with tempfile.TemporaryDirectory() as folder, fresh_processes(len(names) or 1) as pool:
        runs = [CONFIGURATIONS[name] | {"out_dir": os.path.join(folder, name), "max_iters": 5} for name in names]
        for name, peak in zip(names, pool.map(run_train, runs)):
            results[name]["peak_mb"] = peak
    print_table("Memory of train.py", {name: {"peak_mb": results[name]["peak_mb"]} for name in names})


def run_train(settings):
    """In a process of its own: run train.py, and return the peak of this process's memory."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train.py")
    sys.argv = [script, *(f"--{key}={value}" for key, value in settings.items())]
    with contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path(script, run_name="__main__")
    return peak_mb()


def peak_mb():
    """The most memory that this process has held."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        # Not ru_maxrss: on Linux a fresh process begins with what its parent held.
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6
    import resource  # where there is no /proc

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def measure_throughput(results, names):
    """Training sequences per second of one process on one thread, on `cores` threads, and of two on one thread each."""
    steps = max(2, repetitions // 2)
    with processes(1) as one, processes(1) as other:
        # Until the last is done. They start together: whatever they need they have made in the warm-up.
        wait = lambda pools, n: max(done.result() for done in [pool.submit(take_steps, n, steps) for pool in pools])
        turns = {f"threads_{n}": lambda n=n: wait([one], n) for n in sorted({1, cores})}
        turns["processes_2"] = lambda: wait([one, other], 1)
        taken = take_turns(turns.values(), rounds, warm_up=1)
    trained = [steps * PUBLISHED["batch_size"] * (2 if name == "processes_2" else 1) for name in turns]
    rates = [n / statistics.median(seconds for _, seconds in mine) for n, mine in zip(trained, taken)]
    results["throughput"] = {name: {"sequences_per_s": x, "ratio": x / rates[0]} for name, x in zip(turns, rates)}
    print_table("Training on DoorKey", results["throughput"])


def take_steps(threads, steps):
    """In a process of its own: the seconds of training steps, always of the same training."""
    torch.set_num_threads(threads)
    [turns] = take_turns([lasting_step("doorkey")], steps, warm_up=1)
    return sum(seconds for seconds, _ in turns)


# ---- evaluation ------------------------------------------------------------------------------------------------------
def measure_validation(results, names):
    """The losses of eight tasks on DoorKey, and before them the questions and the exact limits."""
    network, held_out = trainer(CONFIGURATIONS["doorkey"])[0].eval(), trajectories("doorkey", 500, 0)[1]
    ask = lambda: evaluate.questions(held_out, masks.MIXTURE, sequences, DOORKEY["context"], evaluate.VALIDATION_SEED)
    [[(questions_s, asked)]] = take_turns([ask], 1, warm_up=0)
    [[(limits_s, exact)]] = take_turns([lambda: evaluate.limits(held_out, asked)], 1, warm_up=0)
    turns = by_threads(lambda n: evaluate.losses(network, asked, exact))
    cost = {f"losses_threads_{n}_s": median_ms(mine) / 1000 for n, mine in turns.items()}
    cost |= {"questions_s": questions_s, "limits_s": limits_s}
    print_table(f"Validation on DoorKey, {len(asked)} tasks x {sequences:,} sequences", {"doorkey": cost})
    results |= {"validation_s": cost["losses_threads_1_s"], "validation": cost | {"sequences": sequences}}


def measure_rollout(results, names):
    """Maze2D episodes played by the published model at T=10: seconds in the model, in physics, and in all the rest."""
    median = lambda mine: {key: statistics.median(split[key] for _, split in mine) for key in mine[0][1]}
    cost = {f"threads_{n}": median(mine) for n, mine in by_threads(play).items()}
    print_table(f"{rollouts:,} Maze2D rollouts x 200 steps at T=10", cost)
    results |= {"rollout_1000_s": cost[f"threads_{cores}"]["total_s"], "rollout": cost | {"episodes": rollouts}}


def play(threads):
    """One rollout: {"total_s", "model_s", "physics_s", "rest_s"}."""
    network = trainer(CONFIGURATIONS["maze2d_10"])[0].eval()
    env = maze2d.Maze2D("medium", rollouts, evaluate.ROLLOUT_SEED, threads=threads)
    seconds = {"total_s": 0.0, "model_s": 0.0, "physics_s": 0.0}

    def timed(part, function):
        def wrapper(*arguments, **named):
            begin = time.perf_counter()
            result = function(*arguments, **named)
            seconds[part] += time.perf_counter() - begin
            return result

        return wrapper

    network.forward, env.step = timed("model_s", network.forward), timed("physics_s", env.step)
    timed("total_s", evaluate.rollout)(network, env)
    return seconds | {"rest_s": seconds["total_s"] - seconds["model_s"] - seconds["physics_s"]}


def by_threads(function):
    """{n: turns} of function(n) on n threads, for one thread and for `cores`."""
    counts = sorted({1, cores})
    taken = take_turns([lambda n=n: (torch.set_num_threads(n), function(n))[1] for n in counts], rounds, warm_up=0)
    torch.set_num_threads(threads)
    return dict(zip(counts, taken))


# ---- on demand: growth, torch.compile, the profiler ------------------------------------------------------------------
def measure_growth(results, names):
    """A step at other contexts, widths and batches, each in a process of its own for the sake of its memory."""
    base = CONFIGURATIONS["doorkey"] | {"dropout": 0.0}  # so that attention is its products and a softmax
    with fresh_processes(1) as pool:
        costs = pool.map(functools.partial(grow, repetitions, threads), [base | shape for shape in GROWTH])
        labels = ["{} {}".format(*next(iter(shape.items()))) for shape in GROWTH]
        results["growth"] = rows = dict(zip(labels, costs))
    print_table("How the step of the first row grows (DoorKey, no dropout, n_ff = n_embd)", rows)
    print("\n" + attention_sentence([row for label, row in rows.items() if label.startswith("context")]))


def grow(repetitions, threads, configuration):
    """In a process of its own: a step's cost, attention's share of it, and the peak of the memory."""
    torch.set_num_threads(threads)
    factors, draw = data.make("doorkey", 1, 0).factors, np.random.default_rng(0)
    noise = {f.name: draw.integers(f.size, size=(500, configuration["context"])) for f in factors}
    _, step = trainer(configuration, data.Trajectories(factors, noise))
    take_turns([step], 2, warm_up=0)
    peak = peak_mb()  # before attention on its own adds to it
    turns = max(3, repetitions // 10)  # the largest of these steps take seconds
    steps, alone = (median_ms(mine) for mine in take_turns([step, attention(configuration)], turns, warm_up=1))
    shape = {key: configuration[key] for key in ("context", "n_embd", "batch_size")}
    return shape | {"step_ms": steps, "attention_ms": alone, "attention_share": alone / steps, "peak_mb": peak}


def attention(configuration):
    """A function that computes attention's products and softmax, forward and backward, and nothing else."""
    n, T, hs = head_shape(configuration)
    q, k, v, gradient = (torch.randn(n, T, hs, requires_grad=True) for _ in range(4))

    def layer():
        torch.autograd.grad(attend(q, k, v, None, Dropout(0.0)), (q, k, v), gradient)

    return lambda: [layer() for _ in range(configuration["n_layer"])]


def attention_sentence(rows):
    """How much of a step attention is, and from which of the measured contexts on more than half. rows: by context."""
    said = ", ".join(f"{row['attention_share']:.0%} at {row['context']}" for row in rows)
    over = [f"from {row['context']} on" for row in rows if row["attention_share"] > 0.5]
    return f"Attention's share of a step by context: {said}; more than half {(over or ['at none of them'])[0]}."


def measure_compile(results, names):
    """What torch.compile gains in a step and costs before, and after how many steps that is paid, or why it fails."""
    results["compile"] = cost = {}
    for name in names:
        try:
            steps = [trainer(CONFIGURATIONS[name], compiled=choice)[1] for choice in (False, True)]
            warm_up = sum(seconds for seconds, _ in take_turns(steps[1:], 3, warm_up=0)[0])
            plain, compiled = (median_ms(mine) for mine in take_turns(steps, repetitions))
            pays = math.ceil(1000 * warm_up / (plain - compiled)) if compiled < plain else "never"
            cost[name] = {"plain_ms": plain, "compiled_ms": compiled, "warm_up_s": warm_up, "pays_after_steps": pays}
        except Exception as error:  # no compiler, an operator it does not know: whatever stops it is the result
            cost[name] = {"failed": " ".join(str(error).split())[:200] or type(error).__name__}
            print(f"\ntorch.compile fails on {name}: {cost[name]['failed']}")
    if worked := {name: row for name, row in cost.items() if "failed" not in row}:
        print_table("With torch.compile", worked)


def measure_profile(results, names):
    """A table of operators per configuration, the costliest first, over ten steps."""
    path, tables = os.path.join(os.path.dirname(json), "profile.txt"), []
    for name in names:
        _, step = trainer(CONFIGURATIONS[name])
        take_turns([step], 3)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            take_turns([step], 10, warm_up=0)
        tables.append(f"{name}: ten steps\n" + profiler.key_averages().table("self_cpu_time_total", row_limit=40))
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n\n".join(tables))
    print(f"\nwrote {path}")


def check_settings():
    """Refuse what cannot work before minutes have passed."""
    for key in ("repetitions", "rounds", "sequences", "rollouts", "threads", "cores"):
        if globals()[key] < 1:
            raise ValueError(f"{key}={globals()[key]} must be at least 1")
    for key, allowed in (("measure", MEASUREMENTS), ("configurations", CONFIGURATIONS)):
        for name in chosen(globals()[key]):
            if name not in allowed:
                raise ValueError(f"{key} has {name!r}, which is not one of {', '.join(allowed)}")
    if os.path.isdir(json) or not os.path.isdir(os.path.dirname(json) or "."):
        raise ValueError(f"json={json!r} cannot be written: it is a folder, or lies in one that does not exist")


def cpu():
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    return platform.processor() or platform.machine()


def print_table(title, rows):
    """Markdown, fit for a README. rows: {name: {column: value}}."""
    columns = ["", *next(iter(rows.values()), [])]
    print(f"\n{title}\n")
    for cells in (columns, ["---"] * len(columns), *([name, *row.values()] for name, row in rows.items())):
        print("| " + " | ".join(show(cell).replace("_", " ") for cell in cells) + " |", flush=True)


def show(x):
    """A cell: text and whole numbers as they are, others with as many decimals as say something."""
    return f"{x:,.{0 if x >= 100 else 1 if x >= 10 else 2}f}" if isinstance(x, float) else str(x)


if __name__ == "__main__":
    main()
