"""Dreams: a policy and a model of the dynamics make up trajectories, any number of them.

    python train.py config/minigrid_bc.py && python train.py config/minigrid_forward.py
    python train.py config/dream_returns.py
    python dream.py --out=out/dreams.npz
    python train.py config/minigrid_dream.py

A small behaviour-cloning model and a small forward-dynamics model, trained on the same few
demonstrations, are together a simulator. A masked model that is trained on its dreams learns what
would otherwise take many more demonstrations: that a trajectory goes forward, each state from the
one before. Nothing of the world itself enters a dream. It starts where a demonstration starts,
and is as long as the longest: where episodes end early, dreams go on. The policy draws each action
given all before it, the dynamics draw the next state given this state and action. At the end a
third model says, from the last timestep to the first, what return was to come: given a state, its
action and the return after it. Read next: repro/dream.sh. Before this: rollout.py.
"""

import configurator

import math

import numpy as np
import torch
from tqdm import tqdm

import checkpoint
import data
import files
import masks
import rollout
import worlds
from evaluate import answer

# ---- settings ------------------------------------------------------------------------------------
policy = "out/minigrid_bc"  # a run that clones behaviour. Of several, "a,b,c", each draws its share
dynamics = "out/minigrid_forward"  # a run (or several) that predicts the next state
returns = "out/dream_returns"  # a run (or several) trained on the task return_backup
n = 50_000  # trajectories to dream
seed = 0  # of all draws
out = ""  # the file to write: .npz, or a folder that is mapped into memory when it is loaded
# --------------------------------------------------------------------------------------------------


def dream(networks, starts, length, generator, bounds=()):
    """Dreamed trajectories {factor: (n, length) or (n, length, k)}, from n start states.

    networks: {"policy", "dynamics", "returns": lists of networks}, of one set of factors.
    starts: {state factor: (n,) or (n, k)}. generator: torch.Generator on the CPU.
    bounds: (name, lowest (k,), highest (k,)) of actions that are numbers.
    """
    factors = networks["policy"][0].factors
    states, actions, outcome = ([f for f in factors if f.group == g] for g in data.GROUPS)
    n = len(starts[states[0].name])
    values, _ = rollout.blank(factors, n, length)
    for f in states:
        values[f.name][:, 0] = starts[f.name]
    t, none = torch.arange(length), torch.zeros(length, dtype=torch.bool)
    mask = lambda *groups: torch.stack(groups, dim=-1)  # (length, 3), of every trajectory
    for now in tqdm(range(length), desc="dreaming", disable=None):
        fill(values, actions, now, networks["policy"], mask(t <= now, t < now, none), generator)
        for name, low, high in bounds:
            values[name][:, now].clamp_(low, high)
        if now + 1 < length:
            seen = mask(t == now, t == now, none)
            fill(values, states, now + 1, networks["dynamics"], seen, generator)
    for now in reversed(range(length) if outcome else ()):
        seen = mask(t == now, t == now, t == now + 1)
        fill(values, outcome, now, networks["returns"], seen, generator, temperature=0.0)
    return values


def fill(values, factors, t, networks, seen, generator, temperature=1.0):
    """Draw some factors at timestep t from what the networks say, in place.

    seen: (length, 3) what they are shown. To draw from an average of networks is to let one of
    them, drawn by lot, answer each row.
    """
    n, length = len(values[factors[0].name]), len(seen)
    latest = max(t, int(seen.any(dim=-1).nonzero().max()))  # what the window has to reach to
    lot = torch.randperm(n, generator=generator) % len(networks)  # (n,)
    for number, network in enumerate(networks):
        rows = (lot == number).nonzero()[:, 0]  # (m,)
        if not len(rows):
            continue
        T = min(network.config.context, length)
        first = max(0, latest - T + 1)  # as far back as the context goes
        window = {name: x[rows, first : first + T] for name, x in values.items()}
        window["timestep"] = (first + torch.arange(T)).expand(len(rows), T)
        see = seen[first : first + T].expand(len(rows), T, 3)
        outputs = answer(network, window, see, torch.full((len(rows),), t - first))
        for f in factors:  # outputs: {factor: (m, 1, ...)}
            values[f.name][rows, t] = rollout.draw(f, outputs, temperature, generator)[:, 0]


