"""Train a model to fill in what is hidden of trajectories: the whole loop, in the open.

    python train.py config/minigrid_random.py                      # the main experiment
    python train.py config/minigrid_random.py --seed=1 --n_embd=64 # with other settings
    python train.py config/minigrid_random.py --init_from=resume   # go on where a killed run stopped
    torchrun --standalone --nproc_per_node=2 train.py config/...   # two processes share each batch (distributed.py)

Every setting is a global below; a config file and --key=value flags override them (configurator.py). Each step draws a
batch of windows (data.py) and of masks (masks.py), and takes the loss (model.py) where the masks say. Into out_dir go
ckpt.pt (to resume), best.pt (best by `keep_best`), config.json and log.csv (a row per evaluation).
Read next: evaluate.py.
"""

import csv
import io
import json
import math
import os
import signal
import sys
import time

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

import configurator
import data
import distributed
import evaluate
import masks
from attention import pick
from model import ModelConfig, build, configure_optimizer, from_plain, load_checkpoint, loss, num_params, to_plain

# ---- settings --------------------------------------------------------------------------------------------------------
# input and output
out_dir = "out/run"
init_from = "scratch"  # "scratch", "resume" (from out_dir), or "finetune:PATH" (weights of another run)
eval_interval = 500  # steps between evaluations, each with a checkpoint and a row of log.csv
eval_tasks = ""  # tasks to evaluate, e.g. "past,future"; empty: all that the model can do
eval_sequences = 1000  # validation sequences per task
eval_rollouts = 0  # episodes to play at each evaluation (needed by keep_best="return")
eval_modes = "bc,bc_states"  # how to play: evaluate.ROLLOUT_MODES
keep_best = "loss"  # "loss": lowest over best_tasks; "return": highest of the rollouts; "none": keep no best.pt
best_tasks = ""  # tasks whose summed validation loss chooses the best; empty: the trained task, or all eval_tasks
wandb_log = False  # log to Weights & Biases as well (pip install wandb)
wandb_project = "unimask"
# data
dataset = "doorkey"  # a world (doorkey, doorkey16, maze2d-medium, ...) or a .npz file (data.py)
num_trajectories = 500  # for training; 0: all there are
fresh = False  # draw fresh trajectories at every step instead: unlimited data, for worlds that can be sampled
data_seed = 0
# task
task = "random"  # a name in masks.TASKS, "all", or a mixture "a+b"
returns = "unchanged"  # which returns-to-go are shown: masks.RETURN_MODES
factor_hiding = 0.0  # probability of hiding each factor of a visible token on its own
state_weight = 1.0  # weight of the state factors' losses
action_weight = 1.0
# model
model = "unimask"  # "unimask", "dt" (Decision-GPT) or "nn" (feed-forward)
context = 10
n_layer = 3
n_head = 8
n_embd = 128
n_ff = 128
dropout = 0.1
layout = "timestep"  # one token per "timestep", or per "factor" group of it
hidden = "flag"  # a hidden entry is a learned "flag", or "zero" as published
positions = "sinusoidal"  # or "learned", or "timestep": counted from the start of the episode
norm = "post"  # or "pre"
octaves = 0  # sin and cos features of continuous states
differences = False  # changes of continuous states since the timestep before, as inputs
tanh_actions = False
head = "mean"  # of continuous factors (squared error), "median" (absolute error) or "gaussian" (likelihood; a variance)
# optimiser
batch_size = 100
gradient_accumulation = 1  # batches per step
max_iters = 5000
learning_rate = 1e-3
warmup_iters = 200
decay_lr = True  # cosine to zero over max_iters; False: constant
weight_decay = 1e-4
grad_clip = 0.5  # largest norm of the gradient; 0: no clipping
ema = 0.0  # decay of a running average of the weights, which is then what is evaluated and kept; 0: none
# machine
seed = 0
device = "cpu"
dtype = "float32"  # or "bfloat16": autocast
compile = False
# CPU threads (0: torch's choice). A second one gains a fifth here, and loses it all when its core is busy; it also changes
# the last bits: after 60 steps of the default run, weights by up to 5e-4. The same number repeats every bit.
threads = 1
config = configurator.apply(globals())
# ----------------------------------------------------------------------------------------------------------------------


