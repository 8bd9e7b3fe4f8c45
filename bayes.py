"""The exact posterior on DoorKey: what a perfect model would answer, the limit that none can beat.

A masked model is asked for p(hidden entry | everything seen). DoorKey is small enough to compute
it. A trajectory is a Markov chain: its hidden state is (agent cell, key cell, key held, door open),
one of S = 77, together with beta, the demonstrator's rationality, one of 3. Actions are drawn from
a known policy; moves are deterministic. So:

1. A *backward pass* computes, for every state and timestep, how probable the rest of what is seen
   is from there. It also gives the demonstrator's policy *given* what is seen: its own, each action
   weighted by what follows from it.
2. A *forward pass* runs this policy from the start given what is seen. The probabilities met on the
   way are the posterior, exactly. Drawing from them gives exact samples of whole trajectories.

A return-to-go compares two states, D(state t) - D(last state), D being the distance to the goal. So
it is evidence on the state at t only once the final distance is supposed known: a sequence with a
seen return becomes several *hypotheses*, one for each final distance that it may have. Each is
solved as above and weighs in by its likelihood.

    python bayes.py          # the limit of the eight tasks, on 2,000 trajectories

Read next: evaluate.py, which measures models against this limit.
"""

import configurator

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

import doorkey
import masks
from data import Trajectories

HIDDEN = -100  # stands for a value not seen; below any distance that a return could ask for
CHUNK = 2**17  # numbers in one message: so many at a time stay in the cache
ACTIONS = torch.arange(4)
TINY = torch.finfo(torch.float64).tiny


def posterior(trajectories, see, returns=False):
    """The exact marginal of every entry, given everything seen (1 on the value of a seen entry).

    trajectories: N DoorKey trajectories of one length L that begin at a start of the world. Only
        seen values are read. Returns-to-go count from the state after the L steps given: cut
        trajectories need theirs cut as well.
    see: (N, L, 3) bool, or {factor: (N, L) bool}, where absent factors are hidden. Any entries may
        be seen: no start, several returns, anything.
    returns: answer return_to_go as well, which takes several times as long.
    Returns {factor: (N, L, classes) float64 array} for agent_pos, key_pos, action and,
        if asked for, return_to_go.
    Raises ValueError for other worlds, malformed masks, and what has probability 0.
    """
    world, evidence = _world(trajectories), _evidence(trajectories, see)
    asked = [factor for factor in trajectories.factors if factor.group != "RETURN" or returns]
    N, L = evidence["action"].shape
    result = {factor.name: np.empty((N, L, factor.size)) for factor in asked}
    for chunk in _chunks(world, evidence, returns):
        messages, log_rows = _backward(world, chunk)
        weight, log_total = _weights(chunk, log_rows)  # (R,), (n,)
        for name, marginal in _forward(world, chunk, messages, returns).items():  # (L, classes, R)
            mixture = torch.zeros(*marginal.shape[:2], len(log_total), dtype=torch.float64)
            mixture.index_add_(2, chunk.sequence, marginal * weight)  # (L, classes, n)
            mixture.clamp_max_(1)  # rounding may exceed it
            result[name][chunk.sequences] = mixture.permute(2, 0, 1).numpy()
    return result


def surprisal(trajectories, see, returns=False):
    """A perfect model's loss on each entry: {factor: (N, L) nats}, -log posterior of the truth.

    0 for seen entries, inf for the impossible. Arguments and errors as of posterior().
    """
    nats = {}
    for name, probability in posterior(trajectories, see, returns).items():
        truth = trajectories.values[name][..., None]
        with np.errstate(divide="ignore"):
            log = np.log(np.take_along_axis(probability, truth, axis=-1)[..., 0])  # (N, L)
        nats[name] = 0.0 - log
    return nats


def limit(trajectories, see, predict):
    """A perfect model's loss: {factor: mean surprisal in nats over the predicted entries}.

    predict: as `see`. Factors without predicted entries, and returns, have 0; an entry that is also
    seen counts as 0. So this is no limit for dt_bc and dt_rc, which show everything to a model that
    does not look ahead. Other arguments and errors as of posterior().
    """
    nats = surprisal(trajectories, see)
    predict = _factor_masks(trajectories, predict, "predict")
    result = {factor.name: 0.0 for factor in trajectories.factors}
    for name in nats:
        if predict[name].any():
            result[name] = float(nats[name][predict[name].numpy()].mean())
    return result


def log_likelihood(trajectories, see):
    """(N,) array of log p(everything seen) in nats, -inf where that is impossible."""
    world, evidence = _world(trajectories), _evidence(trajectories, see)
    result = np.full(len(trajectories), -np.inf)
    for chunk in _chunks(world, evidence):
        _, log_rows = _backward(world, chunk)
        result[chunk.sequences] = _weights(chunk, log_rows, strict=False)[1].numpy()
    return result


