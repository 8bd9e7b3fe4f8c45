"""Data of others come in whole or not at all, and train where they lie."""

import importlib.util
import os
import sys
import warnings
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import data
import importing
import worlds
from data import Factor, Trajectories

LENGTHS = (5, 3, 9, 1, 6)  # of the episodes below; the last one is unfinished
N, L, STEPS = len(LENGTHS), max(LENGTHS), sum(LENGTHS)
ENDS = np.cumsum(LENGTHS)


def arrays(**changes):
    """Five episodes in a row, as D4RL has them: the third by a timeout, the last has no end."""
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
    """Assert that factors hold these flat arrays (steps, ...), cut into episodes and padded."""
    assert imported.lengths.tolist() == list(lengths)
    ends = np.cumsum(lengths)
    for name, flat in expected.items():
        for values, end, length in zip(imported.values[name], ends, lengths):
            np.testing.assert_array_equal(values[:length], flat[end - length : end], err_msg=name)
            assert not values[length:].any()


# ---- readers -------------------------------------------------------------------------------------


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


def test_without_terminals_episodes_end_at_timeouts_only(tmp_path):
    ends = arrays()["terminals"] | arrays()["timeouts"]
    path = write_hdf5(tmp_path / "some.hdf5", arrays(terminals=None, timeouts=ends))
    assert importing.read(path).lengths.tolist() == list(LENGTHS)


def leading_out(how, path, h5py):
    """Make the observations of an HDF5 file something that others hold, or nobody."""
    layout = h5py.VirtualLayout((STEPS, 3), "f4")
    layout[:] = h5py.VirtualSource("other.hdf5", "observations", (STEPS, 3))
    with h5py.File(path, "a") as file:
        if how == "an external link":
            file["observations"] = h5py.ExternalLink("other.hdf5", "/observations")
        if how == "a circular link":
            file["observations"] = h5py.SoftLink("/observations")
        if how == "a group":
            file.create_group("observations")
        if how == "another file's bytes":
            raw = {"external": [("other.hdf5", 0, 12 * STEPS)]}
            file.create_dataset("observations", (STEPS, 3), "f4", **raw)
        if how == "a virtual dataset":
            file.create_virtual_dataset("observations", layout)
        if how == "more than all memory":
            options = {"dtype": "f4", "chunks": (1, 1000)}
            file.create_dataset("observations", (STEPS, 3 * 10**11), **options)


LEADING_OUT = {
    "an external link": "ExternalLink",
    "a circular link": "SoftLink",
    "a group": "group",
    "another file's bytes": "another file",
    "a virtual dataset": "another file",
    "more than all memory": "GiB",
}


