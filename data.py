"""Trajectories as arrays of named factors: what they are, how to make, save, load, split and sample them.

A trajectory is L timesteps of *factors*: `agent_pos`, `key_pos`, `action`, `return_to_go` in DoorKey; `position`, `goal`,
`action`, `return_to_go` in Maze2D. Each factor is categorical (n classes) or continuous (n dimensions) and belongs to
the group STATE, ACTION or RETURN; masks (masks.py) hide groups, the model (model.py) embeds and predicts factors.

    python data.py make doorkey --n=2000 --seed=0 --out=doorkey.npz    # then: train.py --dataset=doorkey.npz
    python data.py import hopper_medium-v2.hdf5 --out=out/hopper.npz   # your own data: importing.py
    python data.py info doorkey.npz

Files are mapped into memory, not read: they take none of their own, and several runs share the system's one copy.
Read next: masks.py. The worlds that make trajectories are doorkey.py and maze2d.py.
"""

import argparse
import json
import os
import struct
import sys
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch

import configurator
import npz

GROUPS = ("STATE", "ACTION", "RETURN")  # the order of the last axis of every mask
CHUNK = 2**20  # numbers that are worked on at a time where a whole data set might not fit into memory


@dataclass(frozen=True)
class Factor:
    """One named component of a timestep.

    kind: "categorical" (values are class indices below `size`) or "continuous" (values are vectors of `size` numbers).
    mean, std, step_std: statistics per dimension of a continuous factor, from normalise(): of its values, and of their
    change in one timestep. The model normalises with them; files and users see raw units.
    """

    name: str
    group: str
    kind: str
    size: int
    mean: tuple = ()
    std: tuple = ()
    step_std: tuple = ()

    @staticmethod
    def from_plain(plain):
        """A factor from dataclasses.asdict(factor), through JSON or a checkpoint."""
        return Factor(**{key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()})


@dataclass
class Trajectories:
    """N trajectories of (at most) L timesteps.

    factors: list of Factor, in the order in which the model sees them.
    values: {factor name: (N, L) int64 if categorical, (N, L, k) float32 if continuous}.
    world: the name of the world that made them ("doorkey", "maze2d-medium", ...), "" if unknown.
    lengths: (N,) int64, timesteps of each trajectory; entries from there on are padding that is never sampled.
    extras: arrays of N rows that belong to a trajectory and not to a timestep (e.g. its start velocity).
    """

    factors: list
    values: dict
    world: str = ""
    lengths: np.ndarray = None
    extras: dict = field(default_factory=dict)

    def __post_init__(self):
        if not self.factors:
            raise ValueError("trajectories need at least one factor")
        names = [factor.name for factor in self.factors]
        if len(set(names)) < len(names):
            raise ValueError(f"factors have the same name: {', '.join(names)}")
        if all(factor.group == "RETURN" for factor in self.factors):
            raise ValueError("there is nothing to predict: trajectories need a factor of the group STATE or ACTION")
        N, L = self.values[self.factors[0].name].shape[:2]
        if not isinstance(self.world, str):
            raise ValueError(f"the world {self.world!r} is not the name of one")
        if self.lengths is None:
            self.lengths = np.full(N, L, dtype=np.int64)
        for factor in self.factors:
            _check(factor, self.values[factor.name], N, L)
        whole = self.lengths.shape == (N,) and self.lengths.dtype.kind in "iu"
        if not whole or not (1 <= self.lengths.min() and self.lengths.max() <= L):
            raise ValueError(f"lengths must be {N} numbers from 1 to {L}, one for each trajectory")
        for name, array in self.extras.items():
            if len(array) != N:
                raise ValueError(f"extras {name} has {len(array)} rows; {N} trajectories need as many")

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, rows):
        """A subset of the trajectories, by slice or index array."""
        pick = lambda arrays: {name: array[rows] for name, array in arrays.items()}
        return replace(self, values=pick(self.values), lengths=self.lengths[rows], extras=pick(self.extras))

    def valid(self):
        """(N, L) bool: the entries that are not padding."""
        return np.arange(self.values[self.factors[0].name].shape[1]) < self.lengths[:, None]

    def tensors(self, device="cpu"):
        """{factor name: tensor} on `device`, without a copy on the CPU."""
        return {factor.name: torch.as_tensor(self.values[factor.name], device=device) for factor in self.factors}

    def save(self, path):
        """Write one .npz without pickles, beside `path` first and renamed when whole."""
        header = {"factors": [asdict(factor) for factor in self.factors], "world": self.world}
        arrays = {f"values/{name}": array for name, array in self.values.items()}
        arrays |= {f"extras/{name}": array for name, array in self.extras.items()}
        with configurator.beside(path) as unfinished:
            npz.write(unfinished, {"header": np.array(json.dumps(header)), "lengths": self.lengths} | arrays)

    @staticmethod
    def load(path):
        """Map what save() wrote into memory; what is written to the arrays afterwards never reaches the file.

        Raises ValueError or OSError, in one sentence, if it is missing, damaged or malformed.
        """
        try:
            # An array that is not aligned (NumPy's own savez) is copied: PyTorch must not be given it.
            arrays = {name: np.require(array, requirements="A") for name, array in npz.read(path).items()}
            header = json.loads(str(arrays.pop("header")))
            factors = [Factor.from_plain(f) for f in header["factors"]]
            part = lambda kind: {k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(kind + "/")}
            values = part("values")
            values |= {f.name: _typed(f, values[f.name]) for f in factors}
            return Trajectories(factors, values, header["world"], arrays["lengths"], part("extras"))
        except FileNotFoundError:
            raise ValueError(f"there is no data file {path}") from None
        except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, TypeError, AttributeError, ValueError,
                RuntimeError) as error:  # fmt: skip
            raise ValueError(f"{path} is not a whole trajectory file as data.py saves it: {error}") from None


