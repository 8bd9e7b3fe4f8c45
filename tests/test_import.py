"""Data of others come in whole or not at all, train where they lie, and can be played in the world they came from."""

import importlib.util
import json
import os
import sys
import warnings
import zipfile
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch

import data
import evaluate
import importing
import npz
from data import Factor, Trajectories
from gymenv import GymEnv
from model import ModelConfig, build

LENGTHS = (5, 3, 9, 1, 6)  # of the episodes below; the last one is unfinished
N, L, STEPS = len(LENGTHS), max(LENGTHS), sum(LENGTHS)
ENDS = np.cumsum(LENGTHS)


def arrays(**changes):
    """Five episodes in a row, as D4RL has them: the third ends by a timeout, the last one does not end."""
    rng = np.random.default_rng(0)
    flags = np.zeros((2, STEPS), dtype=bool)
    flags[0, ENDS[[0, 1, 3]] - 1] = True
    flags[1, ENDS[2] - 1] = True
    made = {
        "observations": rng.normal(size=(STEPS, 3)).astype(np.float32),
        "actions": rng.uniform(-2, 2, (STEPS, 2)).astype(np.float32),
        "rewards": rng.normal(size=STEPS),
        "terminals": flags[0],
        "timeouts": flags[1],
    } | changes
    return {name: array for name, array in made.items() if array is not None}


def write_hdf5(path, content):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (requirements-maze.txt)")
    with h5py.File(path, "w") as file:
        file["infos/qpos"] = np.zeros((3, 2))  # D4RL's files hold more than we read
        for name, array in content.items():
            file[name] = array
    return str(path)


def write_plain(path, **changes):
    made = arrays(terminals=None, timeouts=None, episode_ends=ENDS) | changes
    np.savez(path, **{name: array for name, array in made.items() if array is not None})
    return str(path)


def check_episodes(imported, lengths, **expected):
    """Assert that factors hold these flat arrays (steps, ...), cut into episodes, and zeros as padding."""
    assert imported.lengths.tolist() == list(lengths)
    ends = np.cumsum(lengths)
    for name, flat in expected.items():
        for values, end, length in zip(imported.values[name], ends, lengths):
            np.testing.assert_array_equal(values[:length], flat[end - length : end], err_msg=name)
            assert not values[length:].any()


# ---- readers ---------------------------------------------------------------------------------------------------------


def test_d4rl_episodes_end_at_terminals_and_timeouts_and_an_unfinished_one_is_kept(tmp_path):
    made = arrays()
    imported = importing.read(write_hdf5(tmp_path / "some.hdf5", made))
    check_episodes(imported, LENGTHS, observation=made["observations"], action=made["actions"])
    assert [(f.name, f.group, f.kind, f.size) for f in imported.factors] == [
        ("observation", "STATE", "continuous", 3),
        ("action", "ACTION", "continuous", 2),
        ("return_to_go", "RETURN", "continuous", 2),
    ]


def test_without_timeouts_episodes_end_at_terminals_only(tmp_path):
    made = arrays(timeouts=None)
    imported = importing.read(write_hdf5(tmp_path / "some.h5", made))
    check_episodes(imported, (5, 3, 10, 6), observation=made["observations"])


def test_returns_to_go_are_the_rewards_still_to_come(tmp_path):
    made = arrays()
    imported = importing.read(write_hdf5(tmp_path / "some.hdf5", made))
    for values, end, length in zip(imported.values["return_to_go"], ENDS, LENGTHS):
        for t in range(length):
            to_go = sum(made["rewards"][end - length + t : end][::-1].tolist())  # from the end on, as it is accumulated
            assert values[t].tolist() == [np.float32(to_go), t]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32, bool])
@pytest.mark.parametrize("shape", [(STEPS,), (STEPS, 1)])
def test_one_integer_for_each_step_is_a_class(dtype, shape, tmp_path):
    actions = (np.arange(STEPS) % (2 if dtype is bool else 4)).astype(dtype)
    imported = importing.read(write_hdf5(tmp_path / "some.hdf5", arrays(actions=actions.reshape(shape))))
    assert imported.factors[1] == Factor("action", "ACTION", "categorical", actions.max() + 1)
    check_episodes(imported, LENGTHS, action=actions)


