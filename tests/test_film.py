"""Moving pictures: they show the episodes that rollout.py plays, from the first moment to the last."""

import importlib.util

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageSequence
from runs import good

import checkpoint
import doorkey
import film
import rollout

ASSETS = ROOT / "assets"
in_maze = pytest.mark.skipif(
    not importlib.util.find_spec("d4rl"), reason="needs requirements-maze.txt"
)


def play(name, world, mode, episodes=3):
    """(film, rewards, env) of the first episodes that a model of the assets plays."""
    network = checkpoint.load(str(ASSETS / name))
    game = world, None, episodes, rollout.ROLLOUT_SEED, mode
    env, game = rollout.begin(network, *game, sampled=False)
    return *film.record(network, env, game), env


def test_a_film_of_doorkey_is_the_episodes_and_ends_where_they_end():
    seen, rewards, env = play("minigrid_dream", "doorkey", "best")
    assert len(seen) == doorkey.LENGTH + 1 and rewards.shape == (3, doorkey.LENGTH)
    steps = {name: np.stack([now[name] for now in seen], axis=1) for name in seen[0]}  # (n, 11)
    assert (steps["agent_pos"][:, -1] == env.observe()["agent_pos"]).all()
    moved = [np.abs(np.diff(x, axis=1)) for x in doorkey.cell_xy(steps["agent_pos"])]
    assert (moved[0] + moved[1] <= 1).all() and sum(map(np.sum, moved)) > 15
    at_goal = steps["agent_pos"][:, -1] == doorkey.cell_index(4, 4)
    assert (rewards.sum(axis=1)[at_goal] >= 5).all() and at_goal.any()


@in_maze
def test_a_film_of_the_maze_closes_as_many_metres_as_were_earned():
    seen, rewards, _ = play("maze2d_one", "maze2d-medium", "bc_states")
    off = [np.linalg.norm(now["position"] - now["goal"], axis=1) for now in (seen[0], seen[-1])]
    np.testing.assert_allclose(off[0] - off[1], rewards.sum(axis=1), atol=1e-5)
    assert len(seen) == 201


@pytest.mark.parametrize(
    "name, mode",
    [("minigrid_dream", "best"), pytest.param("maze2d_one", "bc_states", marks=in_maze)],
)
def test_the_command_writes_a_moving_picture_of_five_seconds(name, mode, run_warm, tmp_path):
    flags = f"--out_dir={ASSETS / name} --mode={mode} --episodes=2 --out=new/some.gif"
    good(run_warm("film.py", *flags.split(), cwd=tmp_path))
    with Image.open(tmp_path / "new" / "some.gif") as picture:
        frames = [
            (np.array(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(picture)
        ]
    assert sum(duration for _, duration in frames) == pytest.approx(5000, abs=100)
    assert (frames[0][0] != frames[-1][0]).any()


def test_the_pictures_of_the_repository_are_small_enough_for_a_readme():
    for name in ("act_doorkey.gif", "act_maze2d.gif"):
        assert (ASSETS / name).stat().st_size < 400_000


@pytest.mark.parametrize(
    "flags, reason",
    [
        (["--mode=best2"], "mode"),
        (["--target_return=1,2"], "one target_return"),
        (["--out=some.png"], "ends in .gif"),
        (["--episodes=0"], "episodes"),
        (["--env=CartPole-v1"], "CartPole-v1"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(flags, reason, run_warm, refused, tmp_path):
    line = ["film.py", f"--out_dir={ASSETS / 'minigrid_dream'}", "--out=some.gif", *flags]
    assert reason in refused(run_warm(*line, cwd=tmp_path)) and not list(tmp_path.iterdir())
