"""Maze2D: the engine's fidelity, episodes, and the demonstrator, each against its source."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

if any(importlib.util.find_spec(package) is None for package in ("d4rl", "mujoco")):
    pytest.skip("d4rl or mujoco is not installed (requirements-maze.txt)", allow_module_level=True)

import maze2d
import model
from data import Trajectories, normalise

DATA = ROOT / "tests" / "data"


def random_episodes(maze, n, seed):
    """Maze2D and 200 random actions, in half of the episodes each held for 10 steps."""
    generator = np.random.default_rng(seed)
    actions = generator.uniform(-1, 1, (200, n, 2))
    actions[:, n // 2 :] = np.repeat(actions[::10, n // 2 :], 10, axis=0)
    return maze2d.Maze2D(maze, n, seed), actions


@pytest.fixture(scope="module")
def dataset():
    return maze2d.make_dataset(200, seed=5)


# ---- Physics -------------------------------------------------------------------------------------


def test_physics_replays_d4rl_on_mujoco_2_1():
    recording = np.load(DATA / "maze2d_physics.npz")
    env = maze2d.Maze2D("medium", n=50)
    env.set_state(recording["qpos0"], recording["qvel0"], env.goal)
    for t in range(200):
        env.step(recording["actions"][:, t])
        np.testing.assert_allclose(env.qpos, recording["qpos"][:, t], rtol=0, atol=1e-9)
        np.testing.assert_allclose(env.qvel, recording["qvel"][:, t], rtol=0, atol=1e-9)


@pytest.mark.parametrize("maze", maze2d.MAZES)
def test_physics_of_every_maze_when_pressed_into_walls_and_corners(maze):
    """Recorded on MuJoCo 2.3.7, which repeats 2.1 to the bit; an action is held for 20 steps."""
    with np.load(DATA / "maze2d_other_mazes.npz") as file:
        recording = {name: file[f"{maze}/{name}"] for name in ("qpos0", "qvel0", "actions", "qpos")}
    env = maze2d.Maze2D(maze, n=8)
    env.set_state(recording["qpos0"], recording["qvel0"], env.goal)
    for action, qpos in zip(recording["actions"], recording["qpos"], strict=True):
        for _ in range(20):
            env.step(action)
        np.testing.assert_allclose(env.qpos, qpos, rtol=0, atol=1e-9)


@pytest.mark.parametrize("maze", maze2d.MAZES)
def test_no_episode_leaves_the_maze(maze):
    env, actions = random_episodes(maze, 500, seed=1)
    walls = maze2d.layout(maze)
    for action in actions:
        env.step(action)
        cell = np.rint(env.qpos + maze2d.CELL_OFFSET).astype(int)
        assert not walls[tuple(cell.T)].any()


def test_the_number_of_threads_changes_no_bit():
    results = []
    for threads in (1, 2, 3):
        env = maze2d.Maze2D("medium", 60, seed=2, threads=threads)
        actions = np.random.default_rng(0).uniform(-1, 1, (50, 60, 2))
        rewards = [env.step(action) for action in actions]
        results.append(np.concatenate([env.qpos, env.qvel, np.array(rewards).T], axis=1))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


# ---- Episodes ------------------------------------------------------------------------------------


def test_one_seed_gives_the_same_episodes_and_another_gives_others():
    first, second = maze2d.Maze2D("large", 20, seed=3), maze2d.Maze2D("large", 20, seed=3)
    assert np.array_equal(first.qpos, second.qpos) and np.array_equal(first.qvel, second.qvel)
    assert np.array_equal(first.goal, second.goal)
    assert not np.array_equal(maze2d.Maze2D("large", 20, seed=4).qpos, first.qpos)


def test_starts_and_goals_are_drawn_as_specified():
    env = maze2d.Maze2D("medium", 20_000, seed=0)
    cells = env.cells
    index = {tuple(cell): i for i, cell in enumerate(cells.tolist())}
    start_cell = np.rint(env.qpos).astype(int)
    start = np.array([index[tuple(cell)] for cell in start_cell.tolist()])
    goal = np.array([index[tuple(cell)] for cell in env.goal.astype(int).tolist()])
    assert len(cells) == 26 and (start != goal).all()
    expected = len(start) / len(cells)
    # Chi-square with 25 degrees of freedom: 52.6 is exceeded once in a thousand.
    for drawn in (start, goal):
        assert ((np.bincount(drawn, minlength=26) - expected) ** 2 / expected).sum() < 52.6
    offset = env.qpos - start_cell
    assert np.abs(offset).max() < 0.3 + 1e-6 and abs(offset.std() - 0.6 / np.sqrt(12)) < 0.002
    assert abs(env.qvel.std() - 0.1) < 0.002 and abs(env.qvel.mean()) < 0.002


@pytest.mark.parametrize(
    "position, goal",
    [
        ((1.0, 1.1), (4, 1)),
        ([(1.0, 1.1), (3, 2), (1.25, 5.25)], [(4, 1), (2, 4), (6, 6)]),
        ([(1.0, 1.1), (3, 2), (1.25, 5.25)], (4, 1)),
    ],
    ids=["one for all", "one for each", "positions with one goal"],
)
def test_copies_start_where_they_are_told_to(position, goal):
    env = maze2d.Maze2D("medium", 3, seed=1)
    drawn = env.qvel.copy()
    env.start_at({"position": np.array(position), "goal": np.array(goal)})
    assert (env.qpos == position).all() and (env.goal == goal).all() and (env.qvel == drawn).all()
    away = np.broadcast_to(np.subtract(position, goal), (3, 2))
    assert np.allclose(env.report()["distance"], np.hypot(*away.T))
    assert (env.report()["closed"] == 0).all()
    env.step(np.ones((3, 2)))
    assert (env.qpos != position).all() and (env.goal == goal).all(), "and go on from there"


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ((0, 1), "position [0.0, 1.0]: there is a wall"),
        ((1.35, 1), "position [1.35, 1.0]: there is a wall"),  # the cell's wall stands at 1.3
        ((-3, 1), "wall"),
        ((1, 99), "wall"),
        ((np.nan, 1), "finite"),
        ((1, 1, 1), "shape"),
        ([(1.25, 1), (0, 1)], "position [0.0, 1.0]: there is a wall"),
        ([(1.25, 1), (1, np.inf)], "finite"),
        ([(1.25, 1)] * 3, "shape"),  # of two copies
    ],
)
def test_no_copy_starts_in_a_wall(position, words):
    env = maze2d.Maze2D("umaze", 2)
    env.start_at({"position": (1.25, 1), "goal": (3, 1)})
    with pytest.raises(ValueError, match=re.escape(words)):
        env.start_at({"position": position, "goal": (3, 1)})


def test_start_velocities_are_small():
    velocity = maze2d.Maze2D("umaze", 1000, seed=0).qvel
    assert abs(velocity.std() - 0.1) < 0.01 and np.abs(velocity).max() < 0.6


def test_rewards_add_up_to_the_distance_gained():
    env, actions = random_episodes("medium", 100, seed=4)
    initial = np.linalg.norm(env.qpos - env.goal, axis=1)
    total = sum(env.step(action) for action in actions)
    final = np.linalg.norm(env.qpos - env.goal, axis=1)
    np.testing.assert_allclose(total, initial - final, rtol=0, atol=1e-9)


def test_observations_show_position_and_goal_only():
    env = maze2d.Maze2D("open", 3, seed=0)
    assert env.step(np.zeros((3, 2))).shape == (3,)
    factors = env.observe()
    assert list(factors) == ["position", "goal"]
    assert all(array.dtype == np.float32 for array in factors.values())
    assert np.array_equal(factors["position"], env.qpos.astype(np.float32))


def test_actions_are_clipped():
    one, two = maze2d.Maze2D("open", 5, seed=0), maze2d.Maze2D("open", 5, seed=0)
    assert np.array_equal(one.step(np.full((5, 2), 7.0)), two.step(np.ones((5, 2))))
    assert np.array_equal(one.qpos, two.qpos)


# ---- Demonstrator --------------------------------------------------------------------------------


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_demonstrator_acts_like_d4rls_controller(maze):
    from d4rl.pointmaze.waypoint_controller import WaypointController

    n, generator = 8, np.random.default_rng(1)
    env, demonstrator = maze2d.Maze2D(maze, n, seed=6), maze2d.Demonstrator(maze, generator)
    demonstrator.plan(env.qpos, env.goal)
    controllers = [WaypointController(maze2d._text(maze), solve_thresh=0.1) for _ in range(n)]
    for i, controller in enumerate(controllers):
        controller._new_target(env.qpos[i], env.goal[i])
        theirs = np.array(controller._waypoints)
        ours = demonstrator.waypoints[i, : len(theirs)]
        # The same cells, each less a jitter of up to 0.2 that differs; from then on theirs follows
        # our jitter.
        assert np.array_equal(np.ceil(ours), np.ceil(theirs))
        assert np.array_equal(ours[-1], env.goal[i])
        assert ((np.ceil(ours) - ours >= 0) & (np.ceil(ours) - ours < 0.2)).all()
        controller._waypoints = list(ours)
    for _ in range(200):
        actions = demonstrator.act(env.qpos, env.qvel)
        now = zip(controllers, env.qpos, env.qvel, env.goal)
        theirs = [controller.get_action(*state)[0] for controller, *state in now]
        np.testing.assert_allclose(actions, theirs, rtol=0, atol=1e-9)
        env.step(actions + 0.5 * generator.standard_normal((n, 2)))
    assert demonstrator.index.tolist() == [controller._waypoint_idx for controller in controllers]


def test_dataset_agrees_with_the_originals_figures(dataset):
    """Within 3 standard errors; the original's wrong start velocities hardly move these figures."""
    mean, _, closed, clipped = maze2d.summarise(dataset)
    values = dataset.values
    distance = np.linalg.norm(values["position"][:, 0] - values["goal"][:, 0], axis=1)
    total = values["return_to_go"][:, 0, 0]
    for ours, theirs, sample in (
        (mean, maze2d.ORIGINAL[0], total),
        (distance.mean(), 3.296, distance),
        (closed, maze2d.ORIGINAL[2], total / distance),
    ):
        assert abs(ours - theirs) < 3 * sample.std() / np.sqrt(len(sample)), theirs
    assert abs(clipped - maze2d.ORIGINAL[3]) < 0.02
    assert abs(dataset.extras["start_velocity"].std() - 0.1) < 0.01


