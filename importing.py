"""Other people's data as trajectories: D4RL's HDF5 files, Minari's data sets, and plain arrays.

    python importing.py --source=hopper_medium-v2.hdf5 --min_length=10 --out=out/hopper.npz
    python importing.py --source=minari:mujoco/hopper/medium-v0 --out=out/hopper.npz
    python importing.py --source=mine.npz --out=out/mine      # arrays: see read_arrays()
    python importing.py --source=films.npz --nan_is_unknown=True --out=out/films.npz

HDF5 needs `pip install h5py`, Minari `pip install minari h5py`.
Read next: config/locomotion.py, which trains on such a file. Before this: data.py.
"""

import configurator  # first of all: from here on Ctrl-C ends in one line, without a traceback

import dataclasses
import math
import os
import struct
import warnings
import zipfile
import zlib

import numpy as np

import files
import worlds
from data import Factor, Trajectories

# ---- settings ------------------------------------------------------------------------------------
source = ""  # a .hdf5 (.h5) or .npz file, or minari:ID
out = ""  # a .npz, or a folder for data larger than memory: training then reads what it needs of it
min_length = 1  # leave out episodes of fewer steps
best = 1.0  # the share of the episodes to keep: those of the highest returns
# NaN stands for what nobody knows, such as the actions of a film: one makes its row unknown. It is
# refused otherwise. Classes cannot be NaN: write Trajectories with NAME/known (data.py).
nan_is_unknown = False
# The episodes, always alike: the last ones validate, and a learner's last would be its best.
shuffle = True
# --------------------------------------------------------------------------------------------------

CLASSES = 10_000  # more would not be classes but numbers
# What a damaged file can raise while it is read.
DAMAGE = (OSError, LookupError, TypeError, ValueError, EOFError, MemoryError, AttributeError)
DAMAGE += (struct.error, zipfile.BadZipFile, zlib.error)


def main():
    if os.path.splitext(out)[1] not in ("", ".npz") or not out:
        raise ValueError(f"out={out!r} should be a file that ends in .npz, or a folder")
    files.check_writable(out, new=True)
    configurator.check(globals(), {"best": (1e-9, 1.0000001), "min_length": (1, math.inf)})
    imported = read(source, min_length, nan_is_unknown)
    if best < 1:
        earned = imported.values["return_to_go"][:, 0, 0]
        kept = math.ceil(best * len(earned) - 1e-9)
        imported = imported[np.sort(np.argsort(-earned, kind="stable")[:kept])]
        longest = imported.lengths.max()  # the others are gone, and their padding with them
        values = {name: x[:, :longest] for name, x in imported.values.items()}
        imported = dataclasses.replace(imported, values=values)
    if shuffle:
        imported = imported[np.random.default_rng(0).permutation(len(imported))]
    imported.save(out)
    print(worlds.describe(imported), f"\nsaved to {out}{references(source)}")


def read(source, min_length=1, nan_is_unknown=False):
    """Trajectories from `source`. Episodes of fewer than min_length steps are left out.

    Factors: the states by name ("observation", where the source has no names), `action`, and
    `return_to_go` (2: the sum of the rewards from this step to the episode's end, and the step's
    number). A row of integers, one for each step, is categorical; all else is continuous.
    Raises ValueError, in one sentence, for what cannot be imported.
    """
    kind = "minari" if source.startswith("minari:") else os.path.splitext(source)[1].lower()
    if kind not in READERS:
        raise ValueError(f"source={source!r} is neither a .hdf5, .h5 or .npz file nor minari:ID")
    if kind != "minari" and not os.path.isfile(source):
        raise ValueError(f"there is no file {source}")
    try:
        with warnings.catch_warnings(action="ignore"):  # what is wrong is said here
            return assemble(*READERS[kind](source), min_length, nan_is_unknown)
    except ImportError as error:
        install = f"pip install {error.name or 'h5py'}"
        raise ValueError(f"install what reads {source} with `{install}` ({error})") from None
    except DAMAGE as error:
        raise ValueError(f"cannot import {source}: {' '.join(str(error).split())}") from None


