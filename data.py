"""Trajectories as arrays of named factors: what they are, how to save, load and sample them.

A trajectory is L timesteps of *factors*: `agent_pos`, `key_pos`, `action`, `return_to_go` in
DoorKey; `position`, `goal`, `action`, `return_to_go` in Maze2D. Each factor is categorical (n
classes) or continuous (n dimensions) and belongs to the group STATE, ACTION or RETURN. Masks
(masks.py) hide groups; the model (model.py) embeds and predicts factors.

    demos = Trajectories.load("doorkey.npz")   # a file that worlds.py or importing.py made

Read next: evaluate.py. The worlds that make trajectories are doorkey.py and maze2d.py.
"""

import json
import os
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch

import files

GROUPS = ("STATE", "ACTION", "RETURN")  # the order of the last axis of every mask
LARGE = 2**24  # a factor of more numbers than this gets its statistics from a part of them


@dataclass(frozen=True)
class Factor:
    """One named component of a timestep.

    kind: "categorical" (class indices below `size`) or "continuous" (vectors of `size` numbers).
    mean, std, step_std: per dimension of a continuous factor, of its values and of their change in
    one timestep. normalise() finds them; the model scales with them; users see raw units.
    """

    name: str
    group: str
    kind: str
    size: int
    mean: tuple = ()
    std: tuple = ()
    step_std: tuple = ()

    def __post_init__(self):
        if isinstance(self.size, np.integer):  # as array.max() + 1 is
            object.__setattr__(self, "size", int(self.size))

    @staticmethod
    def from_plain(plain):
        """A factor from dataclasses.asdict(factor), through JSON or a checkpoint."""
        tuples = {key: tuple(value) for key, value in plain.items() if isinstance(value, list)}
        return Factor(**plain | tuples)


@dataclass
class Trajectories:
    """N trajectories of (at most) L timesteps.

    factors: list of Factor, in the order in which the model sees them.
    values: {factor: (N, L) int64 if categorical, (N, L, k) float32 if continuous}. Where some of a
    factor are unknown, such as the actions of a film, "NAME/known" is (N, L) bool: they are never
    seen, and never counted.
    world: the name of the world that made them ("doorkey", "maze2d-medium", ...), or "".
    lengths: (N,) int64, timesteps of each trajectory; what follows is padding, never sampled.
    extras: arrays of N rows that belong to no timestep (e.g. a start velocity).
    Raises ValueError, in one sentence, for what does not fit together.
    """

    factors: list
    values: dict
    world: str = ""
    lengths: np.ndarray = None
    extras: dict = field(default_factory=dict)

    def __post_init__(self):
        names = [factor.name for factor in self.factors]
        if len(set(names)) < len(names):
            raise ValueError(f"factors have the same name: {', '.join(names)}")
        if all(factor.group == "RETURN" for factor in self.factors):
            raise ValueError("trajectories need a factor of the group STATE or ACTION to predict")
        if not isinstance(self.world, str):
            raise ValueError(f"the world {self.world!r} is not the name of one")
        wrong = [name for name in names if name not in self.values]
        wrong += [name for name in self.values if name.removesuffix("/known") not in names]
        if wrong:
            listed = ", ".join(map(str, names))
            raise ValueError(f"values should be of {listed}, perhaps NAME/known: see {wrong[0]!r}")
        N, L = self.values[names[0]].shape[:2]
        checked = {f.name: check(f, self.values[f.name], N, L) for f in self.factors}
        self.values = self.values | checked
        lengths = np.asarray(np.full(N, L) if self.lengths is None else self.lengths)
        whole = lengths.shape == (N,) and lengths.dtype.kind in "iu"
        if not whole or not (1 <= lengths.min() and lengths.max() <= L):
            raise ValueError(f"lengths must be {N} numbers from 1 to {L}, one for each trajectory")
        self.lengths = lengths.astype(np.int64, copy=False)
        for name, array in self.extras.items():
            if len(array) != N:
                raise ValueError(f"extras {name} has {len(array)} rows, not {N}")
        for name, array in self.values.items():
            if name.endswith("/known") and (array.shape != (N, L) or array.dtype != bool):
                raise ValueError(f"{name} is {array.dtype} {array.shape}, not bool {N, L}")

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, rows):
        """A subset of the trajectories, by slice or index array."""
        values = {name: array[rows] for name, array in self.values.items()}
        extras = {name: array[rows] for name, array in self.extras.items()}
        return replace(self, values=values, lengths=self.lengths[rows], extras=extras)

    def valid(self, name=None):
        """(N, L) bool: the entries that are not padding; of a factor, those that are known."""
        L = self.values[self.factors[0].name].shape[1]
        return (np.arange(L) < self.lengths[:, None]) & self.values.get(f"{name}/known", True)

    def with_known_starts(self, groups=("STATE",)):
        """Those that know all of some groups at the first timestep. Raises ValueError without any."""
        names = [f.name for f in self.factors if f.group in groups]
        known = np.all([self.valid(name)[:, 0] for name in names], axis=0)  # (N,)
        if not known.any():
            raise ValueError(f"no trajectory knows its first {' and '.join(groups).lower()}")
        return self if known.all() else self[known]

    def tensors(self, device="cpu"):
        """The values as tensors on `device`, without a copy on the CPU."""
        return {name: torch.as_tensor(x, device=device) for name, x in self.values.items()}

    def save(self, path):
        """Write one .npz, or a folder of .npy files if the path does not end in .npz.

        A folder is mapped into memory when it is loaded: take one for data larger than memory.
        Raises OSError if it cannot be written, or if the folder is there already.
        """
        header = {"factors": [asdict(factor) for factor in self.factors], "world": self.world}
        arrays = {"header": np.array(json.dumps(header)), "lengths": self.lengths}
        arrays |= {f"values/{name}": array for name, array in self.values.items()}
        arrays |= {f"extras/{name}": array for name, array in self.extras.items()}
        files.save_arrays(path, arrays)

    @staticmethod
    def load(path):
        """Read what save() wrote. Raises ValueError, in one sentence, for anything else."""
        if not (os.path.isfile(path) or os.path.isdir(path)):  # to read a pipe would be to wait
            raise ValueError(f"there is no data file {path}")
        with files.reading(path, "file of trajectories"):
            arrays = files.read_arrays(path)
            if "header" not in arrays:
                raise ValueError("it has no header, which importing.py writes")
            header = json.loads(str(arrays.pop("header")))
            factors = [Factor.from_plain(plain) for plain in header["factors"]]
            part = lambda of: {k.removeprefix(of): x for k, x in arrays.items() if k.startswith(of)}
            values, extras = part("values/"), part("extras/")
            return Trajectories(factors, values, header["world"], arrays["lengths"], extras)