def test_dataset_has_the_factors_and_survives_a_file(dataset, tmp_path):
    assert [(f.name, f.group, f.kind, f.size) for f in dataset.factors] == [
        ("position", "STATE", "continuous", 2),
        ("goal", "STATE", "continuous", 2),
        ("action", "ACTION", "continuous", 2),
        ("return_to_go", "RETURN", "continuous", 2),
    ]
    for array in dataset.values.values():
        assert array.shape == (200, 200, 2) and array.dtype == np.float32
    assert np.allclose(dataset.values["return_to_go"][:, :, 1], np.arange(200) / 200)
    dataset.save(str(tmp_path / "maze.npz"))
    loaded = Trajectories.load(str(tmp_path / "maze.npz"))
    assert loaded.world == "maze2d-medium"
    assert np.array_equal(loaded.values["action"], dataset.values["action"])
    assert np.array_equal(loaded.extras["start_velocity"], dataset.extras["start_velocity"])


def test_a_recorded_episode_replays_to_the_bit(dataset):
    values = dataset.values
    env = maze2d.Maze2D("medium", len(dataset))
    env.set_state(values["position"][:, 0], dataset.extras["start_velocity"], values["goal"][:, 0])
    total = 0.0
    for t in range(200):
        assert np.array_equal(env.observe()["position"], values["position"][:, t])
        total = total + env.step(values["action"][:, t])
    np.testing.assert_allclose(total, values["return_to_go"][:, 0, 0], rtol=0, atol=1e-5)


