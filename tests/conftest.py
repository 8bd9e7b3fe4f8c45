"""What all tests share: the path, one thread, small data sets, and the real commands to run."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models on a few cores: that is the fastest
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tests fork: see test_gpu.py
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "repro")]

import numpy as np
import pytest
import torch
from tqdm import tqdm

import doorkey
import worlds  # noqa: F401, for start_warm()
from data import Factor, Trajectories, normalise
from run import FORK, as_main

torch.set_num_threads(1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def reference():
    """2,000 trajectories by the original's generator.

    {"pos", "key_pos", "door", "key", "action", "reward", "rtg": (2000, 10) int64}
    """
    with np.load(ROOT / "tests" / "data" / "doorkey_reference.npz") as file:
        return {name: file[name].astype(np.int64) for name in file.files}


@pytest.fixture(scope="session")
def doorkey_data():
    """A few DoorKey trajectories: categorical factors, ten steps."""
    return doorkey.make_dataset(24, seed=5)


@pytest.fixture(scope="session")
def toy_data():
    """A few trajectories of no world and unequal lengths: mixed states, continuous actions."""
    rng = np.random.default_rng(3)
    N, L = 24, 12
    factors = [
        Factor("position", "STATE", "continuous", 2),
        Factor("room", "STATE", "categorical", 3),
        Factor("action", "ACTION", "continuous", 2),
        Factor("return_to_go", "RETURN", "continuous", 2),
    ]
    values = {
        "position": (rng.normal(size=(N, L, 2)) * [3, 0.5] + [10, -1]).astype(np.float32),
        "room": rng.integers(0, 3, (N, L)),
        "action": rng.uniform(-1, 1, (N, L, 2)).astype(np.float32),
        "return_to_go": rng.uniform(0, 5, (N, L, 2)).astype(np.float32),
    }
    lengths = rng.integers(10, L + 1, N)
    lengths[:2] = 10, L
    extras = {"start_velocity": rng.normal(size=(N, 2))}
    return normalise(Trajectories(factors, values, "", lengths, extras))


@pytest.fixture(params=["doorkey", "toy"])
def trajectories(request, doorkey_data, toy_data):
    """Either of the two."""
    return doorkey_data if request.param == "doorkey" else toy_data


@pytest.fixture(scope="session")
def run():
    """run("train.py", "--seed=1", cwd=folder): the finished process of a real command."""

    def command(script, *args, cwd):
        line = [sys.executable, str(ROOT / script), *map(str, args)]
        return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300)

    return command


@pytest.fixture(scope="session")
def start_warm():
    """start_warm("train.py", "--seed=1", cwd=folder): begin a command in a fork of this process.

    Its slow imports are then done. inside: called in the fork before the script begins. Returns a
    function that waits and returns the finished process; its argument is the number of seconds
    after which it ends the command with SIGKILL.
    """
    import matplotlib.pyplot  # noqa: F401

    doorkey.table(6)

    def start(script, *args, cwd, inside=None):
        line = [str(ROOT / script), *map(str, args)]
        streams = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")

        def begin():
            os.chdir(cwd)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored by nohup
            # its own: one shared with a fork that was killed may be held for ever
            tqdm.set_lock(threading.RLock())
            if inside:
                inside()
            as_main(line, streams)

        process = FORK.Process(target=begin)
        process.start()

        def finish(seconds=300):
            process.join(seconds)
            process.kill()
            process.join()
            texts = [file.read() for file in streams if not file.seek(0)]
            for file in streams:
                file.close()
            return subprocess.CompletedProcess(line, process.exitcode, *texts)

        return finish

    return start


@pytest.fixture(scope="session")
def run_warm(start_warm):
    """As run(), but in a fork of this process, in which all slow imports are done already."""

    def command(script, *args, cwd, inside=None, seconds=300):
        return start_warm(script, *args, cwd=cwd, inside=inside)(seconds)

    return command


@pytest.fixture(scope="session")
def refused():
    """refused(process): assert that a command ended as a user's mistake should.

    Returns its one line on stderr.
    """

    def check(process):
        lines = process.stderr.strip().splitlines()
        assert process.returncode != 0, f"exit code 0; stdout: {process.stdout[-500:]}"
        whole = f"not one line on stderr:\n{process.stderr[-1500:]}"
        assert len(lines) == 1 and "Traceback" not in process.stderr, whole
        return lines[0]

    return check
