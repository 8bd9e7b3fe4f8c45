"""What cannot work is refused in one line, before minutes have passed and files are written.

    checks.settings(config, world_size)             # of train.py
    checks.fit(network, trajectories, "doorkey")    # can this model be asked about these data?

Each function raises ValueError if the answer is no. A setting that is no name, or of another type,
was refused before that (configurator.py); broken data are refused when they are loaded (data.py).
"""

import configurator

import math
from types import SimpleNamespace

import numpy as np
import torch

import masks
import traits
import worlds

MORE = (1, math.inf)  # at least 1
SOME = (0, math.inf)  # at least 0
ALLOWED = {  # ranges of train.py's settings
    "eval_interval": MORE, "eval_sequences": MORE, "batch_size": MORE, "max_iters": MORE,
    "eval_rollouts": SOME, "state_weight": SOME, "action_weight": SOME, "learning_rate": SOME,
    "warmup_iters": SOME, "weight_decay": SOME, "grad_clip": SOME,
    "factor_hiding": (0, 1), "ema": (0, 1), "threads": (0, 1025), "seed": (0, 2**63),
    "keep_best": ("loss", "return", "return_sum", "none"), "dtype": ("float32", "bfloat16"),
    "returns": masks.RETURN_MODES,
}  # fmt: skip


def settings(config, world_size=1):
    """The settings of train.py, for so many processes."""
    configurator.check(config, ALLOWED)
    size(config)
    s = SimpleNamespace(**config)
    step = 4 * s.context * s.n_embd * (s.n_layer + 1) // world_size  # bytes it keeps, at the least
    for name, row in ("batch_size", step), ("eval_sequences", 80), ("eval_rollouts", 80):
        configurator.check_memory(config[name] * row, f"{name}={config[name]}")
    traits.check(s.model_type, s.task, s.context)
    shares, returns_asked = masks.parse(s.task), False
    if s.by_turns and len(set(shares.values())) > 1:
        raise ValueError(f"by_turns=True gives all tasks the same share, and not {s.task!r}")
    if not s.by_turns:
        masks.rows_of(s.task, s.batch_size)  # refused if they are too few for one of them
    for name in shares:  # refused if the context is too short for one of them
        see, predict = masks.draw(name, 100, s.context, torch.Generator(), returns=s.returns)
        returns_asked |= bool(predict[..., masks.RETURN].any())
        if s.model_type != "dt" and (see & predict).any():
            raise ValueError(f"returns={s.returns!r} shows what the task {name!r} asks for")
    if s.return_weight and not returns_asked and s.init_from == "scratch":
        raise ValueError(f"return_weight={s.return_weight}: {s.task!r} asks for no return")
    if not s.out_dir:
        raise ValueError("out_dir is empty: it names the folder to write to")
    if s.keep_best.startswith("return") and not s.eval_rollouts:
        raise ValueError(f"keep_best={s.keep_best!r} needs eval_rollouts, the episodes to play")
    if s.fresh and s.dreams:
        raise ValueError("fresh trajectories, or dreams: train on one or the other")
    if s.fresh:
        worlds.find(s.dataset)
        configurator.check(config, {"seed": (0, worlds.TEST_SEED)})
    if s.batch_size % world_size:
        raise ValueError(f"batch_size={s.batch_size} is no multiple of the {world_size} processes")
    device(s.device)


def size(config):
    """Do the weights of a model, and what AdamW adds to them, fit into the memory?"""
    d, n_layer, learned = config["n_embd"], config["n_layer"], config["positions"] == "timestep"
    places = config["max_timestep" if learned else "context"]
    weights = n_layer * (1000 + d * (4 * d + 2 * config["n_ff"])) + places * d
    names = "n_layer", "n_embd", "n_ff", "max_timestep" if learned else "context"
    text = ", ".join(f"{name}={config[name]}" for name in names)
    configurator.check_memory(16 * weights, f"a model of {text}")


def device(name):
    """Can tensors be kept and computed with there?"""
    try:
        torch.empty(0, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name!r} is not to be had: {reason}") from None


def fit(network, trajectories, dataset):
    """Can a model be asked about trajectories, by their factors and lengths?"""
    theirs, ours = ([(f.name, f.group, f.kind, f.size) for f in x.factors]
                    for x in (trajectories, network))  # fmt: skip
    if theirs != ours:
        raise ValueError(f"the model was trained on other factors than {dataset} has")
    L, T = trajectories.valid().shape[1], network.config.context
    if T > L:
        raise ValueError(f"context={T} does not fit: the longest trajectory has {L} timesteps")
    for f in network.factors if network.config.tanh_actions else ():
        actions = trajectories.values[f.name][trajectories.valid(f.name)]
        squashed = f.group == "ACTION" and f.kind == "continuous"
        if squashed and np.abs(actions).max(initial=0) > 1:
            raise ValueError(f"tanh_actions=True, and {dataset} has an {f.name} beyond [-1, 1]")
    longest, most = trajectories.lengths.max(), network.config.max_timestep
    if network.config.positions == "timestep" and longest > most:
        counts = f"positions='timestep' counts to max_timestep={most}"
        raise ValueError(f"{counts}, and {dataset} has trajectories of {longest} timesteps")


def trainable(network, train, task, weights):
    """Does each task of a mixture ask for something to learn?

    That is a factor that the model predicts, of which the training data know something, and which
    counts in the loss. weights: {factor: number}, those of the loss.
    """
    learnt = [f.name for f in network.predicted if weights[f.name] and train.valid(f.name).any()]
    for name in masks.parse(task):
        _, predict = masks.draw(name, 100, network.config.context, torch.Generator())
        predict = masks.expand(predict, network.factors)
        if not any(predict[factor].any() for factor in learnt):
            text = f"the task {name!r} asks for nothing that the training data know and that has a"
            raise ValueError(f"{text} weight (state_weight, action_weight, return_weight)")


def answerable(network, questions, chosen=True):
    """Those questions, of evaluate.questions(), in which a task asks for what the model predicts.

    If the data know nothing of it, a task that somebody has chosen is refused, and any other is left
    out. What shows its own answer is refused, too.
    """
    found, able = {}, ", ".join(f.name for f in network.predicted) or "nothing"
    text = "asks for nothing that these data know and this model predicts"
    for task, question in questions.items():
        see, predict = (masks.expand(mask, network.factors) for mask in question[1:])
        shown = any((see[name] & predict[name]).any() for name in see)
        if shown and network.config.model_type != "dt":
            raise ValueError(f"{task} asks for returns that the setting `returns` shows")
        if any(predict[f.name].any() for f in network.predicted):
            found[task] = question
        elif chosen:
            raise ValueError(f"{task} {text}: {able}")
        else:
            print(f"{task} is left out: it {text}")
    if not found:
        raise ValueError(f"every task {text}: {able}")
    return found
