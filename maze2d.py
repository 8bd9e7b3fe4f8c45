"""Maze2D: a point mass pushed through D4RL's mazes on today's MuJoCo, many episodes at a time.

The second world, and everything that DoorKey is not: states and actions are continuous, the
velocity is hidden (so history matters), and a policy is judged by rollouts. The mazes, the MJCF and
the demonstrator are d4rl's own; MuJoCo does the physics; nothing steps one episode at a time.

    pip install --no-deps -r requirements-maze.txt
    python maze2d.py                      # 1,000 demonstrations beside the original's: 5 seconds
    python maze2d.py --maze=large --n=200 --seed=1

Coordinates are d4rl's, in metres: x counts the rows of a maze's text and y its columns, from 0. One
quirk is kept, because it is in everybody's data: position (i, j), where episodes start and goals
lie, is 0.2 beyond the middle of cell (i, j) on both axes. So the cell's walls stand at i - 0.7 and
i + 0.3.

Read next: rollout.py, which lets a model drive. Before this: data.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import functools
import os
import sys
import warnings
from dataclasses import replace

import numpy as np

from data import Factor, Trajectories

# ---- settings ------------------------------------------------------------------------------------
maze = "medium"  # open, umaze, medium or large
n = 1000  # demonstrations
seed = 0  # of the demonstrations
# --------------------------------------------------------------------------------------------------

HORIZON = 200  # steps of 0.01 s in every episode; reaching the goal does not end it
# Our names: the names of d4rl's texts.
MAZES = {"open": "OPEN", "umaze": "U_MAZE", "medium": "MEDIUM_MAZE", "large": "LARGE_MAZE"}
NOISE = 0.5  # standard deviation of what is added to the demonstrator's actions
CELL_OFFSET = 0.2  # position (i, j) minus the middle of cell (i, j), on both axes: see above


class Maze2D:
    """n episodes of one maze in lockstep.

    Start: a free cell + U(-0.3, 0.3) m per axis, at a velocity of N(0, 0.1 m/s) per axis. Goal:
    another free cell, without noise.
    seed: an int, or several. threads: of the engine; they change the speed, never a bit.
    qpos, qvel, goal: (n, 2) float64 positions [m], velocities [m/s] and goals [m].
    Raises ValueError for an unknown maze, n < 1, or if d4rl or mujoco is not installed.
    Source: d4rl 1.1, pointmaze/maze_model.py; reset and reward as in arXiv 2211.10869.
    """

    horizon = HORIZON
    action_bounds = (-1.0, 1.0)
    over = False  # no episode ends early

    def __init__(self, maze="medium", n=1, seed=0, threads=2):
        if n < 1:
            raise ValueError(f"n={n} episodes: a batch needs at least 1")
        self.maze, self.n = maze, n
        self.cells = free_cells(maze)  # (cells, 2)
        self._model, (mujoco, _) = _build_model(maze), _packages()
        self._data = [mujoco.MjData(self._model) for _ in range(max(threads, 1))]
        self._pool = mujoco.rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._state = np.zeros((n, 1 + 2 + 2))  # the engine's layout: time, position, velocity
        draw = np.random.default_rng(seed)
        start = draw.integers(len(self.cells), size=n)
        goal = draw.integers(len(self.cells) - 1, size=n)
        goal += goal >= start  # skips the start's cell and keeps the draw uniform over the others
        position = self.cells[start] + draw.uniform(-0.3, 0.3, (n, 2))
        velocity = draw.normal(0, 0.1, (n, 2))
        # Files hold float32: starting on such numbers lets an episode be replayed to the bit.
        self.set_state(position.astype(np.float32), velocity.astype(np.float32), self.cells[goal])

    def set_state(self, qpos, qvel, goal):
        """Put every episode at a position, velocity and goal, each (n, 2)."""
        self.qpos, self.qvel = self._checked("qpos", qpos), self._checked("qvel", qvel)
        self.goal = self._checked("goal", goal)
        self._distance = self._start_distance = np.linalg.norm(self.qpos - self.goal, axis=1)

    def start_at(self, values):
        """Put the episodes at {"position", "goal": (2,) or (n, 2)}.

        Velocities are "start_velocity", or else those that were drawn. Raises ValueError for a
        position in a wall or outside the maze, or what is not finite.
        """
        both = (np.asarray(values[name], float) for name in ("position", "goal"))
        position, goal = (np.broadcast_to(x, (self.n, 2)) for x in both)
        self.set_state(position, values.get("start_velocity", self.qvel), goal)
        cells = np.rint(position + CELL_OFFSET)[:, None]  # (n, 1, 2)
        inside = (self.cells == cells).all(axis=2).any(axis=1)
        if not inside.all():
            named = position[inside.argmin()].tolist()
            raise ValueError(f"no episode begins at position {named}: there is a wall")

    def step(self, actions):
        """Push every particle for 0.01 s; returns rewards (n,).

        actions: (n, 2) motor commands, clipped to [-1, 1]; 1 is 100 N on a mass of 4.2 kg.
        Reward: the metres by which the distance to the goal fell. Raises ValueError for another
        shape or a value that is not finite.
        """
        force = np.clip(self._checked("actions", actions), -1, 1)
        self._state[:, 1:3] = self.qpos
        self._state[:, 3:5] = np.clip(self.qvel, -5, 5)  # d4rl does so before a step, not after it
        after, _ = self._pool.rollout(self._model, self._data, self._state, force[:, None])
        self.qpos, self.qvel = after[:, 0, 1:3].copy(), after[:, 0, 3:5].copy()  # of (n, 1, 5)
        before, self._distance = self._distance, np.linalg.norm(self.qpos - self.goal, axis=1)
        return before - self._distance

    def observe(self):
        """The state factors as the data holds them, {"position", "goal": (n, 2) float32}.

        A policy that wants the velocity must infer it.
        """
        return {"position": self.qpos.astype(np.float32), "goal": self.goal.astype(np.float32)}

    def report(self):
        """What the episodes came to: the metres left, and the share closed, (n,) each."""
        return {"distance": self._distance, "closed": 1 - self._distance / self._start_distance}

    def encode_return(self, return_to_go, t):
        """(n, 2) values of the factor return_to_go at timestep t, from returns (n,)."""
        return np.stack([return_to_go, np.full(self.n, t / HORIZON)], axis=1).astype(np.float32)

    def start_features(self):
        """(n, 6) the present as a start, to find training episodes like it; places weigh most."""
        return np.concatenate([3 * self.qpos, 3 * self.goal, self.qvel], axis=1)

    def dataset_features(self, trajectories):
        """(N, 6) the same of a data set. Raises ValueError if it lacks its start velocities."""
        if "start_velocity" not in trajectories.extras:
            raise ValueError("return-conditioned rollouts need start velocities in the data set")
        places = [3 * trajectories.values[name][:, 0] for name in ("position", "goal")]
        return np.concatenate([*places, trajectories.extras["start_velocity"]], axis=1)

    def dataset_returns(self, trajectories):
        """(N,) returns of the episodes of a data set, in metres."""
        return trajectories.values["return_to_go"][:, 0, 0]

    def _checked(self, name, array):
        array = np.array(array, dtype=np.float64)
        if array.shape != (self.n, 2) or not np.isfinite(array).all():
            raise ValueError(f"{name} of shape {array.shape} should be {self.n, 2} finite numbers")
        return array


def _build_model(maze):
    """d4rl's MJCF compiled by the installed MuJoCo, with three later changes of the engine undone.

    D4RL's data come from MuJoCo 2.1. At walls, which a quarter of all steps touch, today's engine
    departs from it (3 m after 200 steps). With the changes undone 200 steps agree to 1e-11.
    """
    mujoco, pointmaze = _packages()
    with pointmaze.maze_model.point_maze(_text(maze)).asfile() as file:
        model = mujoco.MjModel.from_xml_string(file.read())
    # 1. A contact begins at a margin: it was the larger of its two geoms' margins (0.002 m each),
    #    and is now their sum. The particle's contact with the ground tells how this version counts.
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    model.geom_margin *= model.geom_margin.max() / data.contact.includemargin[0]
    # 2. A contact's stiffness is scaled by the body's inverse mass, averaged over the axes. The
    #    particle cannot move along z, which counted as 0, (1/m + 1/m + 0) / 3, and is now left out.
    particle = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "particle")
    model.body_invweight0[particle, 0] = 2 / (3 * model.body_mass[particle])
    # 3. Pressed into a corner, the solver of contact forces now stops early: let it finish.
    model.opt.tolerance = 0
    return model


class Demonstrator:
    """d4rl's WaypointController(maze, solve_thresh=0.1) for many episodes in lockstep.

    It follows the shortest path over cells and pulls the particle to one waypoint after the other
    with a PD law. plan() where episodes begin, then act() at every step. generator: numpy's, for
    the jitter of the waypoints. Source: d4rl 1.1, pointmaze/waypoint_controller.py.
    """

    p_gain, d_gain, threshold = 10.0, -1.0, 0.1

    def __init__(self, maze, generator):
        self.generator = generator
        self._next_cell = _next_cell(maze)

    def plan(self, position, goal):
        """Lay fresh waypoints from positions (n, 2) to goals (n, 2), in metres."""
        cell, self.goal = (np.rint(array).astype(int) for array in (position, goal))
        waypoints, on_the_way = [], np.array(True)
        while on_the_way.any():
            cell = self._next_cell[(*self.goal.T, *cell.T)]  # (n, 2); who has arrived stays
            on_the_way = (cell != self.goal).any(axis=1, keepdims=True)  # (n, 1)
            # Up to 0.2 short of the cell's position, about the cell's middle. The goal is exact.
            waypoints.append(cell - 0.2 * self.generator.random(cell.shape) * on_the_way)
            if len(waypoints) > self._next_cell[0, 0, ..., 0].size:
                raise ValueError("there is no path of free cells from a position to its goal")
        self.waypoints = np.stack(waypoints, axis=1)  # (n, longest path, 2)
        self.index = np.zeros(len(cell), dtype=int)  # the waypoint that each episode heads for
        self.previous = np.rint(position)  # d4rl lets a particle come from its cell's position

    def act(self, position, velocity):
        """Actions (n, 2) in [-1, 1] at positions and velocities (n, 2). Call it once per step."""
        waypoint = self.waypoints[np.arange(len(self.index)), self.index]
        near = lambda place: np.linalg.norm(position - place, axis=1) < self.threshold
        # as d4rl asks; untrue at the first step only, since no step is that long
        unmoved = near(self.previous)
        arrived = near(self.goal) & unmoved
        target = np.where(arrived[:, None], self.goal, waypoint)
        action = self.p_gain * (target - position) + self.d_gain * velocity
        # The last waypoint is the goal, where `arrived` is true: the index never runs off the end.
        self.index += ~arrived & unmoved & near(target)
        self.previous = position
        return np.clip(action, -1, 1)


@functools.cache
def _next_cell(maze):
    """The next cell on d4rl's path, for every goal and cell: (rows, columns, rows, columns, 2)."""
    _, pointmaze = _packages()
    craft = pointmaze.gridcraft
    grid = craft.grid_env.GridEnv(craft.grid_spec.spec_from_string(_text(maze)))
    rows, columns = grid.gs.width, grid.gs.height
    transitions = grid.transition_matrix()  # (states, actions, states), all 0 or 1
    table = np.zeros((rows, columns, rows, columns, 2), dtype=int)
    for goal in free_cells(maze):  # one q-iteration plans for all starts at once
        reward = np.zeros((grid.num_states, grid.num_actions, 1))
        reward[grid.gs.xy_to_idx(goal)] = 1
        plan = dict(reward_matrix=reward, num_itrs=50, discount=0.99)
        q = pointmaze.q_iteration.q_iteration(grid, transition_matrix=transitions, **plan)
        best = q.argmax(axis=1)  # ties go to d4rl's first action, as in its controller
        after = transitions[np.arange(len(best)), best].argmax(axis=1)
        table[tuple(goal)] = grid.gs.idx_to_xy(after).reshape(columns, rows, 2).swapaxes(0, 1)
    return table


