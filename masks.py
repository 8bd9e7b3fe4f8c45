"""Every task as a pair of boolean masks: what the model is shown, and where the loss is taken.

A timestep has factors, such as position and action (data.py). Each belongs to one of three groups;
RETURN is the return-to-go, the rewards still to come. Masks are (B, T, 3): sequence, timestep, group
in the order STATE, ACTION, RETURN. Choosing what is hidden chooses the task. So a new task is one
function here, and one entry in TASKS.

    python masks.py                    # draw one example of every task

    behavior_cloning                     reward_conditioned                 (at i = 5)
      state   # # # # # . . . . .          state   # # # # # . . . . .
      action  # # # # ? . . . . .          action  # # # # ? . . . . .
      return  . . . . . . . . . .          return  # . . . . . . . . .
              # seen   ? predicted   . hidden, and not asked for

Throughout, i says where a sequence is cut; each draws its own. Source: Uni[MASK], sections 3, 4.
Read next: model.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import difflib
import re
from functools import partial
from typing import NamedTuple

import torch

from data import GROUPS

STATE, ACTION, RETURN = range(3)


class Batch(NamedTuple):
    """The size of a batch of masks, and where its randomness comes from."""

    B: int
    T: int
    generator: torch.Generator
    balanced: bool  # spread draws evenly over their range, so that validation has less noise

    def index(self, low, high):
        """(B,) integers, each low..high with equal probability (balanced: equally often)."""
        if high < low:
            raise ValueError(f"a context of {self.T} is too short for a timestep in {low}..{high}")
        device, n = self.generator.device, high - low + 1
        if self.balanced:  # fewer sequences than timesteps: each timestep is still equally probable
            order = torch.randperm(max(self.B, n), generator=self.generator, device=device)
            return low + order[: self.B] % n
        return torch.randint(low, high + 1, (self.B,), generator=self.generator, device=device)

    def uniform(self, *shape):
        """Numbers uniform in [0, 1), of the given shape."""
        return torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def probability(self):
        """(B,) numbers uniform in [0, 1) (balanced: one in each interval of width 1/B)."""
        uniform = self.uniform(self.B)
        if self.balanced:  # rounding must not make it 1
            uniform = ((self.permutation() + uniform) / self.B).clamp(max=1 - 2**-24)
        return uniform

    def permutation(self):
        """(B,) the numbers 0..B-1 in random order."""
        return torch.randperm(self.B, generator=self.generator, device=self.generator.device)

    def steps(self):
        """(1, T) timesteps, to be compared with a (B, 1) index."""
        return torch.arange(self.T, device=self.generator.device)[None]

    def masks(self, states, actions, first_return=False):
        """(B, T, 3) from masks of states and actions, each a bool or (B or 1, T).

        first_return: whether the return-to-go at t=0 is in the mask, a bool or (B,).
        """
        mask = torch.zeros(self.B, self.T, 3, dtype=torch.bool, device=self.generator.device)
        mask[..., STATE], mask[..., ACTION] = states, actions
        mask[:, 0, RETURN] = first_return
        return mask


# --------------------------------------------------------------------------------------------------
# The tasks. Each takes a Batch and returns (see, predict), bool tensors (B, T, 3).


def control(batch, i=None, first_return=False, past_actions=True, known_states=False):
    """What now? States 0..i-1 and actions 0..i-2 are seen; only action i-1 is predicted.

    i: (B,), by default 1..T. first_return: show the return-to-go at t=0. known_states: states that
    are seen as well, (1, T). past_actions: without them a policy cannot copy its own noise.
    """
    i = batch.index(1, batch.T) if i is None else i
    t, i = batch.steps(), i[:, None]  # (1, T), (B, 1)
    see = batch.masks((t < i) | known_states, (t < i - 1) & past_actions, first_return)
    return see, batch.masks(False, t == i - 1)


def goal_conditioned(batch):
    last = batch.steps() == batch.T - 1
    return control(batch, batch.index(1, batch.T - 1), known_states=last)


def waypoint(batch):
    t, T = batch.steps(), batch.T
    waypoints = (t == 0) | (t == T // 3) | (t == 2 * T // 3) | (t == T - 1)
    return control(batch, known_states=waypoints)


def future(batch):
    """What comes next? All states from i on, and all actions from i-1 on."""
    t, i = batch.steps(), batch.index(1, batch.T)[:, None]
    return batch.masks(t < i, t < i - 1), batch.masks(t >= i, t >= i - 1)


def past(batch):
    """What led here? All states and actions before i."""
    t, i = batch.steps(), batch.index(1, batch.T)[:, None]
    return batch.masks(t >= i, t >= i), batch.masks(t < i, t < i)


def forward_dynamics(batch):
    """The state after a known state and action."""
    t, i = batch.steps(), batch.index(0, batch.T - 2)[:, None]
    return batch.masks(t == i, t == i), batch.masks(t == i + 1, False)


def backward_dynamics(batch):
    """The state before a known action that led to a known state.

    The paper's figure labels it inverse dynamics.
    """
    t, i = batch.steps(), batch.index(1, batch.T - 1)[:, None]
    return batch.masks(t == i, t == i - 1), batch.masks(t == i - 1, False)


def inverse_dynamics(batch):
    """The action between two known states: what the field means by the name."""
    t, i = batch.steps(), batch.index(0, batch.T - 2)[:, None]
    return batch.masks((t == i) | (t == i + 1), False), batch.masks(False, t == i)


def return_to_go(batch):
    """What was it worth? All states and actions are seen, and every return is predicted."""
    see, predict = batch.masks(True, True), batch.masks(False, False)
    predict[..., RETURN] = True
    return see, predict


def return_backup(batch):
    """What is it worth from here? State and action at i are seen, and the return-to-go at i+1.

    After the last timestep there is none to be seen.
    """
    t, i = batch.steps(), batch.index(0, batch.T - 1)[:, None]
    see, predict = batch.masks(t == i, t == i), batch.masks(False, False)
    see[..., RETURN], predict[..., RETURN] = t == i + 1, t == i
    return see, predict


def random(batch, p=None, first_return=None, ask_return=False):
    """Each sequence draws p, then hides each state and each action with probability p.

    p: a number, the same for all sequences. first_return: whether the return-to-go at t=0 shows;
    None: in half of the sequences. ask_return: where it does not show, it is predicted.
    """
    p = batch.probability()[:, None, None] if p is None else p  # (B, 1, 1)
    states, actions = (batch.uniform(batch.B, batch.T, 2) < p).unbind(-1)  # hidden ones, (B, T)
    if first_return is None:
        first_return = batch.uniform(batch.B) < 0.5
    see = batch.masks(~states, ~actions, first_return)
    asked = ~see[:, 0, RETURN] if ask_return else False
    return see, batch.masks(states, actions, asked)


def random_autoregressive(batch):
    """As random, but from some state or action on nothing is seen (MTM)."""
    see, _ = random(batch)
    t, cut = batch.steps(), batch.index(1, 2 * batch.T - 1)[:, None]  # s0 a0 s1 a1 ...: 0 1 2 3
    see[..., STATE] &= 2 * t < cut
    see[..., ACTION] &= 2 * t + 1 < cut
    return see, batch.masks(~see[..., STATE], ~see[..., ACTION])


def random_control(batch):
    """What now, given any part of the past and the future? Only action i-1 is predicted.

    State i-1 is seen. Of past states a sequence sees none, all, or a random share, with equal
    probability; and so, each by itself, of past actions and of future states.
    """
    t, i = batch.steps(), batch.index(1, batch.T)[:, None]

    def some():
        p = (3 * batch.probability()[:, None] - 1).clamp(0, 1)  # (B, 1): 0, 1 or between
        return batch.uniform(batch.B, batch.T) < p

    states = torch.where(t < i - 1, some(), some()) | (t == i - 1)
    see = batch.masks(states, some() & (t < i - 1), batch.uniform(batch.B) < 0.5)
    return see, batch.masks(False, t == i - 1)


def span(batch, a=None, b=None):
    """States a..b-1 and actions max(a-1, 0)..b-1 are hidden; a < b are drawn if not given."""
    if a is None:
        length = batch.index(1, batch.T)
        a = (batch.probability() * (batch.T - length + 1)).long()
        a, b = a[:, None], (a + length)[:, None]
    elif not 0 <= a <= b <= batch.T or b == 0:
        fits = f"it needs 0 <= a <= b <= {batch.T}, and b > 0"
        raise ValueError(f"span({a},{b}) does not fit a context of {batch.T}: {fits}")
    t = batch.steps()
    states, actions = (t >= a) & (t < b), (t >= a - 1) & (t < b)
    return batch.masks(~states, ~actions), batch.masks(states, actions)


def every_action(batch, first_return=False, past_actions=True):
    """Every action is predicted. Where they are seen, only a causal model cannot look them up."""
    return batch.masks(True, past_actions, first_return), batch.masks(False, True)


TASKS = {
    # control: what now?
    "behavior_cloning": control,
    "reward_conditioned": partial(control, first_return=True),
    "behavior_cloning_states": partial(control, past_actions=False),
    "reward_conditioned_states": partial(control, first_return=True, past_actions=False),
    "goal_conditioned": goal_conditioned,
    "waypoint": waypoint,
    # inference: what else happened?
    "past": past,
    "future": future,
    "forward_dynamics": forward_dynamics,
    "backward_dynamics": backward_dynamics,
    "inverse_dynamics": inverse_dynamics,
    # which need a model that predicts returns (return_weight)
    "return_to_go": return_to_go,
    "return_backup": return_backup,
    # anything at all
    "random": random,
    "random_bc": partial(random, first_return=False),
    "random_rc": partial(random, first_return=True),
    "random_return": partial(random, ask_return=True),
    "random_15": partial(random, p=0.15),  # as in BERT
    "random_autoregressive": random_autoregressive,
    "random_control": random_control,
    "span": span,
    # what Decision-GPT is trained on: every action of a window at once
    "dt_bc": every_action,
    "dt_rc": partial(every_action, first_return=True),
    "dt_bc_states": partial(every_action, past_actions=False),
    "dt_rc_states": partial(every_action, first_return=True, past_actions=False),
}
EIGHT = (  # the columns of the paper's heatmap, and what "all" mixes
    "behavior_cloning", "reward_conditioned", "goal_conditioned", "waypoint",
    "past", "future", "forward_dynamics", "backward_dynamics",
)  # fmt: skip
SPAN = re.compile(r"span\((\d{1,4}),\s*(\d{1,4})\)")


# --------------------------------------------------------------------------------------------------
# From a task's name to masks


def parse(task):
    """{name: its share of the sequences} of a task string: "past", "past+future", "random+all".

    The tasks of a mixture share alike; "all" stands for the eight. Raises ValueError that names
    the nearest task.
    """
    known, shares, parts = [*TASKS, "all"], {}, task.split("+")
    for part in parts:
        if part not in known and not SPAN.fullmatch(part):
            near = difflib.get_close_matches(part, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"tasks are {', '.join(known)}"
            hint = "a mixture is written past+future" if "," in part and "(" not in part else hint
            raise ValueError(f"there is no task {part!r}; {hint}")
        names = EIGHT if part == "all" else [part]
        for name in names:
            shares[name] = shares.get(name, 0) + 1 / len(parts) / len(names)
    return shares


def rows_of(task, B):
    """{name: slice}, which rows of a batch of B sequences have which task of a mixture.

    Raises ValueError if there are too few sequences for one of the tasks.
    """
    rows, first, upto = {}, 0, 0.0
    for name, share in parse(task).items():
        upto += share
        rows[name] = slice(first, round(upto * B))
        if rows[name].stop == first:
            raise ValueError(f"a batch of {B} is too small for the mixture {task!r}")
        first = rows[name].stop
    return rows


# Which returns-to-go are seen: those that the task shows, all of them, or those of seen states.
# "all" is for causal models: any other reads each reward off the returns before and after it.
RETURN_MODES = ("unchanged", "all", "with_state")


def draw(task, B, T, generator, balanced=False, returns="unchanged"):
    """Masks of one task for B sequences of T timesteps: (see, predict), bool tensors (B, T, 3).

    task: a name in TASKS, "span(a,b)", or a mixture: rows_of() says which sequence has which task.
    generator: torch.Generator; the masks are made on its device.
    balanced: stratify the draws, for evaluation. returns: one of RETURN_MODES, for what is seen.
    Raises ValueError for an unknown task or mode, or a context too short for it.
    """
    configurator.check({"returns": returns}, {"returns": RETURN_MODES})
    pairs = []
    for name, rows in rows_of(task, B).items():
        batch, match = Batch(rows.stop - rows.start, T, generator, balanced), SPAN.fullmatch(name)
        pairs.append(span(batch, int(match[1]), int(match[2])) if match else TASKS[name](batch))
        for mask in pairs[-1]:
            if mask.dtype != torch.bool or mask.shape != (batch.B, T, 3):
                text = f"the task {name!r} makes masks of {mask.dtype} {tuple(mask.shape)}"
                raise ValueError(f"{text}, not torch.bool {(batch.B, T, 3)}")
    see, predict = (torch.cat(masks) for masks in zip(*pairs))
    if returns != "unchanged":
        see[..., RETURN] = True if returns == "all" else see[..., STATE]
    return see, predict


# --------------------------------------------------------------------------------------------------
# Masks finer than groups


def expand(mask, factors):
    """Per-factor masks {factor: (B, T)} of group masks (B, T, 3); per-factor ones pass unchanged.

    Everything that takes masks (model.py, traits.py, bayes.py) takes either, so part of a token can hide.
    """
    if isinstance(mask, dict):
        return mask
    return {factor.name: mask[..., GROUPS.index(factor.group)] for factor in factors}


def hide_factors(see, predict, factors, probability, generator):
    """Hide each visible factor of each token by itself, with this probability, and ask for it.

    Gives see and predict per factor, {factor: (B, T)}. A return is hidden, too, but never asked for.
    """
    see, predict = expand(see, factors), dict(expand(predict, factors))
    keep = {}
    for factor in factors:
        shown = see[factor.name]
        uniform = torch.rand(shown.shape, generator=generator, device=shown.device)
        keep[factor.name] = shown & (uniform >= probability)
        if factor.group != "RETURN":
            predict[factor.name] = predict[factor.name] | (shown & ~keep[factor.name])
    return keep, predict


def known_only(mask, values, factors):
    """A mask without what is padding or unknown in the data: that is never seen, and never counts.

    So a goal or waypoint after the end of a short trajectory is not shown.
    values: of data.Windows. Without a "NAME/known" among them all is known, and the mask stays.
    """
    if not any(f"{f.name}/known" in values for f in factors):
        return mask
    return {name: x & values.get(f"{name}/known", x) for name, x in expand(mask, factors).items()}


def picture(see, predict):
    """Three lines of text for one sequence's masks (T, 3)."""
    lines = []
    for group, shown, asked in zip(GROUPS, see.T, predict.T):
        row = ["#" if s else "?" if p else "." for s, p in zip(shown, asked)]
        lines.append(f"  {group.lower():7s} {' '.join(row)}")
    return "\n".join(lines)


if __name__ == "__main__":
    configurator.apply(globals())
    for name in TASKS:
        see, predict = draw(name, 1, 10, torch.Generator().manual_seed(0))
        print(f"{name}\n{picture(see[0], predict[0])}")