def check_settings():
    """Refuse what cannot work before anything is written."""
    for key in ("batch_size", "eval_interval", "eval_sequences", "max_iters", "gradient_accumulation"):
        if config[key] < 1:
            raise ValueError(f"{key}={config[key]} must be at least 1")
    for key in ("learning_rate", "warmup_iters", "weight_decay", "grad_clip", "threads", "eval_rollouts",
                "state_weight", "action_weight"):  # fmt: skip
        if not 0 <= config[key] < math.inf:
            raise ValueError(f"{key}={config[key]} must be a number of at least 0")
    for key in ("seed", "data_seed"):
        evaluate.check_seed(config[key], key)
    if threads > 1024 or not out_dir:
        raise ValueError(f"threads={threads} must be at most 1024, and out_dir={out_dir!r} not empty")
    if batch_size % distributed.world_size:
        raise ValueError(f"batch_size={batch_size} is no multiple of the {distributed.world_size} processes sharing it")
    for key in ("factor_hiding", "ema"):
        if not 0 <= config[key] < 1:
            raise ValueError(f"{key}={config[key]} must be in [0, 1)")
    choices = {"keep_best": ("loss", "return", "none"), "dtype": ("float32", "bfloat16"), "returns": masks.RETURN_MODES}
    for key, allowed in choices.items():
        if config[key] not in allowed:
            raise ValueError(f"{key}={config[key]!r} is not one of {', '.join(allowed)}")
    if init_from not in ("scratch", "resume") and not init_from.startswith("finetune:"):
        raise ValueError(f"init_from={init_from!r} is not one of scratch, resume, finetune:PATH")
    if keep_best == "return" and not eval_rollouts:
        raise ValueError("keep_best='return' needs eval_rollouts, the number of episodes to play at each evaluation")
    if (fresh or eval_rollouts) and dataset not in data.WORLDS:
        raise ValueError(f"dataset={dataset!r} is no world to sample or play in; worlds are {', '.join(data.WORLDS)}")
    for mode in eval_modes.split(","):
        if mode not in evaluate.ROLLOUT_MODES:
            raise ValueError(f"eval_modes has {mode!r}; modes are {', '.join(evaluate.ROLLOUT_MODES)}")
    masks.check(model, task)
    masks.draw(task, 1, context, torch.Generator())  # the context may be too short for the task
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device!r} is not to be had: {str(error).splitlines()[0]}") from None


def lr_at(it):
    """Learning rate of a step: linear warmup, then a cosine to zero, or constant."""
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if not decay_lr:
        return learning_rate
    progress = (it - warmup_iters) / max(1, max_iters - warmup_iters)
    return learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def batch_seeds(it):
    """Seeds of everything random of a batch (windows and masks; dropout), from (seed, it) alone: it can be replayed."""
    return np.random.SeedSequence([seed, it]).generate_state(2).tolist()


def next_batch(it):
    """Windows of trajectories for one step: {factor: (B, T) or (B, T, k)}."""
    for_batch, for_dropout = batch_seeds(it)
    generator.manual_seed(for_batch)
    seed_dropout(for_dropout + distributed.rank)
    values, lengths = train_values, train_lengths
    if fresh:
        made = data.make(dataset, batch_size, np.random.SeedSequence([seed, it, data_seed]))
        values, lengths = made.tensors(device), torch.as_tensor(made.lengths, device=device)
    return data.sample_windows(values, lengths, batch_size, context, generator)


def next_masks():
    """see and predict for one step: group masks (B, T, 3), or per-factor ones if factors are hidden on their own."""
    see, predict = masks.draw(task, batch_size, context, generator, returns=returns)
    if factor_hiding:
        shown, predict = see, masks.expand(predict, factors)
        see = masks.hide_factors(see, factors, factor_hiding, generator)
        newly = {name: ~see[name] & old for name, old in masks.expand(shown, factors).items()}
        predict = {f.name: predict[f.name] | (newly[f.name] & (f.group != "RETURN")) for f in factors}
    return see, predict


def evaluation(it):
    """Validation losses (and rollouts) of the evaluated weights: a row for log.csv, and the score that `best` maximises."""
    if distributed.rank > 0:
        return {"iter": it}, -math.inf
    evaluated = average.module if average else network
    evaluated.eval()
    results = evaluate.losses(evaluated, questions, limits)
    if not all(math.isfinite(r["loss"]) for r in results.values()):
        raise ValueError(f"a validation loss at step {it} is not finite{go_on('replay it')}")
    row = {"iter": it, "lr": lr_at(it), "train_loss": float(train_sum) / train_count if train_count else None}
    row |= {name: r["loss"] for name, r in results.items()}
    row |= {f"{name}_gap": r["gap"] for name, r in results.items() if r["gap"] is not None}
    score = -sum(results[name]["loss"] for name in chosen) / max(1, len(chosen))
    if eval_rollouts:
        played = evaluate.play(evaluated, dataset, train, eval_rollouts, evaluate.SELECTION_SEED, eval_modes.split(","))
        row |= {f"return_{mode}": measures["return"]["mean"] for mode, measures in played.items()}
        score = max(measures["return"]["mean"] for measures in played.values()) if keep_best == "return" else score
    network.train()
    return row, score


