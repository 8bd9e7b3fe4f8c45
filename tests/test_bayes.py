"""The exact posterior against brute-force enumeration, the demonstrator's data, and its samples."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from small import step

import bayes
import doorkey
import evaluate
import masks
from data import Factor, Trajectories

FACTORS = ("agent_pos", "key_pos", "action", "return_to_go")


@pytest.fixture(autouse=True)
def one_thread():
    """Many small tensor operations are faster on one thread, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --------------------------------------------------------------------------------------------------
# Brute force, from the demonstrator's specification in scalars and step: every trajectory
# with its probability


def demonstrator(agent, key, held, door_open, beta, size):
    wall, goal = doorkey.WALL_X[size], size - 2
    x, y = agent // goal + 1, agent % goal + 1
    subgoal = (wall, 1) if held else (key // goal + 1, key % goal + 1)
    subgoal = (goal, goal) if door_open else subgoal
    to_subgoal = lambda x, y: abs(x - subgoal[0]) + abs(y - subgoal[1])
    weights = []
    for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        there = min(max(x + dx, 0), goal), min(max(y + dy, 0), goal)
        if there[0] == wall and there[1] > 1:
            there = x, y
        weights.append(np.exp(beta * (to_subgoal(x, y) - to_subgoal(*there))))
    return np.array(weights) / sum(weights)


def distance(agent, size):
    wall, goal = doorkey.WALL_X[size], size - 2
    x, y = agent // goal + 1, agent % goal + 1
    if x > wall:
        return goal - x + goal - y
    door = 1 + (goal - wall - 1) + (goal - 1)
    return door if x == wall else 1 + (wall - 1 - x) + (y - 1) + door


def enumerate_trajectories(T, size):
    """All P trajectories of T steps: {factor: (P, T)} and their probabilities (P,)."""
    left = list(range((doorkey.WALL_X[size] - 1) * (size - 2)))  # cells, column by column
    starts = [(agent, key) for agent in left for key in left if agent != key]
    agent, key = (np.repeat(column, 3) for column in np.array(starts).T)
    beta = np.tile([0.5, 1.0, 3.0], len(starts))
    weight = np.tile([0.3, 0.6, 0.1], len(starts)) / len(starts)
    state, steps = np.stack([agent, key, 0 * agent, 0 * agent]), []
    for _ in range(T):
        code = np.ravel_multi_index((*state, (2 * beta).astype(int)), (256, 256, 2, 2, 7))
        _, first, where = np.unique(code, return_index=True, return_inverse=True)
        policy = [demonstrator(*map(int, state[:, i]), beta[i], size) for i in first]
        policy = np.array(policy)[where]  # (P, 4)
        action = np.tile(np.arange(4), len(weight))
        weight = (weight[:, None] * policy).ravel()
        state, beta = np.repeat(state, 4, axis=1), np.repeat(beta, 4)
        steps = [[np.repeat(column, 4) for column in step] for step in steps]
        steps.append([state[0], state[1], action])
        state = np.stack(step(*state, action, size=size))
    agent, key, action = (np.stack([step[i] for step in steps], axis=1) for i in range(3))
    D = np.array([distance(cell, size) for cell in range((size - 2) ** 2)])
    returns = D[agent] - D[state[0]][:, None] + doorkey.RETURN_OFFSET[size]
    return dict(zip(FACTORS, (agent, key, action, returns))), weight


def agreeing(paths, values, see, n):
    """Which enumerated trajectories agree with what is seen of trajectory n."""
    agree = np.ones(len(paths["action"]), dtype=bool)
    for name in FACTORS:
        for t in np.flatnonzero(see[name][n]):
            agree &= paths[name][:, t] == values[name][n, t]
    return agree


def short(T, n, seed, size=6):
    """n trajectories cut to T steps, with their returns cut as well."""
    whole = doorkey.make_dataset(n, seed, size)
    values = {name: array[:, :T].copy() for name, array in whole.values.items()}
    later = whole.values["return_to_go"][:, T : T + 1]
    values["return_to_go"] += doorkey.RETURN_OFFSET[size] - later
    return Trajectories(doorkey.factors(size), values)


def random_see(rng, N, T, per_factor):
    """Arbitrary masks: each sequence and factor (or group) draws how much is seen, then what."""
    seen = rng.random((N, T, 4)) < rng.random((N, 1, 4))
    if not per_factor:
        return seen[..., :3]
    return {name: seen[..., i] for i, name in enumerate(FACTORS)}


def by_factor(see):
    if isinstance(see, dict):
        return see
    return {name: see[..., group] for name, group in zip(FACTORS, (0, 0, 1, 2))}


@pytest.mark.parametrize("size,T,pairs", [(6, 4, 200), (16, 2, 20)])
def test_posterior_equals_enumeration(size, T, pairs):
    rng = np.random.default_rng(0)
    paths, weight = enumerate_trajectories(T, size)
    assert abs(weight.sum() - 1) < 1e-9
    for per_factor in (False, True):
        trajectories = short(T, pairs // 2, seed=1 + per_factor, size=size)
        see = random_see(rng, pairs // 2, T, per_factor)
        posterior = bayes.posterior(trajectories, see, returns=True)
        log_likelihood = bayes.log_likelihood(trajectories, see)
        see = by_factor(see)
        assert (~see["agent_pos"][:, 0]).any() and (see["return_to_go"].sum(axis=1) > 1).any()
        for n in range(pairs // 2):
            agree = agreeing(paths, trajectories.values, see, n)
            total = weight[agree].sum()
            assert abs(log_likelihood[n] - np.log(total)) < 1e-6
            for name in FACTORS:
                found, path = posterior[name][n], paths[name][agree]
                for t in range(T):
                    exact = np.bincount(path[:, t], weight[agree], minlength=found.shape[-1])
                    np.testing.assert_allclose(found[t], exact / total, rtol=0, atol=1e-6)


def test_samples_are_exact_joint_samples():
    T, n = 4, 20000
    paths, weight = enumerate_trajectories(T, 6)
    trajectories = short(T, 3, seed=5)
    see = {name: np.zeros((3, T), dtype=bool) for name in FACTORS}
    see["agent_pos"][:, [0, 3]] = see["key_pos"][:, 0] = True  # known ends,
    see["return_to_go"][1, 0] = True  # a known outcome,
    see["action"][2, 1:], see["agent_pos"][2, 0] = True, False  # a hidden start
    samples = bayes.sample(trajectories, see, torch.Generator().manual_seed(0), n)
    places = [(name, t) for name in FACTORS[:3] for t in range(T)]

    def code(values):
        return sum(values[name][..., t] << 5 * place for place, (name, t) in enumerate(places))

    for row in range(3):
        agree = agreeing(paths, trajectories.values, see, row)
        possible = code({name: path[agree] for name, path in paths.items()})
        which, position = np.unique(possible, return_inverse=True)
        exact = np.bincount(position, weight[agree] / weight[agree].sum())
        drawn, counts = np.unique(code({k: v[row] for k, v in samples.items()}), return_counts=True)
        assert np.isin(drawn, which).all()
        frequency = np.zeros(len(which))
        frequency[np.searchsorted(which, drawn)] = counts / n
        chi_square = (n * (frequency - exact) ** 2 / exact).sum()
        assert chi_square < len(which) - 1 + 5 * np.sqrt(2 * (len(which) - 1)) + 1e-6
        for name in FACTORS:  # returns included
            kept = samples[name][row][:, see[name][row]]
            assert (kept == trajectories.values[name][row][see[name][row]]).all()


def test_samples_agree_with_marginals_and_can_happen():
    n = 4000
    trajectories = doorkey.make_dataset(6, seed=9)
    see = random_see(np.random.default_rng(3), 6, 10, per_factor=True)
    samples = bayes.sample(trajectories, see, torch.Generator().manual_seed(1), n)
    for name, exact in bayes.posterior(trajectories, see, returns=True).items():
        frequency = (samples[name][..., None] == np.arange(exact.shape[-1])).mean(axis=1)
        assert (np.abs(frequency - exact) <= 5 * np.sqrt(exact * (1 - exact) / n) + 3 / n).all()
    first = {name: values[:, 0] for name, values in samples.items()}
    whole = Trajectories(trajectories.factors, first)
    assert np.isfinite(bayes.log_likelihood(whole, np.ones((6, 10, 3), dtype=bool))).all()


@pytest.mark.parametrize("size, n", [(6, 40), (16, 2)])
def test_returns_are_answered_too_if_asked(size, n):
    trajectories, T = doorkey.make_dataset(n, seed=10, size=size), doorkey.LENGTH
    see = random_see(np.random.default_rng(4), n, T, per_factor=True)
    see["return_to_go"][0] = False  # whoever sees none has many hypotheses only now
    without, found = (bayes.posterior(trajectories, see, returns) for returns in (False, True))
    assert set(without) == set(FACTORS[:3]) and set(found) == set(FACTORS)
    for name, exact in without.items():
        np.testing.assert_allclose(found[name], exact, rtol=0, atol=1e-12)
    worth = found["return_to_go"]
    assert worth.shape == (n, T, doorkey.RETURN_CLASSES[size])
    np.testing.assert_allclose(worth.sum(axis=-1), 1, atol=1e-12)
    truth = trajectories.values["return_to_go"]
    of_truth = np.take_along_axis(worth, truth[..., None], -1)[..., 0]
    assert (of_truth[see["return_to_go"]] > 1 - 1e-12).all() and of_truth.min() > 0
    nats = bayes.surprisal(trajectories, see, returns=True)["return_to_go"]
    np.testing.assert_allclose(nats, -np.log(of_truth), atol=1e-9)
    everything = np.ones((n, T, 3), dtype=bool)
    everything[..., masks.RETURN] = False
    nats = bayes.surprisal(trajectories, everything, returns=True)
    assert all(x.max() < 1e-12 for x in nats.values()), "states and actions leave no doubt"


def test_what_a_start_is_worth_is_a_mean_over_trajectories():
    """Of nothing at all, the posterior of returns is their distribution in the data."""
    n, nothing = 4000, np.zeros((1, 10, 3), dtype=bool)
    given = doorkey.make_dataset(n, seed=16)
    (exact,) = bayes.posterior(given[:1], nothing, returns=True)["return_to_go"]  # (10, 17)
    shares = (given.values["return_to_go"][..., None] == np.arange(17)).mean(axis=0)
    assert (np.abs(shares - exact) <= 5 * np.sqrt(exact * (1 - exact) / n) + 3 / n).all()


# --------------------------------------------------------------------------------------------------
# The posterior as a network


@pytest.mark.parametrize("size, n, returns", [(6, 12, False), (6, 12, True), (16, 2, False)])
@pytest.mark.parametrize("per_factor", [False, True])
def test_the_exact_model_answers_with_the_posterior(size, n, returns, per_factor):
    """At every timestep, or at the one that each sequence asks about."""
    trajectories = doorkey.make_dataset(n, seed=17, size=size)
    see = random_see(np.random.default_rng(9), n, 10, per_factor)
    exact = bayes.posterior(trajectories, see, returns)
    network = bayes.ExactModel(size, returns)
    assert network.factors == doorkey.factors(size) and network.config.context == 10
    assert [f.name for f in network.predicted] == list(exact)
    as_tensors = (
        {name: torch.from_numpy(mask) for name, mask in see.items()}
        if per_factor
        else torch.from_numpy(see)
    )
    at = torch.arange(n) % 10
    for asked, rows in ((None, slice(None)), (at, (torch.arange(n), at))):
        outputs = evaluate.answer(network, trajectories.tensors(), as_tensors, asked)
        assert list(outputs) == list(exact)
        for name, log in outputs.items():
            expected = exact[name][rows].reshape(n, -1, exact[name].shape[-1])
            np.testing.assert_allclose(log.exp(), expected, rtol=1e-6, atol=1e-12)


def test_the_exact_model_overlooks_a_return_that_is_impossible():
    """Its sequence is answered as if it were hidden, and no other one is."""
    trajectories = doorkey.make_dataset(8, seed=18)
    see = {name: np.arange(10) < np.full((8, 1), 5) for name in FACTORS[:3]}
    see["return_to_go"] = np.zeros((8, 10), dtype=bool)
    see["return_to_go"][np.arange(8), [0, 0, 9, 4, 0, 9, 2, 7]] = True
    trajectories.values["return_to_go"][1, 0] = 16  # nobody comes so near, in the steps left
    trajectories.values["return_to_go"][5, 9] = 16  # a last reward is at most 1
    impossible = [1, 5]
    lost = np.isinf(bayes.log_likelihood(trajectories, see))
    assert np.flatnonzero(lost).tolist() == impossible
    without = dict(see, return_to_go=see["return_to_go"] & ~lost[:, None])
    exact = bayes.posterior(trajectories, without, returns=True)
    shown = {name: torch.from_numpy(mask) for name, mask in see.items()}
    before = {name: mask.clone() for name, mask in shown.items()}
    outputs = bayes.ExactModel(returns=True)(trajectories.tensors(), shown)
    for name, log in outputs.items():
        np.testing.assert_allclose(log.exp(), exact[name], rtol=0, atol=1e-12)
    assert all(torch.equal(shown[name], mask) for name, mask in before.items())
    hidden = bayes.posterior(trajectories, {name: see[name] for name in FACTORS[:3]})
    moved = np.abs(hidden["action"] - exact["action"]).max(axis=(1, 2)) > 1e-3
    assert not moved[impossible].any() and moved[~lost].sum() >= 5, "a possible return tells much"


def test_the_exact_model_overlooks_no_impossible_state():
    trajectories = doorkey.make_dataset(3, seed=19)
    trajectories.values["agent_pos"][2, 4] = 9  # a cell of the inner wall
    see = torch.ones(3, 10, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="trajectory 2 is impossible"):
        bayes.ExactModel()(trajectories.tensors(), see)


# --------------------------------------------------------------------------------------------------
# The limit


def mean_and_error(trajectories, see, predict):
    """The limit summed over factors, and its standard error over trajectories."""
    total, residual = 0.0, 0.0
    predict = by_factor(predict.numpy())
    for name, nats in bayes.surprisal(trajectories, see).items():
        if predict[name].any():
            sums, counts = np.where(predict[name], nats, 0).sum(axis=1), predict[name].sum(axis=1)
            mean = sums.sum() / counts.sum()
            total, residual = total + mean, residual + (sums - mean * counts) / counts.mean()
    return total, np.std(residual) / np.sqrt(len(trajectories))


def reference():
    with np.load(ROOT / "tests" / "data" / "doorkey_reference.npz") as file:
        arrays = [file[name].astype(np.int64) for name in ("pos", "key_pos", "action", "rtg")]
    arrays[3] += doorkey.RETURN_OFFSET[6]
    return Trajectories(doorkey.factors(6), dict(zip(FACTORS, arrays)), world="doorkey")


def draw(task, n):
    return masks.draw(task, n, 10, torch.Generator().manual_seed(4), balanced=True)


@pytest.mark.parametrize("task", masks.TASKS)
def test_every_task_has_a_limit(task):
    own = doorkey.make_dataset(50, seed=11)
    see, predict = draw(task, 50)
    limit = bayes.limit(own, see, predict)
    assert set(limit) == set(FACTORS) and all(np.isfinite(nats) for nats in limit.values())
    assert limit["return_to_go"] == 0
    assert sum(limit.values()) == pytest.approx(mean_and_error(own, see, predict)[0], abs=1e-12)


def test_limits_on_own_and_reference_data():
    own, given, totals = doorkey.make_dataset(1000, seed=11), reference()[:1000], {}
    for task in masks.EIGHT:
        totals[task], error = mean_and_error(own, *draw(task, 1000))
        there, error_there = mean_and_error(given, *draw(task, 1000))
        assert abs(totals[task] - there) <= 3 * np.hypot(error, error_there) + 1e-9, task
    assert totals["behavior_cloning"] == pytest.approx(1.08, abs=0.05)
    assert totals["past"] == pytest.approx(4.32, abs=0.1)
    assert totals["backward_dynamics"] == pytest.approx(0.56, abs=0.05)
    assert totals["forward_dynamics"] < 1e-9
    assert totals["reward_conditioned"] < totals["behavior_cloning"]  # what is seen can only help
    assert totals["waypoint"] < totals["goal_conditioned"] < totals["behavior_cloning"]


def test_any_mask_has_a_limit_and_the_posterior_is_calibrated():
    trajectories = doorkey.make_dataset(2000, seed=12)
    see = random_see(np.random.default_rng(6), 2000, 10, per_factor=False)
    limit = bayes.limit(trajectories, see, ~see)
    assert all(np.isfinite(nats) for nats in limit.values()) and limit["return_to_go"] == 0
    nats = bayes.surprisal(trajectories, see)
    for name, probability in bayes.posterior(trajectories, see).items():
        np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-12)
        truth, shown = trajectories.values[name], by_factor(see)[name]
        of_truth = np.take_along_axis(probability, truth[..., None], -1)[..., 0]
        assert (of_truth[shown] > 1 - 1e-12).all()
        entropy = -(probability * np.log(np.maximum(probability, 1e-300))).sum(axis=-1)  # (N, L)
        excess = np.where(shown, 0, nats[name] - entropy).sum(axis=1)
        assert abs(excess.mean()) < 3 * excess.std() / np.sqrt(len(excess)), name
        hit = np.arange(probability.shape[-1]) == truth[..., None]
        # Of what it calls 70% likely, 70% is true.
        for low, high in ((0.02, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.98)):
            chosen = (probability > low) & (probability <= high)
            gap = np.where(chosen, hit - probability, 0).sum(axis=(1, 2))
            assert abs(gap.mean()) < 3.5 * gap.std() / np.sqrt(len(gap)), (name, low)


def test_results_do_not_depend_on_chunks_or_on_the_kind_of_mask(monkeypatch):
    trajectories = doorkey.make_dataset(50, seed=13)
    see = random_see(np.random.default_rng(7), 50, 10, per_factor=False)
    whole = bayes.posterior(trajectories, see, returns=True)
    monkeypatch.setattr(bayes, "CHUNK", 1)
    for same, returns in ((see, True), (torch.from_numpy(see), False), (by_factor(see), False)):
        for name, probability in bayes.posterior(trajectories, same, returns).items():
            np.testing.assert_allclose(probability, whole[name], rtol=0, atol=1e-12)


def test_hidden_values_are_not_read():
    trajectories = doorkey.make_dataset(20, seed=14)
    see = random_see(np.random.default_rng(8), 20, 10, per_factor=True)
    scrambled = {name: np.where(see[name], array, 0) for name, array in trajectories.values.items()}
    whole, other = (
        bayes.posterior(Trajectories(trajectories.factors, values), see, returns=True)
        for values in (trajectories.values, scrambled)
    )
    for name, found in other.items():
        np.testing.assert_array_equal(found, whole[name])


# --------------------------------------------------------------------------------------------------
# What cannot be


def test_impossible_evidence_names_the_trajectory():
    trajectories = doorkey.make_dataset(5, seed=15)
    see = np.ones((5, 10, 3), dtype=bool)
    trajectories.values["agent_pos"][3, 4] = 9  # a cell of the inner wall
    for call in (bayes.posterior, bayes.surprisal, lambda *a: bayes.sample(*a, torch.Generator())):
        with pytest.raises(ValueError, match="trajectory 3 is impossible"):
            call(trajectories, see)
    impossible = np.isinf(bayes.log_likelihood(trajectories, see))
    assert impossible.tolist() == [False, False, False, True, False]
    # The last return is a reward, at most 1.
    see = {"return_to_go": np.arange(10) == np.full((5, 1), 9)}
    trajectories.values["return_to_go"][2, 9] = 16
    with pytest.raises(ValueError, match="trajectory 2 is impossible"):
        bayes.posterior(trajectories, see)


@pytest.mark.parametrize("see,message", [
    (np.ones((5, 10), dtype=bool), r"see is .* shape \(5,\) .* bool of shape \(5, 10\)"),
    (np.ones((4, 10, 3), dtype=bool), "see is"),
    (np.ones((5, 10, 3)), "float64"),
    ({"agent_pos": np.ones((5, 9), dtype=bool)}, r"see is .* shape \(5, 9\) for 'agent_pos'"),
    ({"agent": np.ones((5, 10), dtype=bool)}, "for 'agent', not .* each of .'agent_pos'"),
])  # fmt: skip
def test_malformed_masks_are_refused(see, message):
    with pytest.raises(ValueError, match=message):
        bayes.posterior(doorkey.make_dataset(5, seed=0), see)


def test_malformed_predictions_and_other_worlds_are_refused():
    trajectories = doorkey.make_dataset(5, seed=0)
    see = np.ones((5, 10, 3), dtype=bool)
    with pytest.raises(ValueError, match="predict is"):
        bayes.limit(trajectories, see, see[:, :9])
    other = Factor("action", "ACTION", "categorical", 4)
    elsewhere = Trajectories([other], {"action": np.zeros((5, 10), dtype=np.int64)})
    with pytest.raises(ValueError, match="needs the factors of DoorKey"):
        bayes.posterior(elsewhere, see)
    trajectories.lengths[2] = 7
    with pytest.raises(ValueError, match="one length"):
        bayes.posterior(trajectories, see)