def test_one_float_for_each_step_is_a_number(tmp_path):
    imported = importing.read(write_hdf5(tmp_path / "some.hdf5", arrays(actions=np.arange(STEPS) / 2)))
    assert imported.factors[1] == Factor("action", "ACTION", "continuous", 1)
    check_episodes(imported, LENGTHS, action=np.arange(STEPS)[:, None] / 2)


def test_plain_arrays_come_in_as_hdf5_does(tmp_path):
    hdf5, plain = (
        importing.read(write_hdf5(tmp_path / "some.hdf5", arrays())),
        importing.read(write_plain(tmp_path / "some.npz")),
    )
    assert hdf5.factors == plain.factors and (hdf5.lengths == plain.lengths).all()
    assert all((array == plain.values[name]).all() for name, array in hdf5.values.items())


def test_states_keep_their_names(tmp_path):
    room, place = np.arange(STEPS) % 7, np.linspace(0, 1, 2 * STEPS).reshape(-1, 2)
    imported = importing.read(write_plain(tmp_path / "some.npz", observations=None, room=room, place=place))
    assert [(f.name, f.kind, f.size) for f in imported.factors[:2]] == [
        ("place", "continuous", 2),
        ("room", "categorical", 7),
    ]
    check_episodes(imported, LENGTHS, room=room, place=place.astype(np.float32))


def test_where_blocks_end_does_not_matter(tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "some.hdf5", arrays())
    whole = importing.read(path)
    monkeypatch.setattr(importing, "BLOCK", 4)
    assert all((array == whole.values[name]).all() for name, array in importing.read(path).values.items())


def test_short_episodes_are_left_out_on_request(tmp_path):
    made = arrays()
    imported = importing.read(write_hdf5(tmp_path / "some.hdf5", made), min_length=5)
    kept = np.repeat(np.array(LENGTHS) >= 5, LENGTHS)
    check_episodes(imported, (5, 9, 6), observation=made["observations"][kept], action=made["actions"][kept])


needs_minari = pytest.mark.skipif(importlib.util.find_spec("minari") is None, reason="minari is not installed")