def check_finite(it):
    """Before a checkpoint is overwritten: raise ValueError if a loss since the last one, or a weight, is not finite."""
    if math.isfinite(train_sum) and all(p.isfinite().all() for p in network.parameters()):
        return
    step = it - train_count // gradient_accumulation + int(finite_steps)  # a sum that is not finite stays so
    seeds = batch_seeds(step * gradient_accumulation)
    about = f"its batch has the seed {seeds[0]}, dropout {seeds[1]}"
    raise ValueError(f"the loss of step {step} is not finite; {about}{go_on('replay it')}")


def go_on(what):
    """How a run that must end here can be taken up again, if it has come to a checkpoint."""
    if not os.path.exists(os.path.join(out_dir, "ckpt.pt")):
        return ""
    return f"; the last checkpoint is whole: {what} with the same command and --init_from=resume"


def save(it, with_best):
    """Write best.pt if asked, then log.csv, then ckpt.pt: once that is there, so is the rest of it."""
    evaluated = average.module if average else network
    plain = to_plain(evaluated) | {"config": config, "iter": it}
    if with_best:
        save_whole("best.pt", tensors(plain))
    plain |= {"optimizer": optimizer.state_dict(), "rows": rows, "best": best}
    plain |= {"train_sum": float(train_sum), "train_count": train_count}
    plain |= {"raw_weights": network.state_dict()} if average else {}
    text = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    save_whole("log.csv", text.getvalue().encode())
    save_whole("ckpt.pt", tensors(plain))


