"""The query language: a line of text that names entries of a trajectory, as per-factor masks.

    state[0], state[9]           every state factor at t=0 and t=9 (groups: state, action, return)
    action[:], agent_pos[1:9]    slices as in Python, and single factors by name
    agent_pos[0]=5               an entry with its value; position[0]=(1.0, 2.5) for a continuous factor

A mistake is answered by one sentence that gives the place of it and an example. Read next: sample.py, which asks.
"""

import difflib
import re
from typing import NamedTuple

import torch

import masks
from data import GROUPS

EXAMPLE = "state[0], action[1:9], state[-1]"
INTEGER = r"\s*([+-]?\d{1,9})?\s*"
INDEX = re.compile(rf"{INTEGER}(?:(:){INTEGER}(?::{INTEGER})?)?")  # start, colon, stop, step
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
BLANK, NAME, IN_INDEX = re.compile(r"\s*"), re.compile(r"[A-Za-z_]\w*"), re.compile(r"[\d+\-:\s]*")


class Query(NamedTuple):
    """What is known and what is wanted of B windows of T timesteps. Masks are per factor."""

    values: dict  # {factor: (B, T) classes or (B, T, k) numbers}; only seen entries are read
    see: dict  # {factor: (B, T) bool}
    predict: dict  # {factor: (B, T) bool}, disjoint from `see`; never a return


def query(values, factors, see="", predict="", task="", given="", generator=None):
    """A Query about windows of trajectories, from text.

    values: {factor: (B, T) or (B, T, k) tensor}. see, predict: names of entries, e.g. "state[0],state[9]". task: a name
    in masks.TASKS, drawn with the torch.Generator; it adds to `see` and, unless `predict` says so, what is wanted.
    given: entries with values, as in --set; they replace those of `values` and are seen.
    Without `predict` or a task, every state and action that is not seen is predicted.
    Raises ValueError for text that is malformed or leaves nothing to predict.
    """
    B, T = values[factors[0].name].shape[:2]
    repeat = lambda mask: {name: row.expand(B, T) for name, row in mask.items()}
    shown, wanted = repeat(parse_mask(see, factors, T)), repeat(parse_mask(predict, factors, T))
    if task:
        drawn = masks.draw(task, B, T, generator or torch.Generator().manual_seed(0))
        task_see, task_predict = (masks.expand(mask, factors) for mask in drawn)
        shown = {name: shown[name] | task_see[name] for name in shown}
        wanted = wanted if predict else task_predict
    values = dict(values)
    for name, (set_mask, set_values) in parse_values(given, factors, T).items():
        where = set_mask.view(1, T, *[1] * (values[name].dim() - 2))
        values[name] = torch.where(where, set_values, values[name])
        shown[name] = shown[name] | set_mask
    if not predict and not task:
        wanted = masks.all_hidden(shown, factors)
    for factor in factors:
        if factor.group == "RETURN" and wanted[factor.name].any():
            raise ValueError(f"{factor.name} cannot be predicted: models predict states and actions, and see returns")
    wanted = {name: mask & ~shown[name] for name, mask in wanted.items()}
    if not any(mask.any() for mask in wanted.values()):
        raise ValueError("nothing is left to predict: every entry asked for is also seen")
    return Query(values, shown, wanted)


def parse_mask(text, factors, T):
    """{factor name: (T,) bool} of the entries that a text names; all False for an empty one. Raises ValueError."""
    chosen = {factor.name: torch.zeros(T, dtype=torch.bool) for factor in factors}
    for names, timesteps, _ in _items(text, factors, T, with_values=False):
        for name in names:
            chosen[name][timesteps] = True
    return chosen


def parse_values(text, factors, T):
    """{factor name: ((T,) bool mask, (T,) int64 or (T, k) float32 values)} of the factors that a text sets.

    Raises ValueError, also for a class or a number of dimensions that the factor does not have.
    """
    found = {}
    for (name,), timesteps, value in _items(text, factors, T, with_values=True):
        if name not in found:
            found[name] = torch.zeros(T, dtype=torch.bool), torch.zeros(T, *value.shape, dtype=value.dtype)
        found[name][0][timesteps] = True
        found[name][1][timesteps] = value
    return found


def names_of(factors):
    """{name in a query: the factor names it stands for}: groups in lower case and factors. A factor's own name wins."""
    groups = {group.lower(): [f.name for f in factors if f.group == group] for group in GROUPS}
    return {name: own for name, own in groups.items() if own} | {f.name: [f.name] for f in factors}


