"""DoorKey: its dynamics against MiniGrid, and they and the demonstrator against the original's."""

import itertools
import math

import numpy as np
import pytest
import torch
from small import step

import doorkey

N = 20_000  # trajectories whose statistics are compared with the reference's 2,000
RIGHT, DOWN, LEFT, UP = range(4)


@pytest.fixture(scope="module")
def made():
    return doorkey.make_dataset(N, seed=1)


def cell(x, y, size=6):
    """Class of the cell at MiniGrid coordinates (x, y), each from 1."""
    return (x - 1) * (size - 2) + (y - 1)


def distance(agent, size=6):
    """Steps from a cell to the goal once the door is open, in scalars."""
    x, y = agent // (size - 2) + 1, agent % (size - 2) + 1
    wall, goal = {6: 3, 16: 5}[size], size - 2
    beyond_door = 1 + abs(wall + 1 - goal) + abs(1 - goal)
    if x > wall:
        return abs(x - goal) + abs(y - goal)
    return beyond_door if x == wall else 1 + abs(x - (wall - 1)) + abs(y - 1) + beyond_door


# ---- the dynamics --------------------------------------------------------------------------------


STATE = "pos", "key_pos", "key", "door"  # in the reference


def test_every_reference_trajectory_is_reproduced(reference):
    assert reference["pos"].shape == (2000, 10)
    for t in range(9):
        state = [reference[name][:, t] for name in STATE]
        after = step(*state, reference["action"][:, t])
        for name, array in zip(STATE, after):
            assert (array == reference[name][:, t + 1]).all(), f"{name} after step {t}"


def test_reference_rewards_and_returns_are_reproduced(reference):
    env = doorkey.DoorKey(len(reference["pos"]))
    env.state = env.table.index[tuple(reference[name][:, 0] for name in STATE)]
    rewards = np.stack([env.step(reference["action"][:, t]) for t in range(10)], axis=1)
    assert (rewards == reference["reward"]).all()
    assert (rewards[:, ::-1].cumsum(axis=1)[:, ::-1] == reference["rtg"]).all()


@pytest.mark.parametrize("size", [6, 16])
def test_made_trajectories_obey_the_dynamics_and_their_returns_add_up(size):
    made = doorkey.make_dataset(200, seed=2, size=size).values
    names = "agent_pos", "key_pos", "action", "return_to_go"
    agent, key, action, returns = (made[name] for name in names)
    columns, rows = range(1, {6: 3, 16: 5}[size]), range(1, size - 1)
    left = {cell(x, y, size) for x, y in itertools.product(columns, rows)}
    assert set(agent[:, 0]) <= left and set(key[:, 0]) <= left and (agent[:, 0] != key[:, 0]).all()
    held = door = np.zeros(200, dtype=int)
    for t in range(10):
        state = agent[:, t], key[:, t], held, door
        after_agent, after_key, held, door = step(*state, action[:, t], size=size)
        reward = [distance(a, size) - distance(b, size) for a, b in zip(agent[:, t], after_agent)]
        if t < 9:
            assert (after_agent == agent[:, t + 1]).all() and (after_key == key[:, t + 1]).all()
            assert (returns[:, t] - returns[:, t + 1] == reward).all()
        else:
            assert (returns[:, t] - {6: 6, 16: 10}[size] == reward).all()


def move_by_hand(env, direction):
    """One of our actions in MiniGrid's own commands, turning step by step."""
    while env.agent_dir != direction:
        env.step(env.actions.right)
    env.step(env.actions.pickup)
    before = tuple(env.agent_pos)
    env.step(env.actions.forward)
    if tuple(env.agent_pos) == before:
        env.step(env.actions.toggle)
        env.step(env.actions.forward)


def state_of(env, size):
    agent = cell(*env.agent_pos, size)
    key = agent
    for x, y in itertools.product(range(size), range(size)):
        if getattr(env.grid.get(x, y), "type", "") == "key":
            key = cell(x, y, size)
    return int(agent), int(key), int(env.carrying is not None), int(env.door.is_open)


