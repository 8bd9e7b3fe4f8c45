"""How fast is it, and how far from the machine's limit: every claim about speed or memory is measured here, in one run.

    python bench.py --json=bench.json                       # under 3 minutes on two idle cores
    python bench.py --measure=steps --configurations=doorkey  # only what a DoorKey training step costs
    python bench.py --measure= --growth=True                # only how a step grows with context, width and batch

It prints Markdown tables and writes the numbers as JSON. Times are medians, and what is compared takes turns, so that a
busy machine hits both sides; it should be idle all the same. The models are the published ones (Uni[MASK], appendix;
hidden="zero", no other input features) at the task "random", in fp32, with fresh weights: what they have learned does
not change what they cost.

The limit of a step is the time of the matrix products of its linear layers alone, as plain fp32 products of the same
shapes, taken between the steps: no code with these layers can be faster. Attention's products are not in the limit but
beside it: at a context of 10 they are a thousand tiny products, which cost what their kernel makes of them.
Before this: train.py, whose step is repeated here, and evaluate.py.
"""

import contextlib
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

import numpy as np
import torch

import configurator
import data
import evaluate
import masks
from model import ModelConfig, build, configure_optimizer, loss

# ---- settings --------------------------------------------------------------------------------------------------------
json = ""  # a file for all numbers
measure = "steps,memory,throughput,validation,rollouts"  # which of them; empty: only what is asked for below
configurations = "doorkey,maze2d_5,maze2d_10"  # at which to measure steps and memory (the others have one of their own)
repetitions = 100  # training steps of each configuration
rounds = 2  # repetitions of what takes seconds: throughput, validation, rollouts
sequences = 5000  # validation questions per task
rollouts = 1000  # episodes
threads = 1  # of the training steps
growth = False  # measure also how a step grows ...
contexts = "10,50,200"  # ... with each of these, the others being as published
widths = "64,128,256,512"
batches = "25,100,400"
compile = False  # measure also what torch.compile gains and costs
profile = False  # write also where a step's time goes, operator by operator,
profile_file = "profile.txt"  # to this file
# ----------------------------------------------------------------------------------------------------------------------

# The names are those of train.py's settings.
PUBLISHED = {"n_embd": 128, "n_ff": 128, "batch_size": 100, "task": "random", "hidden": "zero", "norm": "post",
             "learning_rate": 1e-4, "weight_decay": 1e-4, "grad_clip": 0.5}  # fmt: skip
MAZE = PUBLISHED | {"dataset": "maze2d-medium", "num_trajectories": 900, "n_layer": 4, "n_head": 16, "dropout": 0.0}
CONFIGURATIONS = {
    "doorkey": PUBLISHED | {"dataset": "doorkey", "num_trajectories": 500, "n_layer": 2, "n_head": 8, "dropout": 0.1, "context": 10},
    "maze2d_5": MAZE | {"context": 5},
    "maze2d_10": MAZE | {"context": 10},
}
MEASUREMENTS = ("steps", "memory", "throughput", "validation", "rollouts")
PARTS = ("data", "masks", "forward", "backward", "optimiser")  # of a training step