def check(factor, array, N, L):
    """A factor's array, as int64 or float32. Raises ValueError for the first thing wrong with it."""
    name, categorical = factor.name, factor.kind == "categorical"
    if not (isinstance(name, str) and name.isidentifier()) or name in ("timestep", "episode"):
        rule = "letters, digits and _ only, and not timestep or episode"
        raise ValueError(f"a factor cannot be called {name!r}: {rule}")
    sized = isinstance(factor.size, int) and factor.size >= 1
    if factor.kind not in ("categorical", "continuous") or not sized:
        kinds = "categorical or continuous, of size 1 or more"
        raise ValueError(f"factor {name} is {factor.kind!r} of size {factor.size!r}, not {kinds}")
    if factor.group not in GROUPS:
        raise ValueError(f"factor {name} has group {factor.group!r}, not {', '.join(GROUPS)}")
    counts = {len(x) for x in (factor.mean, factor.std, factor.step_std)}
    if not counts <= {0, factor.size} or not all(x > 0 for x in (*factor.std, *factor.step_std)):
        raise ValueError(f"factor {name} needs statistics of {factor.size} numbers, std above 0")
    shape = (N, L) if categorical else (N, L, factor.size)
    if array.shape != shape or array.size == 0:
        raise ValueError(f"factor {name} has shape {array.shape}; it needs {shape}")
    if array.dtype.kind not in ("iu" if categorical else "fiu"):
        needs = "integers, its classes" if categorical else "real numbers"
        raise ValueError(f"factor {name} holds {array.dtype}, where {needs} are needed")
    with np.errstate(over="ignore"):  # what no float32 holds becomes infinite, and is refused
        array = array.astype(np.int64 if categorical else np.float32, copy=False)
    low, high = array.min(), array.max()  # both carry NaN along
    if categorical and not (0 <= low and high < factor.size):
        raise ValueError(f"factor {name} has classes {low}..{high}; it needs 0..{factor.size - 1}")
    if not np.isfinite([low, high]).all():
        raise ValueError(f"factor {name} has a value that is not finite (NaN or infinity)")
    return array


