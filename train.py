"""Train a model to fill in what is hidden of trajectories: the whole loop, in the open.

    python train.py config/minigrid_random.py                      # the main experiment
    python train.py config/minigrid_random.py --n_embd=64 --out_dir=out/small     # other settings
    python train.py config/minigrid_random.py --init_from=resume   # go on where a run stopped
    torchrun --standalone --nproc_per_node=2 train.py config/minigrid_random.py  # share each batch

Every setting is a global below; a config file and --key=value flags override them. Each step draws
a batch of windows (data.py) and of masks (masks.py), and takes the loss (model.py) where the masks
say; traits.py knows what each entry counts. Into out_dir go ckpt.pt (to resume), best.pt (the best
by `keep_best`), config.json and log.csv (a row for each evaluation). Read next: data.py, evaluate.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import copy
import math
import os
import sys
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

import checkpoint
import checks
import data
import evaluate
import masks
import model
import rollout
import traits
import worlds

# ---- settings ------------------------------------------------------------------------------------
# input and output
out_dir = "out/run"
overwrite = False  # start anew in a folder that holds another run, whose files are then lost
init_from = "scratch"  # "resume" (from out_dir), or "finetune:PATH" (the weights of another run)
eval_interval = 500  # steps between evaluations, each with a checkpoint and a row of log.csv
eval_tasks = ""  # e.g. "past,future"; empty: the eight, the world's, the trained ones
eval_sequences = 1000  # validation sequences for each task
eval_rollouts = 0  # episodes to play at each evaluation (needed by keep_best="return")
eval_modes = "bc,bc_states"  # how to play them: rollout.MODES; rc_all where returns="with_state"
keep_best = "loss"  # the lowest; or the highest "return" of a mode, "return_sum" of all; or "none"
best_tasks = ""  # whose summed loss chooses; empty: the trained ones, or all if none is evaluated
wandb_log = False  # log to Weights & Biases as well (pip install wandb)
wandb_project = "unimask"
# data
dataset = "doorkey"  # a world (doorkey, doorkey16, maze2d-medium, ...), or a file of trajectories
num_trajectories = 500  # to train on; 0: all there are
dreams = ""  # a file of trajectories to train on instead, made up from these by dream.py
fresh = False  # draw fresh trajectories at every step: unlimited data, for worlds only
data_seed = 0
# what is hidden
task = "random"  # a name in masks.TASKS, "span(a,b)", "all", or a mixture "a+b"
returns = "unchanged"  # which returns-to-go are shown: masks.RETURN_MODES
by_turns = False  # each batch has one task of a mixture, at evenly spread timesteps, as published
factor_hiding = 0.0  # probability of hiding each factor of a visible token on its own
state_weight = 1.0  # of the state factors' losses
action_weight = 1.0
return_weight = 0.0  # 0: returns are not predicted at all, as published
# model
model_type = "unimask"  # or "dt" (Decision-GPT: causal, predicts actions), "nn" (feed-forward net)
context = 10  # T, timesteps in a window
n_layer = 3
n_head = 8
n_embd = 128
n_ff = 128  # width of the hidden layer of each block's perceptron
dropout = 0.1
layout = "timestep"  # a token per "timestep"; or one per group ("factor"), or factor ("entry")
hidden = "flag"  # hidden entries are zeros with a "flag" beside, or zeros alone: "zero" (published)
positions = "sinusoidal"  # or "learned", or "timestep": learned, counted from the episode's start
max_timestep = 1000  # timesteps that positions="timestep" can tell apart
norm = "pre"  # layer norm before each part of a block, or "post": after it, as published
embedding = "relu"  # tokens are rectified and scaled, or have a layer "norm", as in Decision-GPT
init_range = 0.0  # first and last layers start in +- this (published: 0.1); 0: as PyTorch does
fourier_features = 0  # frequencies of sine and cosine inputs, for continuous states
differences = False  # changes of continuous states since the timestep before, as inputs
tanh_actions = False  # squash continuous actions into [-1, 1]
# The answer of a continuous factor. Where an expert goes one of two ways, a mean goes neither.
head = "mean"  # of squared error; "median": of absolute error; "gaussian": with a variance
# optimiser
batch_size = 100  # windows in a step, those of all processes together
max_iters = 2500
learning_rate = 4e-3
warmup_iters = 200
decay_lr = True  # a cosine to zero over max_iters; False: constant
weight_decay = 1e-4
grad_clip = 0.5  # largest norm of the gradient; 0: no clipping
ema = 0.0  # decay of a running average of the weights, which is then evaluated and kept; 0: none
# machine
seed = 0
device = "cpu"  # or "cuda"
dtype = "float32"  # or "bfloat16": of products (autocast), where the machine has units for it
compile = False
threads = 1  # CPU threads (0: torch's choice); two: a quarter less time, other last bits
# --------------------------------------------------------------------------------------------------
config = configurator.apply(globals())

# ---- set-up: the machine -------------------------------------------------------------------------
# torchrun starts several processes. Each draws the whole batch, and takes its rows of it.
rank, world_size = configurator.processes()
if rank > 0:
    sys.stdout = open(os.devnull, "w", encoding="utf-8")
start = checkpoint.start_of(init_from, out_dir, rank)  # the checkpoint to start from, or None
if start:  # it decides what shape the model has
    config |= checkpoint.architecture(start, config, configurator.given(sys.argv[1:]))
    globals().update(config)
shape = {name: config[name] for name in model.ModelConfig.__dataclass_fields__}
model_config = model.ModelConfig(**shape)  # refused if it cannot work
checks.settings(config, world_size)
if init_from != "resume":
    checkpoint.claim(out_dir, overwrite, init_from)
    checkpoint.check_start(start or {}, config)  # refused if it was trained on what validates
else:
    checkpoint.check_resumable(start, config)
    config["init_from"] = start["config"].get("init_from")  # what is saved says where it began
    if start["iter"] >= max_iters:
        print(f"{out_dir} is already at step {start['iter']}: a larger --max_iters goes on")
        sys.exit()
device_type = torch.device(device).type
if device_type == "cuda":
    torch.set_float32_matmul_precision("high")  # products in TF32
if world_size > 1:
    if device_type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    patience = timedelta(hours=12)  # the others wait while process 0 evaluates
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=patience)
torch.set_num_threads(threads or torch.get_num_threads())
configurator.keep_memory()  # about 10% off a step
torch.manual_seed(seed)  # of fresh weights
generator = torch.Generator(device=device)  # of windows and masks
seed_dropout = torch.default_generator.manual_seed  # torch.manual_seed costs 0.5 ms
if device_type == "cuda":  # of that GPU alone, which is much faster
    place = torch.empty(0, device=device).device  # with its number
    seed_dropout = torch.cuda.default_generators[place.index].manual_seed
products = dtype
if device_type == "cpu" and dtype == "bfloat16":
    # Only some processors have units for it. On others it takes 1.7 to 16 times as long.
    cpu = torch.cpu.get_capabilities()
    units = cpu.get("amx_bf16") or (cpu.get("avx512_bf16") and "AMD" in cpu.get("cpu_name", ""))
    products = "bfloat16" if units else "float32"
autocast = torch.autocast(device_type, dtype=torch.bfloat16, enabled=products == "bfloat16")

# ---- set-up: data and model ----------------------------------------------------------------------
demonstrations, validation = worlds.train_and_validation(dataset, num_trajectories, data_seed)
train = data.Trajectories.load(dreams) if dreams else demonstrations
# Only dreams of these demonstrations will do: other trajectories may be those that validate.
if dreams and np.any(train.extras.get("dreamed", 0) != worlds.fingerprint("", demonstrations)):
    same = f"dreams of these {len(demonstrations)} demonstrations of {dataset}"
    raise ValueError(f"{dreams} does not hold {same}: dream.py makes them")
fingerprint = worlds.fingerprint(dreams or dataset, train, validation)
# The same of what dreams were made of, by which evaluate.py recognises its data.
origin = worlds.fingerprint(dataset, demonstrations, validation)
windows = data.Windows(train, context, device)
if start is None:
    network = model.build(model_config, train.factors)
else:
    # With ema, training goes on from the weights themselves, and not from their average.
    raw = start.get("raw_weights") if init_from == "resume" else None
    saved = raw or start.get("weights")
    network = checkpoint.from_plain(start | {"model_config": shape, "weights": saved})
checks.fit(network, train, dreams or dataset)
checks.fit(network, validation, dataset)
playground = demonstrations.world or dataset  # a file may be of a world, too
modes = rollout.parse_modes(eval_modes)
for mode in modes if eval_rollouts else ():  # refused if it cannot be played
    rollout.begin(network, playground, demonstrations, 1, 0, mode, demos=validation)
network.to(device).train()
factors = network.factors
of_group = {"STATE": state_weight, "ACTION": action_weight, "RETURN": return_weight}
weights = {f.name: of_group[f.group] for f in factors}
checks.trainable(network, train, task, weights)
optimizer = model.configure_optimizer(network, learning_rate, weight_decay)
evaluated = copy.deepcopy(network) if ema else network  # whose losses are measured and kept
forward = torch.compile(network) if compile else network

# Where the run stands: rows of the log, the best score so far, the losses since the last row.
first_iter, rows, best, loss_sum, loss_count = 0, [], -math.inf, 0.0, 0
if init_from == "resume":
    first_iter, rows, best, loss_sum, loss_count = checkpoint.restore(start, optimizer, evaluated)
    checkpoint.check_data(start.get("data"), fingerprint, dreams or dataset)

# What is asked at each evaluation, and which of it chooses the best checkpoint.
extra = worlds.tasks_of(validation.world)  # of a maze: control from states alone
tasks = traits.chosen(eval_tasks, model_type, context, network.predicted, extra, task)
questions = evaluate.questions(validation, tasks, eval_sequences, context, returns=returns)
questions = checks.answerable(network, questions, chosen=bool(eval_tasks))
tasks = list(questions)
choosing = traits.chosen(best_tasks, model_type, context) if best_tasks else []
choosing = choosing or [name for name in masks.parse(task) if name in tasks] or tasks
if not set(choosing) <= set(tasks):
    raise ValueError(f"best_tasks={best_tasks!r} are not all among the evaluated {tasks}")
limits = evaluate.limits(validation, questions, model_type)
turns = list(masks.parse(task)) if by_turns else [task]  # what step after step is trained on


# ---- a step --------------------------------------------------------------------------------------
def reseed(it):
    """Whatever a step draws comes from (seed, it) alone, so that any step can be made again."""
    for_batch, for_dropout = np.random.SeedSequence([seed, it]).generate_state(2).tolist()
    generator.manual_seed(for_batch)
    seed_dropout(for_dropout + rank)


def get_batch(it):
    """The batch of a step and its masks, see and predict. Call reseed() before it."""
    source = windows
    if fresh:
        made = worlds.make(dataset, batch_size, [seed, it, data_seed])
        source = data.Windows(made, context, device)
    batch = source.draw(batch_size, generator)
    turn = turns[it % len(turns)]
    # by turns, as published, timesteps are spread evenly, too
    see, predict = masks.draw(turn, batch_size, context, generator, by_turns, returns)
    if factor_hiding:
        see, predict = masks.hide_factors(see, predict, factors, factor_hiding, generator)
    return batch, *(masks.known_only(mask, batch, factors) for mask in (see, predict))


def lr_at(it):
    """Learning rate of a step: linear warmup, then a cosine to zero, or constant."""
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if not decay_lr:
        return learning_rate
    progress = (it - warmup_iters) / max(1, max_iters - warmup_iters)
    return learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def own_rows(x):
    """This process's rows of a whole batch: of a tensor, or of each one in a dictionary."""
    if isinstance(x, dict):
        return {name: own_rows(part) for name, part in x.items()}
    return x.chunk(world_size)[rank]


