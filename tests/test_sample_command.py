"""The command of sample.py: real questions to trained models, pictures, and mistakes in one line."""

import json
import runpy
import sys

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    """{world: out_dir} of tiny models."""
    folder = tmp_path_factory.mktemp("sample")
    tiny = [
        "--n_embd=32",
        "--n_ff=32",
        "--n_layer=1",
        "--n_head=2",
        "--max_iters=30",
        "--eval_interval=30",
        "--eval_sequences=50",
        "--threads=1",
        "--dropout=0",
    ]
    found = {}
    for world, size in (("doorkey", 50), ("maze2d-umaze", 20)):
        process = run(
            "train.py", *tiny, f"--out_dir={world}", f"--dataset={world}", f"--num_trajectories={size}", cwd=folder
        )
        if world.startswith("maze") and "d4rl" in process.stderr:
            continue  # Maze2D is not installed
        assert process.returncode == 0, process.stderr[-2000:]
        found[world] = folder / world
    return found


@pytest.fixture
def command(monkeypatch, capsys):
    """command(*flags): run sample.py's main in this process, for speed; returns what it prints."""

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["sample.py", *map(str, flags)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        runpy.run_path(str(ROOT / "sample.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_command_answers_and_draws(trained, command, tmp_path):
    out = command(
        f"--out_dir={trained['doorkey']}",
        "--trajectory=17",
        "--see=state[0], state[9]",
        "--predict=action[:],state[1:9]",
        "--exact",
        "--samples=7",
        f"--picture={tmp_path}/a/goal.png",
    )
    assert "7 joint samples, mean log-probability" in out and "obey DoorKey's dynamics" in out
    assert "agent_pos[8]" in out and "agent_pos[9]" not in out and "exact:" in out
    assert (tmp_path / "a" / "goal.png").read_bytes().startswith(b"\x89PNG")
    out = command(
        f"--out_dir={trained['doorkey']}",
        "--set=agent_pos[0]=5,key_pos[0]=2",
        "--world",
        "--samples=9",
        "--see=state[9]",
        f"--picture={tmp_path}/walk.gif",
        "--horizon=12",
    )
    assert (
        "100.00% of their transitions" in out and "100.0% of them met agent_pos[0]=5" in out and "met key_pos[9]" in out
    )
    assert (tmp_path / "walk.gif").read_bytes().startswith(b"GIF89a")
    assert not list(tmp_path.glob("**/*.tmp*")), "pictures are renamed when whole"


def test_command_in_the_maze(trained, command, tmp_path):
    if "maze2d-umaze" not in trained:
        pytest.skip("Maze2D is not installed")
    out_dir = f"--out_dir={trained['maze2d-umaze']}"
    out = command(
        out_dir, "--trajectory=2", "--start=40", "--task=future", "--samples=3", f"--picture={tmp_path}/future.png"
    )
    assert "3 joint samples" in out and "wrote" in out
    out = command(
        out_dir,
        "--set=position[0]=(1,1.1),goal[0]=(3,1)",
        "--world",
        "--samples=4",
        "--horizon=15",
        f"--picture={tmp_path}/fan.gif",
    )
    assert "4 completions with the world's own dynamics" in out
    for name in ("future.png", "fan.gif"):
        assert (tmp_path / name).stat().st_size > 5000


@pytest.mark.parametrize(
    "flag, reason",
    [
        ("--see=stat[0]", "did you mean 'state'"),
        ("--set=agent_pos[0]=99", "from 0 to 15"),
        ("--trajectory=5000", "there are 1000"),
        ("--start=3", "begins at 0 to 0"),
        ("--order=sideways", "confidence"),
        ("--picture=a.jpg", ".png"),
        ("--world", "known state"),
        ("--samples=-1", "at least 1"),
        ("--temperature=-1", "at least 0"),
    ],
)
def test_mistakes_on_the_command_line(trained, command, flag, reason):
    with pytest.raises(ValueError, match=reason):
        command(f"--out_dir={trained['doorkey']}", flag)


def test_a_mistake_is_one_line(trained, run, refused, tmp_path):
    line = refused(run("sample.py", f"--out_dir={trained['doorkey']}", "--see=state[0],stat[9]", cwd=tmp_path))
    assert "character 10" in line and "did you mean 'state'" in line and "example" in line
    assert not list(tmp_path.iterdir())


def test_measurements_are_complete(trained, run, tmp_path):
    process = run(
        "repro/sampling.py",
        f"--out_dir={trained['doorkey']}",
        f"--result={tmp_path}/sampling",
        "--trajectories=4",
        "--per_trajectory=1",
        "--samples=20",
        "--speed_samples=10",
        "--threads=1",
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    found = json.loads((tmp_path / "sampling.json").read_text())
    assert len(found["distribution"]) == 5 and found["lawful"]["past"]["exact samples"] == 1.0
    assert found["likelihood"]["past"]["exact"] < 0 and "Total variation" in (tmp_path / "sampling.md").read_text()