def _typed(factor, array):
    """A factor's array in the type that all of this code works with, if it holds such numbers."""
    if factor.kind == "categorical" and array.dtype.kind in "iu":
        return array.astype(np.int64, copy=False)
    if factor.kind == "continuous" and array.dtype.kind in "fiu":
        with np.errstate(over="ignore"):  # what no float32 holds becomes infinite, and is refused
            return array.astype(np.float32, copy=False)
    return array


def _check(factor, array, N, L):
    """One sentence on the first thing wrong with a factor or its array."""
    if not (isinstance(factor.name, str) and factor.name.isidentifier()) or factor.name == "timestep":
        raise ValueError(f"a factor cannot be called {factor.name!r}: letters, digits and _ only, and not timestep")
    if factor.kind not in ("categorical", "continuous") or not (isinstance(factor.size, int) and factor.size >= 1):
        kinds = "categorical or continuous, of size 1 or more"
        raise ValueError(f"factor {factor.name} is {factor.kind!r} of size {factor.size!r}, not {kinds}")
    if factor.group not in GROUPS:
        raise ValueError(f"factor {factor.name} has group {factor.group!r}; groups are {', '.join(GROUPS)}")
    shape = (N, L) if factor.kind == "categorical" else (N, L, factor.size)
    if array.shape != shape:
        raise ValueError(f"factor {factor.name} has shape {array.shape}; a {factor.kind} factor here needs {shape}")
    if array.size == 0:
        raise ValueError(f"factor {factor.name} is empty: {N} trajectories of {L} steps")
    if factor.kind == "categorical" and array.dtype.kind not in "iu":
        raise ValueError(f"factor {factor.name} holds {array.dtype}; the classes of a categorical factor are integers")
    if factor.kind == "categorical" and not (0 <= array.min() and array.max() < factor.size):
        raise ValueError(
            f"factor {factor.name} has classes {array.min()}..{array.max()}; it needs 0..{factor.size - 1}"
        )
    if factor.kind == "continuous" and array.dtype.kind not in "fiu":
        raise ValueError(f"factor {factor.name} holds {array.dtype}; a continuous factor holds real numbers")
    if factor.kind == "continuous" and not np.isfinite([array.min(), array.max()]).all():  # both carry NaN along
        raise ValueError(f"factor {factor.name} has a value that is not finite (NaN or infinity)")