# ---- readers: each returns lengths (episodes,), states {name: array}, actions and rewards --------
# The arrays hold the steps of all episodes in a row, (steps,) or (steps, k).
def read_hdf5(path):
    """D4RL: observations, actions, rewards, and terminals or timeouts, or both.

    An episode ends at a terminal or a timeout. What follows the last of them is an unfinished
    episode, and kept.
    """
    import h5py

    file = h5py.File(path, "r")
    names = [name for name in ("terminals", "timeouts") if name in set(file)]
    if not names:
        raise ValueError("it has neither terminals nor timeouts: where do its episodes end?")
    marks = [own_dataset(file, name)[...].reshape(-1) != 0 for name in names]
    if len(marks[0]) != len(marks[-1]):
        raise ValueError(f"{' and '.join(names)} are of {' and '.join(map(str, map(len, marks)))}")
    ended = marks[0] | marks[-1]
    ended[-1:] = True
    lengths = np.diff(np.flatnonzero(ended), prepend=-1)
    parts = [own_dataset(file, name) for name in ("observations", "actions", "rewards")]
    return lengths, {"observation": parts[0]}, *parts[1:]


def own_dataset(file, name):
    """A dataset of an HDF5 file. Whatever would lead out of the file, to any other, is refused."""
    import h5py

    link = file.get(name, getlink=True)
    if link is None:
        raise ValueError(f"it has no {name}")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is a link ({type(link).__name__}); store the numbers there")
    if not isinstance(file[name], h5py.Dataset):
        raise ValueError(f"{name} is a group, not an array")
    if file[name].is_virtual or file[name].external:
        raise ValueError(f"{name} lies in another file; store the numbers in this one")
    configurator.check_memory(file[name].nbytes, name)
    return file[name]


def read_arrays(path):
    """An .npz with actions, rewards, and episode_ends.

    episode_ends: for each episode the index one past its last step. Every other array is a state:
    `observations`, or states of any names.
    """
    states = files.read_arrays(path)
    if "header" in states:
        raise ValueError("it is a trajectory file already; train with --dataset and its path")
    needed = "actions", "rewards", "episode_ends"
    if missing := [name for name in needed if name not in states]:
        raise ValueError(f"it has no {missing[0]}: it needs {', '.join(needed)}")
    actions, rewards, ends = (states.pop(name) for name in needed)
    states = dict(sorted(states.items()))
    if ends.ndim != 1 or ends.dtype.kind not in "iu":
        raise ValueError(f"episode_ends is {ends.dtype} {ends.shape}, not a list of integers")
    if len(ends) and ends[-1] != len(rewards):
        raise ValueError(f"episode_ends ends with {ends[-1]}; there are {len(rewards)} steps")
    if "observations" in states and "observation" not in states:
        states["observation"] = states.pop("observations")
    return np.diff(ends.astype(np.int64), prepend=0), states, actions, rewards


def read_minari(source):
    """A local Minari data set. Dictionaries of observations become a state for each key."""
    import minari

    lengths, states, actions, rewards = [], {}, [], []
    for episode in minari.load_dataset(source.removeprefix("minari:")).iterate_episodes():
        seen, steps = episode.observations, len(episode.rewards)
        seen = seen if isinstance(seen, dict) else {"observation": seen}
        for name, array in [*seen.items(), ("actions", episode.actions)]:
            if not isinstance(array, np.ndarray):
                kind = type(array).__name__
                raise ValueError(f"{name} is a {kind}, a space in a space: store it as arrays")
        for name, array in seen.items():
            # Of one observation more than there are steps, the last saw no action any more.
            states.setdefault(name, []).append(array[:steps])
        lengths.append(steps)
        actions.append(episode.actions)
        rewards.append(episode.rewards)
    states = {name: np.concatenate(parts) for name, parts in states.items()}
    return np.array(lengths, np.int64), states, np.concatenate(actions), np.concatenate(rewards)


def references(source):
    """The returns that score 0 and 100 as rollout.py takes them, if a Minari data set names them."""
    if not source.startswith("minari:"):
        return ""
    import minari

    known = minari.load_dataset(source.removeprefix("minari:")).storage.metadata
    low, high = (known.get(f"ref_{end}_score") for end in ("min", "max"))
    return "" if None in (low, high) else f"; score with --ref_min={low:g} --ref_max={high:g}"


READERS = {".hdf5": read_hdf5, ".h5": read_hdf5, ".npz": read_arrays, "minari": read_minari}