def test_raw_episodes_are_the_same_and_say_that_nothing_is_normalised():
    plain, raw = (maze2d.make_dataset(5, seed=1, maze="umaze", raw=x) for x in (False, True))
    for name, array in plain.values.items():
        np.testing.assert_array_equal(array, raw.values[name])
    features = model.Features(normalise(raw).factors, model.ModelConfig(hidden="zero"))
    see = dict.fromkeys(raw.values, torch.ones(5, 200, dtype=torch.bool))
    x = features(raw.tensors(), see)  # (5, 200, 8)
    expected = [raw.values[name] for name in ("position", "goal", "action", "return_to_go")]
    expected = np.concatenate(expected, axis=-1)
    np.testing.assert_array_equal(x[..., :7], expected[..., :7])
    np.testing.assert_allclose(x[0, :, 7], np.arange(200) / 1000, rtol=1e-6)  # time


def test_a_seed_may_be_several_numbers():
    one, other = (maze2d.make_dataset(2, seed=seed, maze="umaze") for seed in ([3, 1], [3, 2]))
    assert (one.values["position"] != other.values["position"]).any()


def test_one_seed_gives_the_same_dataset_and_the_expert_beats_its_noisy_self(monkeypatch):
    noisy, again = maze2d.make_dataset(50, seed=1), maze2d.make_dataset(50, seed=1)
    assert all(np.array_equal(noisy.values[name], again.values[name]) for name in noisy.values)
    monkeypatch.setattr(maze2d, "NOISE", 0.0)
    expert = maze2d.make_dataset(50, seed=1)
    assert np.array_equal(expert.values["position"][:, 0], noisy.values["position"][:, 0])
    assert maze2d.summarise(expert)[0] > maze2d.summarise(noisy)[0]