def main():
    configurator.apply(globals())
    check_settings()
    torch.set_num_threads(threads)
    results = {name: None for name in CONFIGURATIONS} | {"rollout_1000_s": None, "validation_s": None}
    results |= {"threads": threads, "torch": torch.__version__, "cpu": cpu(), "cores": os.cpu_count(), "load": load_average()}
    maze = maze_is_there()
    names = [name for name in CONFIGURATIONS if name in chosen(configurations) and (maze or name == "doorkey")]
    print(f"torch {results['torch']} on {results['cpu']}, {results['cores']} cores, {threads} thread(s) where not said otherwise")
    if results["load"] > 0.5:
        print(f"WARNING: a load average of {results['load']:.1f} says that this machine is busy: times will be too long,"
              " and two threads or processes will gain too little")  # fmt: skip
    if not maze:
        print("Without d4rl there is no Maze2D (requirements-maze.txt): its figures are left out.")
    wanted = chosen(measure)
    results |= {name: {"parameters": num_weights(name)} for name in names}
    if "steps" in wanted:
        for name in names:
            results[name] |= step_cost(CONFIGURATIONS[name], repetitions)
    if "memory" in wanted:
        for name, peak in peaks_of_training(names).items():
            results[name]["peak_mb"] = peak
    if "steps" in wanted or "memory" in wanted:
        print_steps({name: results[name] for name in names})
    if "throughput" in wanted:
        results["throughput"] = throughput(CONFIGURATIONS["doorkey"], rounds, max(1, repetitions // 2))
    if "validation" in wanted:
        results["validation"] = validation(sequences, rounds)
        results["validation_s"] = results["validation"]["one_thread_s"]
    if "rollouts" in wanted and maze:
        results["rollout"] = rollout_cost(rollouts, rounds)
        results["rollout_1000_s"] = results["rollout"]["two_threads"]["total_s"]
    if growth:
        results["growth"] = growth_table()
    if compile:
        results["compile"] = {name: compiled_cost(name) for name in names}
    if profile:
        write_profile(names)
    if json:
        evaluate.save_json(json, results)
        print(f"\nwrote {json}")


# ---------------------------------------------------------------------------------------------------------------------
# A training step, and its limit


def trainer(configuration, trajectories, compiled=False):
    """A fresh network, and a function that takes one training step as train.py does and returns {part: seconds}."""
    torch.manual_seed(0)
    shape = {key: value for key, value in configuration.items() if key in ModelConfig.__dataclass_fields__}
    network = build(ModelConfig(**shape), trajectories.factors).train()
    stepping = torch.compile(network) if compiled else network
    optimizer = configure_optimizer(network, configuration["learning_rate"], configuration["weight_decay"])
    values, lengths = trajectories.tensors(), torch.as_tensor(trajectories.lengths)
    weights = {f.name: 1.0 for f in network.factors}
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
            jobs.append((x, weight.t(), torch.empty(rows, outputs)))
            jobs.append((gradient.t(), x, torch.empty(outputs, inputs)))
            if not name.startswith("inputs"):  # nobody needs the gradient of the data
                jobs.append((gradient, weight, torch.empty(rows, inputs)))
    return lambda: [torch.mm(a, b, out=out) for a, b, out in jobs]


def attention_products(configuration):
    """A function that computes the six batched products of every attention layer, and nothing else."""
    n, T, hs = heads(configuration)
    jobs = []
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


def step_cost(configuration, repetitions):
    """Milliseconds of a step, of its parts and of its matrix products, which take turns with the steps."""
    trajectories, _ = trajectories_of(configuration)
    network, step = trainer(configuration, trajectories)
    rows = configuration["batch_size"] * configuration["context"]
    steps, gemm, bmm = taking_turns([step, linear_products(network, rows), attention_products(configuration)], repetitions)
    cost = {"step_ms": median_ms(seconds for seconds, _ in steps)}
    cost |= {f"{part}_ms": median_ms(parts[part] for _, parts in steps) for part in PARTS}
    cost |= {"gemm_ms": median_ms(seconds for seconds, _ in gemm), "bmm_ms": median_ms(seconds for seconds, _ in bmm)}
    cost["times_limit"] = cost["step_ms"] / cost["gemm_ms"]
    cost["times_all_products"] = cost["step_ms"] / (cost["gemm_ms"] + cost["bmm_ms"])
    return cost


def taking_turns(functions, turns, warm_up=3, patience=math.inf):
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


def median_ms(seconds):
    return 1000 * statistics.median(seconds)


def print_steps(costs):
    """A row per configuration: milliseconds, multiples of the limit, megabytes."""
    columns = ["step_ms", *(f"{part}_ms" for part in PARTS), "gemm_ms", "bmm_ms", "times_limit", "times_all_products", "peak_mb"]
    titles = ["step ms", *PARTS, "linear products", "attention products", "step / linear", "step / all products", "peak MB"]
    print_table("One training step (limit: the matrix products of its linear layers)", ["", *titles],
                [[name, *(cost.get(column) for column in columns)] for name, cost in costs.items()])  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Other processes: memory and throughput


def spawn(function, *arguments):
    """Start function(pipe, *arguments) in a process of its own. Returns the process and the other end of the pipe."""
    start = multiprocessing.get_context("spawn")
    ours, theirs = start.Pipe()
    process = start.Process(target=function, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()  # so that we notice if the process dies
    return process, ours


def answer(process, pipe):
    try:
        return pipe.recv()
    except EOFError:
        process.join()
        raise ValueError(f"a process that was to be measured died with exit code {process.exitcode}") from None


def peak_mb():
    """The most memory that this process has held, in MB."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        # Not ru_maxrss: what Linux says there of a fresh process begins at what its parent held.
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def peaks_of_training(names):
    """{configuration: MB} that train.py holds at most, with its evaluations. Runs all at once: nothing is timed."""
    with tempfile.TemporaryDirectory() as folder:
        running = {}
        for name in names:
            changes = CONFIGURATIONS[name] | {"out_dir": os.path.join(folder, name), "max_iters": 5, "keep_best": "none"}
            running[name] = spawn(train_and_tell, [f"--{key}={value}" for key, value in changes.items()])
        return {name: answer(*child) for name, child in running.items()}


def train_and_tell(pipe, flags):
    """In a process of its own: run train.py, then send the peak of this process's memory."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train.py")
    sys.argv = [script, *flags]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        runpy.run_path(script, run_name="__main__")
    pipe.send(peak_mb())


def throughput(configuration, rounds, steps):
    """Training sequences per second of one thread, two threads, and two processes of a thread each, which take turns."""
    workers = [spawn(train_on_demand, configuration) for _ in range(2)]
    for worker in workers:
        answer(*worker)  # it is ready

    def seconds(workers, threads):
        for _, pipe in workers:
            pipe.send((threads, steps))
        return max(answer(*worker) for worker in workers)

    turns = [lambda: seconds(workers[:1], 1), lambda: seconds(workers[:1], 2), lambda: seconds(workers, 1)]
    taken = taking_turns(turns, rounds, warm_up=1)
    one, two, pair = (configuration["batch_size"] * steps / statistics.median(s for _, s in mine) for mine in taken)
    for process, pipe in workers:
        pipe.send(None)
        process.join()
    rates = {"one_thread": one, "two_threads": two, "two_processes": 2 * pair}
    rates |= {"two_threads_ratio": two / one, "two_processes_ratio": 2 * pair / one}
    print_table("Training on DoorKey, sequences per second", ["", "per second", "ratio"],
                [["one thread", one, 1.0], ["two threads", two, two / one],
                 ["two processes of one thread", 2 * pair, 2 * pair / one]])  # fmt: skip
    return rates


def train_on_demand(pipe, configuration):
    """In a process of its own: for every (threads, steps) that comes, take the steps and send the seconds."""
    _, step = trainer(configuration, trajectories_of(configuration)[0])
    torch.set_num_threads(1)
    step()
    pipe.send("ready")
    while order := pipe.recv():
        threads, steps = order
        torch.set_num_threads(threads)
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        pipe.send(time.perf_counter() - begin)


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


def validation(sequences, rounds):
    """Seconds that the losses of the eight tasks take on DoorKey, and before them the questions and the exact limits."""
    configuration = CONFIGURATIONS["doorkey"]
    train, held_out = trajectories_of(configuration)
    network = trainer(configuration, train)[0].eval()
    ask = lambda: evaluate.questions(held_out, masks.MIXTURE, sequences, configuration["context"], evaluate.VALIDATION_SEED)
    [[(questions_s, asked)]] = taking_turns([ask], 1, warm_up=0)
    [[(limits_s, exact)]] = taking_turns([lambda: evaluate.limits(held_out, asked)], 1, warm_up=0)
    turns = [with_threads(n, lambda: evaluate.losses(network, asked, exact)) for n in (1, 2)]
    one, two = (statistics.median(s for s, _ in mine) for mine in taking_turns(turns, rounds, warm_up=0))
    torch.set_num_threads(threads)
    print_table(f"Validation on DoorKey, {len(masks.MIXTURE)} tasks x {sequences:,} sequences, seconds",
                ["losses, one thread", "losses, two threads", "questions", "exact limits"],
                [[one, two, questions_s, limits_s]])  # fmt: skip
    return {"one_thread_s": one, "two_threads_s": two, "questions_s": questions_s, "limits_s": limits_s,
            "tasks": len(masks.MIXTURE), "sequences": sequences}  # fmt: skip


def rollout_cost(episodes, rounds):
    """Seconds of Maze2D episodes played by the published model at T=10: in physics, in the model, and in all the rest."""
    turns = [with_threads(n, lambda n=n: play(episodes, n)) for n in (1, 2)]
    split = lambda mine: {key: statistics.median(result[key] for _, result in mine) for key in mine[0][1]}
    one, two = (split(mine) for mine in taking_turns(turns, rounds, warm_up=0))
    torch.set_num_threads(threads)
    print_table(f"{episodes:,} Maze2D rollouts x 200 steps at T=10, seconds", ["", "in all", "model", "physics", "rest"],
                [["one thread", *one.values()], ["two threads", *two.values()]])  # fmt: skip
    return {"one_thread": one, "two_threads": two, "episodes": episodes}


def play(episodes, threads):
    """One rollout: {"total_s", "model_s", "physics_s", "rest_s"}."""
    import maze2d

    configuration = CONFIGURATIONS["maze2d_10"]
    network = trainer(configuration, trajectories_of(configuration)[0])[0].eval()
    env = maze2d.Maze2D("medium", episodes, evaluate.ROLLOUT_SEED, threads=threads)
    network.forward, in_model = timed(network.forward)
    env.step, in_physics = timed(env.step)
    begin = time.perf_counter()
    evaluate.rollout(network, env)
    total, model, physics = time.perf_counter() - begin, sum(in_model), sum(in_physics)
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


def with_threads(n, function):
    return lambda: (torch.set_num_threads(n), function())[1]


# ---------------------------------------------------------------------------------------------------------------------
# Growth, torch.compile, the profiler


def growth_table():
    """The cost of a step at other contexts, widths and batches, each in a process of its own for the sake of its memory."""
    base = CONFIGURATIONS["doorkey"] | {"dropout": 0.0}  # so that attention is its products and a softmax
    shapes = [{"context": T} for T in integers("contexts")] + [{"n_embd": d, "n_ff": d} for d in integers("widths")]
    shapes += [{"batch_size": B} for B in integers("batches")]
    rows = {}
    for shape in shapes:
        configuration = base | shape
        key = tuple(configuration[name] for name in ("context", "n_embd", "batch_size"))
        if key not in rows:
            rows[key] = answer(*spawn(grow, configuration, repetitions, threads))
    rows = [dict(zip(("context", "width", "batch"), key)) | cost for key, cost in rows.items()]
    titles = ["context", "width", "batch", "step ms", "attention ms", "attention's share", "peak MB"]
    print_table("How a step of the DoorKey model grows (no dropout; the net in a block as wide as the model)", titles,
                [[str(x) if isinstance(x, int) else x for x in row.values()] for row in rows])  # fmt: skip
    print("\n" + attention_sentence([row for row in rows if (row["width"], row["batch"]) == (128, 100)]))
    return rows


def attention_sentence(rows):
    """At which of the contexts measured attention comes to more than half of a step."""
    rows = sorted(rows, key=lambda row: row["context"])
    most = [row["context"] for row in rows if row["attention_share"] > 0.5]
    if most:
        below = [row["context"] for row in rows if row["context"] < most[0]]
        return f"Attention is more than half of a step at a context of {most[0]}" + (f", not yet at {below[-1]}." if below else ".")
    last = rows[-1] if rows else {"context": 0, "attention_share": 0.0}
    return f"Attention stays below half of a step up to a context of {last['context']} ({last['attention_share']:.0%} there)."


def grow(pipe, configuration, repetitions, threads):
    """In a process of its own: send a step's cost, attention's part of it, and the peak of the memory."""
    torch.set_num_threads(threads)
    _, step = trainer(configuration, noise(configuration["context"]))
    for _ in range(2):
        step()
    peak = peak_mb()  # before attention on its own adds to it
    steps, alone = taking_turns([step, attention(configuration)], repetitions, warm_up=1, patience=10)
    step_ms, attention_ms = (median_ms(seconds for seconds, _ in mine) for mine in (steps, alone))
    pipe.send({"step_ms": step_ms, "attention_ms": attention_ms, "attention_share": attention_ms / step_ms, "peak_mb": peak})


def attention(configuration):
    """A function that computes attention's products and softmax in all layers, forward and backward, and nothing else."""
    n, T, hs = heads(configuration)
    q, k, v = (torch.randn(n, T, hs, requires_grad=True) for _ in range(3))
    gradient = torch.randn(n, T, hs)

    def layer():
        weights = (torch.bmm(k, q.mT) / math.sqrt(hs)).softmax(dim=1)  # (n, T keys, T queries), as in model.py
        torch.autograd.grad(torch.bmm(weights.mT, v), (q, k, v), gradient)

    return lambda: [layer() for _ in range(configuration["n_layer"])]


def noise(length):
    """Trajectories with the factors of DoorKey and any length; what they say does not change what they cost."""
    factors, draw = data.make("doorkey", 1, 0).factors, np.random.default_rng(0)
    return data.Trajectories(factors, {f.name: draw.integers(f.size, size=(500, length)) for f in factors})


def compiled_cost(name):
    """What torch.compile gains in a step and costs before, and after how many steps that has paid. Says so if it fails."""
    trajectories, _ = trajectories_of(CONFIGURATIONS[name])
    _, plain = trainer(CONFIGURATIONS[name], trajectories)
    try:
        _, compiled = trainer(CONFIGURATIONS[name], trajectories, compiled=True)
        [warm_up] = taking_turns([compiled], 3, warm_up=0)
        ours, theirs = taking_turns([plain, compiled], repetitions)
    except Exception as error:  # a missing compiler, an operator it does not know: whatever stops it is the result
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        print(f"\ntorch.compile failed on {name}: {reason}")
        return {"failed": reason}
    plain_ms, compiled_ms = (median_ms(seconds for seconds, _ in mine) for mine in (ours, theirs))
    warm_up_s = sum(seconds for seconds, _ in warm_up) - 3 * compiled_ms / 1000
    pays = math.ceil(1000 * warm_up_s / (plain_ms - compiled_ms)) if compiled_ms < plain_ms else None
    after = f"after {pays:,} steps" if pays else "never"
    print(f"\ntorch.compile on {name}: {show(plain_ms)} ms become {show(compiled_ms)} ms after {warm_up_s:.0f} s of compiling:"
          f" it pays {after}.")  # fmt: skip
    return {"plain_ms": plain_ms, "compiled_ms": compiled_ms, "warm_up_s": warm_up_s, "pays_after_steps": pays}


def write_profile(names):
    """A table of operators per configuration, the costliest first, of ten steps."""
    tables = []
    for name in names:
        _, step = trainer(CONFIGURATIONS[name], trajectories_of(CONFIGURATIONS[name])[0])
        taking_turns([step], 3)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            taking_turns([step], 10, warm_up=0)
        tables.append(f"{name}: ten steps\n{profiler.key_averages().table(sort_by='self_cpu_time_total', row_limit=40)}")
    with open(profile_file + ".tmp", "w", encoding="utf-8") as file:
        file.write("\n\n".join(tables))
    os.replace(profile_file + ".tmp", profile_file)
    print(f"\nwrote {profile_file}")


# ---------------------------------------------------------------------------------------------------------------------
# Small things


def check_settings():
    """Refuse what cannot work before minutes have passed."""
    for key in ("repetitions", "rounds", "sequences", "rollouts", "threads"):
        if globals()[key] < 1:
            raise ValueError(f"{key}={globals()[key]} must be at least 1")
    for key, allowed in (("measure", MEASUREMENTS), ("configurations", tuple(CONFIGURATIONS))):
        for name in chosen(globals()[key]):
            if name not in allowed:
                raise ValueError(f"{key} has {name!r}, which is not one of {', '.join(allowed)}")
    for key in ("contexts", "widths", "batches"):
        integers(key)
    for path in (json, profile_file):
        if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or "."):
            raise ValueError(f"{path!r} cannot be written: it is a folder, or lies in none that exists")


def chosen(text):
    return [name for name in text.split(",") if name]


def integers(key):
    """The numbers of a comma-separated setting."""
    try:
        numbers = [int(text) for text in chosen(globals()[key])]
    except ValueError:
        numbers = [0]
    if any(number < 1 for number in numbers):
        raise ValueError(f"{key}={globals()[key]!r} should be whole numbers of at least 1 with commas between them")
    return numbers


def trajectories_of(configuration):
    """The training and validation trajectories of a configuration."""
    return data.train_and_validation(configuration["dataset"], configuration["num_trajectories"], 0)


def num_weights(name):
    network, _ = trainer(CONFIGURATIONS[name], trajectories_of(CONFIGURATIONS[name])[0])
    return sum(p.numel() for p in network.parameters())


def maze_is_there():
    try:
        data.environment("maze2d-medium", 1, 0)
    except ValueError:
        return False
    return True


def load_average():
    """Processes that ran or waited for a core in the last minute, on average; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def cpu():
    """The processor's name."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def print_table(title, header, rows):
    """Markdown, fit for a README."""
    print(f"\n{title}\n")
    for cells in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(show(cell) for cell in cells) + " |", flush=True)


def show(x):
    """A cell: text as it is, numbers with as many decimals as say something."""
    if x is None:
        return "-"
    return x if isinstance(x, str) else f"{x:,.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


if __name__ == "__main__":
    main()
