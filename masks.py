"""Every task as a pair of boolean masks: what the model is shown (`see`) and where the loss is taken (`predict`).

Masks have the shape (B, T, 3): sequence, timestep, group in the order STATE, ACTION, RETURN. Choosing what is hidden
chooses the task, so a new task is one function here and one line in TASKS. All are vectorised over sequences.

    python masks.py                    # draw one example of every task

Throughout, i is a timestep that each sequence draws for itself: behaviour cloning, for one, sees the states 0..i-1 and
the actions 0..i-2, and predicts action i-1. Source: Uni[MASK], sections 3 and 4. Read next: model.py.
"""

import difflib
import re
from typing import NamedTuple

import torch

from data import GROUPS

STATE, ACTION, RETURN = range(3)


class Batch(NamedTuple):
    """The size of a batch of masks, and where its randomness comes from."""

    B: int
    T: int
    generator: torch.Generator
    balanced: bool  # spread every draw evenly over its range: a validation loss then has little noise

    def index(self, low, high):
        """(B,) integers, each low..high with equal probability (balanced: equally often)."""
        if high < low:
            raise ValueError(f"a context of {self.T} is too short for this task: it needs a timestep in {low}..{high}")
        n = high - low + 1
        if self.balanced:
            return low + self.permutation() % n
        return torch.randint(low, high + 1, (self.B,), generator=self.generator, device=self.generator.device)

    def uniform(self, *shape):
        """Numbers uniform in [0, 1), of the given shape."""
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def probability(self):
        """(B,) numbers uniform in [0, 1) (balanced: one in each interval of width 1/B)."""
        uniform = self.uniform(self.B)
        return (self.permutation() + uniform) / self.B if self.balanced else uniform

    def permutation(self):
        return torch.randperm(self.B, generator=self.generator, device=self.generator.device)

    def steps(self):
        """(1, T) timesteps, to be compared with a (B, 1) index."""
        return torch.arange(self.T, device=self.generator.device)[None]

    def masks(self, states, actions, first_return=False):
        """(B, T, 3) from (B or 1, T) masks of states and actions, and whether return-to-go shows at t=0: a bool or (B,)."""
        mask = torch.zeros(self.B, self.T, 3, dtype=torch.bool, device=self.generator.device)
        mask[..., STATE], mask[..., ACTION] = states, actions
        mask[:, 0, RETURN] = first_return
        return mask


def draw(task, B, T, generator, balanced=False, returns="unchanged"):
    """Masks of one task for B sequences of T timesteps.

    task: a name in TASKS, "span(a,b)", "all", or a mixture such as "past+future" (every sequence draws one of them).
    generator: torch.Generator; the masks are made on its device. balanced: stratify the draws, for evaluation.
    returns: a return mode, one of RETURN_MODES, applied to what is seen.
    Returns (see, predict), bool tensors (B, T, 3). Raises ValueError for an unknown task or a context too short for it.
    """
    batch = Batch(B, T, generator, balanced)
    names = parse(task)
    if len(names) == 1:
        see, predict = _draw_one(names[0], batch)
    else:
        which = batch.index(0, len(names) - 1)  # (B,)
        rows = torch.arange(B, device=which.device)
        pairs = [_draw_one(name, batch) for name in names]
        see, predict = (torch.stack(masks)[which, rows] for masks in zip(*pairs))
    return set_returns(see, returns, batch), predict


