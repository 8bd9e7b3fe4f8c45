"""The exact posterior on DoorKey: what a perfect model would answer, and so the limit that no model can beat.

A masked model is asked for p(hidden entry | everything seen). DoorKey is small enough to compute it. A trajectory is a
Markov chain: its hidden state is (agent cell, key cell, key held, door open), one of S = 77, together with beta, the
demonstrator's rationality, one of 3; actions are drawn from a known policy; moves are deterministic. So:

1. A *backward pass* computes, for every state and timestep, how probable the rest of what is seen is from there. It
   also gives the demonstrator's policy *given* what is seen: its own, each action weighted by what follows from it.
2. A *forward pass* runs this conditioned policy from the conditioned start. The probabilities met on the way are the
   posterior, exactly. Drawing from them instead of summing over them gives exact samples of whole trajectories.

A return-to-go compares two states, D(state t) - D(last state), D being the distance to the goal, so by itself it is
not evidence on any one state. But once the final distance is supposed known, a seen return says how far the agent is
from the goal at t. So a sequence with a seen return becomes several *hypotheses*, one for each final distance that it
may have; each is solved as above and weighs in by its likelihood.

    python bayes.py          # the limit of every task, on 2,000 fresh trajectories

Read next: evaluate.py, which measures models against this limit.
"""

import time
from typing import NamedTuple

import numpy as np
import torch

import doorkey
import masks

HIDDEN = -100  # stands for a value that is not seen; below any distance that a return could ask for
STATE_FACTORS = ("agent_pos", "key_pos")
CHUNK = 2**17  # numbers in one message: hypotheses are solved so many at a time that messages stay in the cache
ACTIONS = torch.arange(4)
TINY = torch.finfo(torch.float64).tiny


def posterior(trajectories, see):
    """The exact marginal of every entry, given everything seen; of a seen entry, probability 1 on its value.

    trajectories: N DoorKey trajectories of one length L that begin at a start of the world. Only seen values are read.
        Returns-to-go are taken relative to the state after the L steps given: cut trajectories need theirs cut as well.
    see: (N, L, 3) bool, groups in the order STATE, ACTION, RETURN; or {factor name: (N, L) bool}, where absent factors
        are hidden. Any entries may be seen: no start, one state factor without the other, several returns.
    Returns {factor: (N, L, classes) float64 array} for agent_pos, key_pos and action.
    Raises ValueError for other worlds, malformed masks, and what has probability 0 (it names the trajectory).
    """
    world, evidence = _world(trajectories), _evidence(trajectories, see)
    asked = [factor for factor in trajectories.factors if factor.group != "RETURN"]
    result = {factor.name: np.empty((*evidence["action"].shape, factor.size)) for factor in asked}
    for chunk in _chunks(world, evidence):
        messages, log_rows = _backward(world, chunk)
        weight, _ = _weights(chunk, log_rows)  # (n, R)
        for name, marginal in _forward(world, chunk, messages).items():  # (L, classes, R)
            mixture = (marginal @ weight.T).clamp_max(1)  # (L, classes, n); rounding can exceed 1 by 1e-16
            result[name][chunk.sequences] = mixture.permute(2, 0, 1).numpy()
    return result


def surprisal(trajectories, see):
    """The loss of a perfect model on each entry: {factor: (N, L) array of -log posterior of its true value, in nats}.

    0 for seen entries, inf where the truth is impossible. Arguments and errors as for posterior().
    """
    nats = {}
    for name, probability in posterior(trajectories, see).items():
        truth = np.take_along_axis(probability, trajectories.values[name][..., None], axis=-1)[..., 0]  # (N, L)
        with np.errstate(divide="ignore"):
            nats[name] = 0.0 - np.log(truth)
    return nats


def limit(trajectories, see, predict):
    """The loss of a perfect model: {factor: mean surprisal in nats over the predicted entries of all N trajectories}.

    predict: as `see`. Factors without predicted entries, and returns, have 0. Arguments and errors as for posterior().
    An entry that is also seen counts as 0. So this is no limit for dt_bc and dt_rc, which show everything to a model
    that does not look ahead: theirs are, in expectation, those of behavior_cloning and reward_conditioned.
    """
    nats = surprisal(trajectories, see)
    predict = _factor_masks(trajectories, predict, "predict")
    result = {factor.name: 0.0 for factor in trajectories.factors}
    for name in nats:
        if predict[name].any():
            result[name] = float(nats[name][predict[name].numpy()].mean())
    return result


