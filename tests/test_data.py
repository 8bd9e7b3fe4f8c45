"""Data: files come back whole or not at all, windows never leave their trajectory, validation never trains."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import data
import doorkey
from data import Factor, Trajectories


def small(n=6, L=5, **changes):
    """n trajectories of L steps whose class and number tell trajectory and timestep apart."""
    factors = [Factor("room", "STATE", "categorical", n * L), Factor("speed", "ACTION", "continuous", 2)]
    place = np.arange(n * L).reshape(n, L)
    values = {"room": place, "speed": np.stack([place, -place], axis=-1).astype(np.float32)}
    return Trajectories(**dict(factors=factors, values=values, world="nowhere") | changes)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_saved_file_comes_back_the_same(toy_data, doorkey_data, tmp_path):
    for saved in (toy_data, doorkey_data):
        saved.save(tmp_path / "some.npz")
        loaded = Trajectories.load(tmp_path / "some.npz")
        assert loaded.factors == saved.factors and loaded.world == saved.world
        assert (loaded.lengths == saved.lengths).all() and loaded.values.keys() == saved.values.keys()
        for name, array in saved.values.items():
            assert loaded.values[name].dtype == array.dtype and (loaded.values[name] == array).all()
        assert loaded.extras.keys() == saved.extras.keys()
        assert all((loaded.extras[name] == array).all() for name, array in saved.extras.items())
    assert [path.name for path in tmp_path.iterdir()] == ["some.npz"]


def test_a_file_holds_no_pickles(toy_data, tmp_path):
    toy_data.save(tmp_path / "some.npz")
    with np.load(tmp_path / "some.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def one_sentence(path, match=None):
    with pytest.raises(ValueError, match=match) as error:
        Trajectories.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    one_sentence(tmp_path / "no.npz", "there is no data file")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(share, toy_data, tmp_path):
    toy_data.save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "part.npz").write_bytes(whole[: int(share * len(whole))])
    one_sentence(tmp_path / "part.npz")


@pytest.mark.parametrize("content", [b"garbage", b"PK\x03\x04garbage", bytes(1000), b"\x93NUMPY\x01\x00garbage"])
def test_garbage_is_refused(content, tmp_path):
    (tmp_path / "bad.npz").write_bytes(content)
    one_sentence(tmp_path / "bad.npz")


def test_other_numpy_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", observations=np.zeros((5, 3)))
    np.save(tmp_path / "other.npy", np.zeros((5, 3)))
    one_sentence(tmp_path / "other.npz")
    one_sentence(tmp_path / "other.npy")


def drop(name):
    return lambda arrays: [arrays.pop(key) for key in list(arrays) if key.split("/")[-1] == name]


def change(name, f):
    return lambda arrays: arrays.update({key: f(array) for key, array in arrays.items() if key.split("/")[-1] == name})


def put(value, at):
    def f(array):
        array[at] = value
        return array

    return f


@pytest.mark.parametrize(
    "damage, names",
    [
        (drop("room"), "room"),
        (drop("header"), "header"),
        (drop("lengths"), "lengths"),
        (change("header", lambda text: np.array("{not json")), None),
        (change("room", lambda array: array[:, :-1]), "room"),
        (change("room", lambda array: array[:-1]), "room"),
        (change("room", lambda array: array[..., None]), "room"),
        (change("room", lambda array: array + 0.5), "room"),
        (change("room", put(3, (0, 0))), "room"),
        (change("room", put(-1, (2, 1))), "room"),
        (change("room", lambda array: array.astype("U3")), None),
        (change("room", lambda array: array.astype(object)), None),
        (change("position", lambda array: array[..., :1]), "position"),
        (change("position", put(math.nan, (1, 2, 0))), "position"),
        (change("action", put(math.inf, (0, 0, 1))), "action"),
        (change("lengths", lambda array: array[:-1]), "lengths"),
        (change("lengths", put(13, 3)), "lengths"),
        (change("lengths", put(0, 3)), "lengths"),
        (change("lengths", put(-2, 3)), "lengths"),
        (change("start_velocity", lambda array: array[:-1]), "start_velocity"),
    ],
    ids=[
        "no room",
        "no header",
        "no lengths",
        "broken header",
        "short in time",
        "short in number",
        "an axis too many",
        "fractions for classes",
        "class too high",
        "class negative",
        "text for classes",
        "objects",
        "a dimension short",
        "NaN",
        "infinite",
        "lengths short",
        "length too long",
        "length 0",
        "length negative",
        "extras short",
    ],
)
def test_a_malformed_file_is_refused_by_the_name_of_what_is_wrong(damage, names, toy_data, tmp_path):
    toy_data.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = {name: file[name] for name in file.files}
    damage(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    one_sentence(tmp_path / "bad.npz", names)


@pytest.mark.parametrize(
    "factor",
    [
        Factor("room", "PLACE", "categorical", 30),
        Factor("room", "STATE", "ordinal", 30),
        Factor("room", "STATE", "categorical", 29),
    ],
    ids=["unknown group", "unknown kind", "too few classes"],
)
def test_a_factor_that_does_not_fit_its_values_is_refused(factor):
    good = small()
    with pytest.raises(ValueError, match="room"):
        small(factors=[factor, good.factors[1]])


def test_trajectories_need_factors_and_values():
    with pytest.raises(ValueError):
        Trajectories([], {})
    with pytest.raises(ValueError):
        small(n=0)


def test_a_subset_keeps_what_belongs_to_its_trajectories(toy_data):
    for rows in (slice(3, 9), np.array([5, 1, 1])):
        part = toy_data[rows]
        assert len(part) == len(part.lengths) == len(toy_data.lengths[rows])
        assert (part.lengths == toy_data.lengths[rows]).all()
        assert (part.values["room"] == toy_data.values["room"][rows]).all()
        assert (part.extras["start_velocity"] == toy_data.extras["start_velocity"][rows]).all()


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_windows_are_consecutive_steps_of_one_trajectory(generator):
    L, context = 9, 4
    made = small(7, L, lengths=np.array([9, 4, 5, 9, 6, 4, 8]))
    batch = data.sample_windows(made.tensors(), torch.as_tensor(made.lengths), 2000, context, generator)
    room, timestep = batch["room"], batch["timestep"]
    assert room.shape == timestep.shape == (2000, context) and batch["speed"].shape == (2000, context, 2)
    assert (room.diff(dim=1) == 1).all() and (room // L == room[:, :1] // L).all()
    assert torch.equal(timestep, room % L)
    assert torch.equal(batch["speed"], torch.stack([room, -room], dim=-1).float())
    last = torch.as_tensor(made.lengths)[room[:, 0] // L] - 1
    assert (timestep[:, -1] <= last).all()


def test_windows_are_uniform_over_trajectories_and_their_starts(generator):
    B, lengths, context = 60_000, [6, 4, 9], 4
    made = small(3, 9, lengths=np.array(lengths))
    batch = data.sample_windows(made.tensors(), torch.as_tensor(made.lengths), B, context, generator)
    starts = batch["room"][:, 0].bincount(minlength=27).view(3, 9) / B
    for row, length in zip(starts.tolist(), lengths):
        possible = length - context + 1
        probability = 1 / 3 / possible
        assert not any(row[possible:])
        assert all(abs(x - probability) < 5 * math.sqrt(probability / B) for x in row[:possible])


def test_windows_as_long_as_the_trajectories_are_the_trajectories(doorkey_data, generator):
    batch = data.sample_windows(doorkey_data.tensors(), torch.as_tensor(doorkey_data.lengths), 100, 10, generator)
    rows = {tuple(row) for row in doorkey_data.values["action"].tolist()}
    assert {tuple(row) for row in batch["action"].tolist()} == rows and (batch["timestep"] == torch.arange(10)).all()


def test_windows_depend_on_their_generator_alone(doorkey_data):
    draw = lambda seed: data.sample_windows(
        doorkey_data.tensors(), torch.as_tensor(doorkey_data.lengths), 20, 4, torch.Generator().manual_seed(seed)
    )
    torch.manual_seed(0)
    first = draw(1)
    torch.manual_seed(5)
    assert all(torch.equal(x, first[name]) for name, x in draw(1).items())
    assert not torch.equal(draw(2)["agent_pos"], first["agent_pos"])


@pytest.mark.parametrize("context", [0, -1, 11])
def test_a_context_that_does_not_fit_is_refused(context, doorkey_data):
    data.check_context(doorkey_data, 10)
    data.check_context(doorkey_data, 1)
    with pytest.raises(ValueError, match=f"{context}.*10"):
        data.check_context(doorkey_data, context)


def test_the_shortest_trajectory_limits_the_context():
    with pytest.raises(ValueError, match="4.*3"):
        data.check_context(small(lengths=np.array([5, 5, 3, 5, 5, 5])), 4)


# ---- training and validation -----------------------------------------------------------------------------------------


def test_the_first_trajectories_train_and_the_last_validate():
    everything = doorkey.make_dataset(2000, seed=3)
    for n in (50, 1000):
        train, validation = data.train_and_validation("doorkey", n, seed=3)
        assert len(train) == n and len(validation) == 1000
        for name, array in everything.values.items():
            assert (train.values[name] == array[:n]).all() and (validation.values[name] == array[1000:]).all()


def test_more_trajectories_of_a_world_leave_validation_disjoint():
    train, validation = data.train_and_validation("doorkey", 1500, seed=3)
    everything = doorkey.make_dataset(2500, seed=3)
    assert len(train) == 1500 and len(validation) == 1000
    assert (train.values["action"] == everything.values["action"][:1500]).all()
    assert (validation.values["action"] == everything.values["action"][1500:]).all()


@pytest.mark.parametrize("n", [1, 20, 27, 0])
def test_training_and_validation_of_a_file_are_disjoint(n, tmp_path):
    path = str(tmp_path / "some.npz")
    small(30).save(path)
    train, validation = data.train_and_validation(path, n, seed=0)
    assert train.values["room"].flatten().tolist() == list(range(5 * (n or 27)))
    assert validation.values["room"].flatten().tolist() == list(range(5 * 27, 5 * 30))


@pytest.mark.parametrize("n, match", [(28, "27.*28"), (-1, "-1")])
def test_more_trajectories_than_there_are_is_refused(n, match, tmp_path):
    small(30).save(tmp_path / "some.npz")
    with pytest.raises(ValueError, match=match):
        data.train_and_validation(str(tmp_path / "some.npz"), n, seed=0)


def test_a_single_trajectory_cannot_both_train_and_validate(tmp_path):
    small(1).save(tmp_path / "one.npz")
    with pytest.raises(ValueError, match="1 trajector"):
        data.train_and_validation(str(tmp_path / "one.npz"), 0, seed=0)


@pytest.mark.parametrize("name", ["dorkey", "", "some.csv", "maze2d-tiny"])
def test_an_unknown_data_set_is_refused(name):
    with pytest.raises(ValueError, match="doorkey"):
        data.train_and_validation(name, 10, seed=0)


def test_normalising_finds_mean_and_deviation_of_states_and_returns(toy_data):
    plain = replace(toy_data, factors=[replace(f, mean=(), std=()) for f in toy_data.factors], lengths=None)
    done = data.normalise(plain)
    position, room, action, returns = done.factors
    assert position.mean == pytest.approx(plain.values["position"].mean(axis=(0, 1)), rel=1e-5)
    assert position.std == pytest.approx(plain.values["position"].std(axis=(0, 1)), rel=1e-5)
    assert returns.mean == pytest.approx(plain.values["return_to_go"].mean(axis=(0, 1)), rel=1e-5)
    assert tuple(action.mean) == (0, 0) and tuple(action.std) == (1, 1)
    assert room == plain.factors[1]
    assert all((done.values[name] == plain.values[name]).all() for name in plain.values)


def test_a_constant_dimension_is_not_scaled():
    made = Trajectories([Factor("x", "STATE", "continuous", 2)], {"x": np.tile(np.float32([7, 1]), (4, 3, 1))})
    made.values["x"][..., 1] += np.arange(3, dtype=np.float32)
    factor = data.normalise(made).factors[0]
    assert (
        factor.mean == pytest.approx((7, 2)) and factor.std[0] == 1 and factor.std[1] == pytest.approx(math.sqrt(2 / 3))
    )


def test_padding_does_not_count_when_normalising():
    values = {"x": np.ones((4, 3, 1), dtype=np.float32)}
    values["x"][:, 1] = 3
    values["x"][:, 2] = 1e6  # padding
    made = Trajectories([Factor("x", "STATE", "continuous", 1)], values, lengths=np.full(4, 2))
    factor = data.normalise(made).factors[0]
    assert factor.mean == pytest.approx((2,)) and factor.std == pytest.approx((1,))


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_makes_and_describes_a_file(run, refused, tmp_path):
    made = run("data.py", "make", "doorkey", "--n=12", "--seed=4", "--out=some.npz", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    loaded, expected = Trajectories.load(tmp_path / "some.npz"), doorkey.make_dataset(12, seed=4)
    assert loaded.factors == expected.factors and loaded.world == "doorkey"
    assert all((loaded.values[name] == array).all() for name, array in expected.values.items())
    described = run("data.py", "info", "some.npz", cwd=tmp_path)
    assert described.returncode == 0 and "12 trajectories" in described.stdout and "agent_pos" in described.stdout
    assert "no.npz" in refused(run("data.py", "info", "no.npz", cwd=tmp_path))