def add_up(tensors):
    """Replace each tensor by its sum over all processes."""
    try:
        for x in tensors:
            dist.all_reduce(x)
    except RuntimeError:  # the other one has said itself what went wrong, or it was stopped
        sys.exit(f"process {rank}: another process of this run has ended")


def train_step(it):
    """One step of training. Returns its loss, a scalar tensor."""
    for group in optimizer.param_groups:
        group["lr"] = lr_at(it)
    reseed(it)
    # What happened, what of it is shown, and what is asked. batch: {factor: (B, T) or (B, T, k)}
    batch, see, predict = get_batch(it)  # see, predict: (B, T, 3) or {factor: (B, T)}
    turn = turns[it % len(turns)]
    shares = traits.shares(turn, predict, factors)  # {factor: (B, T)} what each counts in the loss
    if world_size > 1:
        batch, see, predict, shares = map(own_rows, (batch, see, predict, shares))
    # A task that asks about one timestep needs no other computed: which one it is.
    at = traits.wanted_timestep(turn, predict)  # (B,), or None for all
    with autocast:
        outputs = forward(batch, see, at)  # {factor: logits (B, T, classes) or means (B, T, k)}
        loss, _ = model.loss(network, outputs, batch, shares, at, weights)
    loss.backward()
    loss = loss.detach()
    if world_size > 1:
        add_up([p.grad for p in network.parameters() if p.grad is not None] + [loss])
    if grad_clip:
        torch.nn.utils.clip_grad_norm_(network.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if ema:  # the average begins with the weights of the first step
        for mean, p in zip(evaluated.parameters(), network.parameters()):
            mean.detach().lerp_(p.detach(), 1 - ema if it else 1)
    return loss


# ---- evaluation and checkpoints ------------------------------------------------------------------
def evaluate_and_save(it):
    """Add a row to the log and keep the checkpoint, the best one apart."""
    global best, loss_sum, loss_count
    if rows and rows[-1]["iter"] == it:  # a resumed run has done this already
        return
    row, score = {"iter": it}, -math.inf
    if rank == 0:
        row |= {"lr": lr_at(it), "train_loss": float(loss_sum) / loss_count if loss_count else None}
        evaluated.eval()
        results = evaluate.losses(evaluated, questions, limits)
        row |= {name: result["loss"] for name, result in results.items()}
        row |= {f"{name}_gap": r["gap"] for name, r in results.items() if r["gap"] is not None}
        score = -sum(row[name] for name in choosing) / len(choosing)
        if eval_rollouts:
            game = demonstrations, eval_rollouts, rollout.SELECTION_SEED, modes
            played = rollout.measure(evaluated, playground, *game, demos=validation)
            earned = {mode: measures["return"]["mean"] for mode, measures in played.items()}
            row |= {f"return_{mode}": x for mode, x in earned.items()}
            scores = {"return": max(earned.values()), "return_sum": sum(earned.values())}
            score = scores.get(keep_best, score)
        network.train()
    check_finite(it, *row.values())
    rows.append(row)
    improved = score > best and keep_best != "none"
    best, loss_sum, loss_count = max(best, score), 0.0, 0
    save(it, improved)
    shown = [name for name in row if name not in ("iter", "lr") and not name.endswith("_gap")]
    parts = [f"{name} {row[name]:.3f}" for name in shown if row[name] is not None]
    tqdm.write(f"step {it}: {', '.join(parts)}" + (" (best)" if improved else ""))
    if log:
        log.log(row)


def check_finite(it, *numbers):
    """Before a checkpoint is overwritten: raise ValueError if anything is not finite."""
    whole = all(math.isfinite(x) for x in (loss_sum, *numbers) if x is not None)
    if not whole or not all(p.isfinite().all() for p in network.parameters()):
        since = rows[-1]["iter"] if rows else first_iter
        advice = "try a smaller learning_rate, or a grad_clip"
        raise ValueError(f"a loss between steps {since} and {it} is not finite: {advice}")


def save(it, with_best):
    """Write the checkpoint of this moment; of several processes rank 0 does."""
    if rank > 0:
        return
    plain = checkpoint.to_plain(evaluated) | {"config": config, "iter": it}
    plain |= {"data": fingerprint, "demonstrations": origin}
    state = {"optimizer": optimizer.state_dict(), "rows": rows, "best": best}
    state |= {"loss_sum": float(loss_sum), "loss_count": loss_count}
    state["raw_weights"] = network.state_dict() if ema else None
    checkpoint.save_run(out_dir, plain, state, with_best)


# ---- the loop ------------------------------------------------------------------------------------
log = None  # of Weights & Biases
if __name__ == "__main__":  # train_seeds.py and bench.py take all above, and step by themselves
    print("\n".join(f"{name} = {value!r}" for name, value in config.items()))
    sizes = f"{len(train)} training and {len(validation)} validation trajectories"
    print(f"{model.num_params(network):,} parameters, {sizes}, products in {products}")
    if wandb_log and rank == 0:
        import wandb

        log = wandb.init(project=wandb_project, name=out_dir, config=config)
    # Nothing has been written so far: whatever could be refused has been.
    if init_from != "resume" and rank == 0:
        checkpoint.begin(out_dir, overwrite)

    # Ctrl-C and the like end the loop after the step it is in; of several processes only rank 0's.
    stop = configurator.stops(heed=rank == 0)
    quiet = rank > 0 or not sys.stderr.isatty()
    steps = range(first_iter, max_iters + 1)
    for it in tqdm(steps, initial=first_iter, total=max_iters, disable=quiet):
        if it % eval_interval == 0 or it == max_iters:
            evaluate_and_save(it)
        if it == max_iters or stop:
            break
        loss_sum, loss_count = loss_sum + train_step(it), loss_count + 1

    if log:
        log.finish()
    if world_size > 1:  # one that ends within its group is now and then aborted
        dist.destroy_process_group()
    if stop and it < max_iters:
        check_finite(it)
        save(it, False)
        checkpoint.stopped(it, stop[0])