def normalise(trajectories):
    """The same trajectories with mean and standard deviation of their continuous states and returns in the factors.

    Actions keep mean 0 and standard deviation 1: they live in [-1, 1], and their errors stay readable in raw units.
    """
    factors = []
    for factor in trajectories.factors:
        if factor.kind == "continuous":
            mean, std, step_std = np.zeros(factor.size), np.ones(factor.size), np.ones(factor.size)
            if factor.group != "ACTION":
                mean, std = moments(lambda: chunks(trajectories, factor.name))
                _, step_std = moments(lambda: chunks(trajectories, factor.name, np.diff))
            scale = lambda x: tuple(np.where(x > 1e-6, x, 1.0).tolist())  # a constant dimension has nothing to scale
            factor = replace(factor, mean=tuple(mean.tolist()), std=scale(std), step_std=scale(step_std))
        factors.append(factor)
    return replace(trajectories, factors=factors)


def moments(parts):
    """Mean and standard deviation (k,) of the rows of all arrays (rows, k) that parts() yields, in two passes."""
    rows, total, squares = 0, 0.0, 0.0
    for part in parts():
        rows, total = rows + len(part), total + part.sum(axis=0, dtype=np.float64)
    mean = total / max(rows, 1)
    for part in parts():
        squares = squares + np.square(part - mean).sum(axis=0)
    return mean, np.sqrt(squares / max(rows, 1))