@needs_minari
@pytest.mark.parametrize("named", [False, True], ids=["a box", "a dictionary"])
def test_a_local_minari_data_set_is_imported(named, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari
    from minari.data_collector import EpisodeBuffer

    rng, box = np.random.default_rng(0), gymnasium.spaces.Box(-9, 9, (3,))
    episodes, lengths = [], (5, 3, 7)
    for n in lengths:
        seen = rng.normal(size=(n + 1, 3)).astype(np.float32)
        flags = {"terminations": [False] * n, "truncations": [False] * (n - 1) + [True], "infos": {}}
        states = {"observation": seen, "goal": -seen} if named else seen
        episode = EpisodeBuffer(
            observations=states, actions=rng.integers(0, 4, n), rewards=list(rng.normal(size=n)), **flags
        )
        episodes.append(episode)
    spaces = {"observation_space": gymnasium.spaces.Dict(observation=box, goal=box) if named else box,
              "action_space": gymnasium.spaces.Discrete(4)}  # fmt: skip
    with warnings.catch_warnings(action="ignore"):
        minari.create_dataset_from_buffers("toy/small-v0", episodes, **spaces)
    imported = importing.read("minari:toy/small-v0")
    state = lambda e: e.observations["observation"] if named else e.observations
    seen, actions = np.concatenate([state(e)[:-1] for e in episodes]), np.concatenate([e.actions for e in episodes])
    check_episodes(imported, lengths, observation=seen, action=actions, **({"goal": -seen} if named else {}))
    totals = [sum(e.rewards) for e in episodes]
    np.testing.assert_allclose(imported.values["return_to_go"][:, 0, 0], totals, rtol=1e-6)
    with pytest.raises(ValueError, match="toy/none-v0"):
        importing.read("minari:toy/none-v0")


@needs_minari
def test_a_minari_state_cannot_be_named_like_something_else(tmp_path, monkeypatch):
    import minari

    states = {"action": np.zeros((4, 2)), "place": np.zeros((4, 2))}
    episode = SimpleNamespace(observations=states, actions=np.zeros((3, 1)), rewards=np.zeros(3))
    source = SimpleNamespace(iterate_episodes=lambda: [episode])
    monkeypatch.setattr(minari, "load_dataset", lambda name: source)
    with pytest.raises(ValueError, match="named 'action'"):
        importing.read("minari:some/data-v0")


@pytest.mark.parametrize("package, source", [("minari", "minari:some/data-v0"), ("h5py", "some.hdf5")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(package, source, tmp_path, monkeypatch):
    write_hdf5(tmp_path / "some.hdf5", arrays())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"pip install {package}"):
        importing.read(source)


# ---- refusals --------------------------------------------------------------------------------------------------------


def put(name, value):
    array = arrays()[name]
    array[7] = value
    return {name: array}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"actions": None}, "actions"),
        ({"terminals": None}, "terminals"),
        ({"rewards": np.zeros(STEPS - 1)}, "rewards 23"),
        ({"rewards": np.zeros((STEPS, 2))}, "rewards"),
        ({"rewards": np.float64(3)}, "rewards"),
        ({"observations": np.zeros((STEPS, 4, 4, 3))}, "observation"),
        ({"actions": np.full(STEPS, b"left")}, "action"),
        ({"actions": np.arange(STEPS) - 1}, "action.* -1"),
        ({"actions": np.arange(STEPS) * 1000}, "23000"),
        ({"terminals": np.full(STEPS, 2)}, "terminals"),
        (put("observations", np.nan), "observation.*step 7"),
        (put("actions", np.inf), "action.*step 7"),
        (put("rewards", -np.inf), "rewards.*step 7"),
        ({"observations": np.full((STEPS, 2), 1e300)}, "observation.*finite"),
        ({name: array[:0] for name, array in arrays().items()}, "no steps"),
        ({name: None for name in arrays()}, "lacks"),
    ],
)
def test_hdf5_that_cannot_be_understood_is_refused(changes, words, tmp_path):
    path = write_hdf5(tmp_path / "bad.hdf5", arrays(**changes))
    with pytest.raises(ValueError, match=f"bad.hdf5.*{words}") as error:
        importing.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"episode_ends": None}, "episode_ends"),
        ({"observations": None}, "state"),
        ({"observations": np.zeros((STEPS + 1, 3))}, "observations 25"),
        ({"episode_ends": ENDS[:-1]}, "24"),
        ({"episode_ends": ENDS + 1}, "24"),
        ({"episode_ends": ENDS[[1, 0, 2, 3, 4]]}, "increase"),
        ({"episode_ends": np.array([], dtype=int)}, "episode_ends"),
        ({"episode_ends": ENDS.astype(float)}, "episode_ends"),
        ({"timestep": np.arange(STEPS)}, "timestep"),
        ({"key.pos": np.arange(STEPS)}, "key.pos"),
        ({"place": np.array(3)}, "place"),
        ({"place": np.array([None] * STEPS)}, ""),
    ],
)
def test_plain_arrays_that_cannot_be_understood_are_refused(changes, words, tmp_path):
    path = write_plain(tmp_path / "bad.npz", **changes)
    with pytest.raises(ValueError, match=f"bad.npz.*{words}") as error:
        importing.read(path)
    assert "\n" not in str(error.value)