# ---- Mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: maze2d.Maze2D("tiny"), "maze 'tiny' is unknown; the mazes are open, umaze"),
        (lambda: maze2d.make_dataset(1, 0, maze="tiny"), "maze 'tiny' is unknown"),
        (lambda: maze2d.Maze2D(n=0), "n=0"),
        (lambda: maze2d.make_dataset(1, -3), "non-negative"),
        (lambda: maze2d.Maze2D(n=3).step(np.zeros((2, 2))), r"shape \(2, 2\) should be \(3, 2\)"),
        (lambda: maze2d.Maze2D(n=1).step([[np.nan, 0]]), "actions .* finite"),
        (lambda: maze2d.Maze2D(n=1).set_state([0, 0], [[0, 0]], [[0, 0]]), r"qpos of shape \(2,"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_goal_in_a_wall_has_no_path():
    demonstrator = maze2d.Demonstrator("umaze", np.random.default_rng(0))
    with pytest.raises(ValueError, match="no path"):
        demonstrator.plan(np.array([[1.0, 1.0]]), np.array([[2.0, 2.0]]))


def python(code):
    line = [sys.executable, "-c", code]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def test_importing_prints_nothing_and_hides_nothing_afterwards():
    code = "import maze2d, sys; maze2d.Maze2D()"
    result = python(f"{code}; assert not {{'mujoco_py', 'pybullet'}} & set(sys.modules)")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_command_compares_with_the_original(run_warm, refused, tmp_path):
    process = run_warm("maze2d.py", "--maze=umaze", "--n=3", "--seed=1", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "3 episodes of maze2d-umaze" in process.stdout and "original" in process.stdout
    assert "maze 'tiny' is unknown" in refused(run_warm("maze2d.py", "--maze=tiny", cwd=tmp_path))


def test_a_missing_package_is_one_sentence_with_the_command(run_warm, refused, tmp_path):
    message = refused(run_warm("maze2d.py", cwd=tmp_path, inside=hide_d4rl))
    assert "pip install --no-deps -r requirements-maze.txt" in message


def hide_d4rl():
    maze2d._packages.cache_clear()
    for name in [name for name in sys.modules if name.startswith("d4rl.")]:
        del sys.modules[name]
    sys.modules["d4rl"] = None  # as if it were not installed