def chunks(trajectories, name, change=lambda values, axis: values):
    """Yield the entries of a factor that are not padding, (entries,) or (entries, k), some trajectories at a time.

    change: np.diff, for the differences of neighbouring timesteps instead.
    """
    array = trajectories.values[name]
    step = max(1, CHUNK // array[0].size)
    for first in range(0, len(array), step):
        values = change(array[first : first + step], axis=1)
        late = array.shape[1] - values.shape[1]  # 1 for differences: an entry then belongs to the later timestep
        yield values[np.arange(late, array.shape[1]) < trajectories.lengths[first : first + step, None]]


def sample_windows(values, lengths, batch_size, context, generator):
    """Draw windows of consecutive timesteps, uniformly over trajectories and starts, as one gather per factor.

    values: {name: (N, L) or (N, L, k) tensor}; lengths: (N,) tensor; generator: torch.Generator on the same device.
    Returns {name: (B, T) or (B, T, k)} and, as "timestep", each entry's index in its trajectory (B, T).
    """
    device = lengths.device
    L = next(iter(values.values())).shape[1]
    episode = torch.randint(len(lengths), (batch_size,), generator=generator, device=device)
    room = lengths[episode] - context + 1  # (B,) number of possible starts
    uniform = torch.rand(batch_size, dtype=torch.float64, generator=generator, device=device)
    timestep = (uniform * room).long()[:, None] + torch.arange(context, device=device)  # (B, T)
    rows = episode[:, None] * L + timestep
    windows = {name: array.flatten(0, 1)[rows] for name, array in values.items()}
    return windows | {"timestep": timestep}


def check_context(trajectories, context):
    """Raise ValueError unless every trajectory has at least `context` timesteps, and context is at least 1."""
    shortest = int(trajectories.lengths.min())
    if not 1 <= context <= shortest:
        raise ValueError(f"context={context} does not fit: the shortest trajectory has {shortest} timesteps")


def make(dataset, n, seed):
    """n fresh trajectories of a world, by its name: doorkey, doorkey16, maze2d-open, -umaze, -medium or -large."""
    if dataset in ("doorkey", "doorkey16"):
        import doorkey

        return doorkey.make_dataset(n, seed, size=16 if dataset == "doorkey16" else 6)
    if dataset.startswith("maze2d-"):
        import maze2d

        return maze2d.make_dataset(n, seed, maze=dataset.removeprefix("maze2d-"))
    raise ValueError(f"dataset {dataset!r} is neither a world ({', '.join(WORLDS)}) nor a .npz file")


def environment(dataset, n, seed):
    """n copies of a world to play in, by the name of the data set. Raises ValueError where there is no world."""
    if dataset in ("doorkey", "doorkey16"):
        import doorkey

        return doorkey.DoorKey(n, seed, size=16 if dataset == "doorkey16" else 6)
    if dataset in WORLDS:
        import maze2d

        return maze2d.Maze2D(dataset.removeprefix("maze2d-"), n, seed, threads=torch.get_num_threads())
    raise ValueError(f"there is no world {dataset!r} to play in; worlds are {', '.join(WORLDS)}")


WORLDS = {  # name: (trajectories made, those at the end that validate)
    "doorkey": (2000, 1000),
    "doorkey16": (2000, 1000),
    "maze2d-open": (1000, 30),
    "maze2d-umaze": (1000, 30),
    "maze2d-medium": (1000, 30),
    "maze2d-large": (1000, 30),
}


def train_and_validation(dataset, num_trajectories, seed):
    """The first `num_trajectories` for training and, disjoint from them, the last ones for validation.

    dataset: a world's name, or the path of a .npz file (whose last tenth, at most 1,000, validates).
    num_trajectories=0 stands for all that are left. Raises ValueError if there are too few.
    """
    if num_trajectories < 0:
        raise ValueError(f"num_trajectories={num_trajectories} must be 0 (all) or more")
    if dataset in WORLDS:
        total, held_out = WORLDS[dataset]
        everything = make(dataset, max(total, num_trajectories + held_out), seed)
    else:
        if not dataset.endswith(".npz"):
            raise ValueError(f"dataset {dataset!r} is neither a world ({', '.join(WORLDS)}) nor a .npz file")
        everything = Trajectories.load(dataset)
        held_out = min(1000, max(1, len(everything) // 10))
    left = len(everything) - held_out
    if left < max(num_trajectories, 1):
        raise ValueError(
            f"{dataset} has {len(everything)} trajectories, {left} after validation: not {num_trajectories}"
        )
    return normalise(everything[: num_trajectories or left]), everything[-held_out:]


def describe(trajectories):
    """A few lines on what a data set holds: counts, lengths, the range of each factor, returns in their own units."""
    lengths = trajectories.lengths
    lines = [f"{len(trajectories)} trajectories of {lengths.min()} to {lengths.max()} steps, {lengths.sum()} in all"]
    for factor in trajectories.factors:
        ranges = [(part.min(), part.max()) for part in chunks(trajectories, factor.name)]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        size = f"{factor.size} {'classes' if factor.kind == 'categorical' else 'dimensions'}"
        lines.append(f"  {factor.name:14s} {factor.group:7s} {size:14s} from {low:.4g} to {high:.4g}")
    for factor in trajectories.factors:
        if factor.group == "RETURN" and factor.kind == "continuous":
            total = trajectories.values[factor.name][:, 0, 0].astype(np.float64)
            lines.append(f"  return: {total.mean():.4g} on average, from {total.min():.4g} to {total.max():.4g}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="make or look at a file of trajectories")
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="make trajectories of a world")
    maker.add_argument("world", choices=list(WORLDS))
    maker.add_argument("--n", type=int, default=2000)
    maker.add_argument("--seed", type=int, default=0)
    maker.add_argument("--out", required=True)
    importer = commands.add_parser("import", help="read D4RL's HDF5, a Minari data set or plain arrays: importing.py")
    importer.add_argument("file", help="a .hdf5, .h5 or .npz file, or minari:ID")
    importer.add_argument("--min_length", type=int, default=1, help="leave out episodes of fewer steps")
    importer.add_argument("--out", required=True)
    commands.add_parser("info", help="print what a file holds").add_argument("file")
    args = parser.parse_args()
    if args.command == "import" and not args.out.endswith(".npz"):
        raise ValueError(f"--out={args.out} should end in .npz")
    if args.command == "make":
        if args.n < 1 or args.seed < 0:
            raise ValueError(f"--n={args.n} must be at least 1, and --seed={args.seed} at least 0")
        made = make(args.world, args.n, args.seed)
        made.save(args.out)
        print(describe(made), f"\nsaved to {args.out}")
    elif args.command == "import":
        import importing

        imported = importing.read(args.file, args.min_length)
        os.makedirs(os.path.dirname(args.out) or ".", exist_ok=True)
        imported.save(args.out)
        print(describe(imported), f"\nsaved to {args.out}")
        print(
            f"train with --context={imported.lengths.min()} at most; --min_length leaves out episodes that are too short"
        )
    else:
        print(describe(Trajectories.load(args.file)))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"data.py: {error}")
