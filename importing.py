"""Other people's data as trajectories: D4RL's HDF5 files, Minari's data sets, and plain arrays in an .npz.

    python data.py import hopper_medium-v2.hdf5 --out=out/hopper.npz           # D4RL's HDF5: pip install h5py
    python data.py import minari:mujoco/hopper/medium-v0 --out=out/hopper.npz  # of this machine: pip install minari h5py
    python data.py import mine.npz --out=out/mine.npz                          # arrays: see read_arrays()

Every reader returns the lengths of the episodes and a generator of blocks of consecutive timesteps, {name: array of the
block}; assemble() spreads them over the factors of Trajectories. So no file is ever held twice in memory.
Read next: config/d4rl_hopper.py, which trains on such a file; gymenv.py, to play in the world that it came from.
"""

import os
import struct
import zipfile

import numpy as np

import npz
from data import Factor, Trajectories

BLOCK = 2**18  # timesteps that are read at a time
CLASSES = 10_000  # more would not be classes but numbers
RESERVED = ("action", "rewards", "return_to_go", "timestep")  # names that no state can have


def read(source, min_length=1):
    """Trajectories from `source`: a .hdf5 (.h5) or .npz file, or minari:ID. Episodes below min_length are left out.

    Factors: the states by name ("observation", where the source has no names), `action`, and `return_to_go` (2: the sum
    of the rewards from this step to the episode's end, and the step's number). A row of integers, one for each step, is
    categorical; everything else is continuous. Raises ValueError, in one sentence, for what cannot be imported.
    """
    if min_length < 1:
        raise ValueError(f"min_length={min_length} must be at least 1")
    kind = "minari" if source.startswith("minari:") else os.path.splitext(source)[1].lower()
    if kind not in READERS:
        raise ValueError(f"cannot import {source!r}: it is neither a .hdf5, .h5 or .npz file nor minari:ID")
    if kind != "minari" and not os.path.isfile(source):
        raise ValueError(f"there is no file {source}")
    try:
        lengths, blocks = READERS[kind](source)
        return assemble(lengths, blocks, min_length)
    except (OSError, KeyError, TypeError, ValueError, EOFError, ImportError, struct.error, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot import {source}: {' '.join(str(error).split())}") from None


def read_hdf5(path):
    """D4RL: datasets observations (n, k), actions, rewards, terminals and perhaps timeouts, of all episodes in a row.

    An episode ends at a terminal or a timeout. What follows the last of them is an unfinished episode, and kept.
    """
    h5py = _package("h5py")
    file = h5py.File(path, "r")
    datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    names = {"observations": "observation", "actions": "action", "rewards": "rewards"}
    missing = {*names, "terminals"} - datasets.keys()
    if missing:
        raise ValueError(f"it lacks the datasets {', '.join(sorted(missing))}; it has {', '.join(datasets) or 'none'}")
    flags = [name for name in ("terminals", "timeouts") if name in datasets]
    n = _rows({name: datasets[name] for name in [*names, *flags]})
    ended = np.zeros(n, dtype=bool)
    for name in flags:
        flag = datasets[name][...].reshape(-1)
        if flag.size != n or not np.isin(flag, (0, 1)).all():
            raise ValueError(f"{name} should hold a 0 or 1 for each step")
        ended |= flag != 0
    ended[-1] = True
    lengths = np.diff(np.flatnonzero(ended), prepend=-1)
    return lengths, _slices({ours: datasets[name] for name, ours in names.items()}, n)


def read_arrays(path):
    """An .npz with actions and rewards (n,), of all episodes in a row, and episode_ends: for each episode the index one
    past its last step, so that its last entry is n. Every other array, (n, k) or (n,), is a state: observations, or
    states of any names.
    """
    arrays = npz.read(path)
    if "header" in arrays:
        raise ValueError("it is a trajectory file already; train with --dataset and its path")
    missing = {"actions", "rewards", "episode_ends"} - arrays.keys()
    states = arrays.keys() - {"actions", "rewards", "episode_ends"}
    if missing or not states:
        lacks = ", ".join(sorted(missing)) or "a state (observations, say)"
        raise ValueError(f"it lacks {lacks}; it has {', '.join(arrays) or 'no arrays'}")
    ends = arrays.pop("episode_ends")
    n = _rows(arrays)
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or not ends.size:
        raise ValueError(f"episode_ends should be a list of integers; it is {ends.dtype} of shape {ends.shape}")
    lengths = np.diff(ends.astype(np.int64), prepend=0)
    if lengths.min() < 1 or ends[-1] != n:
        raise ValueError(f"episode_ends should increase from above 0 to the number of steps, {n}")
    state = lambda name: "observation" if name == "observations" and "observation" not in states else name
    _check_names(state(name) for name in states)
    names = {name: state(name) for name in sorted(states)} | {"actions": "action", "rewards": "rewards"}
    return lengths, _slices({ours: arrays[name] for name, ours in names.items()}, n)


def read_minari(source):
    """A local Minari data set, minari:ID. Dictionaries of observations become a state for each key."""
    dataset = _package("minari", "minari h5py").load_dataset(source.removeprefix("minari:"))
    lengths = np.array([len(episode.rewards) for episode in dataset.iterate_episodes()], dtype=np.int64)

    def blocks():
        for episode in dataset.iterate_episodes():
            states, steps = episode.observations, len(episode.rewards)
            states = states if isinstance(states, dict) else {"observation": states}
            _check_names(states)
            block = {name: state[:steps] for name, state in states.items()}  # the last one saw no action any more
            yield block | {"action": episode.actions, "rewards": episode.rewards}

    return lengths, blocks()


READERS = {".hdf5": read_hdf5, ".h5": read_hdf5, ".npz": read_arrays, "minari": read_minari}


def assemble(lengths, blocks, min_length):
    """Trajectories of episodes of these lengths from consecutive blocks of timesteps {name: (steps,) or (steps, k)}."""
    if not lengths.size or lengths.min() < 1:
        raise ValueError("it holds no episodes, or an empty one")
    kept = lengths >= min_length
    if not kept.any():
        raise ValueError(f"no episode has min_length={min_length} steps; the longest has {lengths.max()}")
    N, L, ends = kept.sum(), lengths.max(), lengths.cumsum()
    row = np.where(kept, kept.cumsum() - 1, -1)  # (episodes,) where each goes; -1: nowhere
    padded, step = {}, 0
    for block in blocks:
        now = np.arange(step, step + len(block["rewards"]))  # the block's timesteps, counted through the file
        episode = np.searchsorted(ends, now, side="right")
        t, use = now - (ends - lengths)[episode], kept[episode]
        for name, array in block.items():
            array = _checked(name, array, step)
            if name not in padded:
                padded[name] = np.zeros((N, L, *array.shape[1:]), dtype=array.dtype)
            padded[name][row[episode[use]], t[use]] = array[use]
        step += len(now)
    rewards = padded.pop("rewards")
    padded["return_to_go"] = returns_to_go(rewards)
    states = [name for name in padded if name not in ("action", "return_to_go")]
    groups = dict.fromkeys(states, "STATE") | {"action": "ACTION", "return_to_go": "RETURN"}
    factors = [_factor(name, group, padded[name]) for name, group in groups.items()]
    return Trajectories(factors, {f.name: padded[f.name] for f in factors}, lengths=lengths[kept])


def returns_to_go(rewards):
    """(N, L, 2) float32: the sum of the rewards (N, L) from each timestep on, and the timestep's number.

    A return that is still to be earned means little without the time that has passed, as in Maze2D. Both are normalised
    by the model, so neither needs a scale here.
    """
    values = np.empty((*rewards.shape, 2), dtype=np.float32)
    values[..., 0] = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    values[..., 1] = np.arange(rewards.shape[1])
    return values


def _checked(name, array, step):
    """A block of timesteps as (steps,) int64 or (steps, k) float32 (rewards: (steps,) float64)."""
    array = np.asarray(array)
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; it should be (steps,) or (steps, k) numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = step + int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
        raise ValueError(f"{name} has a value that is not finite (NaN or infinity) in step {bad} of the file")
    if name == "rewards":
        if array.size != len(array):
            raise ValueError(f"rewards have shape {array.shape}; there should be one for each step")
        return array.reshape(-1).astype(np.float64)
    if array.dtype.kind != "f" and array[0].size == 1:
        return array.reshape(-1).astype(np.int64)
    with np.errstate(over="ignore"):  # what is too large becomes infinity, which Trajectories refuses
        return array.reshape(len(array), -1).astype(np.float32)


def _factor(name, group, values):
    """The factor that (N, L) int64 or (N, L, k) float32 values belong to."""
    if values.dtype != np.int64:
        return Factor(name, group, "continuous", values.shape[2])
    if values.min() < 0 or values.max() >= CLASSES:
        raise ValueError(f"{name} has integers from {values.min()} to {values.max()}; classes count from 0 to at most "
                         f"{CLASSES - 1} (store numbers as floats)")  # fmt: skip
    return Factor(name, group, "categorical", int(values.max()) + 1)


def _check_names(states):
    """Raise ValueError if a state cannot have its name, because the model or the files could not have it."""
    for name in states:
        if not name.isidentifier() or name in RESERVED:
            raise ValueError(f"a state cannot be named {name!r}; take a word that is none of {', '.join(RESERVED)}")


def _rows(arrays):
    """The number of timesteps that arrays {name: array} have in common."""
    for name, array in arrays.items():
        if not array.shape:
            raise ValueError(f"{name} is a single number; it should have an entry for each step")
    sizes = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"the numbers of steps differ: {', '.join(f'{name} {size}' for name, size in sizes.items())}")
    n = next(iter(sizes.values()))
    if n == 0:
        raise ValueError("it holds no steps")
    return n


def _slices(arrays, n):
    """Yield {name: rows} of arrays that can be sliced (in memory, mapped or in an HDF5 file), BLOCK rows at a time."""
    for first in range(0, n, BLOCK):
        yield {name: array[first : first + BLOCK] for name, array in arrays.items()}


def _package(name, command=None):
    """An optional package. command: what pip installs it by. Raises ValueError, naming that, if it is missing."""
    try:
        return __import__(name)
    except ImportError as error:
        raise ValueError(f"install what reads it with `pip install {command or name}` ({error})") from None