def log_likelihood(trajectories, see):
    """(N,) array of log p(everything seen), in nats; -inf where that is impossible. Arguments as for posterior()."""
    world, evidence = _world(trajectories), _evidence(trajectories, see)
    result = np.full(len(trajectories), -np.inf)
    for chunk in _chunks(world, evidence):
        _, log_rows = _backward(world, chunk)
        result[chunk.sequences] = _weights(chunk, log_rows, strict=False)[1].numpy()
    return result


def sample(trajectories, see, generator, n=1):
    """n exact and independent samples of each whole trajectory, given what is seen of it.

    generator: torch.Generator on the CPU. Other arguments and errors as for posterior().
    Returns {factor: (N, n, L) int64 array} for all four factors. The entries of a sample fit together, as they do in no
    independent draws from posterior().
    """
    world, evidence = _world(trajectories), _evidence(trajectories, see)
    N, L = evidence["action"].shape
    result = {name: np.empty((N, n, L), dtype=np.int64) for name in (*STATE_FACTORS, "action", "return_to_go")}
    for chunk in _chunks(world, evidence):
        messages, log_rows = _backward(world, chunk)
        weight, _ = _weights(chunk, log_rows)
        row = torch.multinomial(weight, n, replacement=True, generator=generator).flatten()  # (M,), M = sequences x n
        for name, values in _draw(world, chunk, messages, row, generator).items():  # (L, M)
            result[name][chunk.sequences] = values.T.unflatten(0, (-1, n)).numpy()
    return result


# ---------------------------------------------------------------------------------------------------------------------
# The two passes. R hypotheses at a time; messages are (S, 3, R): world state, beta, hypothesis.


class World(NamedTuple):
    """doorkey.table() as tensors."""

    size: int
    agent_pos: torch.Tensor  # (S,) cell of the agent in each state
    key_pos: torch.Tensor  # (S,)
    distance: torch.Tensor  # (S,) D, steps to the goal
    cell_distance: torch.Tensor  # (cells,) the same by the agent's cell, which determines it
    successor: torch.Tensor  # (4, S) state that each action leads to
    policy: torch.Tensor  # (4, S, 3, 1) probability of each action, by state and beta
    prior: torch.Tensor  # (S, 3, 1) probability of each state and beta at t=0


class Chunk(NamedTuple):
    """R hypotheses on n sequences. Values are (L, R), and HIDDEN where not seen."""

    sequences: slice  # the sequences in question
    sequence: torch.Tensor  # (R,) which of them, 0..n-1, a hypothesis is about
    agent_pos: torch.Tensor
    key_pos: torch.Tensor
    action: torch.Tensor
    distance: torch.Tensor  # of the agent from the goal: what a seen return amounts to
    final: torch.Tensor  # (R,) the supposed final distance, HIDDEN for a sequence of which no return is seen


def _backward(world, chunk):
    """messages[t]: (S, 3, R), p(everything seen from t on | state at t, beta), scaled to a maximum of 1 per hypothesis.

    Returns the L+1 messages, t = 0..L, and the log-likelihood of each hypothesis, (R,).
    """
    message = _agree(world.distance, chunk.final).double()[:, None].expand(-1, 3, -1)
    messages, log_scale = [message], torch.zeros(len(chunk.final), dtype=torch.float64)
    for t in reversed(range(len(chunk.action))):
        before = torch.zeros(message.shape, dtype=torch.float64)
        for action in range(4):
            policy = world.policy[action] * _agree(ACTIONS, chunk.action[t])[action]
            before.addcmul_(message[world.successor[action]], policy)
        seen = _agree(world.agent_pos, chunk.agent_pos[t]) & _agree(world.key_pos, chunk.key_pos[t])
        before *= (seen & _agree(world.distance, chunk.distance[t]))[:, None]
        scale = before.amax((0, 1))  # (R,)
        message = before.div_(scale.clamp_min(TINY))
        log_scale += scale.log()
        messages.append(message)
    return messages[::-1], log_scale + (world.prior * message).sum((0, 1)).log()


