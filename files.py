"""Files that are whole or not there at all, whenever a process or a machine dies.

    with files.whole("figure.png") as unfinished:  # a name beside it, to write to
        figure.savefig(unfinished, format="png")
    files.save_json("result.json", {"loss": 1.2})

Read next: data.py, whose trajectories are one .npz file or a folder of .npy files.
"""

import configurator

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def whole(path):
    """A name beside `path` to write a file to. It becomes `path` when it is whole and on the disk.

    A folder may be made there as well. The name is this process's own. Raises OSError.
    """
    unfinished = f"{path}.{os.getpid()}.tmp"
    try:
        check_replaceable(path)
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        remove(unfinished)  # of a process that died, or a link, which would be written through
        yield unfinished
        if os.path.isfile(unfinished):
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove(unfinished)
        if isinstance(error, OSError):  # a full disk's message alone does not name the file
            raise OSError(f"cannot write {path}: {error.strerror or error}") from None
        raise


def save_text(path, text):
    """Write a text: path is then whole, or as it was before. Raises OSError."""
    with whole(path) as unfinished:
        Path(unfinished).write_text(text, encoding="utf-8")


def save_json(path, content):
    """As save_text(), of plain data. Raises ValueError for NaN and infinity, which JSON lacks."""
    save_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def check_writable(path, ending="", new=False):
    """Raise OSError, before the work is done, if its result could not be written.

    new: also if there is such a file already, of data that may not be easy to make again.
    Raises ValueError for another ending: no result may take the place of a program, or of a model.
    """
    if not path.endswith(ending):
        raise ValueError(f"a result is written to a file that ends in {ending}, and not to {path}")
    folder, name = os.path.split(path)
    while folder and not os.path.exists(folder):  # it will be made in the first that there is
        folder = os.path.dirname(folder)
    trial = os.path.join(folder, f"{name}.{os.getpid()}.tmp")
    try:
        check_replaceable(path)
        if new and os.path.exists(path):
            raise OSError("it is there already; remove it first")
        remove(trial)
        open(trial, "x").close()
        remove(trial)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from None


def check_replaceable(path):
    """Raise OSError for a name that is not free for a file: root could replace /dev/null itself."""
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a directory" if os.path.isdir(path) else "a device or a pipe"
        raise OSError(f"{kind} has that name")


def remove(path):
    """Remove a file, a link or a folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


# --------------------------------------------------------------------------------------------------
# Arrays


def save_arrays(path, arrays):
    """Write {name: array} to an .npz file, or to a folder of .npy files if path does not say .npz.

    Raises OSError if it cannot be written, or if the folder is there already.
    """
    path = os.fspath(path).rstrip("/")
    if path.endswith(".npz"):
        with whole(path) as unfinished, open(unfinished, "wb") as stream:
            np.savez(stream, **arrays)
        return
    if os.path.exists(path):
        raise OSError(f"{path} is there already: remove it first")
    with whole(path) as unfinished:
        for name, array in arrays.items():
            target = os.path.join(unfinished, f"{name}.npy")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            np.save(target, array)


def read_arrays(path):
    """{name: array} of what save_arrays() wrote, or of any .npz file.

    An .npz file is read, and its checksums verified. A folder's arrays are mapped into memory:
    pages are read when touched. What is written to such an array never reaches its file (mode "c",
    copy on write).
    """
    if os.path.isdir(path):
        parts = sorted(Path(path).rglob("*.npy"))  # a copy is not in the order of the original
        found = {str(file.relative_to(path)): file for file in parts}
        return {n.removesuffix(".npy"): np.load(file, mmap_mode="c") for n, file in found.items()}
    with np.load(path, allow_pickle=False) as archive:
        check_archive(archive.zip)
        return {name: archive[name] for name in archive.files}


@contextlib.contextmanager
def reading(path, what):
    """Whatever is wrong with a file that is read here becomes a ValueError of one sentence."""
    try:
        yield
    except Exception as error:  # a damaged file makes numpy and torch raise nearly anything
        reason = (str(error).splitlines() or ["empty"])[0]
        raise ValueError(f"{path} is not a whole {what}: {reason}") from None


def check_archive(archive):
    """Raise ValueError for a zipfile.ZipFile with two parts of one name, or that is a zip bomb."""
    parts = archive.infolist()
    if len({part.filename for part in parts}) < len(parts):
        raise ValueError("it holds two arrays of one name")
    size, packed = sum(part.file_size for part in parts), os.fstat(archive.fp.fileno()).st_size
    configurator.check_memory(size, "it")
    if size > max(2**28, 200 * packed):  # no data are that much alike
        raise ValueError(f"it would grow to {size / packed:.0f} times its size")