# ---- from arrays to trajectories -----------------------------------------------------------------
def assemble(lengths, states, actions, rewards, min_length, nan_is_unknown):
    """Trajectories from what a reader returns, one array at a time."""
    if not states:
        raise ValueError("it has no state (observations, say)")
    for name in states.keys() & {"action", "rewards", "return_to_go"}:
        raise ValueError(f"a state cannot be named {name!r}")
    if not lengths.size or lengths.min() < 1:
        raise ValueError("it has no episodes, or an empty one; episode_ends should increase from 1")
    kept = lengths >= min_length  # (episodes,)
    if not kept.any():
        raise ValueError(f"no episode has {min_length=} steps; the longest has {lengths.max()}")
    use, lengths = np.repeat(kept, lengths), lengths[kept]  # (steps,), (N,)
    # 6: the rewards and their sums, in float64, and the two numbers of return_to_go
    columns = 6 + sum(math.prod(np.shape(x)[1:]) for x in [*states.values(), actions])
    text = f"to pad {len(lengths)} episodes to the longest, of {lengths.max()} steps,"
    configurator.check_memory(4 * columns * len(lengths) * int(lengths.max()), text)
    valid = np.arange(lengths.max()) < lengths[:, None]  # (N, L), in the order of the steps
    values = {}
    for name, array in {**states, "action": actions, "rewards": rewards}.items():
        array = np.asarray(array)
        if nan_is_unknown and array.dtype.kind == "f" and name != "rewards":
            gone = np.isnan(array).reshape(len(array), -1).any(axis=1)  # (steps,)
            if gone.any():
                array = array.copy()
                array[gone] = 0
                values[f"{name}/known"] = np.zeros(valid.shape, dtype=bool)
                values[f"{name}/known"][valid] = ~gone[use]
        array = typed(name, array, len(use))
        values[name] = np.zeros((*valid.shape, *array.shape[1:]), dtype=array.dtype)
        values[name][valid] = array[use]
    values["return_to_go"] = returns_to_go(values.pop("rewards"))
    groups = {"action": "ACTION", "return_to_go": "RETURN"}
    factors = [
        factor(name, groups.get(name, "STATE"), values[name]) for name in values if "/" not in name
    ]
    return Trajectories(factors, values, lengths=lengths)


def typed(name, array, steps):
    """An array as (steps,) int64 or (steps, k) float32 (rewards: (steps,) float64)."""
    fits = array.ndim in (1, 2) and len(array) == steps
    fits = fits and (name != "rewards" or array.size == steps)
    if array.dtype.kind not in "biuf" or not fits:
        expected = f"numbers of shape ({steps},) or, unless they are rewards, ({steps}, k)"
        raise ValueError(f"{name} is {array.dtype} {array.shape}; it should be {expected}")
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0, 0]
        raise ValueError(f"{name} is not finite (NaN or infinity) in step {bad} of the file")
    if name == "rewards":
        return array.reshape(steps).astype(np.float64)
    if array.dtype.kind != "f" and array[0].size == 1:
        return array.reshape(steps).astype(np.int64)
    with np.errstate(over="ignore"):  # what is too large becomes infinity: Trajectories refuses it
        return array.reshape(steps, -1).astype(np.float32)


def returns_to_go(rewards):
    """(N, L, 2) float32: the sum of the rewards (N, L) from each timestep on, and the timestep.

    A return that is still to be earned means little without the time that has passed, as in
    Maze2D. The model normalises both, so neither needs a scale here.
    """
    values = np.empty((*rewards.shape, 2), dtype=np.float32)
    with np.errstate(over="ignore"):
        values[..., 0] = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    if not np.isfinite(values[..., 0]).all():
        raise ValueError("its rewards add up to more than a float32 can hold, 3e38")
    values[..., 1] = np.arange(rewards.shape[1])
    return values


def factor(name, group, values):
    """The factor that (N, L) int64 or (N, L, k) float32 values belong to."""
    if values.dtype != np.int64:
        return Factor(name, group, "continuous", values.shape[2])
    if values.max() >= CLASSES:
        text = f"{name} has integers up to {values.max()}, too many for classes"
        raise ValueError(f"{text}: store numbers as floats")
    return Factor(name, group, "categorical", int(values.max()) + 1)


if __name__ == "__main__":
    configurator.apply(globals())
    main()