def normalise(trajectories):
    """The same trajectories, with the statistics of continuous factors in them.

    Only what is known counts. Actions of a world keep mean 0 and standard deviation 1 if they live
    in [-1, 1]. Of very large data, evenly spaced trajectories stand for all.
    """
    factors = []
    for factor in trajectories.factors:
        if factor.kind == "continuous" and not factor.std:
            some = trajectories[:: 1 + trajectories.values[factor.name].size // LARGE]
            values, valid = some.values[factor.name], some.valid(factor.name)
            mean, std, step_std = np.zeros(factor.size), np.ones(factor.size), np.ones(factor.size)
            scale = np.abs(values[valid]).max(axis=0, initial=0)  # (k,)
            if factor.group != "ACTION" or not trajectories.world or scale.max() > 1:
                mean, std = moments(values[valid], scale)
                steps = np.diff(values, axis=1)[valid[:, 1:] & valid[:, :-1]]
                _, step_std = moments(steps, scale)
            mean, std, step_std = (tuple(x.tolist()) for x in (mean, std, step_std))
            factor = replace(factor, mean=mean, std=std, step_std=step_std)
        factors.append(factor)
    return replace(trajectories, factors=factors)


def moments(x, scale):
    """Mean and standard deviation of the rows of x (rows, k); 1 for what is constant.

    scale: (k,) how large values are: what varies by less than a float32 of it can show is constant.
    """
    rows = max(len(x), 1)
    mean = x.sum(axis=0, dtype=np.float64) / rows
    std = np.sqrt(np.square(x - mean).sum(axis=0) / rows)
    return mean, np.where(std > 1e-7 * scale, std, 1.0)


class Windows:
    """All windows of `context` consecutive timesteps, to draw from with equal probability.

    A shorter trajectory has one, with padding at its end. At least one must be as long as that.
    """

    def __init__(self, trajectories, context, device="cpu"):
        values, self.context = trajectories.tensors(device), context
        self.names = [factor.name for factor in trajectories.factors]
        self.L = values[self.names[0]].shape[1]
        self.flat = {name: array.flatten(0, 1) for name, array in values.items()}  # (N * L, ...)
        self.lengths = torch.as_tensor(trajectories.lengths, device=device)  # (N,)
        self.room = (self.lengths - context + 1).clamp(min=1)  # (N,) how many windows each has
        self.ends = self.room.cumsum(0)  # windows are numbered through all trajectories
        # Asked for once, here: whoever asks a GPU for a number has to wait for it.
        self.count = int(self.ends[-1])
        self.all_known = len(values) == len(self.names) and trajectories.lengths.min() >= context

    def draw(self, batch_size, generator):
        """at() of windows drawn by a torch.Generator on the same device."""
        options = {"generator": generator, "device": self.ends.device}
        window = torch.randint(self.count, (batch_size,), **options)  # (B,)
        episode = torch.searchsorted(self.ends, window, right=True)  # (B,) whose window it is
        # The start gets a draw of its own: where every window is a whole trajectory, as in DoorKey,
        # these are the draws that all committed results were made with.
        uniform = torch.rand(batch_size, dtype=torch.float64, **options)
        return self.at(episode, (uniform * self.room[episode]).long())

    def at(self, episode, start):
        """{name: (B, T) or (B, T, k)} from `start` (B,) on, of the trajectories `episode` (B,).

        "timestep": each entry's index in its trajectory. "NAME/known", (B, T) bool of each factor:
        what is neither padding nor unknown; left out where all is known. See masks.known_only().
        """
        timestep = start[:, None] + torch.arange(self.context, device=start.device)  # (B, T)
        rows = episode[:, None] * self.L + timestep  # (B, T) into the flattened (N * L, ...)
        windows = {name: array[rows] for name, array in self.flat.items()}
        if not self.all_known:
            valid = timestep < self.lengths[episode, None]
            known = [f"{name}/known" for name in self.names]
            windows |= {name: windows.get(name, valid) & valid for name in known}
        return windows | {"timestep": timestep}