def _forward(world, chunk, messages):
    """The posterior under each hypothesis: {factor: (L, classes, R)}; all 0 where the hypothesis is impossible."""
    L, R, cells = len(chunk.action), len(chunk.final), len(world.cell_distance)
    marginals = {name: torch.zeros(L, classes, R, dtype=torch.float64)
                 for name, classes in (("agent_pos", cells), ("key_pos", cells), ("action", 4))}  # fmt: skip
    state = _normalised(world.prior * messages[0])  # p(state at t, beta | everything seen)
    for t in range(L):
        for name in STATE_FACTORS:
            marginals[name][t].index_add_(0, getattr(world, name), state.sum(1))
        # p(action | state, beta, everything seen) = policy x messages[t+1] of the successor / messages[t] of the state,
        # up to the scales of the messages, which the normalisations below take out.
        share, after = state / messages[t].clamp_min(TINY), torch.zeros_like(state)
        for action in range(4):
            policy = world.policy[action] * _agree(ACTIONS, chunk.action[t])[action]
            joint = messages[t + 1][world.successor[action]].mul_(policy).mul_(share)
            marginals["action"][t, action] = joint.sum((0, 1))
            after.index_add_(0, world.successor[action], joint)
        marginals["action"][t] = _normalised(marginals["action"][t])
        state = _normalised(after)
    return marginals


def _draw(world, chunk, messages, row, generator):
    """One trajectory under each of M hypotheses, row (M,): as _forward, but drawing. Returns {factor: (L, M)}."""
    choose = lambda weight: torch.multinomial(weight.T, 1, generator=generator)[:, 0]  # (choices, M) -> (M,)
    start = choose((world.prior * messages[0])[..., row].flatten(0, 1))
    state, beta = start // 3, start % 3
    states, actions = [state], []
    for t in range(len(chunk.action)):
        policy = world.policy[:, state, beta, 0] * messages[t + 1][world.successor[:, state], beta, row]  # (4, M)
        action = choose(policy * _agree(ACTIONS, chunk.action[t, row]))
        state = world.successor[action, state]
        actions.append(action)
        states.append(state)
    *before, last = states
    before = torch.stack(before)  # (L, M)
    returns = world.distance[before] - world.distance[last] + doorkey.RETURN_OFFSET[world.size]
    return {"agent_pos": world.agent_pos[before], "key_pos": world.key_pos[before],
            "action": torch.stack(actions), "return_to_go": returns}  # fmt: skip


def _agree(values, seen):
    """Which possible values (K,) agree with what is seen (R,): (K, R) bool."""
    return (values[:, None] == seen) | (seen == HIDDEN)


def _normalised(weight):
    """Probabilities of each hypothesis, the last axis, from weights: sums to 1 over all other axes."""
    return weight / weight.flatten(0, -2).sum(0).clamp_min(TINY)


# ---------------------------------------------------------------------------------------------------------------------
# Hypotheses: what is seen of a sequence, together with a final distance that would explain the returns seen


def _chunks(world, evidence):
    """Split all sequences into Chunks, in order, of about CHUNK numbers per message."""
    sequence, final = _hypotheses(world, evidence)
    rows = torch.bincount(sequence)  # (N,) number of hypotheses on each sequence
    number = (rows.cumsum(0) - 1) * world.prior.numel() // CHUNK  # (N,) chunk that each sequence goes to
    first = 0
    for here in torch.split(rows, torch.unique_consecutive(number, return_counts=True)[1].tolist()):
        (which, sequence), (finals, final) = (values.tensor_split([int(here.sum())]) for values in (sequence, final))
        seen = {name: values[which].T.contiguous() for name, values in evidence.items()}  # (L, R)
        returns = seen.pop("return_to_go")
        distance = torch.where(returns == HIDDEN, HIDDEN, returns - doorkey.RETURN_OFFSET[world.size] + finals)
        yield Chunk(slice(first, first + len(here)), which - first, **seen, distance=distance, final=finals)
        first += len(here)


def _hypotheses(world, evidence):
    """All pairs of a sequence and a final distance that may explain its seen returns: two tensors, sequences in order.

    A sequence without seen returns has one hypothesis, of any (HIDDEN) final distance. Only clear misfits are left out:
    the passes find the rest, and the one that stays where nothing fits, to be impossible.
    """
    returns, agent = evidence["return_to_go"], evidence["agent_pos"]  # (N, L)
    finals = torch.arange(int(world.distance.max()) + 1)
    distance = (returns - doorkey.RETURN_OFFSET[world.size])[..., None] + finals  # (N, L, finals)
    known = world.cell_distance[agent.clamp_min(0)][..., None]
    fits = torch.where(agent[..., None] == HIDDEN, (distance >= 0) & (distance <= finals[-1]), distance == known)
    fits = (fits | (returns == HIDDEN)[..., None]).all(1)  # (N, finals)
    fits[:, 0] |= ~fits.any(1)
    asked = (returns != HIDDEN).any(1, keepdim=True)
    sequence, column = torch.cat([~asked, fits & asked], dim=1).nonzero().T
    return sequence, torch.cat([torch.tensor([HIDDEN]), finals])[column]