def sample(trajectories, see, generator, n=1):
    """n exact and independent samples of each whole trajectory, given what is seen of it.

    Returns {factor: (N, n, L) int64 array} for all four factors. The entries of a sample fit
    together, unlike independent draws from posterior(). Arguments and errors as there.
    """
    world, evidence = _world(trajectories), _evidence(trajectories, see)
    N, L = evidence["action"].shape
    result = {name: np.empty((N, n, L), dtype=np.int64) for name in evidence}
    for chunk in _chunks(world, evidence):
        messages, log_rows = _backward(world, chunk)
        weight, log_total = _weights(chunk, log_rows)
        choices = torch.zeros(len(log_total), len(weight), dtype=torch.float64)  # (n, R)
        choices[chunk.sequence, torch.arange(len(weight))] = weight
        row = torch.multinomial(choices, n, replacement=True, generator=generator).flatten()  # (M,)
        for name, values in _draw(world, chunk, messages, row, generator).items():  # (L, M)
            result[name][chunk.sequences] = values.T.unflatten(0, (-1, n)).numpy()
    return result


class ExactModel(torch.nn.Module):
    """The exact posterior in the place of a network: what a perfect model would answer, or do.

    A return that has become impossible is no evidence: what it asks for is then overlooked.
    """

    def __init__(self, size=6, returns=False):
        super().__init__()
        self.returns = returns  # whether it answers return_to_go as well, which takes longer
        self.factors = doorkey.factors(size)
        self.predicted = [f for f in self.factors if f.group != "RETURN" or returns]
        self.config = SimpleNamespace(
            model_type="unimask", context=doorkey.LENGTH, head="mean", return_weight=float(returns)
        )
        self.place = torch.nn.Parameter(torch.zeros(0))  # a network is where its weights are

    def forward(self, values, see, at=None):
        """{factor: log probabilities (B, T, classes), or (B, 1, classes) with `at`, (B,)}."""
        arrays = {f.name: values[f.name].numpy() for f in self.factors}
        whole, see = Trajectories(self.factors, arrays), dict(masks.expand(see, self.factors))
        possible = torch.from_numpy(np.isfinite(log_likelihood(whole, see)))
        see["return_to_go"] = see["return_to_go"] & possible[:, None]
        answers, rows = posterior(whole, see, self.returns), np.arange(len(possible))
        if at is not None:
            answers = {name: p[rows, at][:, None] for name, p in answers.items()}
        return {name: torch.from_numpy(p).log() for name, p in answers.items()}


# --------------------------------------------------------------------------------------------------
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
    final: torch.Tensor  # (R,) the supposed final distance; HIDDEN if no return is seen


def _backward(world, chunk):
    """messages[t]: (S, 3, R), p(everything seen from t on | state at t, beta), scaled to at most 1.

    Returns the L+1 messages, t = 0..L, and the log-likelihood of each hypothesis, (R,).
    """
    message = _agree(world.distance, chunk.final).double()[:, None].expand(-1, 3, -1)
    messages, log_scale = [message], torch.zeros(len(chunk.final), dtype=torch.float64)
    for t in reversed(range(len(chunk.action))):
        before = torch.zeros(message.shape, dtype=torch.float64)
        agree = _agree(ACTIONS, chunk.action[t])  # (4, R)
        for action in range(4):
            policy = world.policy[action] * agree[action]
            before.addcmul_(message[world.successor[action]], policy)
        seen = _agree(world.agent_pos, chunk.agent_pos[t])
        seen = seen & _agree(world.key_pos, chunk.key_pos[t])
        seen = seen & _agree(world.distance, chunk.distance[t])  # (S, R)
        before *= seen[:, None]
        scale = before.amax((0, 1))  # (R,)
        message = before.div_(scale.clamp_min(TINY))
        log_scale += scale.log()
        messages.append(message)
    return messages[::-1], log_scale + (world.prior * message).sum((0, 1)).log()


