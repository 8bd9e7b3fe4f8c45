"""How fast is it, and how far from the machine's limit: every claim about speed or memory is measured here, in one run.

    python bench.py --json=bench.json                         # under 3 minutes on two idle cores
    python bench.py --measure=steps --configurations=doorkey  # only what a DoorKey training step costs
    python bench.py --measure= --growth=True                  # only how a step grows with context, width and batch

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
    "learning_rate": 1e-4, "weight_decay": 1e-4, "grad_clip": 0.5, "data_seed": 0,
}  # fmt: skip
DOORKEY = PUBLISHED | {"dataset": "doorkey", "num_trajectories": 500, "n_layer": 2, "n_head": 8, "dropout": 0.1}
MAZE = PUBLISHED | {"dataset": "maze2d-medium", "num_trajectories": 900, "n_layer": 4, "n_head": 16, "dropout": 0.0}
CONFIGURATIONS = {"doorkey": DOORKEY | {"context": 10}, "maze2d_5": MAZE | {"context": 5}, "maze2d_10": MAZE | {"context": 10}}
GROWTH = [{"context": T} for T in (10, 50, 200)] + [{"n_embd": d, "n_ff": d} for d in (64, 256, 512)]
GROWTH += [{"batch_size": B} for B in (25, 400)]
PARTS = ("data", "masks", "forward", "backward", "optimiser")  # of a training step


def main():
    configurator.apply(globals())
    check_settings()
    torch.set_num_threads(threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # processes at work in the last minute, on average
    results = dict.fromkeys([*CONFIGURATIONS, "rollout_1000_s", "validation_s"])  # None: not measured
    results |= {"threads": threads, "torch": torch.__version__, "cpu": cpu(), "cpu_count": os.cpu_count(), "load": load}
    maze = maze_is_there()
    results |= {name: {} for name in chosen(configurations) if maze or name == "doorkey"}
    print(f"torch {torch.__version__} on {cpu()}, {os.cpu_count()} cores; {threads} thread(s) where nothing else is said")
    if load > 0.5:
        print(f"WARNING: this machine is busy (load average {load:.1f}): times will be too long, and what a second thread or"
              " process gains too little")  # fmt: skip
    if not maze:
        print("NOTE: without d4rl there is no Maze2D to measure (see requirements-maze.txt)")
    for name in chosen(measure) + [name for name in ("growth", "compile", "profile") if globals()[name]]:
        if maze or name != "rollout":
            MEASUREMENTS[name](results)
    if json:
        evaluate.save_json(json, results)
        print(f"\nwrote {json}")


# ---- a training step, and its limit ----------------------------------------------------------------------------------


def measure_steps(results):
    """Milliseconds of a step, of its parts and of its matrix products, which take turns with the steps."""
    for name in measured(results):
        configuration = CONFIGURATIONS[name]
        network, step = trainer(configuration, trajectories(configuration)[0])
        products = linear_products(network, configuration["batch_size"] * configuration["context"])
        steps, gemm, bmm = take_turns([step, products, attention_products(configuration)], repetitions)
        cost = {"step_ms": median_ms(steps)}
        cost |= {f"{part}_ms": 1000 * statistics.median(parts[part] for _, parts in steps) for part in PARTS}
        cost |= {"gemm_ms": median_ms(gemm), "bmm_ms": median_ms(bmm)}
        cost["times_limit"] = cost["step_ms"] / cost["gemm_ms"]
        cost["times_all_products"] = cost["step_ms"] / (cost["gemm_ms"] + cost["bmm_ms"])
        results[name] |= cost | {"parameters": num_params(network)}
    print_table("A training step (limit = gemm: the products of linear layers; bmm: attention's)", results, measured(results))


def trainer(configuration, train, compiled=False):
    """A fresh network, and a function that takes one training step as train.py does and returns {part: seconds}."""
    torch.manual_seed(0)
    shape = {key: value for key, value in configuration.items() if key in ModelConfig.__dataclass_fields__}
    network = build(ModelConfig(**shape), train.factors).train()
    stepping = torch.compile(network) if compiled else network
    optimizer = configure_optimizer(network, configuration["learning_rate"], configuration["weight_decay"])
    values, lengths, weights = train.tensors(), torch.as_tensor(train.lengths), {f.name: 1.0 for f in network.factors}
    B, T, numbers, generator = configuration["batch_size"], configuration["context"], itertools.count(), torch.Generator()

    def step():
        clock = [time.perf_counter()]
        tick = lambda: clock.append(time.perf_counter())
        for_batch, for_dropout = np.random.SeedSequence([0, next(numbers)]).generate_state(2).tolist()
        torch.manual_seed(for_dropout)
        batch = data.sample_windows(values, lengths, B, T, generator.manual_seed(for_batch))
        tick()
        see, predict = masks.draw(configuration["task"], B, T, generator)
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


def linear_products(network, rows):
    """A function that computes the three matrix products of every linear layer for `rows` tokens, and nothing else."""
    jobs = []
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
    (n, T, hs), jobs = heads(configuration), []
    for _ in range(configuration["n_layer"]):
        q, k, v, y = torch.randn(4, n, T, hs)  # y: the gradient of the output
        weights, scores = torch.randn(2, n, T, T)  # scores: their gradient
        jobs += [(a, b, torch.empty(n, T, T)) for a, b in ((q, k.mT), (y, v.mT))]
        jobs += [(a, b, torch.empty(n, T, hs)) for a, b in ((weights, v), (weights.mT, y), (scores, k), (scores.mT, q))]
    return lambda: [torch.bmm(a, b, out=out) for a, b, out in jobs]


def heads(configuration):
    """The shape of the queries: batch x heads, timesteps, size of a head."""
    n_head = configuration["n_head"]
    return configuration["batch_size"] * n_head, configuration["context"], configuration["n_embd"] // n_head


def take_turns(functions, turns, warm_up=3, patience=math.inf):
    """Call the functions one after the other, `turns` times. Returns a list of (seconds, result) for each of them.

    The first `warm_up` turns do not count; after `patience` seconds in all, three turns are enough.
    """
    taken, begin = [[] for _ in functions], time.perf_counter()
    for turn in range(-warm_up, turns):
        if turn >= 3 and time.perf_counter() - begin > patience:
            break
        for function, mine in zip(functions, taken):
            clock = time.perf_counter()
            result = function()
            if turn >= 0:
                mine.append((time.perf_counter() - clock, result))
    return taken


def median_ms(turns):
    return 1000 * statistics.median(seconds for seconds, _ in turns)


# ---- in processes of their own: memory and throughput ----------------------------------------------------------------


def measure_memory(results):
    """The most that train.py holds, evaluations included. All run at once: nothing is timed."""
    names = measured(results)
    with tempfile.TemporaryDirectory() as folder, fresh_processes(len(names)) as pool:
        runs = [CONFIGURATIONS[name] | {"out_dir": os.path.join(folder, name), "max_iters": 5} for name in names]
        peaks = {name: {"peak_mb": peak} for name, peak in zip(names, pool.map(run_train, runs))}
    for name in names:
        results[name] |= peaks[name]
    print_table("Memory of train.py", peaks)


def fresh_processes(n):
    """A pool of n processes that do one thing each and end."""
    return ProcessPoolExecutor(n, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1)


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


def measure_throughput(results):
    """Training sequences per second of a process with one thread, with `cores` threads, and of two with one thread each."""
    steps, batch_size = max(2, repetitions // 2), CONFIGURATIONS["doorkey"]["batch_size"]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as one, ProcessPoolExecutor(1, mp_context=spawn) as other:

        def train(pools, n):
            """Seconds until the last of them is done. They start together: what they need is there since the first call."""
            return max(done.result() for done in [pool.submit(take_steps, "doorkey", n, steps) for pool in pools])

        turns = {f"threads_{n}": lambda n=n: train([one], n) for n in sorted({1, cores})}
        turns["processes_2"] = lambda: train([one, other], 1)
        taken = take_turns(turns.values(), rounds, warm_up=1)
    rates = [batch_size * steps / statistics.median(seconds for _, seconds in mine) for mine in taken]
    rates[-1] *= 2
    results["throughput"] = {name: {"sequences_per_s": rate, "ratio": rate / rates[0]} for name, rate in zip(turns, rates)}
    print_table("Training on DoorKey", results["throughput"])


def take_steps(name, threads, steps):
    """In a process of its own: the seconds of training steps."""
    torch.set_num_threads(threads)
    [turns] = take_turns([lasting_trainer(name)], steps, warm_up=1)
    return sum(seconds for seconds, _ in turns)


@functools.cache
def lasting_trainer(name):
    return trainer(CONFIGURATIONS[name], trajectories(CONFIGURATIONS[name])[0])[1]


# ---- evaluation ------------------------------------------------------------------------------------------------------


def measure_validation(results):
    """The losses of eight tasks on DoorKey, and before them the questions and the exact limits."""
    configuration = CONFIGURATIONS["doorkey"]
    train, held_out = trajectories(configuration)
    network = trainer(configuration, train)[0].eval()
    ask = lambda: evaluate.questions(held_out, masks.MIXTURE, sequences, configuration["context"], evaluate.VALIDATION_SEED)
    [[(questions_s, asked)]] = take_turns([ask], 1, warm_up=0)
    [[(limits_s, exact)]] = take_turns([lambda: evaluate.limits(held_out, asked)], 1, warm_up=0)
    cost = {"questions_s": questions_s, "limits_s": limits_s}
    for n, mine in by_threads(lambda n: evaluate.losses(network, asked, exact)).items():
        cost[f"losses_threads_{n}_s"] = median_ms(mine) / 1000
    print_table(f"Validation on DoorKey, {len(asked)} tasks x {sequences:,} sequences", {"doorkey": cost})
    results |= {"validation_s": cost["losses_threads_1_s"], "validation": cost | {"sequences": sequences}}


def measure_rollout(results):
    """Maze2D episodes played by the published model at T=10: seconds in the model, in physics, and in all the rest."""
    cost = {}
    for n, mine in by_threads(play).items():
        cost[f"threads_{n}"] = {key: statistics.median(result[key] for _, result in mine) for key in mine[0][1]}
    print_table(f"{rollouts:,} Maze2D rollouts x 200 steps at T=10", cost)
    results |= {"rollout_1000_s": cost[f"threads_{cores}"]["total_s"], "rollout": cost | {"episodes": rollouts}}


def play(threads):
    """One rollout: {"total_s", "model_s", "physics_s", "rest_s"}."""
    import maze2d

    configuration = CONFIGURATIONS["maze2d_10"]
    network = trainer(configuration, trajectories(configuration)[0])[0].eval()
    env = maze2d.Maze2D("medium", rollouts, evaluate.ROLLOUT_SEED, threads=threads)
    network.forward, in_model = timed(network.forward)
    env.step, in_physics = timed(env.step)
    [[(total, _)]] = take_turns([lambda: evaluate.rollout(network, env)], 1, warm_up=0)
    model, physics = sum(in_model), sum(in_physics)
    return {"total_s": total, "model_s": model, "physics_s": physics, "rest_s": total - model - physics}


def timed(function):
    """The function, and a list to which every call of it adds its seconds."""
    seconds = []

    def wrapper(*arguments, **named):
        begin = time.perf_counter()
        result = function(*arguments, **named)
        seconds.append(time.perf_counter() - begin)
        return result

    return wrapper, seconds


def by_threads(function):
    """{n: turns} of function(n) on n threads, for one thread and for `cores`."""
    counts = sorted({1, cores})
    taken = take_turns([lambda n=n: (torch.set_num_threads(n), function(n))[1] for n in counts], rounds, warm_up=0)
    torch.set_num_threads(threads)
    return dict(zip(counts, taken))


# ---- on demand: growth, torch.compile, the profiler ------------------------------------------------------------------


def measure_growth(results):
    """A step at other contexts, widths and batches, each in a process of its own for the sake of its memory."""
    base = CONFIGURATIONS["doorkey"] | {"dropout": 0.0}  # so that attention is its products and a softmax
    with fresh_processes(1) as pool:
        rows = list(pool.map(functools.partial(grow, repetitions, threads), [base | shape for shape in GROWTH]))
    print_table("How a step of the DoorKey model grows (no dropout; n_ff = width)", dict(enumerate(rows)))
    print("\n" + attention_sentence(rows[: sum("context" in shape for shape in GROWTH)]))
    results["growth"] = rows


def grow(repetitions, threads, configuration):
    """In a process of its own: a step's cost, attention's share of it, and the peak of the memory."""
    torch.set_num_threads(threads)
    factors, draw = data.make("doorkey", 1, 0).factors, np.random.default_rng(0)
    noise = {f.name: draw.integers(f.size, size=(500, configuration["context"])) for f in factors}
    _, step = trainer(configuration, data.Trajectories(factors, noise))
    take_turns([step], 2, warm_up=0)
    peak = peak_mb()  # before attention on its own adds to it
    steps, alone = (median_ms(mine) for mine in take_turns([step, attention(configuration)], repetitions, 1, patience=10))
    shape = {"context": configuration["context"], "width": configuration["n_embd"], "batch": configuration["batch_size"]}
    return shape | {"step_ms": steps, "attention_ms": alone, "attention_share": alone / steps, "peak_mb": peak}


def attention(configuration):
    """A function that computes attention's products and softmax in all layers, forward and backward, and nothing else."""
    n, T, hs = heads(configuration)
    q, k, v = (torch.randn(n, T, hs, requires_grad=True) for _ in range(3))
    gradient = torch.randn(n, T, hs)

    def layer():
        weights = (torch.bmm(k, q.mT) / math.sqrt(hs)).softmax(dim=1)  # (n, T keys, T queries), as in model.py
        torch.autograd.grad(torch.bmm(weights.mT, v), (q, k, v), gradient)

    return lambda: [layer() for _ in range(configuration["n_layer"])]