@pytest.mark.parametrize("size", [6, 16])
def test_table_agrees_with_minigrid_stepped_by_hand(size):
    rng = np.random.default_rng(0)
    env = doorkey.DoorKeyEnv(size)
    seen = set()
    for episode in range(6):
        env.reset(seed=episode)
        world, wall = env.grid, {6: 3, 16: 5}[size]
        assert world.get(wall, 1).type == "door" and world.get(wall, 1).is_locked
        assert world.get(size - 2, size - 2).type == "goal"
        assert all(world.get(wall, y).type == "wall" for y in range(2, size - 1))
        to_key, to_door = [], []  # walk to the key, then to the door, with random steps between
        state = state_of(env, size)
        for x_or_y, forward, back, whither in ((0, RIGHT, LEFT, to_key), (1, DOWN, UP, to_key)):
            gap = int(env.key.cur_pos[x_or_y] - env.agent_pos[x_or_y])
            whither += [forward if gap > 0 else back] * abs(gap)
        to_door = [UP] * size + [RIGHT] * wall + [DOWN] * size
        wandering, on = rng.integers(0, 4, 20), rng.integers(0, 4, 60)
        for action in [*to_key, *wandering, *to_door, *on]:
            expected = tuple(int(x) for x in step(*state, action, size=size))
            move_by_hand(env, action)
            state = state_of(env, size)
            assert state == expected
            seen.add(state[2:])
    assert seen == {(0, 0), (1, 0), (1, 1)}  # the walks did fetch keys and open doors


MOVES = {  # (agent's cell, key's, held, door open), action: the cells and flags after it
    "takes the key and enters": (((1, 1), (2, 1), 0, 0), RIGHT, ((2, 1), (2, 1), 1, 0)),
    "opens the door and enters": (((2, 1), (2, 1), 1, 0), RIGHT, ((3, 1), (3, 1), 1, 1)),
    "without the key stays": (((2, 1), (1, 3), 0, 0), RIGHT, ((2, 1), (1, 3), 0, 0)),
    "the inner wall": (((2, 2), (1, 3), 0, 0), RIGHT, ((2, 2), (1, 3), 0, 0)),
    "the outer wall": (((1, 1), (1, 3), 0, 0), UP, ((1, 1), (1, 3), 0, 0)),
    "the inner wall from the goal": (((4, 4), (4, 4), 1, 1), LEFT, ((4, 4), (4, 4), 1, 1)),
    "the goal ends nothing": (((4, 4), (4, 4), 1, 1), UP, ((4, 3), (4, 3), 1, 1)),
}


@pytest.mark.parametrize("move", MOVES)
def test_moves_as_described(move):
    (agent, key, *flags), action, (agent_after, key_after, *flags_after) = MOVES[move]
    after = step(cell(*agent), cell(*key), *flags, action)
    assert tuple(map(int, after)) == (cell(*agent_after), cell(*key_after), *flags_after)


def test_environment_in_lockstep_agrees_with_step():
    env, rng = doorkey.DoorKey(50, seed=3), np.random.default_rng(1)
    agent, key = env.observe().values()
    assert (agent != key).all()
    held = door = np.zeros(50, dtype=int)
    reached = np.zeros(50, dtype=bool)
    for _ in range(30):
        action = rng.integers(0, 4, 50)
        before = [distance(a) for a in agent]
        agent, key, held, door = step(agent, key, held, door, action)
        reward = env.step(action)
        assert (reward == np.array(before) - [distance(a) for a in agent]).all()
        observed = env.observe()
        assert (observed["agent_pos"] == agent).all() and (observed["key_pos"] == key).all()
        reached |= agent == cell(4, 4)
    expected = {"key": held, "door": door, "goal": reached}
    assert all((flags == expected[name]).all() for name, flags in env.report().items())
    assert held.any() and not held.all()


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match="7"):
        doorkey.make_dataset(1, seed=0, size=7)


# ---- the demonstrator ----------------------------------------------------------------------------