def _forward(world, chunk, messages, returns=False):
    """The posterior under each hypothesis, or 0 if it is impossible: {factor: (L, classes, R)}."""
    L, R, cells = len(chunk.action), len(chunk.final), len(world.cell_distance)
    classes = {"agent_pos": cells, "key_pos": cells, "action": 4}
    if returns:  # which one each state has, if the final distance is as supposed: (S, R)
        classes["return_to_go"] = doorkey.RETURN_CLASSES[world.size]
        to_go = world.distance[:, None] - chunk.final + doorkey.RETURN_OFFSET[world.size]
        to_go = to_go.clamp(0, classes["return_to_go"] - 1)  # those beyond it are impossible
    marginals = {name: torch.zeros(L, n, R, dtype=torch.float64) for name, n in classes.items()}
    state = _normalised(world.prior * messages[0])  # p(state at t, beta | everything seen)
    for t in range(L):
        for name in ("agent_pos", "key_pos"):
            marginals[name][t].index_add_(0, getattr(world, name), state.sum(1))
        if returns:
            marginals["return_to_go"][t].scatter_add_(0, to_go, state.sum(1))
        # p(action | state, beta, everything seen) is the policy times messages[t+1] of the
        # successor, over messages[t] of the state, up to a scale: hence the normalisations below.
        share, after = state / messages[t].clamp_min(TINY), torch.zeros_like(state)
        agree = _agree(ACTIONS, chunk.action[t])  # (4, R)
        for action in range(4):
            policy = world.policy[action] * agree[action]
            joint = messages[t + 1][world.successor[action]].mul_(policy).mul_(share)
            marginals["action"][t, action] = joint.sum((0, 1))
            after.index_add_(0, world.successor[action], joint)
        marginals["action"][t] = _normalised(marginals["action"][t])
        state = _normalised(after)
    return marginals


def _draw(world, chunk, messages, row, generator):
    """One trajectory drawn under each of M hypotheses `row`, which may repeat: {factor: (L, M)}."""

    def choose(weight):  # (choices, M) -> (M,)
        return torch.multinomial(weight.T, 1, generator=generator)[:, 0]

    start = choose((world.prior * messages[0])[..., row].flatten(0, 1))
    state, beta = start // 3, start % 3
    states, actions = [state], []
    for t in range(len(chunk.action)):
        follows = messages[t + 1][world.successor[:, state], beta, row]  # (4, M)
        policy = world.policy[:, state, beta, 0] * follows
        action = choose(policy * _agree(ACTIONS, chunk.action[t, row]))
        state = world.successor[action, state]
        actions.append(action)
        states.append(state)
    before, last = torch.stack(states[:-1]), states[-1]  # (L, M), (M,)
    returns = world.distance[before] - world.distance[last] + doorkey.RETURN_OFFSET[world.size]
    drawn = {"agent_pos": world.agent_pos[before], "key_pos": world.key_pos[before]}
    return drawn | {"action": torch.stack(actions), "return_to_go": returns}


def _agree(values, seen):
    """Which possible values (K,) agree with what is seen (R,): (K, R) bool."""
    return (values[:, None] == seen) | (seen == HIDDEN)


def _normalised(weight):
    """Probabilities of each hypothesis, the last axis: sums to 1 over all other axes."""
    return weight / weight.flatten(0, -2).sum(0).clamp_min(TINY)


# --------------------------------------------------------------------------------------------------
# Hypotheses: what is seen of a sequence, with a final distance that would explain the returns seen


def _chunks(world, evidence, returns=False):
    """Split all sequences into Chunks, in order, of about CHUNK numbers per message."""
    sequence, final = _hypotheses(world, evidence, returns)
    rows = torch.bincount(sequence)  # (N,) number of hypotheses on each sequence
    number = (rows.cumsum(0) - 1) * world.prior.numel() // CHUNK  # (N,) the chunk each goes to
    sizes = torch.unique_consecutive(number, return_counts=True)[1].tolist()
    first = done = 0  # sequences, and hypotheses
    for here in rows.split(sizes):
        stop, end = first + len(here), done + int(here.sum())
        which, finals = sequence[done:end], final[done:end]  # (R,)
        seen = {name: values[which].T.contiguous() for name, values in evidence.items()}  # (L, R)
        shown = seen.pop("return_to_go")
        distance = shown - doorkey.RETURN_OFFSET[world.size] + finals
        distance = distance.where(shown != HIDDEN, HIDDEN)
        yield Chunk(slice(first, stop), which - first, **seen, distance=distance, final=finals)
        first, done = stop, end


def _hypotheses(world, evidence, every=False):
    """All pairs of a sequence and a final distance that may explain its returns: two (R,) tensors.

    A sequence without seen returns has one hypothesis, of any (HIDDEN) final distance, unless
    `every` one is wanted because returns are asked for. Only clear misfits are left out, and where
    nothing fits one stays: the passes find the rest.
    """
    returns, agent = evidence["return_to_go"], evidence["agent_pos"]  # (N, L)
    finals = torch.arange(int(world.distance.max()) + 1)
    distance = (returns - doorkey.RETURN_OFFSET[world.size])[..., None] + finals  # (N, L, finals)
    possible = (distance >= 0) & (distance <= finals[-1])
    known = distance == world.cell_distance[agent.clamp_min(0)][..., None]
    fits = torch.where(agent[..., None] == HIDDEN, possible, known)
    fits = (fits | (returns == HIDDEN)[..., None]).all(1)  # (N, finals)
    fits[:, 0] |= ~fits.any(1)
    asked = (returns != HIDDEN).any(1, keepdim=True) | every
    sequence, column = torch.cat([~asked, fits & asked], dim=1).nonzero().T
    return sequence, torch.cat([torch.tensor([HIDDEN]), finals])[column]


