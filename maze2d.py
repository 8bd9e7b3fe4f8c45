"""Maze2D: a point mass pushed through D4RL's mazes on today's MuJoCo, a batch of episodes at a time.

The second world, and everything that DoorKey is not: states and actions are continuous, the velocity is hidden (so
history matters), and a policy is judged by rollouts. The mazes, the MJCF and the demonstrator are d4rl's own; MuJoCo
does the physics; nothing here steps one episode at a time.

    pip install --no-deps -r requirements-maze.txt
    python maze2d.py                      # 1,000 demonstrations beside the original's figures: about 5 seconds
    python maze2d.py --maze=large --out=large.png

Coordinates are d4rl's, in metres: x counts the rows of a maze's text and y its columns, from 0. One quirk is kept,
because it is in everybody's data: position (i, j), where episodes start and goals lie, is not the middle of cell (i, j)
but 0.2 beyond it on both axes, so the cell's walls stand at i - 0.7 and i + 0.3.

Read next: evaluate.py, which lets a model drive. Before this: data.py.
"""

import argparse
import functools
import importlib
import os
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from data import Factor, Trajectories

HORIZON = 200  # steps of 0.01 s in every episode; reaching the goal does not end it
MAZES = {  # our name: the name of d4rl's text
    "open": "OPEN",
    "umaze": "U_MAZE",
    "medium": "MEDIUM_MAZE",
    "large": "LARGE_MAZE",
    "eval-umaze": "U_MAZE_EVAL",
    "eval-medium": "MEDIUM_MAZE_EVAL",
    "eval-large": "LARGE_MAZE_EVAL",
}
PACKAGES = (
    "mujoco",
    "mujoco.rollout",
    "d4rl.pointmaze.maze_model",
    "d4rl.pointmaze.q_iteration",
    "d4rl.pointmaze.gridcraft.grid_env",
    "d4rl.pointmaze.gridcraft.grid_spec",
)
CELL_OFFSET = 0.2  # position (i, j) minus the middle of cell (i, j), on both axes: see the docstring


