"""The worlds: a plain dict from a name to how its data are made, played in, and what else it knows.

    python worlds.py --world=doorkey --n=2000 --out=doorkey.npz     # then train.py --dataset=...
    python worlds.py --file=doorkey.npz                             # what a file holds

A new world is one file that makes Trajectories, and one entry in WORLDS. To play in it there must
be an environment as well: n episodes in lockstep, with the attributes and methods of DoorKey, and
action_bounds where actions are numbers. Its start_at() is for goals, and for sample.py --world.
Read next: evaluate.py, rollout.py. Before this: doorkey.py, maze2d.py, data.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import functools
import math
import os
import warnings
import zlib
from typing import Callable, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete

import bayes
import data
import doorkey
import files
import maze2d

# ---- settings ------------------------------------------------------------------------------------
world = "doorkey"  # a name in WORLDS
n = 2000  # trajectories to make
seed = 0  # of the trajectories
file = ""  # a file to look at instead
out = ""  # the file to write: .npz, or a folder that is mapped into memory when it is loaded
# --------------------------------------------------------------------------------------------------

TEST_SEED = 1_000_000  # added to the data seed for test trajectories: so all others are below it


class World(NamedTuple):
    """What there is to know of a world. The first four are needed to train on it."""

    make: Callable  # (n, seed) -> Trajectories, always as wide; seed: an int, or a list (--fresh)
    total: int  # trajectories made for training and validation together
    validation: int  # the last ones of them, which validate
    test: int  # trajectories of the test set, made with another seed
    sizes: dict = {}  # of its factors, by name, to notice a file that is not of this world
    # (n, seed) -> n episodes in lockstep, as DoorKey; `over`: which have ended, a bool or (n,)
    environment: Callable = None
    tasks: tuple = ()  # that are evaluated beside the paper's eight
    # Exact answers. returns: whether returns are asked for as well.
    posterior: Callable = None  # (trajectories, see, returns) -> {factor: (N, L, classes)}
    surprisal: Callable = None  # the same -> {factor: (N, L) nats}, the exact limit
    valid: Callable = None  # ({factor: (N, T)}) -> (N, T-1) bool, transitions that can happen


def doorkey_world(size):
    make = functools.partial(doorkey.make_dataset, size=size)
    environment = functools.partial(doorkey.DoorKey, size=size)
    valid = functools.partial(doorkey.valid_transitions, size=size)
    counts = {"total": 2000, "validation": 1000, "test": 1000}
    counts["sizes"] = {factor.name: factor.size for factor in doorkey.factors(size)}
    exact = {"posterior": bayes.posterior, "surprisal": bayes.surprisal}
    return World(make, **counts, environment=environment, valid=valid, **exact)


def maze_world(maze, raw=False):
    make = functools.partial(maze2d.make_dataset, maze=maze, raw=raw)
    environment = lambda n, seed: maze2d.Maze2D(maze, n, seed, torch.get_num_threads())
    tasks = "behavior_cloning_states", "reward_conditioned_states"
    counts = {"total": 1000, "validation": 30, "test": 100}
    counts["sizes"] = dict.fromkeys(("position", "goal", "action", "return_to_go"), 2)
    return World(make, **counts, environment=environment, tasks=tasks)


WORLDS = {"doorkey": doorkey_world(6), "doorkey16": doorkey_world(16)}
WORLDS |= {f"maze2d-{maze}": maze_world(maze) for maze in maze2d.MAZES}
# not normalised, as published
WORLDS |= {f"maze2d-{maze}-raw": maze_world(maze, raw=True) for maze in maze2d.MAZES}


def find(name):
    """The World of a name. Raises ValueError if there is none."""
    if name not in WORLDS:
        raise ValueError(f"there is no world {name!r}; worlds are {', '.join(WORLDS)}")
    return WORLDS[name]


def tasks_of(name):
    """The tasks that are evaluated beside the paper's eight; none if the name is no world's."""
    return WORLDS[name].tasks if name in WORLDS else ()


def make(name, n, seed, setting="n"):
    """n fresh trajectories of a world. Raises ValueError as find().

    setting: what n is called where it is too large for the memory.
    """
    if n > 10_000:
        check_count(n, find(name).make(1, 0), f"{setting}={n}")
    return find(name).make(n, seed)


def check_count(n, trajectories, what):
    """Raise ValueError, naming a setting, if n trajectories like these do not fit into memory."""
    size = sum(array.nbytes for array in trajectories.values.values()) / len(trajectories)
    configurator.check_memory(3 * n * size, what)


def environment(name, n, seed):
    """n episodes of a world to play in. Raises ValueError if there is no such environment."""
    there = [key for key, world in WORLDS.items() if world.environment]
    if name not in there:
        text = f"{name!r} is no world to play in, as {', '.join(there)} are"
        raise ValueError(f"{text}; rollout.py --env=Hopper-v5 plays in one of Gymnasium's")
    return WORLDS[name].environment(n, seed)


# --------------------------------------------------------------------------------------------------
# Training, validation and test


def train_and_validation(dataset, num_trajectories, seed):
    """The first `num_trajectories` to train on, and others to validate on, as Trajectories.

    dataset: a world's name, or a file or folder of trajectories. Of a file the last tenth (at most
    1,000) validates, and as many before it are the test set. num_trajectories=0: all that are left.
    The training set comes with its statistics (normalise). Raises ValueError if there are too few.
    """
    settings = {"num_trajectories": num_trajectories, "data_seed": seed}
    configurator.check(settings, {"num_trajectories": (0, math.inf), "data_seed": (0, TEST_SEED)})
    if dataset in WORLDS:
        world = WORLDS[dataset]
        total = first_held_out(world, num_trajectories) + world.validation
        everything, held_out = make(dataset, total, seed, "num_trajectories"), world.validation
        left = total - held_out
    else:
        everything = load(dataset)
        held_out = tenth(everything)
        left = len(everything) - 2 * held_out
    if left < max(num_trajectories, 1):
        text = f"{dataset} has {len(everything)} trajectories, {max(0, left)} beside those for"
        needed = num_trajectories or "at least 3, to have one of each"
        raise ValueError(f"{text} validation and test: not {needed}")
    return data.normalise(everything[: num_trajectories or left]), everything[-held_out:]


def first_held_out(world, num_trajectories):
    """The number of the first validation trajectory of a world, for so many to train on."""
    return max(world.total - world.validation, num_trajectories)


def evaluation_set(dataset, num_trajectories, data_seed, split):
    """The "test" trajectories, of which training saw nothing; or those of validation ("val")."""
    configurator.check({"split": split}, {"split": ("test", "val")})
    if split == "val":
        return train_and_validation(dataset, num_trajectories, data_seed)[1]
    if dataset in WORLDS:
        return make(dataset, WORLDS[dataset].test, TEST_SEED + data_seed)
    everything = load(dataset)
    return everything[-2 * tenth(everything) : -tenth(everything)]


def load(dataset):
    """Trajectories of a user's file. Raises ValueError if it is none, or not of its world."""
    if not os.path.exists(dataset):
        names = ", ".join(WORLDS)
        raise ValueError(f"dataset {dataset!r} is neither a world ({names}) nor a file of them")
    found = data.Trajectories.load(dataset)
    world = WORLDS.get(found.world)
    sizes = {factor.name: factor.size for factor in found.factors}
    if world and world.sizes and list(sizes.items()) != list(world.sizes.items()):
        text = f"{dataset} says that it is of the world {found.world!r}, which has the factors"
        theirs, ours = (", ".join(f"{k} ({n})" for k, n in x.items()) for x in (world.sizes, sizes))
        raise ValueError(f"{text} {theirs}, and not {ours}")
    return found