def attention_sentence(rows):
    """From which of the measured contexts on attention is more than half of a step. rows: by rising context."""
    most = [row["context"] for row in rows if row["attention_share"] > 0.5]
    if not most:
        return f"Attention is less than half of a step up to a context of {rows[-1]['context']}, where it is {rows[-1]['attention_share']:.0%}."
    below = [row["context"] for row in rows if row["context"] < most[0]]
    return f"Attention is more than half of a step at a context of {most[0]}" + (f", and not yet at {below[-1]}." if below else ".")


def measure_compile(results):
    """What torch.compile gains in a step and costs before, and after how many steps that is paid. Says so if it fails."""
    results["compile"] = {}
    for name in measured(results):
        train, _ = trajectories(CONFIGURATIONS[name])
        try:
            plain, compiled = (trainer(CONFIGURATIONS[name], train, compiled=choice)[1] for choice in (False, True))
            [first] = take_turns([compiled], 3, warm_up=0)
            plain_ms, compiled_ms = (median_ms(mine) for mine in take_turns([plain, compiled], repetitions))
        except Exception as error:  # no compiler, an operator it does not know: whatever stops it is the result
            results["compile"][name] = {"failed": " ".join(str(error).split())[:200] or type(error).__name__}
            print(f"\ntorch.compile fails on {name}: {results['compile'][name]['failed']}")
            continue
        wait = sum(seconds for seconds, _ in first)
        pays = math.ceil(1000 * wait / (plain_ms - compiled_ms)) if compiled_ms < plain_ms else None
        print(f"\ntorch.compile on {name}: {show(plain_ms)} ms a step become {show(compiled_ms)} after {wait:.0f} s of compiling; "
              + (f"it pays after {pays:,} steps" if pays else "it never pays"))  # fmt: skip
        results["compile"][name] = {"plain_ms": plain_ms, "step_ms": compiled_ms, "warm_up_s": wait, "pays_after_steps": pays}