class Maze2D:
    """n episodes of one maze in lockstep.

    maze: a name in MAZES. n: episodes. seed: an int, or a sequence of ints, for np.random.default_rng; the episodes of
    one seed are the same bits each time, and every further reset() draws new ones. threads: of the engine; they change
    the speed, never a bit.
    qpos, qvel, goal: (n, 2) float64 positions [m], velocities [m/s] and goals [m]. An observation is (x, y, goal x,
    goal y): a policy that wants the velocity must infer it.
    Raises ValueError for an unknown maze, n < 1, or if d4rl or mujoco is not installed.
    Source: d4rl 1.1, pointmaze/maze_model.py (MazeEnv); reset and reward as in Carroll et al., arXiv 2211.10869.
    """

    horizon = HORIZON
    action_bounds = (-1.0, 1.0)
    over = False  # no episode ends early

    def __init__(self, maze="medium", n=1, seed=0, threads=2):
        if n < 1:
            raise ValueError(f"n={n} episodes: a batch needs at least 1")
        self.maze, self.n = maze, n
        self.generator = np.random.default_rng(seed)
        self.cells = free_cells(maze)  # (cells, 2)
        self._model = _build_model(maze)
        self._data = [_packages().mujoco.MjData(self._model) for _ in range(max(threads, 1))]
        self._pool = _packages().rollout.Rollout(nthread=threads if threads > 1 else 0)
        self._state = np.zeros((n, 1 + 2 + 2))  # the engine's layout: time, position, velocity
        self.reset()

    def reset(self):
        """Begin n new episodes; returns the observation (n, 4).

        Start: a uniformly drawn free cell + U(-0.3, 0.3) m per axis; velocity N(0, 0.1 m/s) per axis; goal: another
        free cell, drawn uniformly, without noise.
        """
        draw, n = self.generator, self.n
        start = draw.integers(len(self.cells), size=n)
        goal = draw.integers(len(self.cells) - 1, size=n)
        goal += goal >= start  # skips the start's cell and keeps the draw uniform over the others
        position = self.cells[start] + draw.uniform(-0.3, 0.3, (n, 2))
        velocity = draw.normal(0, 0.1, (n, 2))
        # Data files hold float32. Starting on such numbers lets a recorded episode be replayed to the bit.
        self.set_state(position.astype(np.float32), velocity.astype(np.float32), self.cells[goal])
        return self._observation()

    def set_state(self, qpos, qvel, goal):
        """Put every episode at a position, velocity and goal, each (n, 2). Raises ValueError for any other shape."""
        self.qpos, self.qvel, self.goal = (
            self._checked(name, array) for name, array in (("qpos", qpos), ("qvel", qvel), ("goal", goal))
        )
        self._distance = self._start_distance = np.linalg.norm(self.qpos - self.goal, axis=1)

    def step(self, actions):
        """Push every particle for 0.01 s; returns observations (n, 4) and rewards (n,).

        actions: (n, 2) motor commands, clipped to [-1, 1]; 1 is 100 N on a mass of 4.2 kg.
        Reward: the metres by which the distance to the goal fell, so that an episode's return is its initial minus its
        final distance. Raises ValueError for another shape or a value that is not finite.
        """
        force = np.clip(self._checked("actions", actions), -1, 1)
        self._state[:, 1:3] = self.qpos
        self._state[:, 3:5] = np.clip(self.qvel, -5, 5)  # d4rl limits the speed before a step, not after it
        after, _ = self._pool.rollout(self._model, self._data, self._state, force[:, None])  # (n, 1, 5)
        self.qpos, self.qvel = after[:, 0, 1:3].copy(), after[:, 0, 3:5].copy()
        before, self._distance = self._distance, np.linalg.norm(self.qpos - self.goal, axis=1)
        return self._observation(), before - self._distance

    def observe(self):
        """The state factors by name, as the data holds them: {"position": (n, 2), "goal": (n, 2)} float32."""
        return {"position": self.qpos.astype(np.float32), "goal": self.goal.astype(np.float32)}

    def report(self):
        """What the episodes came to, besides their return: {"distance": (n,) metres left, "closed": (n,) share closed}."""
        return {"distance": self._distance, "closed": 1 - self._distance / self._start_distance}

    def encode_return(self, return_to_go, t):
        """(n, 2) values of the factor return_to_go at timestep t, from returns (n,)."""
        return np.stack([return_to_go, np.full(self.n, t / HORIZON)], axis=1).astype(np.float32)

    def start_features(self):
        """(n, 6) the present as a start, to find training episodes like it: places weigh 3 times as much as the velocity."""
        return np.concatenate([3 * self.qpos, 3 * self.goal, self.qvel], axis=1)

    def dataset_features(self, trajectories):
        """(N, 6) the same of the starts of a data set. Raises ValueError if it does not hold its start velocities."""
        if "start_velocity" not in trajectories.extras:
            raise ValueError("this data set has no start velocities, which return-conditioned rollouts look for")
        places = [3 * trajectories.values[name][:, 0] for name in ("position", "goal")]
        return np.concatenate([*places, trajectories.extras["start_velocity"]], axis=1)

    def dataset_returns(self, trajectories):
        """(N,) returns of the episodes of a data set, in metres."""
        return trajectories.values["return_to_go"][:, 0, 0]

    def _observation(self):
        return np.concatenate([self.qpos, self.goal], axis=1)

    def _checked(self, name, array):
        array = np.array(array, dtype=np.float64)
        if array.shape != (self.n, 2):
            raise ValueError(f"{name} has shape {array.shape}; {self.n} episodes of Maze2D need ({self.n}, 2)")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has a value that is not finite (NaN or infinity)")
        return array