def same_distribution(counts_a, counts_b):
    """p-value of Pearson's chi-square test that two tables (..., k) have the same rows.

    Rare cells are pooled.
    """
    statistic, freedom, k = 0.0, 0, counts_a.shape[-1]
    for a, b in zip(counts_a.reshape(-1, k), counts_b.reshape(-1, k)):
        table = np.stack([a, b]).astype(float)
        rare = table.sum(axis=0) * table.sum(axis=1).min() / max(table.sum(), 1) < 5
        table = np.concatenate([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1)
        table = table[:, table.sum(axis=0) > 0]
        if table.shape[1] > 1 and table.sum(axis=1).min() > 0:
            expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
            statistic += ((table - expected) ** 2 / expected).sum()
            freedom += table.shape[1] - 1
    assert freedom > 0
    return chi_square_p(statistic, freedom)


def chi_square_p(statistic, freedom):
    """How probable a statistic as large as this one is by chance."""
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return torch.special.gammaincc(*half).item()


def replay(values):
    """(held, door open), each (n, 10), along trajectories."""
    held = [np.zeros(len(values["action"]), dtype=int)]
    door = [held[0]]
    for t in range(9):
        agent, key, action = (values[name][:, t] for name in ("agent_pos", "key_pos", "action"))
        _, _, next_held, next_door = step(agent, key, held[-1], door[-1], action)
        held.append(next_held)
        door.append(next_door)
    return np.stack(held, axis=1), np.stack(door, axis=1)


def test_the_test_of_distributions_sees_a_difference():
    rng = np.random.default_rng(0)
    fair, same = rng.multinomial(2000, [0.25] * 4, size=2)
    skew = rng.multinomial(2000, [0.2, 0.25, 0.25, 0.3])
    assert same_distribution(fair, same) > 0.001
    assert same_distribution(fair, skew) < 1e-4


def test_starts_are_distributed_like_the_reference(made, reference):
    pairs = lambda agent, key: np.bincount(agent[:, 0] * 16 + key[:, 0], minlength=256)
    ours = pairs(made.values["agent_pos"], made.values["key_pos"])
    assert ((ours > 0) == (pairs(reference["pos"], reference["key_pos"]) > 0)).all()
    assert same_distribution(ours, pairs(reference["pos"], reference["key_pos"])) > 0.001


@pytest.mark.parametrize("t", range(10))
def test_actions_at_a_timestep_are_distributed_like_the_reference(made, reference, t):
    both = made.values["action"], reference["action"]
    ours, theirs = (np.bincount(actions[:, t], minlength=4) for actions in both)
    assert same_distribution(ours, theirs) > 0.001


def test_door_opens_as_early_as_in_the_reference(made, reference):
    def first_open(door):
        return np.bincount(np.where(door.any(axis=1), door.argmax(axis=1), 10), minlength=11)

    _, door = replay(made.values)
    assert same_distribution(first_open(door), first_open(reference["door"])) > 0.001


def test_returns_are_distributed_like_the_reference(made, reference):
    ours = np.bincount(made.values["return_to_go"][:, 0], minlength=17)
    assert same_distribution(ours, np.bincount(reference["rtg"][:, 0] + 6, minlength=17)) > 0.001


def actions_by_state(agent, key, held, door, action):
    """(S, 4) counts of the actions at trajectories' first visits to a state: independent ones."""
    world = doorkey.table(6)
    state = world.index[agent, key, held, door]
    counts = np.zeros((len(world.states), 4), dtype=int)
    for s in range(len(world.states)):
        rows = np.flatnonzero((state == s).any(axis=1))
        np.add.at(counts[s], action[rows, (state[rows] == s).argmax(axis=1)], 1)
    return counts


@pytest.fixture(scope="module")
def by_state(made, reference):
    values = made.values
    cells = values["agent_pos"], values["key_pos"]
    ours = actions_by_state(*cells, *replay(values), values["action"])
    return ours, actions_by_state(*(reference[name] for name in (*STATE, "action")))


def test_actions_in_a_state_are_distributed_like_the_reference(by_state):
    assert same_distribution(*by_state) > 0.001


def test_actions_in_the_open_door_are_distributed_like_the_reference(by_state):
    """The planner believes that it can step up there, into outer wall, but not down, into inner."""
    states = doorkey.table(6).states
    there = (states[:, 0] == cell(3, 1)) & (states[:, 3] == 1)
    ours, theirs = (counts[there] for counts in by_state)
    assert there.sum() == 1 and theirs.sum() > 500
    assert same_distribution(ours, theirs) > 0.001


def test_actions_beyond_the_door_are_distributed_like_the_reference(by_state):
    beyond = doorkey.table(6).states[:, 0] >= cell(4, 1)
    assert same_distribution(*(counts[beyond] for counts in by_state)) > 0.001


def demonstrator(agent, key, held, door_open, beta):
    """The probabilities of the four actions, from the description, in scalars."""
    x, y = agent // 4 + 1, agent % 4 + 1
    goal = (4, 4) if door_open else (3, 1) if held else (key // 4 + 1, key % 4 + 1)
    weights = []
    for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        there = min(max(x + dx, 0), 4), min(max(y + dy, 0), 4)
        if there[0] == 3 and there[1] > 1:
            there = x, y
        before = abs(x - goal[0]) + abs(y - goal[1])
        after = abs(there[0] - goal[0]) + abs(there[1] - goal[1])
        weights.append(math.exp(beta * (before - after)))
    return np.array(weights) / sum(weights)


def test_first_two_actions_have_the_probabilities_of_the_description():
    """Jointly, for every start: this also sees whether a trajectory keeps its beta."""
    n = 200_000
    values = doorkey.make_dataset(n, seed=3).values
    first, second = values["action"][:, 0], values["action"][:, 1]
    counts = np.zeros((16, 16, 4, 4))
    np.add.at(counts, (values["agent_pos"][:, 0], values["key_pos"][:, 0], first, second), 1)
    expected = np.zeros_like(counts)
    starts = [(agent, key) for agent in range(8) for key in range(8) if agent != key]
    betas = (0.5, 0.3), (1.0, 0.6), (3.0, 0.1)
    for (agent, key), (beta, probability) in itertools.product(starts, betas):
        for action, p in enumerate(demonstrator(agent, key, 0, 0, beta)):
            after = step(agent, key, 0, 0, action)
            share = probability * p / len(starts)
            expected[agent, key, action] += n * share * demonstrator(*after, beta)
    cells = expected > 0
    assert expected.sum() == pytest.approx(n) and counts[~cells].sum() == 0
    statistic = ((counts - expected)[cells] ** 2 / expected[cells]).sum()
    assert expected[cells].min() > 1 and chi_square_p(statistic, cells.sum() - 1) > 0.001


# ---- the data set --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [6, 16])
def test_a_larger_data_set_begins_with_the_smaller_one(size):
    small, large = doorkey.make_dataset(30, 7, size), doorkey.make_dataset(100, 7, size)
    assert all((small.values[name] == large.values[name][:30]).all() for name in small.values)


def test_a_seed_is_a_data_set():
    one, same, other = (doorkey.make_dataset(50, seed) for seed in (4, 4, 5))
    for name in one.values:
        assert (one.values[name] == same.values[name]).all()
        assert (one.values[name] != other.values[name]).any()


@pytest.mark.parametrize("size, cells, returns", [(6, 16, 17), (16, 196, 21)])
def test_factors_are_those_of_the_world(size, cells, returns):
    made = doorkey.make_dataset(300, seed=0, size=size)
    assert [(f.name, f.group, f.kind, f.size) for f in made.factors] == [
        ("agent_pos", "STATE", "categorical", cells),
        ("key_pos", "STATE", "categorical", cells),
        ("action", "ACTION", "categorical", 4),
        ("return_to_go", "RETURN", "categorical", returns),
    ]
    for array in made.values.values():
        assert array.shape == (300, 10) and array.dtype == np.int64


# ---- what other files ask of the world -----------------------------------------------------------


def valid(agent, key, action, size=6):
    values = {"agent_pos": np.array(agent), "key_pos": np.array(key), "action": np.array(action)}
    return doorkey.valid_transitions(values, size)


def test_all_transitions_of_demonstrations_are_valid_and_corrupted_ones_are_not(reference):
    agent, key, action = (reference[name] for name in ("pos", "key_pos", "action"))
    assert valid(agent, key, action).shape == (2000, 9) and valid(agent, key, action).all()
    assert doorkey.valid_transitions(doorkey.make_dataset(50, seed=1, size=16).values, 16).all()
    for t in range(1, 9):
        jumped = agent.copy()
        jumped[:, t] = (jumped[:, t] + 8) % 16  # two columns away: never a step
        assert not valid(jumped, key, action)[:, t - 1 : t + 1].any()
    moves = np.flatnonzero(agent[:, 4] != agent[:, 5])
    turned = action[moves].copy()
    turned[:, 4] = (turned[:, 4] + 2) % 4
    assert len(moves) > 500 and not valid(agent[moves], key[moves], turned)[:, 4].any()


@pytest.mark.parametrize("size", [6, 16])
def test_whether_a_transition_is_valid_needs_not_know_of_key_and_door(size):
    """States with the same cells, whatever their flags, lead to the same cells."""
    table, leads_to = doorkey.table(size), {}
    for state, successors in zip(table.states, table.successor):
        cells = table.states[successors, :2].tolist()
        assert leads_to.setdefault(tuple(state[:2]), cells) == cells


def test_single_transitions_are_valid_or_not():
    there_and_back = [[4, 8, 4, 4]]  # left of the door, in it, back, and stuck before it
    action = [[RIGHT, LEFT, RIGHT, RIGHT]]
    assert valid(there_and_back, there_and_back, action).tolist() == [[True, True, False]]
    left_behind = [[4, 4, 4, 4]]
    assert valid(there_and_back, left_behind, action).tolist() == [[False, False, False]]
    in_the_wall = [[5, 9, 5, 4]]  # cell 9 is inner wall: neither into it nor out of it
    action = [[RIGHT, LEFT, UP, RIGHT]]
    assert valid(in_the_wall, in_the_wall, action).tolist() == [[False, False, True]]


@pytest.mark.parametrize(
    "agent, key",
    [(2, 7), ([2, 0, 7, 4, 1], [7, 3, 0, 5, 6]), ([2, 0, 3, 4, 1], 7)],
    ids=["one for all", "one for each", "agents with one key"],
)
def test_episodes_begin_where_they_are_told_to_and_afresh(agent, key):
    env = doorkey.DoorKey(5, seed=0)
    env.start_at({"agent_pos": 4, "key_pos": 0})
    for action in [UP, LEFT] + 3 * [RIGHT] + 3 * [DOWN]:  # to the key, the door and the goal
        env.step(np.full(5, action))
    assert all(flags.all() for flags in env.report().values())
    env.start_at({"agent_pos": np.array(agent), "key_pos": np.array(key)})
    observed = env.observe()
    assert (observed["agent_pos"] == agent).all() and (observed["key_pos"] == key).all()
    assert not any(flags.any() for flags in env.report().values())
    moves = np.array([RIGHT, DOWN, LEFT, UP, RIGHT])  # each episode goes on from its own start
    after = step(*np.broadcast_arrays(agent, key, 0, 0, moves))
    env.step(moves)
    observed = env.observe()
    assert (observed["agent_pos"] == after[0]).all() and (observed["key_pos"] == after[1]).all()


@pytest.mark.parametrize(
    "agent, key, words",
    [
        (3, 3, "begins with agent_pos=3, key_pos=3: "),  # on one cell
        (12, 1, "begins with agent_pos=12, key_pos=1: "),  # right of the wall
        (1, 12, "begins with agent_pos=1, key_pos=12: "),
        (16, 1, "begins with agent_pos=16, key_pos=1: "),  # no cell
        (0, -1, "begins with agent_pos=0, key_pos=-1: "),
        ([2, 0, 3], [7, 3, 3], "begins with agent_pos=3, key_pos=3: "),
        ([2, 13, 14], [7, 3, 3], "begins with agent_pos=13, key_pos=3: "),
        ([2, 0], [7, 3], "shape"),  # of three episodes
    ],
)
def test_what_is_no_start_is_refused_and_named(agent, key, words):
    with pytest.raises(ValueError, match=words):
        doorkey.DoorKey(3).start_at({"agent_pos": np.array(agent), "key_pos": np.array(key)})


@pytest.mark.parametrize("size, every", [(6, 1), (16, 37)])
def test_the_best_return_is_that_of_the_nearest_state_ten_steps_away(size, every):
    """By the sets of states that one, two, ... ten moves lead to."""
    states = doorkey.table(size).states
    moves = [step(*states.T, np.full(len(states), a), size=size) for a in range(4)]
    after = np.array(moves).transpose(2, 0, 1).tolist()  # (S, 4 actions, 4 parts of a state)
    leads = {tuple(state): set(map(tuple, row)) for state, row in zip(states.tolist(), after)}
    chosen = np.arange(0, len(states), every)
    expected = []
    for start in chosen:
        there = {tuple(states[start].tolist())}
        for _ in range(10):
            there = set.union(*(leads[state] for state in there))
        nearest = min(distance(agent, size) for agent, *_ in there)
        expected.append(distance(states[start, 0], size) - nearest)
    assert doorkey.best_return(chosen, size).tolist() == expected
    assert len(set(expected)) > 5


def test_returns_between_two_classes_are_the_higher_one():
    env = doorkey.DoorKey(4)
    assert env.encode_return(np.array([0.5, 1.5, -0.5, 2.4]), 0).tolist() == [7, 8, 6, 8]
    assert env.encode_return(np.array([99, -99, 10, -6]), 0).tolist() == [16, 0, 16, 0]
