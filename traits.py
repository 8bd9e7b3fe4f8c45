"""What a task asks of a model, and what each answer counts: found out from the masks it draws.

    traits.of("past")               # Traits(one_timestep=False, shows_answer=False, causal=False)
    traits.check("dt", "past")      # ValueError: Decision-GPT sees no future
    traits.chosen("", "dt")         # ["behavior_cloning", "reward_conditioned"]
    at = traits.wanted_timestep("behavior_cloning", predict)    # (B,)
    shares = traits.shares("past+future", predict, factors)     # {factor: (B, T)}

So a new task need not say any of this. Before this: masks.py.
"""

import re
from functools import cache
from typing import NamedTuple

import torch

import masks
from data import GROUPS
from masks import ACTION, RETURN, STATE


class Traits(NamedTuple):
    one_timestep: bool  # it predicts a single timestep of each sequence: no other need be computed
    shows_answer: bool  # it shows what it asks for: only a causal model cannot look it up
    causal: bool  # it asks for actions alone, given nothing that comes later


def of(name, T=10):
    """The Traits of one task in a context of T, from 500 balanced draws of it."""
    return examine(name, T, masks.TASKS.get(name))


@cache
def examine(name, T, function):
    """As of(). function: the task's, since a name may be given to another."""
    span = masks.SPAN.fullmatch(name)
    T = max(10, T, *map(int, span.groups() if span else ()))  # a shorter context would be refused
    see, predict = masks.draw(name, 500, T, torch.Generator().manual_seed(0), balanced=True)
    shows_answer = bool((see & predict).any())
    asked = predict.any(-1)  # (B, T)
    # A task looks ahead if a state is seen after the last action that it asks for, or an action
    # with it or after it. If it shows its own answers, a causal mask hides all that comes later.
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
        ahead = "asks for more than actions, or looks ahead"
        why = ahead if model_type == "dt" else "shows what it asks for"
        text = f"the model {model_type!r} cannot do the task {task!r}, which {why}"
        raise ValueError(f"{text}; it can do {able}")


def chosen(text, model_type, context=10, predicted=None, extra=(), trained=""):
    """The tasks of a comma- or plus-separated string.

    Without one: the paper's eight, `extra` ones, and those that a model was trained on, as far as
    the type of model can do them and they ask for one of the factors in `predicted` (a network's;
    None: any). Raises ValueError for what it cannot do.
    """
    if text:
        parts = re.split(r",(?![^(]*\))", text)  # no comma within span(a,b)
        found = [name for part in parts for name in masks.parse(part.strip())]
        for task in found:
            check(model_type, task, context)
        return found
    names = [*masks.EIGHT, *extra, *(masks.parse(trained) if trained else ())]
    found = [name for name in dict.fromkeys(names) if can(model_type, name, context)]
    groups = {f.group for f in predicted} if predicted else set(GROUPS)
    able = torch.tensor([group in groups for group in GROUPS])  # (3,)
    for name in list(found):
        try:
            _, predict = masks.draw(name, 100, context, torch.Generator())
            if not (predict & able).any():
                raise ValueError("it asks for what the model does not predict")
        except ValueError as error:
            print(f"{name} is left out: {error}")
            found.remove(name)
    return found


def wanted_timestep(task, predict):
    """(B,) the one timestep that each sequence predicts; None if any predicts several."""
    finer = isinstance(predict, dict)
    asked = (torch.stack(list(predict.values()), -1) if finer else predict).any(-1)  # (B, T)
    several = not all(of(name, asked.shape[-1]).one_timestep for name in masks.parse(task))
    if several or (finer and (asked.sum(dim=1) > 1).any()):
        return None
    return asked.byte().argmax(dim=-1)


def shares(task, predict, factors):
    """What each predicted entry counts in the loss: {factor: (B, T) float}.

    A task's loss is the mean over all entries of a factor that it predicts; a mixture's is the mean
    of its tasks' losses, however many entries each predicts.
    predict: of the same task, (B, T, 3) or {factor: (B, T)}.
    """
    counts = {}
    for name, mask in masks.expand(predict, factors).items():  # mask: (B, T)
        task_of, share_of = weighing(task, len(mask), mask.device)
        asked = torch.zeros_like(share_of).index_add(0, task_of, mask.sum(dim=1).float())
        each = share_of / asked.clamp(min=1)  # (tasks,) what an entry of each task counts
        counts[name] = mask * each[task_of][:, None]
    return counts


@cache
def weighing(task, B, device):
    """(B,) which task of a mixture each sequence has, and (tasks,) the share of each."""
    rows = [range(B)[rows] for rows in masks.rows_of(task, B).values()]
    task_of = [number for number, each in enumerate(rows) for _ in each]
    share_of = list(masks.parse(task).values())
    return torch.tensor(task_of, device=device), torch.tensor(share_of, device=device)