def tensors(content):
    """The bytes of a checkpoint. torch.save to a file would end in a traceback on a full disk; a write is an OSError."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def save_whole(name, content):
    """Write bytes into out_dir: what is there is whole, whenever the process or the machine dies."""
    if distributed.rank > 0:
        return
    path = os.path.join(out_dir, name)
    try:
        with configurator.beside(path) as unfinished, open(unfinished, "wb") as file:
            file.write(content)
    except OSError as error:
        raise OSError(f"{error}{go_on('later go on')}") from None


def check_resumable(saved):
    """A resumed run must be the run that was interrupted. Only where and how long it runs may change."""
    free = ("init_from", "out_dir", "device", "compile", "wandb_log", "threads", "max_iters")
    if saved["config"]["init_from"].startswith("finetune:"):  # its architecture came from the run that it started from
        shape = {key: value for key, value in saved["model_config"].items() if key in config and key != "dropout"}
        config.update(shape)
        globals().update(config)
    for key, value in saved["config"].items():
        if key not in free and config.get(key) != value:
            raise ValueError(f"cannot resume {out_dir} with {key}={config.get(key)!r}: it was started with {value!r}")


# ---- set up ----------------------------------------------------------------------------------------------------------
check_settings()
distributed.start(device)
if threads:
    torch.set_num_threads(threads)
torch.manual_seed(seed)
generator = torch.Generator(device=device)
seed_dropout = torch.default_generator.manual_seed if device == "cpu" else torch.manual_seed  # saves 0.3 ms
autocast = torch.autocast(device_type=torch.device(device).type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")

train, validation = data.train_and_validation(dataset, num_trajectories, data_seed)
saved = None
if init_from == "resume":
    saved = load_checkpoint(os.path.join(out_dir, "ckpt.pt"), device)
    check_resumable(saved)
    network = from_plain(saved | {"weights": saved.get("raw_weights", saved["weights"])})
elif init_from.startswith("finetune:"):
    start = load_checkpoint(init_from.removeprefix("finetune:"), device)
    start["model_config"]["dropout"] = dropout
    network = from_plain(start)
    if network.config.model != model:
        raise ValueError(f"{init_from} holds a model {network.config.model!r}, not model={model!r}")
    config |= {key: value for key, value in start["model_config"].items() if key in config}
    globals().update(config)
else:
    shape = {key: value for key, value in config.items() if key in ModelConfig.__dataclass_fields__}
    network = build(ModelConfig(**shape), train.factors)
evaluate.check_fit(network, train, dataset)
network.to(device).train()
factors = network.factors
weights = {f.name: state_weight if f.group == "STATE" else action_weight for f in factors}
optimizer = configure_optimizer(network, learning_rate, weight_decay)
average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(ema)) if ema else None

first_iter, rows, best, train_sum, train_count = 0, [], -math.inf, 0.0, 0
if saved:
    optimizer.load_state_dict(saved["optimizer"])
    first_iter, rows, best = saved["iter"], saved["rows"], saved["best"]
    train_sum, train_count = saved["train_sum"], saved["train_count"]
    if average:
        average.module.load_state_dict(saved["weights"])
        average.n_averaged.fill_(first_iter)

tasks = evaluate.chosen_tasks(eval_tasks, model, validation.world)
chosen = masks.parse(best_tasks.replace(",", "+")) if best_tasks else []  # they choose the best checkpoint
chosen = chosen or [name for name in masks.parse(task) if name in tasks] or tasks
if not set(chosen) <= set(tasks):
    raise ValueError(f"best_tasks={best_tasks!r} are not all among the evaluated tasks: {', '.join(tasks)}")
questions = evaluate.questions(validation, tasks, eval_sequences, context, evaluate.VALIDATION_SEED)
limits = evaluate.limits(validation, questions)
train_values, train_lengths = train.tensors(device), torch.as_tensor(train.lengths, device=device)

os.makedirs(out_dir, exist_ok=True)
save_whole("config.json", json.dumps(config, indent=1).encode())
print("\n".join(f"{key} = {value!r}" for key, value in config.items()))
print(f"{num_params(network):,} parameters, {len(train)} training and {len(validation)} validation trajectories")
if wandb_log and distributed.rank == 0:
    import wandb

    wandb.init(project=wandb_project, name=out_dir, config=config)

stop = []  # Ctrl-C asks the loop to stop after the step it is in; of several processes, the one that saves
signal.signal(signal.SIGINT, lambda *_: stop.append(True) if distributed.rank == 0 else None)
finite_steps = train_count // gradient_accumulation  # since the last evaluation; counted on the device: no step waits
stepping = torch.compile(network) if compile else network
one_timestep = not factor_hiding and all(name in masks.ONE_TIMESTEP for name in masks.parse(task))  # to decode

# ---- the loop --------------------------------------------------------------------------------------------------------
seconds = {"data": 0.0, "masks": 0.0, "step": 0.0, "evaluation": 0.0}
begin = time.perf_counter()
quiet = distributed.rank > 0 or not sys.stderr.isatty()
for it in tqdm(range(first_iter, max_iters + 1), initial=first_iter, total=max_iters, disable=quiet):
    if it % eval_interval == 0 or it == max_iters:
        clock = time.perf_counter()
        check_finite(it)
        if not (rows and rows[-1]["iter"] == it):  # a resumed run has evaluated this step already
            row, score = evaluation(it)
            rows.append(row)
            improved = score > best and keep_best != "none"
            best = max(best, score)
            train_sum, train_count, finite_steps = 0.0, 0, 0
            save(it, improved)
            shown = [name for name in row if name not in ("iter", "lr") and not name.endswith("_gap")]
            parts = [f"{name} {row[name]:.3f}" for name in shown if row[name] is not None]
            tqdm.write(f"step {it}: {', '.join(parts)}" + (" (best)" if improved else ""))
            if wandb_log and distributed.rank == 0:
                wandb.log(row)
        seconds["evaluation"] += time.perf_counter() - clock
    if it == max_iters or stop:
        break

    clock = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = lr_at(it)
    step_loss = 0.0
    for micro in range(gradient_accumulation):
        before = time.perf_counter()
        batch = next_batch(it * gradient_accumulation + micro)
        after_data = time.perf_counter()
        see, predict = next_masks()
        after_masks = time.perf_counter()
        own_weights = distributed.own_weights(weights, predict, factors)
        batch, see, predict = map(distributed.own_rows, (batch, see, predict))
        only = slice(None)
        if one_timestep:
            only = masks.asked_timestep(predict)  # no more is computed than is asked
        with autocast:
            outputs = stepping(batch, see, only)
            parts = ({name: pick(x, only) for name, x in p.items()} for p in (batch, masks.expand(predict, factors)))
            value, _ = loss(outputs, *parts, factors, own_weights, head)
        (value / gradient_accumulation).backward()
        step_loss = step_loss + value.detach()
        seconds["data"] += after_data - before
        seconds["masks"] += after_masks - after_data
    step_loss = distributed.add_up(network, step_loss)
    train_sum, train_count = train_sum + step_loss, train_count + gradient_accumulation
    finite_steps = finite_steps + torch.isfinite(train_sum)
    if grad_clip:
        torch.nn.utils.clip_grad_norm_(network.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if average:
        average.update_parameters(network)
    seconds["step"] += time.perf_counter() - clock

# ---- the end ---------------------------------------------------------------------------------------------------------
if stop and it < max_iters:
    check_finite(it)
    save(it, False)
    sys.exit(f"stopped at step {it} and saved; go on with the same command and --init_from=resume")
steps = max(1, max_iters - first_iter)
share = (seconds["data"] + seconds["masks"]) / max(seconds["step"], 1e-9)
print(f"{steps} steps in {(time.perf_counter() - begin) / 60:.1f} min: {1000 * seconds['step'] / steps:.1f} ms a step, "
      f"of which data and masks {share:.1%}; evaluation {seconds['evaluation']:.0f} s in all")  # fmt: skip
