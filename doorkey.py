"""DoorKey: a small MiniGrid world in which an agent fetches a key, opens a door, walks to a goal.

MiniGrid's own engine is the truth: DoorKeyEnv is an ordinary MiniGrid environment with a fixed
layout and four moves. It is stepped once in every reachable state (77 of them for size 6), which
gives a table of transitions. All simulation is then numpy look-ups in that table, many trajectories
at a time, and bayes.py does exact inference with it.

    python doorkey.py        # draw the world, and count its states

Read next: bayes.py. Before this: data.py.
"""

import configurator

import os
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from data import Factor, Trajectories

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # or MiniGrid's pygame greets on stdout
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Door, Goal, Key
from minigrid.minigrid_env import MiniGridEnv

LENGTH = 10  # every trajectory has ten steps: reaching the goal does not end it
MOVES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])  # (x, y): right, down, left, up; y is down
WALL_X = {6: 3, 16: 5}  # column of the inner wall; its door is at y = 1
RETURN_OFFSET = {6: 6, 16: 10}  # class of a return-to-go = its value + offset
RETURN_CLASSES = {6: 17, 16: 21}
BETAS = np.array([0.5, 1.0, 3.0])  # the demonstrator's rationality, drawn once per trajectory
BETA_PROBABILITIES = np.array([0.3, 0.6, 0.1])


class DoorKeyEnv(MiniGridEnv):
    """DoorKey on MiniGrid's engine, in four direction-free moves. size: with the outer walls."""

    def __init__(self, size=6):
        mission = MissionSpace(lambda: "fetch the key, open the door, go to the goal")
        super().__init__(mission, grid_size=size)

    def _gen_grid(self, width, height):
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.grid.vert_wall(WALL_X[width], 0)
        self.door, self.key = Door("yellow", is_locked=True), Key("yellow")
        self.put_obj(self.door, WALL_X[width], 1)
        self.put_obj(Goal(), width - 2, height - 2)
        left = dict(top=(1, 1), size=(WALL_X[width] - 1, height - 2))
        self.place_obj(self.key, **left)
        self.place_agent(**left)

    def gen_obs(self):
        """The whole state (agent cell, key cell, key held, door open), not an egocentric view."""
        agent = cell_index(*self.agent_pos, self.width)
        held = self.carrying is not None
        key = agent if held else cell_index(*self.key.cur_pos, self.width)
        return int(agent), int(key), int(held), int(self.door.is_open)

    def set_state(self, agent, key, held, door_open):
        """Put the environment into any state, by cell indices."""
        if self.carrying is None:
            self.grid.set(*self.key.cur_pos, None)
        self.carrying = self.key if held else None
        if not held:
            self.put_obj(self.key, *cell_xy(key, self.width))
        self.agent_pos = cell_xy(agent, self.width)
        self.door.is_open, self.door.is_locked = bool(door_open), not door_open

    def move(self, direction):
        """One of our actions: turn, take a key that is in front, go; if barred, toggle and go."""
        self.agent_dir = direction
        self.step(self.actions.pickup)
        before = self.agent_pos
        self.step(self.actions.forward)
        if self.agent_pos == before:
            self.step(self.actions.toggle)
            self.step(self.actions.forward)
        return self.gen_obs()


def cell_index(x, y, size=6):
    """Class of the cell at MiniGrid coordinates (x, y), each 1..size-2: column by column."""
    return (x - 1) * (size - 2) + (y - 1)


def cell_xy(index, size=6):
    """MiniGrid coordinates of a cell class: the inverse of cell_index."""
    return index // (size - 2) + 1, index % (size - 2) + 1


class Table(NamedTuple):
    """The world as arrays over its S reachable states."""

    size: int
    states: np.ndarray  # (S, 4) agent cell, key cell (the agent's once held), key held, door open
    successor: np.ndarray  # (S, 4) index of the state that each action leads to
    distance: np.ndarray  # (S,) steps from the agent to the goal, once the door is open
    policy: np.ndarray  # (3, S, 4) the demonstrator's action probabilities, for each beta
    starts: np.ndarray  # (K,) indices of the equally likely start states
    index: np.ndarray  # (cells, cells, 2, 2) index of each state, -1 where it is unreachable