def _weights(chunk, log_rows, strict=True):
    """The probability of each hypothesis on its sequence, (R,); and log p(seen), (n,).

    Raises ValueError for a sequence of probability 0, if strict.
    """
    n = chunk.sequences.stop - chunk.sequences.start
    # the likeliest of each sequence, and finite: what is impossible then weighs 0, and not NaN
    best = torch.full((n,), torch.finfo(torch.float64).min, dtype=torch.float64)
    best.scatter_reduce_(0, chunk.sequence, log_rows, "amax")
    weight = (log_rows - best[chunk.sequence]).exp()  # (R,)
    total = torch.zeros_like(best).index_add_(0, chunk.sequence, weight)
    log_total = best + total.log()
    if strict and log_total.isinf().any():
        number = chunk.sequences.start + int(log_total.isinf().nonzero()[0, 0])
        reason = "what is seen of it has probability 0 in DoorKey"
        raise ValueError(f"trajectory {number} is impossible: {reason}")
    return weight / total[chunk.sequence], log_total


# --------------------------------------------------------------------------------------------------
# What is asked: the world and the masks


def _world(trajectories):
    """The World of the factors. Raises ValueError unless it is DoorKey, whole and of one length."""
    have = [(factor.name, factor.size) for factor in trajectories.factors]
    wanted = {size: [(f.name, f.size) for f in doorkey.factors(size)] for size in doorkey.WALL_X}
    sizes = [size for size in wanted if sorted(wanted[size]) == sorted(have)]
    if not sizes:
        raise ValueError(f"exact inference needs the factors of DoorKey, size 6 or 16, not {have}")
    if (trajectories.lengths != trajectories.values["action"].shape[1]).any():
        raise ValueError("exact inference needs trajectories of one length, without padding")
    table = doorkey.table(sizes[0])
    agent_pos, key_pos = torch.from_numpy(table.states[:, :2]).T.contiguous()
    distance = torch.from_numpy(table.distance)
    cell_distance = torch.full(((table.size - 2) ** 2,), HIDDEN)
    cell_distance[agent_pos] = distance
    successor = torch.from_numpy(table.successor).T.contiguous()
    policy = torch.from_numpy(table.policy).permute(2, 1, 0)[..., None].contiguous()
    start = torch.zeros(len(distance), dtype=torch.float64)
    start[table.starts] = 1 / len(table.starts)
    prior = (start[:, None] * torch.from_numpy(doorkey.BETA_PROBABILITIES))[..., None]
    return World(table.size, agent_pos, key_pos, distance, cell_distance, successor, policy, prior)


def _evidence(trajectories, see):
    """{factor: (N, L) int64 tensor of its values where seen, HIDDEN elsewhere}."""
    values = {name: torch.as_tensor(array).long() for name, array in trajectories.values.items()}
    seen = _factor_masks(trajectories, see, "see")
    return {name: values[name].where(seen[name], HIDDEN) for name in seen}


def _factor_masks(trajectories, mask, argument):
    """{factor: (N, L) bool tensor} of a mask in either form. Raises ValueError if malformed."""
    factors, (N, L) = trajectories.factors, trajectories.values["action"].shape
    result = {factor.name: torch.zeros(N, L, dtype=torch.bool) for factor in factors}
    for name, part in masks.expand(mask, factors).items():
        part = torch.as_tensor(part).cpu()
        if name not in result or part.shape != (N, L) or part.dtype != torch.bool:
            found = f"{argument} is {part.dtype} of shape {tuple(part.shape)} for {name!r}"
            raise ValueError(f"{found}, not bool of shape {(N, L)} for each of {list(result)}")
        result[name] = part
    return result


def main():
    torch.set_num_threads(1)
    trajectories = doorkey.make_dataset(2000, seed=0)
    names = "agent_pos", "key_pos", "action"
    print(f"{'nats per predicted entry':26s}" + "".join(name.rjust(11) for name in names))
    for task in masks.EIGHT:
        generator = torch.Generator().manual_seed(0)
        asked = masks.draw(task, 2000, doorkey.LENGTH, generator, balanced=True)
        nats, predict = limit(trajectories, *asked), masks.expand(asked[1], trajectories.factors)
        texts = [f"{nats[name]:.3f}" if predict[name].any() else "-" for name in names]
        print(f"{task:26s}" + "".join(text.rjust(11) for text in texts))


if __name__ == "__main__":
    configurator.apply(globals())
    main()