def write_profile(results):
    """A table of operators per configuration, the costliest first, over ten steps."""
    path, tables = os.path.join(os.path.dirname(json), "profile.txt"), []
    for name in measured(results):
        _, step = trainer(CONFIGURATIONS[name], trajectories(CONFIGURATIONS[name])[0])
        take_turns([step], 3)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            take_turns([step], 10, warm_up=0)
        tables.append(f"{name}: ten steps\n{profiler.key_averages().table(sort_by='self_cpu_time_total', row_limit=40)}")
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.write("\n\n".join(tables))
    os.replace(path + ".tmp", path)
    print(f"\nwrote {path}")


# ---- small things ----------------------------------------------------------------------------------------------------

MEASUREMENTS = {"steps": measure_steps, "memory": measure_memory, "throughput": measure_throughput, "validation": measure_validation,
                "rollout": measure_rollout, "growth": measure_growth, "compile": measure_compile, "profile": write_profile}  # fmt: skip


def check_settings():
    """Refuse what cannot work before minutes have passed."""
    for key in ("repetitions", "rounds", "sequences", "rollouts", "threads"):
        if globals()[key] < 1:
            raise ValueError(f"{key}={globals()[key]} must be at least 1")
    for key, allowed in (("measure", MEASUREMENTS), ("configurations", CONFIGURATIONS)):
        for name in chosen(globals()[key]):
            if name not in allowed:
                raise ValueError(f"{key} has {name!r}, which is not one of {', '.join(allowed)}")
    if os.path.isdir(json) or not os.path.isdir(os.path.dirname(json) or "."):
        raise ValueError(f"json={json!r} cannot be written: it is a folder, or lies in one that does not exist")


def chosen(text):
    return [name for name in text.split(",") if name]


def measured(results):
    """The configurations to be measured."""
    return [name for name in CONFIGURATIONS if results[name] is not None]


def trajectories(configuration):
    """Those to train on, and those to validate on."""
    return data.train_and_validation(configuration["dataset"], configuration["num_trajectories"], configuration["data_seed"])


def maze_is_there():
    try:
        return data.environment("maze2d-medium", 1, 0) is not None
    except ValueError:
        return False


def cpu():
    """The processor's name."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def print_table(title, rows, names=None):
    """Markdown, fit for a README. rows: {name: {column: value}}, of which `names` are shown, by default all."""
    names = list(rows) if names is None else names
    columns = list(rows[names[0]]) if names else []
    print(f"\n{title}\n")
    for cells in (["", *columns], ["---"] * (len(columns) + 1), *([name, *rows[name].values()] for name in names)):
        print("| " + " | ".join(show(cell).replace("_", " ") for cell in cells) + " |", flush=True)


def show(x):
    """A cell: text and whole numbers as they are, others with as many decimals as say something."""
    return f"{x:,.{0 if x >= 100 else 1 if x >= 10 else 2}f}" if isinstance(x, float) else str(x)


if __name__ == "__main__":
    main()