@lru_cache
def table(size=6):
    """The Table of a size: MiniGrid stepped in every state. Raises ValueError unless 6 or 16."""
    if size not in WALL_X:
        raise ValueError(f"DoorKey has no size {size}; sizes are 6 and 16")
    env = DoorKeyEnv(size)
    env.reset(seed=0)
    left = range(cell_index(WALL_X[size], 1, size))  # the cells left of the inner wall
    states = [(agent, key, 0, 0) for agent in left for key in left if agent != key]
    number = {state: i for i, state in enumerate(states)}
    starts, successor = np.arange(len(states)), []
    for state in states:  # `states` grows while we walk it: breadth first
        row = []
        for direction in range(4):
            env.set_state(*state)
            after = env.move(direction)
            if after not in number:
                number[after] = len(states)
                states.append(after)
            row.append(number[after])
        successor.append(row)
    states, successor, cells = np.array(states), np.array(successor), (size - 2) ** 2
    index = np.full((cells, cells, 2, 2), -1)
    index[tuple(states.T)] = np.arange(len(states))
    distance, policy = _distance(states[:, 0], size), _policy(states, size)
    return Table(size, states, successor, distance, policy, starts, index)


def _distance(agent, size):
    """(S,) steps from the agent's cells (S,) to the goal, in the corner (size-2, size-2)."""
    x, y = cell_xy(agent, size)
    goal = size - 2
    # From left of the wall the way leads up to the door's row, y = 1, and then down.
    vertical = np.where(x < WALL_X[size], (y - 1) + (goal - 1), goal - y)
    return goal - x + vertical


def _policy(states, size):
    """(3, S, 4) the demonstrator: softmax(beta * gain) over its actions.

    gain: the decrease of the Manhattan distance to the subgoal: the key, the door, then the goal.
    It plans with coordinates clamped to [0, size-2], so it believes that it can step into the outer
    walls at 0: a quirk of the original's planner, kept because it shapes the data.
    """
    wall, goal = WALL_X[size], size - 2
    agent, key = (np.stack(cell_xy(states[:, i], size), axis=-1) for i in (0, 1))  # (S, 2)
    held, door_open = states[:, 2:3], states[:, 3:4]
    subgoal = np.where(door_open, [goal, goal], np.where(held, [wall, 1], key))
    here, subgoal = agent[:, None], subgoal[:, None]  # (S, 1, 2)
    there = np.clip(here + MOVES, 0, goal)  # (S, 4, 2)
    barred = (there[..., 0] == wall) & (there[..., 1] > 1)  # not at y = 0: see above
    there = np.where(barred[..., None], here, there)
    gain = np.abs(here - subgoal).sum(-1) - np.abs(there - subgoal).sum(-1)  # (S, 4)
    weight = np.exp(BETAS[:, None, None] * gain)
    return weight / weight.sum(axis=-1, keepdims=True)


def factors(size=6):
    """The factors of a DoorKey timestep."""
    cells = (size - 2) ** 2
    return [
        Factor("agent_pos", "STATE", "categorical", cells),
        Factor("key_pos", "STATE", "categorical", cells),
        Factor("action", "ACTION", "categorical", 4),
        Factor("return_to_go", "RETURN", "categorical", RETURN_CLASSES[size]),
    ]


def make_dataset(n, seed, size=6):
    """n demonstrations of ten steps as Trajectories.

    One row of uniform numbers makes one trajectory, so a larger data set begins with a smaller one.
    """
    world = table(size)
    uniform = np.random.default_rng(seed).random((n, 2 + LENGTH))
    state = world.starts[(uniform[:, 0] * len(world.starts)).astype(int)]
    beta = np.searchsorted(BETA_PROBABILITIES.cumsum()[:-1], uniform[:, 1], side="right")
    thresholds = world.policy.cumsum(axis=-1)[..., :-1]  # (3, S, 3)
    visited, actions = [state], []
    for t in range(LENGTH):
        action = (uniform[:, 2 + t, None] >= thresholds[beta, state]).sum(axis=-1)
        state = world.successor[state, action]
        actions.append(action)
        visited.append(state)
    visited = np.stack(visited, axis=1)  # (n, 11)
    agent_pos, key_pos, _, _ = np.moveaxis(world.states[visited[:, :-1]], -1, 0)
    distance = world.distance[visited]
    values = {
        "agent_pos": agent_pos,
        "key_pos": key_pos,
        "action": np.stack(actions, axis=1),
        "return_to_go": distance[:, :-1] - distance[:, -1:] + RETURN_OFFSET[size],
    }
    return Trajectories(factors(size), values, world="doorkey" if size == 6 else "doorkey16")