def make_dataset(n, seed, maze="medium", raw=False):
    """n demonstrations of 200 steps as data.Trajectories; 1,000 take about 2 seconds.

    seed: an int, or several. raw: the factors say that nothing is to be normalised, and time is to
    count in 1,000 steps, as published.
    Factors of 2 numbers: position and goal (metres), action, and return_to_go (the rewards from t
    to the end, and t / 200). extras: start_velocity (n, 2), needed to replay an episode.
    Raises ValueError for an unknown maze, n < 1 or seed < 0. Source: arXiv 2211.10869.
    """
    # Streams of their own: an evaluation with the same seed must not get these episodes.
    seeds = np.atleast_1d(seed).tolist()
    env, generator = Maze2D(maze, n, seed=[*seeds, 1]), np.random.default_rng([*seeds, 2])
    demonstrator = Demonstrator(maze, generator)
    demonstrator.plan(env.qpos, env.goal)
    extras = {"start_velocity": env.qvel.astype(np.float32)}
    groups = {"position": "STATE", "goal": "STATE", "action": "ACTION", "return_to_go": "RETURN"}
    factors = [Factor(name, group, "continuous", 2) for name, group in groups.items()]
    if raw:
        std = dict.fromkeys(groups, (1.0, 1.0)) | {"return_to_go": (1.0, 1000 / HORIZON)}
        plain = {"mean": (0.0, 0.0), "step_std": (1.0, 1.0)}
        factors = [replace(f, std=std[f.name], **plain) for f in factors]
    position, goal, action, to_go = np.zeros((4, n, HORIZON, 2))
    for t in range(HORIZON):
        noisy = demonstrator.act(env.qpos, env.qvel) + NOISE * generator.standard_normal((n, 2))
        # What is recorded is what is executed, to the bit.
        action[:, t] = np.clip(noisy, -1, 1).astype(np.float32)
        position[:, t], goal[:, t] = env.qpos, env.goal
        to_go[:, t, 0] = env.step(action[:, t])
    to_go[..., 0] = to_go[:, ::-1, 0].cumsum(axis=1)[:, ::-1]
    to_go[..., 1] = np.arange(HORIZON) / HORIZON
    arrays = (array.astype(np.float32) for array in (position, goal, action, to_go))
    return Trajectories(factors, dict(zip(groups, arrays)), f"maze2d-{maze}", extras=extras)