def _build_model(maze):
    """d4rl's MJCF compiled by the installed MuJoCo, with three later changes of the engine undone.

    D4RL's data come from MuJoCo 2.1. A quarter of all steps touch a wall, and there the same MJCF departs from it today
    (3 m after 200 steps). With the changes undone 200 steps agree to 1e-11: tests/test_maze2d.py replays recordings.
    """
    mujoco = _packages().mujoco
    with _packages().maze_model.point_maze(_text(maze)).asfile() as file:
        model = mujoco.MjModel.from_xml_string(file.read())
    # 1. A contact begins at a margin which was the larger of its two geoms' margins (0.002 m each) and is now their
    #    sum, so each geom gets its share. The particle rests on the ground: that contact tells how this version counts.
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    model.geom_margin *= model.geom_margin.max() / data.contact.includemargin[0]
    # 2. A contact's stiffness is scaled by the body's inverse mass, averaged over the three axes. The particle cannot
    #    move along z, which counted as 0: (1/m + 1/m + 0) / 3. Newer versions leave that axis out and get 1/m.
    particle = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "particle")
    model.body_invweight0[particle, 0] = 2 / (3 * model.body_mass[particle])
    # 3. Pressed into a corner, the solver of contact forces now stops early (1e-5 m after 200 steps): let it finish.
    model.opt.tolerance = 0
    return model


