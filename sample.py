"""Ask a trained model anything: name what is known and what is wanted; get marginals and samples.

    python sample.py --trajectory=17 --see="state[0],state[9]" --predict="action[:],state[1:9]"
    python sample.py --task=past --order=backward --samples=1000
    python sample.py --given="agent_pos[0]=5,key_pos[0]=2" --world --picture=walk.gif

What is known, and what is wanted, is named like this:

    state[0], state[9]           every state factor at t=0 and t=9; groups: state, action, return
    action[:], agent_pos[1:9]    slices as in Python, and single factors by name
    agent_pos[0]=5               an entry with its value; position[0]=(1.0, 2.5) if continuous

Known values come from a held-out trajectory, or from --given. Marginals take one forward pass.
Joint samples are filled in entry by entry, each conditioned on those before it, so the product of
the probabilities met on the way is the likelihood of the whole, by the chain rule. A perfect model
would find the same in every order. Before this: masks.py, model.py. Read next: plot.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import contextlib
import difflib
import math
import os
import re
from typing import NamedTuple

import torch

import checkpoint
import checks
import data
import evaluate
import files
import masks
import model
import plot
import rollout
import worlds

# ---- settings ------------------------------------------------------------------------------------
out_dir = "out/run"  # a folder that train.py made
trajectory = 0  # known values come from this one of the split; negative: counted from its end
split = "val"  # trajectories that chose the checkpoint; "test": that training saw nothing of
start = 0  # timestep of the trajectory at which the window begins
see = ""  # what is known, e.g. "state[0],state[9]", in the language above
predict = ""  # what is wanted; empty: what the task predicts, or all that is not seen
task = ""  # shorthand: see, and by default predict, what this task does, e.g. "past", "span(3,8)"
given = ""  # values to see in place of the trajectory's, e.g. "agent_pos[0]=5,action[2]=1"
samples = 100  # joint samples; 0: marginals only
order = "forward"  # in which to fill in a sample: "forward", "backward", "random", "confidence"
temperature = 1.0  # 0: the most probable value
unit = "auto"  # to fill in at a time: a "factor", a "group"; "auto": what the model was trained for
world = False  # let the world give the states, and the model only the actions
env = None  # with world: a Gymnasium environment, e.g. "Hopper-v5"; None: the data's own world
horizon = 0  # with world: steps to play; 0: the window's length
exact = False  # also print and draw the exact posterior (DoorKey)
picture = ""  # file to draw to, .png or .gif (animated); empty: answer.png in out_dir
seed = 0  # of all samples
device = "cpu"  # where the model computes, e.g. "cuda"
# --------------------------------------------------------------------------------------------------

ORDERS = ("forward", "backward", "random", "confidence")
UNITS = ("factor", "group")
ALLOWED = {"split": ("val", "test"), "order": ORDERS, "unit": ("auto", *UNITS), "seed": (0, 2**63)}
ALLOWED |= dict.fromkeys(("samples", "temperature", "horizon"), (0, math.inf))


class Query(NamedTuple):
    """What is known and what is wanted of B windows of T timesteps. Masks are per factor."""

    values: dict  # {factor: (B, T) classes or (B, T, k) numbers}; only seen entries are read
    see: dict  # {factor: (B, T) bool}
    predict: dict  # {factor: (B, T) bool}, disjoint from `see`


def query(values, factors, see="", predict="", task="", given="", generator=None, predicted=(),
          returns="unchanged"):  # fmt: skip
    """A Query about windows of trajectories, from text in the query language.

    values: {factor: (B, T) or (B, T, k) tensor}, and "timestep" (B, T) for a model that has a table
    of timesteps (data.Windows gives both). task: adds to `see`, and says what is wanted if
    `predict` does not; drawn with the torch.Generator. given: values that replace those of the
    windows, and are seen. Without `predict` or a task, all that is not seen of the factors
    `predicted` is wanted (a network's; by default the states and actions). returns: those that a
    task shows, one of masks.RETURN_MODES.
    Raises ValueError for text that is malformed or leaves nothing to predict.
    """
    B, T = values[factors[0].name].shape[:2]
    values = {name: x.clone() for name, x in values.items()}
    shown = {f.name: torch.zeros(B, T, dtype=torch.bool) for f in factors}
    wanted = {name: mask.clone() for name, mask in shown.items()}
    for name, t in parse(see, factors, T):
        shown[name][:, t] = True
    for name, t in parse(predict, factors, T):
        wanted[name][:, t] = True
    for (name, t), value in parse(given, factors, T, with_values=True).items():
        values[name][:, t], shown[name][:, t] = torch.tensor(value), True
        if f"{name}/known" in values:
            values[f"{name}/known"][:, t] = True
    if task:
        generator = generator or torch.Generator().manual_seed(0)
        drawn = masks.draw(task, B, T, generator, returns=returns)
        task_see, task_predict = (masks.expand(mask, factors) for mask in drawn)
        shown = {name: shown[name] | task_see[name] for name in shown}
        wanted = wanted if predict else task_predict
    shown = masks.known_only(shown, values, factors)  # the data do not know all that may be asked
    if not predict and not task:
        for f in predicted or [f for f in factors if f.group != "RETURN"]:
            wanted[f.name] = ~shown[f.name]
    # A short trajectory knows nothing after its end: that is wanted only if it is named.
    known = [values.get(f"{f.name}/known", wanted[f.name] | True) for f in factors]  # (B, T) each
    there = torch.stack(known).any(0) | bool(predict)
    wanted = {name: mask & ~shown[name] & there for name, mask in wanted.items()}
    if not any(mask.any() for mask in wanted.values()):
        raise ValueError("nothing is left to predict: what is asked is seen, or after the end")
    return Query(values, shown, wanted)


def check(network, asked, order="forward", unit="factor"):
    """Raise ValueError for an unknown order or unit, and for what the network cannot answer."""
    configurator.check({"order": order, "unit": unit}, {"order": ORDERS, "unit": UNITS})
    kind, able = network.config.model_type, [f.name for f in network.predicted]
    for name, mask in asked.predict.items():
        if mask.any() and name not in able:
            raise ValueError(f"the model {kind!r} predicts {', '.join(able)}, and not {name}")
    wanted = torch.stack(list(asked.predict.values())).any(0)  # (B, T)
    seen = torch.stack(list(asked.see.values())).any(0)
    later = wanted.cumsum(dim=1) > wanted  # timesteps after the first wanted one
    beside = any((asked.see[f.name] & wanted).any() for f in network.predicted)  # of more actions
    # A causal model would overlook what is seen there, and answer another question than was asked.
    if kind == "dt" and (order != "forward" or (seen & later).any() or beside):
        rule = "order='forward', and see no action with what is wanted, and nothing after it"
        raise ValueError(f"the causal model 'dt' looks only back: {rule}")


# --------------------------------------------------------------------------------------------------
# Answers: marginals, joint samples, likelihoods


def marginals(network, values, see):
    """Each entry by itself, given what is seen, from one forward pass.

    Returns {factor: (B, T, classes) probabilities, or (B, T, k) means in raw units, perhaps with
    "NAME/log_variance"}.
    """
    answers = evaluate.answer(network, values, see)
    for f in (f for f in network.predicted if f.kind == "categorical"):
        answers[f.name] = answers[f.name].softmax(dim=-1)
    return answers


def sample(network, asked, n, generator, order="forward", temperature=1.0, unit="factor"):
    """n joint samples of what a query wants, given what it sees, for each of its B rows.

    order: one of ORDERS; "random" draws one for each sample, "confidence" fills in the entry of
    lowest entropy next. temperature: divides logits; 0: the most probable values. unit: fill in a
    "factor" at a time, or all states of a timestep (a "group"), as if they were independent: for
    models trained without factor_hiding, which never met half a group.
    Returns {factor: (B, n, T) or (B, n, T, k)} with what was not wanted as it was, and each
    sample's log-probability (B, n) in nats, at temperature 1 (NaN where there are only means).
    Raises ValueError as check(), and for n or a temperature out of range.
    """
    configurator.check({"samples": n}, {"samples": (1, math.inf)})
    configurator.check({"temperature": temperature}, {"temperature": (0, math.inf)})
    copies = [{name: x.repeat_interleave(n, dim=0) for name, x in part.items()} for part in asked]
    values, nats = fill(network, Query(*copies), order, unit, generator, temperature)
    return {name: x.unflatten(0, (-1, n)) for name, x in values.items()}, nats.view(-1, n)


def log_likelihood(network, asked, order="forward", unit="factor", generator=None):
    """(B,) float64 log p(the query's wanted values | its seen ones), in nats, by the chain rule.

    generator: for the order "random". Raises ValueError as check(), for mere means, and for wanted
    values that the data do not know.
    """
    for name, mask in asked.predict.items():
        if (mask & ~asked.values.get(f"{name}/known", mask)).any():
            raise ValueError(f"the data do not know all of {name} whose likelihood is asked for")
    nats = fill(network, asked, order, unit, generator, temperature=None)[1]
    if nats.isnan().any():
        raise ValueError("a likelihood needs more than means: train with --head=gaussian")
    return nats


def fill(network, asked, order, unit, generator, temperature):
    """Fill in the wanted entries in some order: the loop behind samples and likelihoods.

    temperature: of the draws; None fills in the true values, those that the query holds.
    Returns the values, and the (B,) float64 log-probability of what was filled in.
    """
    check(network, asked, order, unit)
    values, see = ({name: x.clone() for name, x in part.items()} for part in asked[:2])
    # at each timestep the state before the action that answers it
    factors = sorted(network.predicted, key=lambda f: ("RETURN", "STATE", "ACTION").index(f.group))
    wanted = torch.stack([asked.predict[f.name] for f in factors], dim=2)  # (B, T, F)
    B, T, F = wanted.shape
    rows, total = torch.arange(B), torch.zeros(B, dtype=torch.float64)
    turn = torch.arange(T * F).double().expand(B, -1).view(B, T, F)  # the lowest is filled in next
    if order == "backward":
        turn = -turn
    if order == "random":
        turn = torch.rand(B, T, F, generator=generator)
    while wanted.any():
        outputs = evaluate.answer(network, values, see)  # {factor: (B, T, ...)}
        if order == "confidence":
            turn = torch.stack([entropy(f, outputs) for f in factors], dim=2)
        entry = turn.masked_fill(~wanted, math.inf).flatten(1).argmin(dim=1)  # (B,)
        t, chosen = entry // F, entry % F
        for number, f in enumerate(factors):
            mates = [g == f or (unit == "group" and g.group == f.group) for g in factors]
            row = rows[wanted[rows, t, number] & torch.tensor(mates)[chosen]]
            if not len(row):
                continue
            at = row, t[row]  # the entries of this factor that are filled in
            own, new = {name: y[at] for name, y in outputs.items()}, values[f.name][at]
            if temperature is not None:
                new = rollout.draw(f, own, temperature, generator)
            distribution = model.distribution(f, own)
            total[row] += distribution.log_prob(new) if distribution else math.nan
            values[f.name][at], see[f.name][at] = new, True
            wanted[(*at, number)] = False
    return values, total


def entropy(f, outputs):
    """(B, T) nats of each entry of a factor; 0 where there is only a mean."""
    distribution = model.distribution(f, outputs)
    return distribution.entropy() if distribution else torch.zeros(outputs[f.name].shape[:2])


# --------------------------------------------------------------------------------------------------
# The query language: a line of text that names entries of a trajectory, as the docstring shows it

# Each part of an item is optional and holds the next one: a match ends where a mistake begins.
NAME = r"[^\W\d](?:\w|[^\x00-\x7f\s])*"  # vowel signs of some alphabets are no \w
INDEX = r"\[\s*(?P<index>[\d:+\-\s]*)(?:(?P<close>\])\s*%s)?"
ENTRY = rf"\s*(?:(?P<name>{NAME})\s*(?:{INDEX})?)?"
VALUE = r"(?:=\s*(?:(?P<value>\([^()]*\)|[^\s,()]+)\s*)?)?"
ITEM = {False: re.compile(ENTRY % ""), True: re.compile(ENTRY % VALUE)}
PARTS = {"name": "a name", "index": "'['", "close": "']'", "value": "'=' and a value"}
EXAMPLE = {False: "state[0], action[1:9]", True: "agent_pos[0]=5, position[0]=(1.0, 2.5)"}


def parse(text, factors, T, with_values=False):
    """{(factor name, timestep): value or None} of the comma-separated items of a text.

    Raises ValueError: one sentence on what is wrong, at which character, with an example.
    """
    known, entries, position = names_of(factors), {}, 0
    while text.strip() and position <= len(text):
        item, part = ITEM[with_values].match(text, position), None  # part: the one being read
        try:
            if missing := [PARTS[name] for name, x in item.groupdict().items() if x is None]:
                raise ValueError(f"expected {missing[0]}")
            part = "name"
            names, value = known.get(item["name"]), None
            if not names:
                near = difflib.get_close_matches(item["name"], known, n=1) or known
                hint = f"did you mean {' or '.join(map(repr, near))}?"
                raise ValueError(f"there is no group or factor {item['name']!r}; {hint}")
            if with_values and len(names) > 1:
                raise ValueError(f"only a factor has a value, so write {' or '.join(names)}")
            part = "index"
            timesteps = parse_timesteps(item["index"], T)
            if with_values:
                part = "value"
                value = parse_value(item["value"], [f for f in factors if f.name == names[0]][0])
            for name, t in [(name, t) for name in names for t in timesteps]:
                if entries.setdefault((name, t), value) != value:
                    raise ValueError(f"{name}[{t}] has another value already")
            part = None
            if item.end() < len(text) and text[item.end()] != ",":
                raise ValueError("items are separated by commas")
        except ValueError as error:
            at = item.start(part) if part else item.end()
            here = f"character {at + 1}" if at < len(text) else "the end"
            example = f"example: {EXAMPLE[with_values]!r}"
            raise ValueError(f"malformed query at {here} of {text!r}: {error}; {example}") from None
        position = item.end() + 1
    return entries


def parse_timesteps(text, T):
    """The timesteps of an index or a slice, as Python reads them. Raises ValueError."""
    with contextlib.suppress(ValueError, TypeError, IndexError):
        bounds = [int(part) if part.strip() else None for part in text.split(":")]
        if chosen := range(T)[slice(*bounds)] if ":" in text else [range(T)[bounds[0]]]:
            return chosen
    rule = f"outside of {T} timesteps, or not like [3], [-1] or [1:9:2]"
    raise ValueError(f"[{' '.join(text.split())}] is {rule}")


def parse_value(text, factor):
    """A class, or the tuple of numbers of a continuous factor. Raises ValueError."""
    numbers = tuple(float(part) for part in text.strip("()").split(","))
    if factor.kind == "categorical":
        if len(numbers) != 1 or numbers[0] not in range(factor.size):
            raise ValueError(f"{factor.name} is a class from 0 to {factor.size - 1}")
        return int(numbers[0])
    if len(numbers) != factor.size or not torch.tensor(numbers).isfinite().all():
        raise ValueError(f"{factor.name} has {factor.size} dimensions, each a finite number")
    return numbers


def names_of(factors):
    """{name in a query: the factors it stands for}; a factor's own name wins over a group's."""
    names = {}
    for f in factors:
        names.setdefault(f.group.lower(), []).append(f.name)
    return names | {f.name: [f.name] for f in factors}


def main():
    configurator.check(globals(), ALLOWED)
    if not world and (horizon or env):
        raise ValueError("horizon and env are of an episode that is played: with --world")
    path = picture or os.path.join(out_dir, "answer.png")
    if not path.endswith((".png", ".gif")):
        raise ValueError(f"picture={path!r} must end in .png, or in .gif for an animation")
    files.check_writable(path)
    network, trained = checkpoint.open_run(out_dir, device)
    source = worlds.source_of(trained)
    T, sizes = network.config.context + horizon, sum(f.size for f in network.factors)
    configurator.check_memory(4 * samples * T * sizes, f"samples={samples} of {T} timesteps")
    held_out = worlds.evaluation_set(*source, split)
    checks.fit(network, held_out, trained["dataset"])
    window, facts = one_window(held_out, network.config.context), worlds.WORLDS.get(held_out.world)
    generator = torch.Generator().manual_seed(seed)
    texts, returns = (see, predict, task, given), trained.get("returns", "unchanged")
    asked = query(window, network.factors, *texts, generator, network.predicted, returns)
    check(network, asked, order)
    named = parse(see, network.factors, network.config.context)
    unknown = [f"{name}[{t}]" for name, t in named if not asked.see[name][0, t]]
    if unknown:
        print(f"not seen, since the data do not know it: {', '.join(unknown)}")
    answers = {"model": marginals(network, asked.values, asked.see)}
    if exact:
        answers["exact"] = exact_posterior(facts, held_out, asked)
    drawn, known = None, {name: (asked.see[name] | asked.predict[name])[0] for name in asked.see}
    if world:
        drawn, rewards = play(network, asked, held_out.world or trained["dataset"], generator)
        known = {name: torch.ones(rewards.shape[1], dtype=torch.bool) for name in known}
        earned = rewards.sum(axis=1).mean()
        print(f"{len(rewards)} completions with the world's own dynamics: mean return {earned:.3f}")
        tell_arrivals(drawn, asked, network.factors)
        steps = max(rewards.shape[1], network.config.context)
        window = one_window(held_out, min(steps, held_out.lengths[trajectory]))
    elif samples:
        fitting = "factor" if trained.get("factor_hiding") else "group"
        options = order, temperature, fitting if unit == "auto" else unit
        drawn, nats = sample(network, asked, samples, generator, *options)
        drawn = {name: x[0] for name, x in drawn.items()}
        likelihood = "" if nats.isnan().any() else f", mean log-probability {nats.mean():.3f} nats"
        print(f"{samples} joint samples{likelihood}")
    if drawn and facts and facts.valid:
        tell_valid(facts.valid, network.factors, drawn, known)
    tell(asked, answers, network.factors)
    plot.answer(path, held_out.world, asked, answers, drawn, known, None if given else window)


def one_window(trajectories, context):
    """The window that the settings name: {factor: (1, T) or (1, T, k) tensor}, and "timestep"."""
    configurator.check(globals(), {"trajectory": (-len(trajectories), len(trajectories))})
    one = trajectories[[trajectory]]
    configurator.check(globals(), {"start": (0, max(1, one.lengths[0] - context + 1))})
    zero = torch.zeros(1, dtype=torch.long)
    return data.Windows(one, context).at(zero, zero + start)


def exact_posterior(facts, trajectories, asked):
    """What the exact posterior answers to a query, as marginals() does."""
    values = {f.name: asked.values[f.name].numpy() for f in trajectories.factors}
    whole = data.Trajectories(trajectories.factors, values, trajectories.world)
    if not facts or not facts.posterior or whole.lengths[0] < trajectories.lengths[0]:
        raise ValueError("exact=True: only whole trajectories of DoorKey have an exact posterior")
    returns = any(asked.predict[f.name].any() for f in whole.factors if f.group == "RETURN")
    posterior = facts.posterior(whole, asked.see, returns)
    return {name: torch.as_tensor(p) for name, p in posterior.items()}


def play(network, asked, name, generator):
    """Complete a query in a world, which gives the states. Returns as rollout.play()."""
    if start:
        raise ValueError(f"start={start}: in the world a query begins where an episode does, at 0")
    stage = worlds.stage(name, env, max(1, samples), seed, network.factors)
    if not env:  # an environment of Gymnasium begins where it likes
        first = {state: asked.values[state][0, 0].numpy() for state in stage.observe()}
        if not hasattr(stage, "start_at"):
            raise ValueError(f"an episode of {name} begins where it likes: it has no start_at()")
        if unknown := [state for state in first if not asked.see[state][0, 0]]:
            raise ValueError(f"the world begins with a known state: see or give {unknown[0]}[0]")
        stage.start_at(first)
    # what is seen ahead is a condition, such as a goal, until the world gets there
    options = {"temperature": temperature, "horizon": horizon or network.config.context}
    return rollout.play(network, stage, generator=generator, condition=asked[:2], **options)


def tell_valid(valid, factors, drawn, known):
    """Print the share of valid transitions among those between timesteps that are all known."""
    whole = torch.stack([known[f.name] for f in factors if f.group != "RETURN"]).all(0).numpy()
    judged = valid({f.name: drawn[f.name].numpy() for f in factors})  # (n, T-1)
    judged = judged[:, whole[:-1] & whole[1:]]
    if judged.size:
        print(f"{judged.mean():.2%} of their transitions are valid")


def tell_arrivals(drawn, asked, factors):
    """Print how the episodes played met each state that the query sees."""
    for f in (f for f in factors if f.group == "STATE"):
        for t in asked.see[f.name][0, : drawn[f.name].shape[1]].nonzero()[:, 0].tolist():
            off = drawn[f.name][:, t] - asked.values[f.name][0, t]  # (n,) or (n, k)
            if f.kind == "categorical":
                print(f"{(off == 0).double().mean():.1%} of them met {f.name}[{t}]")
            else:
                print(f"they missed {f.name}[{t}] by {off.norm(dim=-1).mean():.3f} on average")


def tell(asked, answers, factors):
    """Print each wanted entry: its three most probable classes, or its mean."""
    for f in (f for f in factors if f.name in answers["model"]):
        for t in asked.predict[f.name][0].nonzero()[:, 0].tolist():
            line = f"{f.name}[{t}]".ljust(16)
            for who, answer in answers.items():
                here = answer[f.name][0, t]  # (classes,) or (k,)
                best = here.topk(min(3, f.size)).indices if f.kind == "categorical" else ()
                text = [f"{value} ({here[value]:.2f})" for value in best]
                text = ", ".join(text or [f"{x:.3f}" for x in here])
                line += f"  {who}: {text}".ljust(44)
            print(line.rstrip())


if __name__ == "__main__":
    configurator.apply(globals())
    main()