def _weights(chunk, log_rows, strict=True):
    """The probability of each hypothesis among those on its sequence, (n, R) with 0 elsewhere; and log p(seen), (n,).

    Raises ValueError for a sequence of probability 0, if strict.
    """
    n = chunk.sequences.stop - chunk.sequences.start
    log_weight = torch.full((n, len(log_rows)), -torch.inf, dtype=torch.float64)
    log_weight[chunk.sequence, torch.arange(len(log_rows))] = log_rows
    log_total = log_weight.logsumexp(1)
    if strict and log_total.isinf().any():
        number = chunk.sequences.start + int(log_total.isinf().nonzero()[0, 0])
        raise ValueError(f"trajectory {number} is impossible: what is seen of it has probability 0 in DoorKey")
    return (log_weight - log_total[:, None]).exp(), log_total


# ---------------------------------------------------------------------------------------------------------------------
# What is asked: the world and the masks


def _world(trajectories):
    """The World that the factors belong to. Raises ValueError if that is not DoorKey, whole and of one length."""
    have = {(factor.name, factor.size) for factor in trajectories.factors}
    sizes = [size for size in doorkey.WALL_X if {(f.name, f.size) for f in doorkey.factors(size)} == have]
    if not sizes:
        names = ", ".join(f"{name} ({size})" for name, size in sorted(have))
        raise ValueError(f"exact inference needs the factors of DoorKey, size 6 or 16, not {names}")
    if (trajectories.lengths != trajectories.values["action"].shape[1]).any():
        raise ValueError("exact inference needs trajectories of one length, without padding")
    table = doorkey.table(sizes[0])
    agent_pos, key_pos = torch.from_numpy(table.states[:, :2]).T.contiguous()
    distance = torch.from_numpy(table.distance)
    cell_distance = torch.full(((table.size - 2) ** 2,), HIDDEN)
    cell_distance[agent_pos] = distance
    start = torch.zeros(len(distance), dtype=torch.float64)
    start[table.starts] = 1 / len(table.starts)
    return World(table.size, agent_pos, key_pos, distance, cell_distance,
                 successor=torch.from_numpy(table.successor).T.contiguous(),
                 policy=torch.from_numpy(table.policy).permute(2, 1, 0)[..., None].contiguous(),
                 prior=(start[:, None] * torch.from_numpy(doorkey.BETA_PROBABILITIES))[..., None])  # fmt: skip


def _evidence(trajectories, see):
    """{factor: (N, L) int64 tensor of its values where seen, HIDDEN elsewhere}."""
    see = _factor_masks(trajectories, see, "see")
    return {name: torch.as_tensor(trajectories.values[name]).long().where(seen, HIDDEN) for name, seen in see.items()}


def _factor_masks(trajectories, mask, argument):
    """{factor: (N, L) bool tensor} of a mask in either form. Raises ValueError, in one sentence, if it is malformed."""
    N, L = trajectories.values["action"].shape
    names = [factor.name for factor in trajectories.factors]
    per_factor = isinstance(mask, dict)
    parts = {name: torch.as_tensor(part).cpu() for name, part in (mask.items() if per_factor else [(argument, mask)])}
    for name, part in parts.items():
        if per_factor and name not in names:
            raise ValueError(f"{argument} has a mask for {name!r}; factors are {', '.join(names)}")
        shape = (N, L) if per_factor else (N, L, 3)
        if part.shape != shape or part.dtype != torch.bool:
            what = f"{argument}[{name!r}]" if per_factor else argument
            raise ValueError(f"{what} is {part.dtype} of shape {tuple(part.shape)}; it must be bool of shape {shape}")
    if not per_factor:
        return masks.expand(parts[argument], trajectories.factors)
    hidden = torch.zeros(N, L, dtype=torch.bool)
    return {name: parts.get(name, hidden) for name in names}


def main():
    torch.set_num_threads(1)
    trajectories = doorkey.make_dataset(2000, seed=0)
    print("mean nats per predicted entry\n")
    print(f"{'task':26s}" + "".join(f"{column:>11s}" for column in (*STATE_FACTORS, "action", "total", "seconds")))
    for task in masks.TASKS:
        see, predict = masks.draw(task, 2000, doorkey.LENGTH, torch.Generator().manual_seed(0), balanced=True)
        begin = time.perf_counter()
        nats = limit(trajectories, see, predict)
        seconds = time.perf_counter() - begin
        columns = [nats[name] for name in (*STATE_FACTORS, "action")] + [sum(nats.values()), seconds]
        print(f"{task:26s}" + "".join(f"{number:11.3f}" for number in columns))


if __name__ == "__main__":
    main()