def test_the_command_refuses_in_one_line_and_writes_nothing(run_warm, refused, tmp_path, toy_data):
    whole = open(write_hdf5(tmp_path / "whole.hdf5", arrays()), "rb").read()
    for name, content in (("cut.hdf5", whole[:3000]), ("text.hdf5", b"hello"), ("empty.h5", b""), ("text.npz", b"PK")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "some.csv").write_text("1,2\n")
    toy_data.save(tmp_path / "trajectories.npz")
    bad = (
        "cut.hdf5",
        "text.hdf5",
        "empty.h5",
        "text.npz",
        "some.csv",
        "trajectories.npz",
        "none.hdf5",
        "minari:no/data-v0",
    )
    before = sorted(tmp_path.iterdir())
    for name in bad:
        assert name in refused(run_warm("data.py", "import", name, "--out=out.npz", cwd=tmp_path))
    assert "out.csv" in refused(run_warm("data.py", "import", "whole.hdf5", "--out=out.csv", cwd=tmp_path))
    line = ("data.py", "import", "whole.hdf5", "--out=out.npz", "--min_length=10")
    assert "10" in refused(run_warm(*line, cwd=tmp_path))
    assert sorted(tmp_path.iterdir()) == before


# ---- files that stay on disk -----------------------------------------------------------------------------------------


def test_a_file_is_mapped_and_the_same_as_read(toy_data, doorkey_data, tmp_path):
    for saved in (toy_data, doorkey_data):
        saved.save(tmp_path / "some.npz")
        mapped = npz.read(tmp_path / "some.npz")
        with np.load(tmp_path / "some.npz") as read:
            assert read.files == list(mapped)
            for name in read.files:
                assert mapped[name].dtype == read[name].dtype and (mapped[name] == read[name]).all()
                assert isinstance(mapped[name], np.memmap) == (name != "header") and mapped[name].flags.aligned


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed], ids=["unaligned", "compressed"])
def test_what_cannot_be_mapped_is_read(write, toy_data, tmp_path):
    toy_data.save(tmp_path / "some.npz")
    write(tmp_path / "other.npz", **npz.read(tmp_path / "some.npz"))
    loaded = Trajectories.load(tmp_path / "other.npz")
    for name, array in toy_data.values.items():
        assert (loaded.values[name] == array).all() and loaded.values[name].flags.aligned
        assert write is np.savez or not isinstance(loaded.values[name], np.memmap)


def test_arrays_of_any_layout_are_read_as_numpy_does(tmp_path):
    made = {"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "empty": np.zeros((0, 3)), "one": np.array(3),
            "text": np.array(["a", "bc"]), "big": np.arange(4, dtype=">i4")}  # fmt: skip
    np.savez(tmp_path / "some.npz", **made)
    mapped = npz.read(tmp_path / "some.npz")
    for name, array in made.items():
        assert mapped[name].dtype == array.dtype and mapped[name].shape == array.shape and (mapped[name] == array).all()


def test_a_member_that_is_shorter_than_it_says_is_refused(tmp_path):
    np.savez(tmp_path / "some.npz", first=np.arange(10), second=np.arange(10))
    whole = (tmp_path / "some.npz").read_bytes()
    (tmp_path / "bad.npz").write_bytes(whole.replace(b"(10,)", b"(12,)", 1))
    with pytest.raises((ValueError, zipfile.BadZipFile)):  # not 12 numbers, of which the last are the next header
        npz.read(tmp_path / "bad.npz")


def test_training_leaves_the_data_where_they_are(toy_data, tmp_path, recwarn):
    toy_data.save(tmp_path / "some.npz")
    before = (tmp_path / "some.npz").read_bytes()
    train, validation = data.train_and_validation(str(tmp_path / "some.npz"), 0, 0)
    for part in (train, validation):
        assert all(isinstance(array.base, np.memmap) or isinstance(array, np.memmap) for array in part.values.values())
        for name, tensor in part.tensors().items():
            assert tensor.data_ptr() == part.values[name].ctypes.data  # not a copy
            tensor.zero_()
    assert (tmp_path / "some.npz").read_bytes() == before
    assert not recwarn.list


@pytest.mark.parametrize("size", [1, 70, 10**6])
def test_statistics_do_not_depend_on_chunks(size, toy_data, monkeypatch):
    monkeypatch.setattr(data, "CHUNK", size)
    valid = toy_data.valid()
    for factor in data.normalise(toy_data).factors:
        if factor.kind == "continuous" and factor.group != "ACTION":
            values = toy_data.values[factor.name].astype(np.float64)
            steps = np.diff(values, axis=1)[valid[:, 1:]]
            np.testing.assert_allclose(factor.mean, values[valid].mean(axis=0), rtol=1e-6)
            np.testing.assert_allclose(factor.std, values[valid].std(axis=0), rtol=1e-6)
            np.testing.assert_allclose(factor.step_std, steps.std(axis=0), rtol=1e-6)


