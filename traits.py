"""What a task asks of a model: found out by drawing its masks, so a new task need not say it.

    traits.of("past")               # Traits(one_timestep=False, shows_answer=False, causal=False)
    traits.check("dt", "past")      # ValueError: Decision-GPT sees no future
    at = traits.wanted_timestep("behavior_cloning", predict)    # (B,)

Before this: masks.py.
"""

import re
from functools import cache
from typing import NamedTuple

import torch

import masks
from masks import ACTION, RETURN, STATE


class Traits(NamedTuple):
    one_timestep: bool  # it predicts a single timestep of each sequence: no other need be computed
    shows_answer: bool  # it shows what it asks for: only a causal model cannot look it up
    causal: bool  # it asks for actions alone, given nothing that comes later


@cache
def of(name, T=10):
    """The Traits of one task in a context of T, from 500 balanced draws of it."""
    T = max(10, T, *map(int, re.findall(r"\d+", name)))  # too short a context would be refused
    see, predict = masks.draw(name, 500, T, torch.Generator().manual_seed(0), balanced=True)
    shows_answer = bool((see & predict).any())
    asked = predict.any(-1)  # (B, T)
    # A task looks ahead if a state is seen after the last action that it asks for, or an action
    # with it or after it. What it shows along with its own answers is hidden by the causal mask.
    t = torch.arange(T)
    last = torch.where(asked, t, -1).amax(1, keepdim=True)  # (B, 1)
    ahead = (see[..., STATE] & (t > last)) | (see[..., ACTION] & (t >= last))
    later = see[:, 1:, RETURN].any()
    causal = (
        predict[..., ACTION].any()
        and not predict[..., [STATE, RETURN]].any()
        and (shows_answer or not (ahead.any() or later))
    )
    return Traits(bool((asked.sum(1) <= 1).all()), shows_answer, bool(causal))


def can(model_type, task, T=10):
    """Whether a type of model can do a task: "dt" sees only the past, the others everything."""
    found = [of(name, T) for name in masks.parse(task)]
    if model_type == "dt":
        return all(trait.causal for trait in found)
    return not any(trait.shows_answer for trait in found)


def check(model_type, task, T=10):
    """Raise ValueError unless the type of model can do the task."""
    if not can(model_type, task, T):
        able = ", ".join(name for name in masks.TASKS if can(model_type, name))
        raise ValueError(f"the model {model_type!r} cannot do the task {task!r}; it can do {able}")


def wanted_timestep(task, predict):
    """(B,) the one timestep that each sequence predicts; None if any predicts several."""
    finer = isinstance(predict, dict)
    asked = (torch.stack(list(predict.values()), -1) if finer else predict).any(-1)  # (B, T)
    several = not all(of(name, asked.shape[-1]).one_timestep for name in masks.parse(task))
    if several or (finer and (asked.sum(dim=1) > 1).any()):
        return None
    return asked.byte().argmax(dim=-1)