def load(text, group, train, source):
    """The networks of comma-separated runs, all trained on the same demonstrations.

    source: (dataset, num_trajectories, data_seed) of these. Raises ValueError for one that was
    trained on others, does not predict the group, or sees too little; and if none is named. What
    another run knew from which one was finetuned is not looked at.
    """
    networks, paths = [], [path for path in text.split(",") if path]
    if not paths and any(f.group == group for f in train.factors):
        raise ValueError(f"no run is named that predicts the group {group}")
    for path in paths:
        network, own = checkpoint.open_run(path)
        if network.factors != train.factors:
            raise ValueError(f"{path} has other factors than {source[0]}")
        able = any(f.group == group for f in network.predicted)
        if not (able and asks(own["task"], group, network.config.context)):
            raise ValueError(f"{path} does not predict the group {group}")
        if own.get("fresh"):
            raise ValueError(f"{path} was trained on fresh trajectories, not on demonstrations")
        if source != worlds.source_of(own):
            raise ValueError(f"{path} was not trained on the demonstrations of {policy}")
        T, longest = network.config.context, train.lengths.max()
        if T < 2:
            raise ValueError(f"{path} sees a single timestep")
        if network.config.model_type == "nn" and T > longest:
            raise ValueError(f"{path} needs {T} timesteps, and demonstrations have {longest}")
        # It has to tell the end of a trajectory, where no return is to come, from that of a window.
        if group == "RETURN" and T < longest and network.config.positions != "timestep":
            advice = f"train it with context={longest}, or positions='timestep'"
            raise ValueError(f"{path} sees {T} of {longest} timesteps: {advice}")
        networks.append(network)
    return networks


def asks(task, group, T):
    """Whether a model of this task was trained to predict a group of factors."""
    B = 100 * len(masks.parse(task))  # enough for each task of a mixture
    _, predict = masks.draw(task, B, T, torch.Generator().manual_seed(0))
    return bool(predict[..., data.GROUPS.index(group)].any())


def main():
    configurator.check(globals(), {"n": (1, math.inf), "seed": (0, 2**63)})
    if not out:
        raise ValueError("--out=FILE.npz says where to write the dreams")
    files.check_writable(out, new=True)
    source = worlds.source_of(checkpoint.settings(policy.split(",")[0]))
    train, _ = worlds.train_and_validation(*source)
    if all(f.group != "STATE" for f in train.factors):
        raise ValueError(f"{source[0]} has no states, and a dream begins with one")
    worlds.check_count(n, train, f"n={n}")
    networks = {
        "policy": load(policy, "ACTION", train, source),
        "dynamics": load(dynamics, "STATE", train, source),
        "returns": load(returns, "RETURN", train, source),
    }
    generator = torch.Generator().manual_seed(seed)
    begun = train.with_known_starts()
    rows = torch.randint(len(begun), (n,), generator=generator)
    starts = {name: x[rows, 0] for name, x in begun.tensors().items()}
    bounds = []  # nothing is done that no demonstration did
    for f in train.factors:
        if f.group == "ACTION" and f.kind == "continuous":
            done = torch.as_tensor(train.values[f.name][train.valid(f.name)])  # (rows, k)
            bounds.append((f.name, done.amin(dim=0), done.amax(dim=0)))
    values = dream(networks, starts, int(train.lengths.max()), generator, bounds)
    arrays = {name: x.numpy() for name, x in values.items()}
    # By this train.py tells them from the world's own trajectories, and from dreams of other
    # demonstrations: either may be what validates.
    mark = {"dreamed": np.full(n, worlds.fingerprint("", train))}
    dreams = data.Trajectories(train.factors, arrays, train.world, extras=mark)
    dreams.save(out)
    world = worlds.WORLDS.get(train.world)
    if world and world.valid:
        print(f"{world.valid(arrays).mean():.2%} of the transitions are valid")
    print(f"{worlds.describe(dreams)}\nsaved to {out}")


if __name__ == "__main__":
    configurator.apply(globals())
    main()