def test_a_description_ignores_padding():
    values = {"x": np.float32([[[5], [6], [0]], [[7], [8], [9]]])}
    text = data.describe(Trajectories([Factor("x", "STATE", "continuous", 1)], values, lengths=np.array([2, 3])))
    assert "from 5 to 9" in text and "2 trajectories of 2 to 3 steps, 5 in all" in text


def test_an_episode_too_short_to_validate_on_is_refused(run_warm, refused, tmp_path):
    ends = np.array([8, 16, 20])
    write_plain(tmp_path / "some.npz", **{name: array[:20] for name, array in arrays(terminals=None, timeouts=None).items()},
                episode_ends=ends)  # fmt: skip
    process = run_warm("data.py", "import", "some.npz", "--out=short.npz", cwd=tmp_path)
    assert "--context=4 " in process.stdout, process.stderr
    line = ("train.py", "--dataset=short.npz", "--num_trajectories=2", "--out_dir=out", "--context=5", "--max_iters=1")
    assert "4 timesteps" in refused(run_warm(*line, cwd=tmp_path))  # the last one is only 4 steps, and validates
    assert not (tmp_path / "out").exists()


# ---- playing ---------------------------------------------------------------------------------------------------------


class Countdown(gymnasium.Env):
    """Starts at a number from 1 to 5 and counts down; at 0 the episode is over. A step earns its action."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 3, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.np_random.integers(1, 6)
        return np.float32([self.left, 0]), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        return np.float32([self.left, 1]), float(action[0]), self.left == 0, False, {}


class Long(Countdown):
    """A Countdown that never arrives."""

    def step(self, action):
        self.left = 9
        return super().step(action)


class Named(Countdown):
    """A Countdown with a dictionary of observations and actions of two classes, which earn their number."""

    observation_space = gymnasium.spaces.Dict(
        place=gymnasium.spaces.Box(-9, 9, (2,)), room=gymnasium.spaces.Discrete(3)
    )
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return {"place": super().reset(seed=seed)[0], "room": 2}, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        return {"place": np.float32([self.left, 1]), "room": 2}, float(action), self.left == 0, False, {}


class Tupled(Countdown):
    observation_space = gymnasium.spaces.Tuple([Countdown.observation_space] * 2)


gymnasium.register("Countdown-v0", Countdown, max_episode_steps=30)
gymnasium.register("Endless-v0", Countdown)
gymnasium.register("Long-v0", Long, max_episode_steps=30)
gymnasium.register("Named-v0", Named, max_episode_steps=30)
gymnasium.register("Tuple-v0", Tupled, max_episode_steps=30)
FACTORS = [
    Factor("observation", "STATE", "continuous", 2),
    Factor("action", "ACTION", "continuous", 1),
    Factor("return_to_go", "RETURN", "continuous", 2),
]


class Constant(torch.nn.Module):
    """A policy that always takes the same action, and keeps the windows that it is shown."""

    def __init__(self, action, factors=FACTORS, context=4):
        super().__init__()
        self.config, self.factors, self.action, self.shown = ModelConfig(context=context), factors, action, []
        self.device_of = torch.nn.Parameter(torch.zeros(1))

    def forward(self, values, see, only):
        self.shown.append({name: value.clone() for name, value in values.items()})
        return {"action": torch.tensor([[self.action]]).repeat(len(see), 1, 1)}


def test_an_episode_that_is_over_earns_nothing():
    env, policy = GymEnv("Countdown-v0", 20, 3, FACTORS), Constant(1.0)
    starts = env.observe()["observation"][:, 0].astype(int)
    assert len(set(starts)) > 3
    rewards = evaluate.rollout(policy, env)
    assert len(policy.shown) == starts.max()  # when all are over, nobody is asked any more
    np.testing.assert_array_equal(rewards, np.arange(30) < starts[:, None])
    np.testing.assert_array_equal(env.report()["length"], starts)


@pytest.mark.parametrize("action, done", [(10.0, 3.0), (-10.0, -2.0), (2.5, 2.5)])
def test_continuous_actions_are_clipped_to_the_environments_bounds(action, done):
    env, policy = GymEnv("Countdown-v0", 5, 3, FACTORS), Constant(action)
    starts = env.observe()["observation"][:, 0]
    np.testing.assert_array_equal(evaluate.rollout(policy, env).sum(axis=1), done * starts)
    if starts.max() > 1:
        assert (policy.shown[1]["action"][:, 0] == done).all()  # what is remembered is what was done
    _, rewards = GymEnv("Countdown-v0", 2, 3, FACTORS).step(np.full((2, 1), action, dtype=np.float32))
    assert (rewards == done).all()


def test_the_same_seed_plays_the_same_episodes():
    play = lambda seed: evaluate.rollout(Constant(1.0), GymEnv("Countdown-v0", 20, seed, FACTORS))
    assert (play(3) == play(3)).all() and (play(3) != play(4)).any()


def test_a_target_counts_down_as_rewards_come_in():
    env, policy = GymEnv("Countdown-v0", 20, 3, FACTORS), Constant(1.0, context=2)
    rewards = evaluate.rollout(policy, env, "rc", targets=np.full(20, 7.0))
    for t, values in enumerate(policy.shown):
        first = max(0, t - 1)
        expected = np.stack([7 - rewards[:, :first].sum(axis=1), np.full(20, first)], axis=1)
        np.testing.assert_array_equal(values["return_to_go"][:, 0], expected)


def test_targets_are_better_than_what_the_nearest_start_earned():
    env = GymEnv("Countdown-v0", 20, 3, FACTORS)
    values = {"observation": np.zeros((5, 2, 2)), "action": np.zeros((5, 2, 1)), "return_to_go": np.zeros((5, 2, 2))}
    values["observation"][:, 0, 0] = np.arange(1, 6)
    values["return_to_go"][:, 0, 0] = [-12, -6, 0, 10, 20]
    shown = Trajectories(FACTORS, {name: array.astype(np.float32) for name, array in values.items()})
    starts = env.observe()["observation"][:, 0].astype(int)
    np.testing.assert_allclose(evaluate.target_returns(env, shown), np.array([-10, -5, 0, 12, 24])[starts - 1])


@pytest.mark.parametrize(
    "settings", [{"positions": "timestep", "max_timestep": 8}, {"positions": "learned"}, {"model": "dt"}]
)
def test_rollouts_may_be_longer_than_anything_in_training(settings):
    model = build(ModelConfig(context=4, n_layer=1, n_embd=16, n_head=2, n_ff=16, **settings), FACTORS).eval()
    env = GymEnv("Long-v0", 3, 0, FACTORS)
    rewards = evaluate.rollout(model, env, "rc", targets=np.ones(3))
    assert rewards.shape == (3, 30) and (env.length == 30).all() and rewards[:, -1].all()


@pytest.mark.parametrize("rooms", [3, 2], ids=["all rooms known", "a room that the data lack"])
def test_dictionaries_and_classes_are_played_by_their_names(rooms):
    states = [Factor("place", "STATE", "continuous", 2), Factor("room", "STATE", "categorical", rooms)]
    factors = [*states, Factor("action", "ACTION", "categorical", 2)]
    env = GymEnv("Named-v0", 20, 3, factors)
    assert env.observe()["room"].tolist() == [2] * 20 and env.observe()["place"].shape == (20, 2)
    starts = env.observe()["place"][:, 0]
    model = build(ModelConfig(context=4, n_layer=1, n_embd=16, n_head=2, n_ff=16), factors).eval()
    model.forward = lambda values, see, only: {"action": torch.tensor([[[-1e4, 1e4]]]).repeat(len(see), 1, 1)}
    rewards = evaluate.rollout(model, env, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(rewards.sum(axis=1), starts)
    factors[1] = Factor("room", "STATE", "categorical", 4)
    with pytest.raises(ValueError, match="categorical 4"):
        GymEnv("Named-v0", 2, 3, factors)


def test_a_model_without_returns_cannot_be_given_a_target():
    model = Constant(1.0, FACTORS[:2])
    with pytest.raises(ValueError, match="bc_states"):
        evaluate.rollout(model, GymEnv("Countdown-v0", 2, 3, model.factors), "rc", targets=np.ones(2))


@pytest.mark.parametrize(
    "env_id, words",
    [("Nothing-v0", "Nothing"), ("no_package:Thing-v0", "no_package"), ("Endless-v0", "time limit"),
     ("CartPole-v1", "continuous 4"), ("FrozenLake-v1", "categorical 16"), ("Tuple-v0", "Tuple")],
)  # fmt: skip
def test_an_environment_that_does_not_fit_is_refused(env_id, words):
    with pytest.raises(ValueError, match=words) as error:
        GymEnv(env_id, 2, 0, FACTORS)
    assert "\n" not in str(error.value)


def collected(env_id, episodes, policy):
    """Episodes of an environment as D4RL would store them."""
    env, rng = gymnasium.make(env_id), np.random.default_rng(0)
    made = {name: [] for name in ("observations", "actions", "rewards", "terminals", "timeouts")}
    for episode in range(episodes):
        seen, over = env.reset(seed=episode)[0], False
        while not over:
            action = policy(seen, rng)
            after, reward, terminated, truncated, _ = env.step(action)
            for row, value in zip(made.values(), (seen, action, reward, terminated, truncated)):
                row.append(value)
            seen, over = after, terminated or truncated
    return {name: np.array(rows) for name, rows in made.items()}


WORLDS = {
    "CartPole-v1": (20, lambda seen, rng: int(seen[2] + seen[3] / 2 + rng.normal() / 2 > 0)),
    "Pendulum-v1": (3, lambda seen, rng: rng.uniform(-2, 2, 1).astype(np.float32)),
}


@pytest.mark.parametrize("env_id", WORLDS)
def test_imported_data_train_and_play_through_the_real_commands(env_id, run_warm, refused, tmp_path):
    write_hdf5(tmp_path / "some.hdf5", collected(env_id, *WORLDS[env_id]))
    process = run_warm("data.py", "import", "some.hdf5", "--min_length=10", "--out=new/some.npz", cwd=tmp_path)
    assert process.returncode == 0 and not process.stderr, process.stderr
    returns = Trajectories.load(tmp_path / "new" / "some.npz").values["return_to_go"][:, 0, 0]
    assert f"{returns.mean():.4g} on average, from {returns.min():.4g} to {returns.max():.4g}" in process.stdout
    config = os.path.join(os.path.dirname(data.__file__), "config", "d4rl_hopper.py")
    tiny = "--n_embd=16 --n_layer=1 --n_head=2 --n_ff=16 --context=5 --batch_size=20 --max_iters=40 --eval_sequences=50"
    process = run_warm("train.py", config, *tiny.split(), "--dataset=new/some.npz", "--out_dir=out", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    line = ("evaluate.py", "--out_dir=out", "--sequences=50", "--modes=bc,rc", "--rollouts=4")
    process = run_warm(*line, f"--env={env_id}", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    losses = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert np.isfinite([row["loss"] for row in losses.values()]).all() and "behavior_cloning" in losses
    played = json.loads((tmp_path / "out" / "rollouts.json").read_text())
    for mode in ("bc", "rc"):
        length, total = played[mode]["length"]["mean"], played[mode]["return"]["mean"]
        assert (
            (total == length and 8 <= length <= 500)
            if env_id == "CartPole-v1"
            else (length == 200 and -2000 < total < 0)
        )
    assert "--env" in refused(run_warm(*line, cwd=tmp_path))
    other = next(name for name in WORLDS if name != env_id)
    assert other in refused(run_warm(*line, f"--env={other}", cwd=tmp_path))