class Demonstrator:
    """d4rl's WaypointController(maze, solve_thresh=0.1) for many episodes in lockstep.

    It follows the shortest path over cells and pulls the particle to one waypoint after the other with a PD law.
    plan() where episodes begin, then act() at every step. generator: numpy's, for the jitter of the waypoints.
    Source: d4rl 1.1, pointmaze/waypoint_controller.py, whose actions it repeats (tests/test_maze2d.py).
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
            cell = self._next_cell[tuple(self.goal.T) + tuple(cell.T)]  # (n, 2); a path that has arrived stays
            on_the_way = (cell != self.goal).any(axis=1, keepdims=True)  # (n, 1)
            # On the way, up to 0.2 short of the cell's position: about the middle of the cell. The goal is exact.
            waypoints.append(cell - 0.2 * self.generator.random(cell.shape) * on_the_way)
            if len(waypoints) > self._next_cell[0, 0, ..., 0].size:
                raise ValueError("there is no path of free cells from a position to its goal")
        self.waypoints = np.stack(waypoints, axis=1)  # (n, longest path, 2)
        self.index = np.zeros(len(cell), dtype=int)  # the waypoint that each episode heads for
        self.previous = np.rint(position)  # d4rl takes a particle to have come from its cell's position

    def act(self, position, velocity):
        """The actions (n, 2) in [-1, 1] at positions and velocities (n, 2); to be called once per step."""
        waypoint = self.waypoints[np.arange(len(self.index)), self.index]
        moved = np.linalg.norm(self.previous - position, axis=1) >= self.threshold  # only ever at the first step
        arrived = (np.linalg.norm(position - self.goal, axis=1) < self.threshold) & ~moved
        target = np.where(arrived[:, None], self.goal, waypoint)
        action = self.p_gain * (target - position) + self.d_gain * velocity
        # The last waypoint is the goal, where `arrived` is true instead: the index never runs off the end.
        self.index += ~arrived & ~moved & (np.linalg.norm(position - target, axis=1) < self.threshold)
        self.previous = position
        return np.clip(action, -1, 1)


@functools.cache
def _next_cell(maze):
    """For every goal and current cell the next one on d4rl's path: (rows, columns, rows, columns, 2) int.

    One q-iteration per goal plans for all starts at once.
    """
    d4rl = _packages()
    grid = d4rl.grid_env.GridEnv(d4rl.grid_spec.spec_from_string(_text(maze)))
    rows, columns = grid.gs.width, grid.gs.height
    transitions = grid.transition_matrix()  # (states, actions, states), all 0 or 1
    table = np.zeros((rows, columns, rows, columns, 2), dtype=int)
    for goal in free_cells(maze):
        reward = np.zeros((grid.num_states, grid.num_actions, 1))
        reward[grid.gs.xy_to_idx(goal)] = 1
        q = d4rl.q_iteration.q_iteration(
            grid, transition_matrix=transitions, reward_matrix=reward, num_itrs=50, discount=0.99
        )
        best = q.argmax(axis=1)  # ties go to d4rl's first action, as in its controller
        after = transitions[np.arange(len(best)), best].argmax(axis=1)  # illegal moves stay where they are
        table[tuple(goal)] = grid.gs.idx_to_xy(after).reshape(columns, rows, 2).swapaxes(0, 1)
    return table


def make_dataset(n, seed, maze="medium", noise=0.5, progress=False):
    """n demonstrations of 200 steps as data.Trajectories; 1,000 take about 2 seconds.

    noise: the standard deviation of what is added to the demonstrator's actions before they are clipped to [-1, 1]; 0
    gives the noise-free expert. progress: show a bar, if stderr is a terminal.
    Factors: position and goal (STATE, 2 each, metres), action (ACTION, 2), return_to_go (RETURN, 2: the rewards from t
    to the end, and t / 200). extras: start_velocity (n, 2), hidden from models, needed to replay an episode.
    Raises ValueError for an unknown maze, n < 1, seed < 0 or noise < 0.
    Source: Carroll et al., arXiv 2211.10869.
    """
    if noise < 0:
        raise ValueError(f"noise={noise} is a standard deviation and cannot be negative")
    if seed < 0:
        raise ValueError(f"seed={seed} must be 0 or more")
    # Streams of their own: an evaluation that happens to use the same seed must not get the training set's episodes.
    env, generator = Maze2D(maze, n, seed=[seed, 1]), np.random.default_rng([seed, 2])
    demonstrator = Demonstrator(maze, generator)
    demonstrator.plan(env.qpos, env.goal)
    start_velocity = env.qvel.astype(np.float32)
    position, action, reward = np.zeros((3, HORIZON, n, 2))
    for t in tqdm(range(HORIZON), desc=f"maze2d-{maze}", disable=None if progress else True):
        noisy = demonstrator.act(env.qpos, env.qvel) + noise * generator.standard_normal((n, 2))
        action[t] = np.clip(noisy, -1, 1).astype(np.float32)  # what is recorded is what is executed, to the bit
        position[t] = env.qpos
        _, reward[t, :, 0] = env.step(action[t])
    return_to_go = reward[::-1].cumsum(axis=0)[::-1]
    return_to_go[..., 1] = np.arange(HORIZON)[:, None] / HORIZON
    goal = np.broadcast_to(env.goal, (HORIZON, n, 2))
    arrays = {"position": position, "goal": goal, "action": action, "return_to_go": return_to_go}
    groups = {"position": "STATE", "goal": "STATE", "action": "ACTION", "return_to_go": "RETURN"}
    factors = [Factor(name, group, "continuous", 2) for name, group in groups.items()]
    values = {name: np.ascontiguousarray(array.swapaxes(0, 1), dtype=np.float32) for name, array in arrays.items()}
    return Trajectories(factors, values, world=f"maze2d-{maze}", extras={"start_velocity": start_velocity})


def layout(maze):
    """A maze as a (rows, columns) bool array, True where a wall stands. Raises ValueError for an unknown name."""
    maze_model = _packages().maze_model
    return maze_model.parse_maze(_text(maze)) == maze_model.WALL


def free_cells(maze):
    """The cells (cells, 2) int where episodes start and goals lie: all but walls, even the one d4rl marks as goal."""
    return np.argwhere(~layout(maze))


def _text(maze):
    if maze not in MAZES:
        raise ValueError(f"maze {maze!r} is unknown; the mazes are {', '.join(MAZES)}")
    return getattr(_packages().maze_model, MAZES[maze])


@functools.cache
def _packages():
    """mujoco and the parts of d4rl that we build on, by name. Raises ValueError if they are not installed.

    d4rl imports all of its worlds at once, and gym, which it needs, prints a warning. Only the mazes are wanted, so
    the rest is hidden during the import: a None in sys.modules makes an import fail at once, and both carry on.
    """
    hidden = {name: None for name in ("mujoco_py", "pybullet", "dm_control", "gym_notices.notices")}
    shadowed = {name: sys.modules[name] for name in hidden if name in sys.modules}
    os.environ.setdefault("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    sys.modules.update(hidden)
    try:
        with warnings.catch_warnings(action="ignore"):
            modules = {name.split(".")[-1]: importlib.import_module(name) for name in PACKAGES}
    except ImportError as error:
        command = "pip install --no-deps -r requirements-maze.txt"
        raise ValueError(f"Maze2D needs d4rl and mujoco; install them with `{command}` ({error})") from None
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        sys.modules.update(shadowed)
    return SimpleNamespace(**modules)


def summarise(trajectories):
    """The figures of a data set that can be compared with the original's: {name: number}, lengths in metres."""
    values = trajectories.values
    total = values["return_to_go"][:, 0, 0].astype(np.float64)
    distance = np.linalg.norm(values["position"][:, 0] - values["goal"][:, 0], axis=1)
    speed = trajectories.extras["start_velocity"]
    return {
        "return, mean": total.mean(),
        "return, standard deviation": total.std(),
        "return, largest": total.max(),
        "return, smallest": total.min(),
        "initial distance, mean": distance.mean(),
        "fraction of it closed, mean": (total / distance).mean(),
        "fraction of it closed, median": np.median(total / distance),
        "share of |action| = 1": (np.abs(values["action"]) == 1).mean(),
        "start velocity per axis, mean": speed.mean(),
        "start velocity per axis, standard deviation": speed.std(),
    }


