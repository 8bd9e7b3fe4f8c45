"""Every command and code block of README.md and FEATURES.md runs, with tiny models in the place of trained ones."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import configurator
import masks

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEATURES = (ROOT / "FEATURES.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
LINES = [line for _, text in BLOCKS for line in re.split(r"\n| && ", text)]
COMMANDS = [line.split("#")[0].strip() for line in LINES + re.findall(r"`([^`\n]+)`", README + FEATURES)]
COMMANDS = list(dict.fromkeys(line for line in COMMANDS if re.match(r"(python|torchrun|bash|make) [\w/-]+", line)))
TINY = (
    "--num_trajectories=16 --n_embd=16 --n_ff=16 --n_layer=1 --n_head=2 --batch_size=8 --max_iters=1 --eval_interval=1 "
    "--eval_sequences=10"
).split()
ASKED = {  # script: what makes it quick
    "train.py": TINY,
    "evaluate.py": ["--sequences=10"],
    "sample.py": ["--samples=4"],
    "bench.py": "--measure=steps --configurations=doorkey --repetitions=2 --cores=1".split(),
    "repro/jobs.py": [],
    "repro/rollouts.py": ["--episodes=16", "--picture=out/rollouts.png"],
    "repro/sampling.py": "--trajectories=2 --per_trajectory=1 --samples=8 --speed_samples=4 --result=out/sampling".split(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_warm):
    """A copy of the configs, files to import, and tiny models wherever the texts say that one was trained."""
    place = tmp_path_factory.mktemp("readme")
    for name in ("config", "assets"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("*.pt"))
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(600, 11)).astype("f4"), rng.uniform(-1, 1, (600, 3)).astype("f4")
    ends = np.arange(600) % 25 == 24
    with h5py.File(place / "hopper_medium-v2.hdf5", "w") as file:
        columns = {"observations": observations, "actions": actions, "rewards": np.ones(600), "terminals": ends}
        for name, array in columns.items():
            file[name] = array
    flat = {"actions": rng.integers(0, 2, 600), "rewards": np.ones(600), "episode_ends": np.flatnonzero(ends) + 1}
    np.savez(place / "flat.npz", observations=observations[:, :4], **flat)
    tiny = lambda *flags: run_warm("train.py", *TINY, *flags, cwd=place).check_returncode()
    for out_dir in ("out/minigrid_random", "assets/minigrid_infinite", "assets/minigrid_queries", "out/run"):
        tiny(f"--out_dir={out_dir}")
    if importlib.util.find_spec("d4rl"):
        for out_dir in ("assets/maze2d_random", "out/maze2d_bc"):
            tiny(f"--out_dir={out_dir}", "--dataset=maze2d-umaze", "--context=5", "--eval_rollouts=0")
    run_warm("data.py", "import", "flat.npz", "--out=mine.npz", cwd=place).check_returncode()
    tiny("--out_dir=out/cartpole", "--dataset=mine.npz", "--num_trajectories=0")
    write_corridor(place)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "corridor.py"], cwd=place, env=environment, check=True)
    tiny("config/corridor.py")
    imported = "import hopper_medium-v2.hdf5 --min_length=10 --out=out/hopper.npz".split()
    run_warm("data.py", *imported, cwd=place).check_returncode()
    tiny("config/d4rl_hopper.py", "--num_trajectories=0")
    return place


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_runs(line, folder, run_warm, monkeypatch):
    program, *words = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return
    if program == "bash":  # tests/test_repro.py runs them, tiny
        assert (ROOT / words[0]).exists()
        return
    if program == "torchrun":  # tests/test_distributed.py runs it
        words = words[words.index("train.py") :]
    script, *flags = words
    if script == "corridor.py":  # the fixture ran it
        assert (folder / "corridor.npz").exists()
        return
    if "maze2d" in line and importlib.util.find_spec("d4rl") is None:
        pytest.skip("d4rl is not installed (requirements-maze.txt)")
    meant = {"config/x.py": "config/minigrid_random.py", "--key=value": "--seed=1"}
    flags = [meant.get(flag, flag) for flag in flags]
    if script == "train.py":
        flags += settle(flags, folder)
    if script == "evaluate.py":
        flags = [re.sub(r"--rollouts=\d+", "--rollouts=3", flag) for flag in flags]
        if "--env=Hopper-v5" in flags:
            flags.remove("--env=Hopper-v5")  # its observations are those of the file made above, but not its episodes
            flags = [flag for flag in flags if not flag.startswith(("--rollouts", "--modes"))]
    if "masks.py" not in script and "every_other" in line:
        monkeypatch.setitem(masks.TASKS, "every_other", every_other())
    done = run_warm(script, *flags, *ASKED.get(script, []), cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]


def settle(flags, folder):
    """Flags with which a training command of the texts finds what it needs here."""
    more = [] if any(flag.startswith(("--out_dir", "config/")) for flag in flags) else ["--out_dir=out/trained"]
    if "--init_from=resume" in flags:
        shutil.copytree(folder / "out" / "run", folder / "out" / "trained", dirs_exist_ok=True)
    if any(flag.startswith("config/maze2d") for flag in flags):
        more += ["--eval_rollouts=2"]
    if any("finetune:out/minigrid_random" in flag or "hopper" in flag for flag in flags):
        more += ["--num_trajectories=0"]
    return more


def every_other():
    """The task of the section on masks, defined as it stands there."""
    text = next(text for text in PYTHON if "def every_other" in text)
    names = {"TASKS": {}}
    exec(text, names)
    return names["TASKS"]["every_other"]


def test_the_mask_of_the_text_is_short_and_does_what_it_says():
    text = next(text for text in PYTHON if "def every_other" in text)
    assert len(text.splitlines()) <= 10
    see, predict = every_other()(masks.Batch(3, 5, torch.Generator(), False))
    known = torch.tensor([True, False, True, False, True])
    assert torch.equal(see[..., 0], known.expand(3, 5)) and torch.equal(predict[..., 0], ~known.expand(3, 5))
    assert not see[..., 1:].any() and predict[..., 1].all()


def write_corridor(folder):
    """The two files of the section on worlds, as they stand there."""
    world, config = (next(t for t in PYTHON if key in t) for key in ("def make_dataset", 'dataset = "corridor.npz"'))
    (folder / "corridor.py").write_text(world, encoding="utf-8")
    (folder / "config" / "corridor.py").write_text(config, encoding="utf-8")


def test_the_config_of_the_world_is_accepted(folder):
    assert configurator.read_file(str(folder / "config" / "corridor.py"))["context"] == 12


@pytest.mark.parametrize("text", [text for text in PYTHON if "load(" in text])
def test_a_block_of_python_runs(text, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    exec(compile(text, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_links_and_pictures_lead_somewhere():
    drawn = re.findall(r"--picture=(assets/[\w.]+)", README)
    for target in drawn + re.findall(r"\]\(([^)#]+)\)", README + FEATURES):
        assert target.startswith("https://") or os.path.exists(ROOT / target), target