def source_of(settings):
    """What names the data of a run, from its settings: (dataset, num_trajectories, data_seed)."""
    return settings["dataset"], settings["num_trajectories"], settings["data_seed"]


def fingerprint(dataset, *parts):
    """A number that tells the Trajectories of a file apart; None for those of a world.

    dataset "": a number in any case. Of very large data it is that of evenly spaced trajectories.
    """
    if dataset in WORLDS:
        return None
    found = 0
    for part in parts:
        for array in (part.lengths, *part.values.values()):
            some = array[:: 1 + array.size // data.LARGE]
            found = zlib.crc32(np.ascontiguousarray(some), found)
    return found


def tenth(trajectories):
    """How many trajectories of a file validate; as many are the test set."""
    return min(1000, max(1, len(trajectories) // 10))


# --------------------------------------------------------------------------------------------------
# Gymnasium


class GymEnv:
    """n episodes of any Gymnasium environment, each until it ends or its time limit cuts it off.

    env_id: an environment with a time limit; those of other packages are named module:ID.
    factors: the model's. Its states are the observations ("observation", or a dictionary's keys).
    Raises ValueError if they do not fit. The same seed gives the same episodes. render: whether
    render() will be called.

    horizon: the time limit in steps; over: (n,) bool; action_bounds: two (k,) tensors.
    """

    def __init__(self, env_id, n, seed, factors, render=False):
        self.n, self.factors, self._id = n, factors, env_id
        options = {"vectorization_mode": "sync"} | ({"render_mode": "rgb_array"} if render else {})
        try:
            self._envs = gymnasium.make_vec(str(env_id), num_envs=n, **options)
        except (gymnasium.error.Error, ImportError) as error:
            raise ValueError(f"there is no environment {env_id!r}: {error}") from None
        self._check()
        action = self._envs.single_action_space
        if isinstance(action, Box):
            self.action_bounds = torch.as_tensor(action.low), torch.as_tensor(action.high)
        self._observation, _ = self._envs.reset(seed=seed)
        self.over = np.zeros(n, dtype=bool)
        self.length = np.zeros(n, dtype=np.int64)

    def _check(self):
        """Raise ValueError unless there is a time limit and the spaces are the model's factors."""
        self.horizon = self._envs.envs[0].spec.max_episode_steps
        if not self.horizon:
            raise ValueError(f"{self._id} has no time limit, so its episodes may never end")
        space = self._envs.single_observation_space
        spaces = dict(space) if isinstance(space, Dict) else {"observation": space}
        spaces["action"] = self._envs.single_action_space
        theirs = {name: kind_and_size(space) for name, space in spaces.items()}
        ours = {f.name: (f.kind, f.size) for f in self.factors if f.group != "RETURN"}
        if ours.keys() != theirs.keys() or not all(fits(ours[k], theirs[k]) for k in ours):
            listed = lambda part: ", ".join(f"{name} ({k} {n})" for name, (k, n) in part.items())
            have, want = listed(theirs), listed(ours)
            raise ValueError(f"{self._id} has {have}; the model was trained on {want}")

    def step(self, actions):
        """Rewards (n,) of actions: (n,) classes or (n, k), which are clipped to bounds."""
        if isinstance(self._envs.single_action_space, Box):
            actions = np.clip(actions, *(bound.numpy() for bound in self.action_bounds))
        # the vector environment restarts episodes that are over: they earn nothing any more
        with warnings.catch_warnings(action="ignore"):  # what is not finite is refused here
            self._observation, rewards, terminated, truncated, _ = self._envs.step(actions)
        rewards = np.where(self.over, 0.0, rewards)
        if not np.isfinite(rewards).all():
            raise ValueError(f"{self._id} gave a reward that is not finite (NaN or infinity)")
        self.length += ~self.over
        self.over |= terminated | truncated
        return rewards

    def observe(self):
        """{state factor: (n,) classes or (n, k) float32}. Of an episode that is over: anything."""
        parts = self._observation
        parts = parts if isinstance(parts, dict) else {"observation": parts}
        kinds = {f.name: np.int64 if f.kind == "categorical" else np.float32 for f in self.factors}
        for name, part in parts.items():
            if not np.isfinite(part[~self.over]).all():
                raise ValueError(f"{self._id} gave an {name} that is not finite (NaN or infinity)")
        return {name: part.astype(kinds[name]) for name, part in parts.items()}

    def render(self):
        """The present as n pictures, (height, width, 3) uint8 each."""
        try:
            return self._envs.render()
        except Exception as error:  # of another package, which may lack a display, or a library
            raise ValueError(f"{self._id} cannot be drawn: {error}") from None

    def report(self):
        """What the episodes came to, besides their return: {"length": (n,) steps}."""
        return {"length": self.length}

    def encode_return(self, return_to_go, t):
        """(n, 2) values of the factor return_to_go at timestep t, as importing.py makes it."""
        self._check_return()
        return np.stack([return_to_go, np.full(self.n, t)], axis=1).astype(np.float32)

    def start_features(self):
        """(n, features) the present as a start, to find training episodes like it."""
        return self._features(self.observe())

    def dataset_features(self, trajectories):
        """(N, features) the same of the starts of a data set."""
        return self._features({name: v[:, 0] for name, v in trajectories.values.items()})

    def dataset_returns(self, trajectories):
        """(N,) returns of the episodes of a data set."""
        self._check_return()
        return trajectories.values["return_to_go"][:, 0, 0].astype(np.float64)

    def _check_return(self):
        """Raise ValueError if the data's return is of another kind than importing.py makes."""
        returns = [(f.name, f.kind, f.size) for f in self.factors if f.group == "RETURN"]
        if returns[:1] != [("return_to_go", "continuous", 2)]:  # the first is that which is asked
            modes = "play modes bc and bc_states"
            raise ValueError(f"the model knows no return_to_go as importing.py makes it: {modes}")

    def _features(self, values):
        """(rows, features): the states in units of their standard deviation; of classes one-hot."""
        columns = []
        for f in (f for f in self.factors if f.group == "STATE"):
            x = values[f.name]
            one_hot = x[..., None] == np.arange(f.size)  # none of them for a class the data lack
            columns.append(one_hot if f.kind == "categorical" else x / np.array(f.std or 1.0))
        return np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)


def kind_and_size(space):
    """The kind and size of the factor that a space's values make."""
    if isinstance(space, Box) and len(space.shape) == 1:
        return "continuous", space.shape[0]
    if isinstance(space, Discrete) and space.start == 0:
        return "categorical", int(space.n)
    return str(space), 0


def fits(ours, theirs):
    """Whether a model's factor fits a space. Classes that the data happen to lack do no harm."""
    return ours == theirs or (ours[0] == theirs[0] == "categorical" and ours[1] < theirs[1])


def stage(dataset, env_id, n, seed, factors, render=False):
    """n episodes to play in: of Gymnasium's env_id or, without one, of the data's own world."""
    return GymEnv(env_id, n, seed, factors, render) if env_id else environment(dataset, n, seed)


def describe(trajectories):
    """A few lines on what a data set holds: counts, lengths, the range of each factor, returns."""
    lengths = trajectories.lengths
    steps = f"{lengths.min()} to {lengths.max()} steps, {lengths.sum()} in all"
    lines = [f"{len(trajectories)} trajectories of {steps}"]
    between = lambda x: f"from {x.min():.4g} to {x.max():.4g}" if x.size else "unknown"
    for f in trajectories.factors:
        array, valid = trajectories.values[f.name], trajectories.valid(f.name)
        size = f"{f.size} {'dimensions' if f.kind == 'continuous' else 'classes'}"
        lines.append(f"  {f.name:14s} {f.group:7s} {size:14s} {between(array[valid])}")
        if f"{f.name}/known" in trajectories.values:
            lines[-1] += f", known in {valid.sum()} steps"
        if f.group == "RETURN" and f.kind == "continuous" and valid[:, 0].any():
            total = array[valid[:, 0], 0, 0].astype(np.float64)
            lines.append(f"  return: {total.mean():.4g} on average, {between(total)}")
    return "\n".join(lines)


def main():
    if file:
        return print(describe(data.Trajectories.load(file)))
    configurator.check(globals(), {"n": (1, 2**31), "seed": (0, 2**63)})
    if not out:
        raise ValueError("--out=FILE.npz says where to write the trajectories")
    files.check_writable(out, new=True)
    made = make(world, n, seed)
    made.save(out)
    print(f"{describe(made)}\nsaved to {out}")


if __name__ == "__main__":
    configurator.apply(globals())
    main()