def valid_transitions(values, size=6):
    """Which transitions of trajectories its dynamics allow: (N, T-1) bool.

    values: {"agent_pos", "key_pos", "action": (N, T) integer arrays}. They are enough: the key is
    held where the agent is, and its holder passes a closed door as an open one.
    """
    world = table(size)
    agent_pos, key_pos, action = (values[name] for name in ("agent_pos", "key_pos", "action"))
    states = world.index[agent_pos, key_pos].max(axis=(-2, -1))  # (N, T), -1: unreachable
    after = world.states[world.successor[states[:, :-1], action[:, :-1]]]  # (N, T-1, 4)
    arrives = (after[..., 0] == agent_pos[:, 1:]) & (after[..., 1] == key_pos[:, 1:])
    return arrives & (states[:, :-1] >= 0)


def best_return(states, size=6):
    """The highest return that ten steps allow from states, an array of indices: steps gained."""
    world = table(size)
    nearest = world.distance  # (S,) the least distance to the goal after so many steps
    for _ in range(LENGTH):
        nearest = nearest[world.successor].min(axis=1)
    return (world.distance - nearest)[states]


class DoorKey:
    """n episodes in lockstep, for rollouts. state: (n,) indices into table(size).states."""

    horizon = LENGTH
    over = False  # no episode ends early

    def __init__(self, n=1, seed=0, size=6):
        self.n, self.table = n, table(size)
        self.state = np.random.default_rng(seed).choice(self.table.starts, n)
        self.at_goal = np.zeros(n, dtype=bool)

    def start_at(self, values):
        """Begin at given starts: {"agent_pos", "key_pos": a class, or (n,) classes}.

        Raises ValueError for what is no start.
        """
        agent, key = (np.broadcast_to(values[name], self.n) for name in ("agent_pos", "key_pos"))
        cells = len(self.table.index)
        inside = (agent >= 0) & (agent < cells) & (key >= 0) & (key < cells)
        state = np.where(inside, self.table.index[agent % cells, key % cells, 0, 0], -1)
        if (state < 0).any():
            bad = (state < 0).argmax()
            rule = "both lie left of the wall, on different cells"
            named = f"agent_pos={agent[bad]}, key_pos={key[bad]}"
            raise ValueError(f"no episode begins with {named}: {rule}")
        self.state, self.at_goal = state, np.zeros(self.n, dtype=bool)

    def step(self, action):
        """Move by classes (n,); returns the reward (n,): steps gained."""
        before = self.table.distance[self.state]
        self.state = self.table.successor[self.state, action]
        distance = self.table.distance[self.state]
        self.at_goal |= distance == 0
        return before - distance

    def observe(self):
        """{state factor: (n,) classes}."""
        agent, key = self.table.states[self.state, :2].T
        return {"agent_pos": agent, "key_pos": key}

    def report(self):
        """What the episodes came to: {"key", "door", "goal": (n,) whether it was ever reached}."""
        held, door_open = self.table.states[self.state, 2:].T
        return {"key": held, "door": door_open, "goal": self.at_goal}

    def encode_return(self, return_to_go, t):
        """(n,) classes of the factor return_to_go, from numbers (n,); beyond the last: the last."""
        offset, classes = RETURN_OFFSET[self.table.size], RETURN_CLASSES[self.table.size]
        nearest = np.floor(return_to_go + offset + 0.5)  # np.rint takes halves to even classes
        return np.clip(nearest, 0, classes - 1).astype(np.int64)

    def start_features(self):
        """(n, 4) coordinates of agent and key, to find training trajectories like them."""
        return self._coordinates(self.observe())

    def dataset_features(self, trajectories):
        """(N, 4) the same of the starts of a data set."""
        return self._coordinates({name: x[:, 0] for name, x in trajectories.values.items()})

    def dataset_returns(self, trajectories):
        """(N,) returns of the trajectories of a data set."""
        return trajectories.values["return_to_go"][:, 0] - RETURN_OFFSET[self.table.size]

    def _coordinates(self, values):
        agent, key = (cell_xy(values[name], self.table.size) for name in ("agent_pos", "key_pos"))
        return np.stack(agent + key, axis=-1)


if __name__ == "__main__":
    configurator.apply(globals())
    env = DoorKeyEnv()
    env.reset(seed=0)
    print(env.pprint_grid(), f"\n{len(table().states)} reachable states")