# The original's 1,000 episodes in the medium maze, made on MuJoCo 2.1. The last two, on start velocities, are what it
# intended: by a mistake, not repeated here, they grew from episode to episode. So small differences are expected.
REFERENCE = (2.833, 1.050, 5.107, 0.449, 3.296, 0.898, 0.987, 0.281, 0.0, 0.1)


def main():
    parser = argparse.ArgumentParser(description="make demonstrations and compare them with the original's")
    parser.add_argument("--maze", choices=list(MAZES), default="medium")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="also draw a few demonstrations into this file (.png, .pdf, ...)")
    args = parser.parse_args()
    began = time.perf_counter()
    noisy = make_dataset(args.n, args.seed, args.maze, progress=True)
    seconds = time.perf_counter() - began
    expert = make_dataset(args.n, args.seed, args.maze, noise=0.0)
    print(f"{args.n} episodes of maze2d-{args.maze}, seed {args.seed}, made in {seconds:.1f} s")
    print(f"{'':44s}{'here':>8s}{'original':>10s}")
    reference = REFERENCE if args.maze == "medium" else (float("nan"),) * len(REFERENCE)
    for (name, value), theirs in zip(summarise(noisy).items(), reference, strict=True):
        print(f"{name:44s}{value:8.3f}{theirs:10.3f}")
    print(f"{'return without action noise, mean':44s}{summarise(expert)['return, mean']:8.3f}")
    if args.out:
        _draw(noisy, args.maze, args.out)
        print(f"drawn to {args.out}")


def _draw(trajectories, maze, path):
    from matplotlib.figure import Figure

    import pictures

    ax = Figure(figsize=(5, 5), layout="constrained").add_subplot()
    pictures.draw_walls(ax, maze)
    pictures.draw_paths(ax, trajectories.values["position"][:4], trajectories.values["goal"][:4, 0])
    ax.figure.savefig(path, dpi=150)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"maze2d.py: {error}")