def parse(task):
    """The list of task names that a task string stands for. Raises ValueError that names the nearest known task."""
    if not isinstance(task, str):
        raise ValueError(f"task={task!r} is not the name of a task; tasks are {', '.join(TASKS)}")
    names = MIXTURE if task == "all" else task.split("+")
    for name in names:
        if name not in TASKS and not SPAN.fullmatch(name):
            near = difflib.get_close_matches(name, TASKS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"tasks are {', '.join(TASKS)}"
            raise ValueError(f"there is no task {name!r}; {hint}")
    return list(names)


def expand(mask, factors):
    """Per-factor masks {factor name: (B, T)} of group masks (B, T, 3); per-factor masks pass through unchanged.

    Everything that takes masks (model, loss, bayes.py) takes either form, so a mask can hide part of a token.
    """
    if isinstance(mask, dict):
        return mask
    return {factor.name: mask[..., GROUPS.index(factor.group)] for factor in factors}


def hide_factors(see, factors, probability, generator):
    """Hide each visible factor of each token with a probability of its own. Returns per-factor masks {name: (B, T)}."""
    keep = lambda mask: torch.rand(mask.shape, generator=generator, device=mask.device) >= probability
    return {name: mask & keep(mask) for name, mask in expand(see, factors).items()}


def all_hidden(see, factors):
    """The default of what to predict, per factor: every state and action that is not seen; never a return."""
    return {f.name: ~mask if f.group != "RETURN" else torch.zeros_like(mask)
            for f, mask in zip(factors, expand(see, factors).values())}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# The tasks


def _control(batch, i, first_return=False, past_actions=True, extra_states=False):
    """States 0..i-1 and actions 0..i-2 are seen; only action i-1 is predicted."""
    t, i = batch.steps(), i[:, None]
    see = batch.masks((t < i) | extra_states, (t < i - 1) & past_actions, first_return)
    return see, batch.masks(False, t == i - 1)


def behavior_cloning(batch):
    return _control(batch, batch.index(1, batch.T))


def reward_conditioned(batch):
    return _control(batch, batch.index(1, batch.T), first_return=True)


def behavior_cloning_states(batch):
    """Behaviour cloning from states alone: past actions mislead a clone of a noisy demonstrator."""
    return _control(batch, batch.index(1, batch.T), past_actions=False)


def reward_conditioned_states(batch):
    return _control(batch, batch.index(1, batch.T), first_return=True, past_actions=False)


def goal_conditioned(batch):
    last = batch.steps() == batch.T - 1
    return _control(batch, batch.index(1, batch.T - 1), extra_states=last)


def waypoint(batch):
    t, T = batch.steps(), batch.T
    waypoints = (t == 0) | (t == T // 3) | (t == 2 * T // 3) | (t == T - 1)
    return _control(batch, batch.index(1, T), extra_states=waypoints)


def future(batch):
    t, i = batch.steps(), batch.index(1, batch.T)[:, None]
    return batch.masks(t < i, t < i - 1), batch.masks(t >= i, t >= i - 1)


def past(batch):
    t, i = batch.steps(), batch.index(1, batch.T)[:, None]
    return batch.masks(t >= i, t >= i), batch.masks(t < i, t < i)


def forward_dynamics(batch):
    t, i = batch.steps(), batch.index(0, batch.T - 2)[:, None]
    return batch.masks(t == i, t == i), batch.masks(t == i + 1, False)


def backward_dynamics(batch):
    """The state before a known action that led to a known state (the paper's figure labels it inverse dynamics)."""
    t, i = batch.steps(), batch.index(1, batch.T - 1)[:, None]
    return batch.masks(t == i, t == i - 1), batch.masks(t == i - 1, False)


def inverse_dynamics(batch):
    """The action between two known states."""
    t, i = batch.steps(), batch.index(0, batch.T - 2)[:, None]
    return batch.masks((t == i) | (t == i + 1), False), batch.masks(False, t == i)


def random(batch, first_return=None):
    """Each sequence draws p, then hides each state and each action with probability p; its return shows half the time."""
    p = batch.probability()[:, None, None]
    hidden = batch.uniform(batch.B, batch.T, 2) < p
    states, actions = hidden.unbind(-1)
    if first_return is None:
        first_return = batch.uniform(batch.B) < 0.5
    return batch.masks(~states, ~actions, first_return), batch.masks(states, actions)


def random_bc(batch):
    return random(batch, first_return=False)


def random_rc(batch):
    return random(batch, first_return=True)


def span(batch, a=None, b=None):
    """States a..b-1 and actions max(a-1, 0)..b-1 are hidden; a < b are drawn if not given."""
    if a is None:
        length = batch.index(1, batch.T)
        a = (batch.probability() * (batch.T - length + 1)).long()
        a, b = a[:, None], (a + length)[:, None]
    elif not 0 <= a < b <= batch.T:
        raise ValueError(f"span({a},{b}) does not fit a context of {batch.T}: it needs 0 <= a < b <= {batch.T}")
    t = batch.steps()
    states, actions = (t >= a) & (t < b), (t >= a - 1) & (t < b)
    return batch.masks(~states, ~actions), batch.masks(states, actions)


def dt_bc(batch, first_return=False, past_actions=True):
    """Everything is shown and every action predicted: for causal models only, which cannot look at the answer."""
    return batch.masks(True, past_actions, first_return), batch.masks(False, True)


def dt_rc(batch):
    return dt_bc(batch, first_return=True)


def dt_bc_states(batch):
    """Every action predicted from states alone, as behavior_cloning_states."""
    return dt_bc(batch, past_actions=False)


def dt_rc_states(batch):
    return dt_bc(batch, first_return=True, past_actions=False)


TASKS = {
    task.__name__: task
    for task in (
        behavior_cloning,
        reward_conditioned,
        goal_conditioned,
        waypoint,
        past,
        future,
        forward_dynamics,
        backward_dynamics,
        inverse_dynamics,
        behavior_cloning_states,
        reward_conditioned_states,
        random,
        random_bc,
        random_rc,
        span,
        dt_bc,
        dt_rc,
        dt_bc_states,
        dt_rc_states,
    )
}
MIXTURE = list(TASKS)[:8]  # what "all" mixes, and the columns of the paper's heatmap
TASKS["all"] = lambda batch: draw("all", *batch)
SPAN = re.compile(r"span\((\d+),\s*(\d+)\)")


# Tasks that predict a single timestep of each sequence: nothing else need be computed of it.
ONE_TIMESTEP = (
    "behavior_cloning",
    "reward_conditioned",
    "goal_conditioned",
    "waypoint",
    "forward_dynamics",
    "backward_dynamics",
    "inverse_dynamics",
    "behavior_cloning_states",
    "reward_conditioned_states",
)
CAUSAL_ONLY = ("dt_bc", "dt_rc", "dt_bc_states", "dt_rc_states")
CAUSAL = CAUSAL_ONLY + (
    "behavior_cloning",
    "reward_conditioned",
    "behavior_cloning_states",
    "reward_conditioned_states",
)


def can(model_kind, task):
    """Whether a kind of model ("unimask", "nn", "dt") can do a task: "dt" sees only the past, the others see everything."""
    causal = [name in CAUSAL for name in parse(task)]
    return all(causal) if model_kind == "dt" else not any(name in CAUSAL_ONLY for name in parse(task))


def check(model_kind, task):
    """Raise ValueError unless the kind of model can do the task."""
    if not can(model_kind, task):
        able = ", ".join(name for name in TASKS if can(model_kind, name))
        raise ValueError(f"the model {model_kind!r} cannot do the task {task!r}; it can do {able}")


def _draw_one(name, batch):
    if match := SPAN.fullmatch(name):
        return span(batch, int(match[1]), int(match[2]))
    return TASKS[name](batch)


# ---------------------------------------------------------------------------------------------------------------------
# Return modes


RETURN_MODES = ("hidden", "first", "all", "first_half", "all_half", "unchanged")


def set_returns(see, mode, batch):
    """Set which returns-to-go are seen. first: at t=0 only; *_half: in each sequence with probability 1/2."""
    if mode not in RETURN_MODES:
        raise ValueError(f"there is no return mode {mode!r}; modes are {', '.join(RETURN_MODES)}")
    if mode == "unchanged":
        return see
    shown = (batch.steps() == 0) if mode.startswith("first") else torch.ones_like(see[..., RETURN])
    if mode == "hidden":
        shown = torch.zeros_like(see[..., RETURN])
    if mode.endswith("_half"):
        shown = shown & (batch.uniform(batch.B, 1) < 0.5)
    see = see.clone()
    see[..., RETURN] = shown
    return see


def asked_timestep(predict):
    """(B, 1): the timestep that each sequence predicts, of a task in ONE_TIMESTEP. predict: (B, T, 3)."""
    return predict.any(dim=-1).byte().argmax(dim=1, keepdim=True)


def picture(see, predict):
    """Three lines of text for one sequence's masks (T, 3): # seen, ? predicted, . hidden and not asked for."""
    symbols = [["#" if s else "?" if p else "." for s, p in zip(*rows)] for rows in zip(see.T, predict.T)]
    return "\n".join(f"  {group.lower():7s} {' '.join(row)}" for group, row in zip(GROUPS, symbols))


if __name__ == "__main__":
    for name in TASKS:
        see, predict = draw(name, 1, 10, torch.Generator().manual_seed(0))
        print(f"{name}\n{picture(see[0], predict[0])}")