@pytest.mark.parametrize("how", LEADING_OUT)
def test_hdf5_that_leads_out_of_its_file_is_refused(how, tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.chdir(tmp_path)
    write_hdf5("other.hdf5", arrays())
    leading_out(how, write_hdf5("bad.hdf5", arrays(observations=None)), h5py)
    with pytest.raises(ValueError, match=f"bad.hdf5: observations .*{LEADING_OUT[how]}"):
        importing.read("bad.hdf5")


def test_one_long_episode_among_many_short_ones_is_refused_before_it_is_padded(tmp_path):
    ends = np.append(5 * np.arange(1, 20_001), 400_000)
    many = {"observations": np.zeros((400_000, 2), "f4"), "actions": np.zeros(400_000, "i1")}
    path = write_plain(tmp_path / "long.npz", episode_ends=ends, rewards=np.ones(400_000), **many)
    with pytest.raises(ValueError, match="20001 episodes to the longest, of 300000 steps.*GiB"):
        importing.read(path)


def test_rewards_too_large_for_a_return_are_refused_by_that_name(tmp_path, recwarn):
    path = write_plain(tmp_path / "large.npz", rewards=np.full(STEPS, 1e38))
    with pytest.raises(ValueError, match="rewards add up to more than a float32"):
        importing.read(path)
    assert not recwarn.list


def test_no_file_is_overwritten_by_what_is_imported(run_warm, refused, tmp_path):
    """Neither the source, nor data that were imported before."""
    write_plain(tmp_path / "mine.npz")
    (tmp_path / "other.npz").write_bytes(b"dear to somebody")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for out in ("mine.npz", "./mine.npz", "other.npz"):
        line = ["--source=mine.npz", f"--out={out}"]
        assert "there already" in refused(run_warm("importing.py", *line, cwd=tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_returns_to_go_are_the_rewards_still_to_come(tmp_path):
    made = arrays()
    imported = importing.read(write_hdf5(tmp_path / "some.hdf5", made))
    for values, end, length in zip(imported.values["return_to_go"], ENDS, LENGTHS):
        for t in range(length):
            to_go = sum(
                made["rewards"][end - length + t : end][::-1].tolist()
            )  # from the end on, as it is accumulated
            assert values[t].tolist() == [np.float32(to_go), t]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32, bool])
@pytest.mark.parametrize("shape", [(STEPS,), (STEPS, 1)])
def test_one_integer_for_each_step_is_a_class(dtype, shape, tmp_path):
    actions = (np.arange(STEPS) % (2 if dtype is bool else 4)).astype(dtype)
    imported = importing.read(
        write_hdf5(tmp_path / "some.hdf5", arrays(actions=actions.reshape(shape)))
    )
    assert imported.factors[1] == Factor("action", "ACTION", "categorical", actions.max() + 1)
    check_episodes(imported, LENGTHS, action=actions)


def test_one_float_for_each_step_is_a_number(tmp_path):
    imported = importing.read(
        write_hdf5(tmp_path / "some.hdf5", arrays(actions=np.arange(STEPS) / 2))
    )
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
    imported = importing.read(
        write_plain(tmp_path / "some.npz", observations=None, room=room, place=place)
    )
    assert [(f.name, f.kind, f.size) for f in imported.factors[:2]] == [
        ("place", "continuous", 2),
        ("room", "categorical", 7),
    ]
    check_episodes(imported, LENGTHS, room=room, place=place.astype(np.float32))


def test_names_of_any_script_come_in(tmp_path):
    path = write_plain(tmp_path / "some.npz", observations=None, größe=np.arange(STEPS) / 2)
    importing.read(path).save(str(tmp_path / "out.npz"))
    loaded = Trajectories.load(str(tmp_path / "out.npz"))
    assert loaded.factors[0] == Factor("größe", "STATE", "continuous", 1)


def test_the_best_episodes_can_be_had_alone(run_warm, tmp_path):
    path = write_plain(tmp_path / "some.npz")
    line = ("importing.py", f"--source={path}", "--best=0.4", "--out=best.npz", "--shuffle=False")
    process = run_warm(*line, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    whole, best = importing.read(path), Trajectories.load(str(tmp_path / "best.npz"))
    earned = [data.values["return_to_go"][:, 0, 0].tolist() for data in (whole, best)]
    assert sorted(earned[1]) == sorted(earned[0])[-2:] and len(earned[1]) == 2
    assert best.valid().shape[1] == best.lengths.max() < whole.lengths.max()


def test_short_episodes_are_left_out_on_request(tmp_path):
    made = arrays()
    imported = importing.read(write_hdf5(tmp_path / "some.hdf5", made), min_length=5)
    kept = np.repeat(np.array(LENGTHS) >= 5, LENGTHS)
    check_episodes(
        imported, (5, 9, 6), observation=made["observations"][kept], action=made["actions"][kept]
    )


needs_minari = pytest.mark.skipif(
    importlib.util.find_spec("minari") is None, reason="minari is not installed"
)


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
        flags = {
            "terminations": [False] * n,
            "truncations": [False] * (n - 1) + [True],
            "infos": {},
        }
        states = {"observation": seen, "goal": -seen} if named else seen
        episode = EpisodeBuffer(
            observations=states,
            actions=rng.integers(0, 4, n),
            rewards=list(rng.normal(size=n)),
            **flags,
        )
        episodes.append(episode)
    observation = gymnasium.spaces.Dict(observation=box, goal=box) if named else box
    spaces = {"observation_space": observation, "action_space": gymnasium.spaces.Discrete(4)}
    with warnings.catch_warnings(action="ignore"):
        minari.create_dataset_from_buffers("toy/small-v0", episodes, **spaces)
    imported = importing.read("minari:toy/small-v0")
    state = lambda e: e.observations["observation"] if named else e.observations
    seen, actions = (
        np.concatenate([state(e)[:-1] for e in episodes]),
        np.concatenate([e.actions for e in episodes]),
    )
    check_episodes(
        imported, lengths, observation=seen, action=actions, **({"goal": -seen} if named else {})
    )
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


@pytest.mark.parametrize(
    "package, source", [("minari", "minari:some/data-v0"), ("h5py", "some.hdf5")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package, source, tmp_path, monkeypatch
):
    write_hdf5(tmp_path / "some.hdf5", arrays())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"pip install {package}"):
        importing.read(source)


# ---- the whole road ------------------------------------------------------------------------------


def pendulum(n=12):
    """Episodes of 3 to 9 steps of Pendulum-v1, whose actions go from -2 to 2, as flat arrays."""
    env = gymnasium.make("Pendulum-v1")
    env.action_space.seed(0)
    made = {"observations": [], "actions": [], "rewards": []}
    for episode in range(n):
        observation, _ = env.reset(seed=episode)
        for _ in range(3 + episode % 7):
            action = env.action_space.sample()
            after, reward, *_ = env.step(action)
            for name, x in zip(made, (observation, action, reward)):
                made[name].append(x)
            observation = after
    ends = np.cumsum([3 + episode % 7 for episode in range(n)])
    return {name: np.array(rows, np.float32) for name, rows in made.items()}, ends


def source_of(kind, folder):
    made, ends = pendulum()
    if kind == "npz":
        np.savez(folder / "some.npz", **made, episode_ends=ends)
        return "some.npz"
    if kind == "hdf5":
        flags = np.isin(np.arange(1, ends[-1] + 1), ends)
        return os.path.basename(write_hdf5(folder / "some.hdf5", made | {"timeouts": flags}))
    minari = pytest.importorskip("minari")
    from minari.data_collector import EpisodeBuffer

    episodes = []
    for first, end in zip([0, *ends[:-1]], ends):
        rows = {name: array[first:end] for name, array in made.items()}
        rows["observations"] = np.concatenate([rows["observations"], made["observations"][:1]])
        n = end - first
        flags = {"terminations": [False] * n, "truncations": [False] * (n - 1) + [True]}
        episodes.append(EpisodeBuffer(**rows | {"rewards": list(rows["rewards"])}, **flags))
    with warnings.catch_warnings(action="ignore"):
        scores = {"ref_min_score": -1600, "ref_max_score": -100}
        minari.create_dataset_from_buffers("toy/pendulum-v0", episodes, env="Pendulum-v1", **scores)
    return "minari:toy/pendulum-v0"


@pytest.mark.parametrize("kind", ["npz", "hdf5", "minari"])
def test_data_of_every_kind_become_a_policy_in_their_world(kind, run_warm, tmp_path, monkeypatch):
    """Of actions from -2 to 2, in episodes of which most are shorter than the context."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    small = "--n_layer=1 --n_embd=16 --n_head=2 --batch_size=16 --max_iters=3 --eval_sequences=20"
    task = "--task=random+behavior_cloning_states+reward_conditioned_states"
    lines = [
        f"importing.py --source={source_of(kind, tmp_path)} --out=out/some.npz",
        f"train.py --dataset=out/some.npz --num_trajectories=0 --context=9 {task} {small}",
        "evaluate.py --sequences=20",
        "rollout.py --env=Pendulum-v1 --modes=bc_states,rc_states --target_return=-200,-100"
        " --episodes=2 --ref_min=-1600 --ref_max=-100",
    ]
    for script, *flags in map(str.split, lines):
        process = run_warm(script, *flags, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        if script == "importing.py":
            named = "score with --ref_min=-1600 --ref_max=-100" in process.stdout
            assert named == (kind == "minari")
    assert process.stdout.count("score") == 3  # cloned, and asked for two returns
    action = Trajectories.load(str(tmp_path / "out" / "some.npz")).values["action"]
    assert 1.5 < np.abs(action).max() <= 2


# ---- refusals ------------------------------------------------------------------------------------


def put(name, value):
    array = arrays()[name]
    array[7] = value
    return {name: array}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"actions": None}, "actions"),
        ({"terminals": None, "timeouts": None}, "neither terminals nor timeouts"),
        ({"timeouts": np.zeros(3)}, "terminals and timeouts are of 24 and 3"),
        ({"rewards": np.zeros(STEPS - 1)}, "rewards.*23"),
        ({"rewards": np.zeros((STEPS, 2))}, "rewards"),
        ({"rewards": np.float64(3)}, "rewards"),
        ({"observations": np.zeros((STEPS, 4, 4, 3))}, "observation"),
        ({"actions": np.full(STEPS, b"left")}, "action"),
        ({"actions": np.arange(STEPS) - 1}, "action.* -1"),
        ({"actions": np.arange(STEPS) * 1000}, "23000"),
        (put("observations", np.nan), "observation.*step 7"),
        (put("actions", np.inf), "action.*step 7"),
        (put("rewards", -np.inf), "rewards.*step 7"),
        ({"observations": np.full((STEPS, 2), 1e300)}, "observation.*finite"),
        ({name: array[:0] for name, array in arrays().items()}, "no episodes"),
        ({name: None for name in arrays()}, "terminals"),
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
        ({"episode_ends": None}, "it has no episode_ends"),
        ({"rewards": None}, "it has no rewards"),
        ({"observations": None}, "no state"),
        ({"observations": np.zeros((STEPS + 1, 3))}, "observation.*25"),
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
    files = {"cut.hdf5": whole[:3000], "text.hdf5": b"hello", "empty.h5": b"", "text.npz": b"PK"}
    plain = open(write_plain(tmp_path / "plain.npz"), "rb").read()
    files["flipped.npz"] = plain[:700] + bytes([plain[700] ^ 1]) + plain[701:]
    files["longer.npz"] = plain.replace(f"({STEPS},)".encode(), f"({STEPS + 2},)".encode(), 1)
    files["some.csv"] = b"1,2"
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    toy_data.save(str(tmp_path / "trajectories.npz"))
    before = sorted(tmp_path.iterdir())
    refuse = lambda *flags: refused(run_warm("importing.py", *flags, cwd=tmp_path))
    for name in [*files, "trajectories.npz", "none.hdf5", "minari:no/data-v0"]:
        assert name in refuse(f"--source={name}", "--out=out.npz")
    assert "out.csv" in refuse("--source=whole.hdf5", "--out=out.csv")
    assert "out=''" in refuse("--source=whole.hdf5")
    assert "10" in refuse("--source=whole.hdf5", "--out=out.npz", "--min_length=10")
    assert "min_length=0" in refuse("--source=whole.hdf5", "--out=out.npz", "--min_length=0")
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_writes_a_file_or_a_folder_and_says_what_it_holds(run_warm, tmp_path):
    whole = importing.read(write_plain(tmp_path / "some.npz"), min_length=3)
    for out in ("new/mine.npz", "new/mine"):
        line = ("importing.py", "--source=some.npz", "--min_length=3", f"--out={out}")
        line += ("--shuffle=False",)
        process = run_warm(*line, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
        assert worlds.describe(whole) in process.stdout
        loaded = Trajectories.load(str(tmp_path / out))
        assert loaded.factors == whole.factors and (loaded.lengths == whole.lengths).all()
        assert all((array == whole.values[name]).all() for name, array in loaded.values.items())


# ---- data that stay on disk ----------------------------------------------------------------------


def test_training_leaves_a_folder_where_it_is(toy_data, tmp_path, recwarn):
    toy_data.save(str(tmp_path / "some"))
    files = [path for path in (tmp_path / "some").rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    for part in worlds.train_and_validation(str(tmp_path / "some"), 0, 0):
        for name, tensor in part.tensors().items():
            assert isinstance(part.values[name], np.memmap)
            assert tensor.data_ptr() == part.values[name].ctypes.data  # not a copy
            tensor.zero_()
    assert [path.read_bytes() for path in files] == before
    assert not recwarn.list


def test_statistics_ignore_padding(toy_data):
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
    text = worlds.describe(
        Trajectories([Factor("x", "STATE", "continuous", 1)], values, lengths=np.array([2, 3]))
    )
    assert "from 5 to 9" in text and "2 trajectories of 2 to 3 steps, 5 in all" in text


def test_a_learner_s_last_episodes_do_not_all_validate(run_warm, tmp_path):
    """They are its best. So the episodes are shuffled, always alike, and nothing of them is lost."""
    path = write_plain(tmp_path / "some.npz")
    for out in ("one.npz", "two.npz"):
        process = run_warm("importing.py", f"--source={path}", f"--out={out}", cwd=tmp_path)
        assert process.returncode == 0, process.stderr
    one, two = (Trajectories.load(str(tmp_path / f"{name}.npz")) for name in ("one", "two"))
    assert one.lengths.tolist() == two.lengths.tolist() != list(LENGTHS)
    assert sorted(one.lengths) == sorted(LENGTHS)
    order = [LENGTHS.index(length) for length in one.lengths]
    for name, array in importing.read(path)[order].values.items():
        np.testing.assert_array_equal(one.values[name], array)


def test_episodes_shorter_than_the_context_train_and_are_evaluated(run_warm, tmp_path):
    first = {name: array[:20] for name, array in arrays(terminals=None, timeouts=None).items()}
    source = write_plain(tmp_path / "some.npz", **first, episode_ends=np.array([8, 16, 20]))
    line = ("importing.py", f"--source={source}", "--out=short.npz", "--shuffle=False")
    process = run_warm(*line, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    line = ["train.py", "--dataset=short.npz", "--num_trajectories=1", "--out_dir=out"]
    line += ["--context=6", "--max_iters=2"]  # the last episode validates: it has 4 steps only
    for command in (line, ["evaluate.py", "--out_dir=out", "--sequences=20"]):
        process = run_warm(*command, cwd=tmp_path)
        assert process.returncode == 0, process.stderr


def test_nan_is_refused_unless_it_stands_for_what_is_unknown(tmp_path, run_warm, refused):
    actions = arrays()["actions"].copy()
    actions[:8] = np.nan  # two episodes of which there is a film only
    path = write_plain(tmp_path / "films.npz", actions=actions)
    line = ("importing.py", f"--source={path}", "--out=out.npz")
    assert "NaN" in refused(run_warm(*line, cwd=tmp_path)) and not (tmp_path / "out.npz").exists()
    process = run_warm(*line, "--nan_is_unknown=True", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert f"known in {STEPS - 8} steps" in process.stdout
    imported = importing.read(path, nan_is_unknown=True)
    assert [name for name in imported.values if "/" in name] == ["action/known"]
    known = imported.valid("action")
    assert known.sum(axis=1).tolist() == [0, 0, *LENGTHS[2:]]
    assert not imported.values["action"][~known].any()
    np.testing.assert_array_equal(imported.values["action"][known], actions[8:])


@needs_minari
@pytest.mark.parametrize(
    "observations, actions, words",
    [
        ((np.zeros((4, 2)), np.zeros((4, 2))), np.zeros((3, 1)), "observation is a tuple"),
        ({"arm": {"left": np.zeros((4, 2))}}, np.zeros((3, 1)), "arm is a dict"),
        (np.zeros((4, 2)), {"left": np.zeros((3, 1))}, "actions is a dict"),
    ],
)
def test_minari_spaces_in_spaces_are_refused_by_name(observations, actions, words, monkeypatch):
    import minari

    episode = SimpleNamespace(observations=observations, actions=actions, rewards=np.zeros(3))
    source = SimpleNamespace(iterate_episodes=lambda: [episode])
    monkeypatch.setattr(minari, "load_dataset", lambda name: source)
    with pytest.raises(ValueError, match=f"minari:some/data-v0: {words}"):
        importing.read("minari:some/data-v0")