def set_example(factor):
    """What --set takes for a factor."""
    return f"{factor.name}[0]=" + ("1" if factor.kind == "categorical" else f"({', '.join(['0.5'] * factor.size)})")


# ---------------------------------------------------------------------------------------------------------------------
# The parser: from left to right; every step knows where it is, to say where it failed


def _items(text, factors, T, with_values):
    """Yield (factor names, timesteps, value tensor or None) of each comma-separated item."""
    scan = Scanner(text, set_example(factors[0]) if with_values else EXAMPLE)
    while text.strip():  # an empty text has no items; after a comma there must be one
        start, names = scan.position, _names(scan, factors)
        timesteps = _timesteps(scan, T)
        value = None
        if with_values:
            if len(names) > 1:
                scan.fail(start, f"one factor at a time gets a value, so write {' or '.join(names)}")
            value = _value(scan, next(f for f in factors if f.name == names[0]))
        yield names, timesteps, value
        if scan.at_end():
            return
        scan.expect(",", "items are separated by commas")


class Scanner:
    """A text and the position in it."""

    def __init__(self, text, example):
        self.text, self.position, self.example = text, BLANK.match(text).end(), example

    def at_end(self):
        return self.position == len(self.text)

    def take(self, pattern):
        """Move over what the pattern matches here, and the blanks after it; None if nothing does."""
        match = pattern.match(self.text, self.position)
        if match:
            self.position = BLANK.match(self.text, match.end()).end()
        return match

    def expect(self, symbol, why):
        if not self.take(re.compile(re.escape(symbol))):
            self.fail(self.position, f"expected {symbol!r}: {why}")

    def fail(self, position, problem):
        here = f"character {position + 1}" if position < len(self.text) else "the end"
        raise ValueError(f"malformed query at {here} of {self.text!r}: {problem}; example: {self.example!r}")


def _names(scan, factors):
    known, start, match = names_of(factors), scan.position, scan.take(NAME)
    if not match:
        scan.fail(start, f"expected a name, one of {', '.join(known)}")
    if match[0] not in known:
        near = difflib.get_close_matches(match[0], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"names are {', '.join(known)}"
        scan.fail(start, f"there is no group or factor {match[0]!r}; {hint}")
    return known[match[0]]


def _timesteps(scan, T):
    """The list of timesteps of an index or slice in brackets."""
    scan.expect("[", "a name is followed by a timestep or a slice in brackets")
    start, content = scan.position, scan.take(IN_INDEX)[0]
    scan.expect("]", "in brackets stands a timestep or a slice, such as 3, -1, 1:9 or ::2")
    match = INDEX.fullmatch(content)
    if not match or not content.strip():
        scan.fail(start, "in brackets stands a timestep or a slice, such as 3, -1, 1:9 or ::2")
    first, colon, stop, step = match.groups()
    first, stop, step = (None if part is None else int(part) for part in (first, stop, step))
    if not colon:
        if not -T <= first < T:
            scan.fail(start, f"timestep {first} is outside a window of {T} timesteps")
        return [first % T]
    if step == 0:
        scan.fail(start, "the step of a slice cannot be 0")
    timesteps = list(range(T)[first:stop:step])
    if not timesteps:
        scan.fail(start, f"the slice selects none of the {T} timesteps")
    return timesteps


def _value(scan, factor):
    """The tensor after "=": a class, or a number per dimension, in parentheses if there are several."""
    scan.expect("=", "an entry that is set needs a value")
    start, numbers = scan.position, []
    bracketed = scan.take(re.compile(r"\("))
    while True:
        position, number = scan.position, scan.take(NUMBER)
        if not number:
            scan.fail(position, "expected a number")
        numbers.append(number[0])
        if not bracketed or not scan.take(re.compile(",")):
            break
    if bracketed:
        scan.expect(")", "several numbers stand in parentheses")
    if factor.kind == "continuous":
        if len(numbers) != factor.size:
            scan.fail(start, f"{factor.name} has {factor.size} dimensions, not {len(numbers)}")
        value = torch.tensor([float(number) for number in numbers])
        if not value.isfinite().all():
            scan.fail(start, "a number is too large")
        return value
    if bracketed or not numbers[0].isdigit() or len(numbers[0]) > 9 or int(numbers[0]) >= factor.size:
        scan.fail(start, f"{factor.name} is a class from 0 to {factor.size - 1}")
    return torch.tensor(int(numbers[0]))