def layout(maze):
    """(rows, columns) bool, True where a wall stands. Raises ValueError for an unknown name."""
    _, pointmaze = _packages()
    return pointmaze.maze_model.parse_maze(_text(maze)) == pointmaze.maze_model.WALL


def free_cells(maze):
    """(cells, 2) int, where episodes start and goals lie: all but walls."""
    return np.argwhere(~layout(maze))


def _text(maze):
    if maze not in MAZES:
        raise ValueError(f"maze {maze!r} is unknown; the mazes are {', '.join(MAZES)}")
    _, pointmaze = _packages()
    return getattr(pointmaze.maze_model, MAZES[maze])


@functools.cache
def _packages():
    """The modules mujoco and d4rl.pointmaze. Raises ValueError if they are not installed.

    d4rl imports all of its worlds at once. Only the mazes are wanted, so the rest is hidden during
    the import: a None in sys.modules makes an import fail at once, and d4rl carries on. What gym
    would print is hidden likewise.
    """
    unwanted = ("mujoco_py", "pybullet", "dm_control", "gym_notices.notices")
    hidden = {name: None for name in unwanted if name not in sys.modules}
    os.environ.setdefault("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    sys.modules.update(hidden)
    try:
        with warnings.catch_warnings(action="ignore"):
            import d4rl.pointmaze.gridcraft.grid_env
            import d4rl.pointmaze.q_iteration
            import mujoco.rollout
    except ImportError as error:
        install = f"`pip install --no-deps -r requirements-maze.txt` ({error})"
        raise ValueError(f"Maze2D needs d4rl and mujoco; install them with {install}") from None
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
    return mujoco, d4rl.pointmaze


def summarise(trajectories):
    """Mean and deviation of the return, share of the distance closed, share of |action| = 1."""
    values = trajectories.values
    total = values["return_to_go"][:, 0, 0].astype(np.float64)
    distance = np.linalg.norm(values["position"][:, 0] - values["goal"][:, 0], axis=1)
    clipped = np.abs(values["action"]) == 1
    return total.mean(), total.std(), (total / distance).mean(), clipped.mean()


# The same of the original's 1,000 episodes in the medium maze, made on MuJoCo 2.1. There, by a
# mistake, start velocities grew from episode to episode: expect small differences.
ORIGINAL = (2.833, 1.050, 0.898, 0.281)


def main():
    step_bytes = 4 * 2 * 8  # four factors of two numbers
    configurator.check_memory(2 * n * HORIZON * step_bytes, f"n={n}")
    rows = {"here": summarise(make_dataset(n, seed, maze)), "original, medium": ORIGINAL}
    print(f"{n} episodes of maze2d-{maze}: return, its deviation, distance closed, |action| = 1")
    for name, row in rows.items():
        print(f"{name:16s}" + "".join(f"{number:8.3f}" for number in row))


if __name__ == "__main__":
    configurator.apply(globals())
    main()
