"""Data: files come back whole or not at all; windows stay within a trajectory, validation apart."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import checks
import data
import doorkey
import evaluate
import model
import worlds
from data import Factor, Trajectories


def small(n=6, L=5, **changes):
    """n trajectories of L steps whose class and number tell trajectory and timestep apart."""
    room = Factor("room", "STATE", "categorical", n * L)
    place = np.arange(n * L).reshape(n, L)
    values = {"room": place, "speed": np.stack([place, -place], axis=-1).astype(np.float32)}
    factors = [room, Factor("speed", "ACTION", "continuous", 2)]
    return Trajectories(**dict(factors=factors, values=values, world="nowhere") | changes)


# ---- files: an .npz, or a folder of .npy ---------------------------------------------------------


def arrays_of(path):
    """{name: array} of either form."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    names = {file: str(file.relative_to(path).with_suffix("")) for file in path.rglob("*.npy")}
    return {name: np.load(file) for file, name in names.items()}


def write(path, arrays):
    """What save() would write of these arrays, however wrong they are."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return
    for name, array in arrays.items():
        file = path / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, array)


FORMS = pytest.mark.parametrize("form", ["some.npz", "folder"])


@FORMS
def test_what_is_saved_comes_back_the_same(form, trajectories, tmp_path):
    saved = trajectories
    saved.save(str(tmp_path / form))
    loaded = Trajectories.load(str(tmp_path / form))
    assert loaded.factors == saved.factors and loaded.world == saved.world
    for ours, theirs in ((loaded.values, saved.values), (loaded.extras, saved.extras)):
        assert ours.keys() == theirs.keys()
        for name, array in theirs.items():
            assert ours[name].dtype == array.dtype and (ours[name] == array).all()
    assert (loaded.lengths == saved.lengths).all()
    assert [path.name for path in tmp_path.iterdir()] == [form]  # nothing unfinished is left


def test_a_folder_is_mapped_into_memory_and_never_written_to(toy_data, tmp_path):
    path = str(tmp_path / "folder")
    toy_data.save(path)
    loaded = Trajectories.load(path)
    assert all(isinstance(array, np.memmap) for array in loaded.values.values())
    for name, tensor in loaded.tensors().items():  # no copies on the way
        assert np.shares_memory(tensor.numpy(), loaded.values[name])
    tensor = loaded.tensors()["position"]
    tensor += 1
    assert (loaded.values["position"] == toy_data.values["position"] + 1).all()
    again = Trajectories.load(path)
    assert (again.values["position"] == toy_data.values["position"]).all()


def test_a_copy_of_a_folder_in_another_order_is_the_same(toy_data, tmp_path, monkeypatch):
    toy_data.save(tmp_path / "folder")
    listed, numbers = Path.rglob, []
    for back in (False, True):
        order = lambda path, what: sorted(listed(path, what), reverse=back)
        monkeypatch.setattr(Path, "rglob", order)
        numbers.append(worlds.fingerprint("folder", Trajectories.load(tmp_path / "folder")))
    assert numbers[0] == numbers[1]


def test_a_folder_that_is_there_already_is_not_replaced(toy_data, doorkey_data, tmp_path):
    path = tmp_path / "folder"
    toy_data.save(str(path))
    with pytest.raises(OSError, match="folder is there already"):
        doorkey_data.save(str(path))
    assert Trajectories.load(path).factors == toy_data.factors


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(toy_data, tmp_path, monkeypatch):
    path = tmp_path / "some.npz"
    toy_data.save(str(path))

    def full(stream, **arrays):
        stream.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="cannot write .*some.npz: No space left"):
        small().save(str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["some.npz"]
    assert Trajectories.load(path).factors == toy_data.factors


def test_files_hold_no_pickles(toy_data, tmp_path):
    for form in ("some.npz", "folder"):
        toy_data.save(str(tmp_path / form))
        assert all(array.dtype != object for array in arrays_of(tmp_path / form).values())


def one_sentence(path, match=None):
    with pytest.raises(ValueError, match=match) as error:
        Trajectories.load(str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    one_sentence(tmp_path / "no.npz", "there is no data file")
    one_sentence(tmp_path / "no_folder", "there is no data file")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(share, toy_data, tmp_path):
    toy_data.save(str(tmp_path / "whole.npz"))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "part.npz").write_bytes(whole[: int(share * len(whole))])
    one_sentence(tmp_path / "part.npz")
    toy_data.save(str(tmp_path / "folder"))
    part = tmp_path / "folder" / "values" / "room.npy"
    part.write_bytes(part.read_bytes()[: int(share * part.stat().st_size)])
    one_sentence(tmp_path / "folder")


@pytest.mark.parametrize(
    "content",
    [b"garbage", b"", b"PK\x03\x04garbage", bytes(1000), b"\x93NUMPY\x01\x00garbage"],
    ids=["text", "nothing", "a zip's beginning", "zeros", "an array's beginning"],
)
def test_garbage_is_refused(content, toy_data, tmp_path):
    (tmp_path / "bad.npz").write_bytes(content)
    one_sentence(tmp_path / "bad.npz")
    toy_data.save(str(tmp_path / "folder"))
    (tmp_path / "folder" / "lengths.npy").write_bytes(content)
    one_sentence(tmp_path / "folder")


def test_other_numpy_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", observations=np.zeros((5, 3)))
    np.save(tmp_path / "other.npy", np.zeros((5, 3)))
    (tmp_path / "empty_folder").mkdir()
    for name in ("other.npz", "other.npy", "empty_folder"):
        one_sentence(tmp_path / name)


def change(name, f):
    """A damage to the arrays of a file: one of them is replaced by what a function makes of it."""
    return lambda arrays: arrays.update({name: f(arrays[name])})


def drop(name):
    return lambda arrays: arrays.pop(name)


def put(at, value):
    def f(array):
        array = array.astype(np.result_type(array, type(value)))
        array[at] = value
        return array

    return f


def header(**changes):
    """A damage to the header: of its first factor, or of the whole where it has such a key."""

    def damage(arrays):
        plain = json.loads(str(arrays["header"]))
        for key, value in changes.items():
            (plain if key in plain else plain["factors"][0])[key] = value
        arrays["header"] = np.array(json.dumps(plain))

    return damage


def each(f):
    """A damage to all arrays but the header."""
    return lambda arrays: arrays.update({k: f(x) for k, x in arrays.items() if k != "header"})


RETURN = {"name": "room", "group": "RETURN", "kind": "categorical", "size": 3}
BAD = {  # what is wrong with a file: how a good one is damaged, and a word that the refusal holds
    "no factor": (drop("values/room"), "room"),
    "no header": (drop("header"), "header"),
    "no lengths": (drop("lengths"), "lengths"),
    "no trajectories": (each(lambda x: x[:0]), ""),
    "no timesteps": (change("values/room", lambda x: x[:, :0]), "room"),
    "short in time": (change("values/room", lambda x: x[:, :-1]), "room"),
    "short in number": (change("values/room", lambda x: x[:-1]), "room"),
    "transposed": (change("values/room", lambda x: x.T), "room"),
    "an axis too many": (change("values/room", lambda x: x[..., None]), "room"),
    "a dimension short": (change("values/action", lambda x: x[..., :1]), "action"),
    "fractions for classes": (change("values/room", lambda x: x / 2), "room"),
    "class too high": (change("values/room", put((0, 0), 3)), "room"),
    "class below 0": (change("values/room", put((2, 1), -1)), "room"),
    "class beyond int64": (change("values/room", lambda x: x + np.uint64(2**63)), "room"),
    "text for classes": (change("values/room", lambda x: x.astype("U3")), "room"),
    "objects": (change("values/room", lambda x: x.astype(object)), ""),
    "dates": (change("values/room", lambda x: x.astype("datetime64[s]")), "room"),
    "complex numbers": (change("values/position", lambda x: x * 1j), "position"),
    "NaN": (change("values/position", put((1, 2, 0), math.nan)), "position"),
    "infinite": (change("values/action", put((0, 0, 1), -math.inf)), "action"),
    "beyond float32": (change("values/position", lambda x: x.astype(float) * 1e300), "position"),
    "lengths short": (change("lengths", lambda x: x[:-1]), "lengths"),
    "lengths in a table": (change("lengths", lambda x: x[:, None]), "lengths"),
    "lengths in fractions": (change("lengths", lambda x: x + 0.5), "lengths"),
    "a single length": (change("lengths", lambda x: x[0]), "lengths"),
    "length too long": (change("lengths", put(3, 13)), "lengths"),
    "length 0": (change("lengths", put(3, 0)), "lengths"),
    "length below 0": (change("lengths", put(3, -2)), "lengths"),
    "extras short": (change("extras/start_velocity", lambda x: x[:-1]), "start_velocity"),
    "a header that is no JSON": (change("header", lambda x: np.array("{not json")), ""),
    "a header that is a list": (change("header", lambda x: np.array("[]")), ""),
    "a header of bytes": (change("header", lambda x: np.frombuffer(b"\xff\xfe{}", np.uint8)), ""),
    "no factors": (header(factors=[]), ""),
    "factors that are text": (header(factors="position"), ""),
    "an unknown key of a factor": (header(colour="red"), "colour"),
    "a size that is text": (header(size="2"), "position"),
    "a size of 0": (header(size=0), "position"),
    "statistics of another size": (header(mean=[0.0]), "position"),
    "a deviation of 0": (header(std=[1.0, 0.0]), "position"),
    "a deviation that is NaN": (header(std=[1.0, math.nan]), "position"),
    "a size below 0": (header(size=-2), "position"),
    "an unknown kind": (header(kind="ordinal"), "ordinal"),
    "an unknown group": (header(group="PLACE"), "PLACE"),
    "a factor twice": (header(name="action"), "action"),
    "a name that no query can hold": (header(name="my position"), "my position"),
    "a name that is no text": (header(name=3), "3"),
    "a name that windows use": (header(name="timestep"), "timestep"),
    "a world that is no text": (header(world=["doorkey"]), "doorkey"),
    "nothing to predict": (header(factors=[RETURN]), "STATE or ACTION"),
}


@FORMS
@pytest.mark.parametrize("damage", BAD)
def test_a_malformed_file_is_refused_by_the_name_of_what_is_wrong(damage, form, toy_data, tmp_path):
    toy_data.save(str(tmp_path / "good.npz"))
    arrays = arrays_of(tmp_path / "good.npz")
    damaging, word = BAD[damage]
    damaging(arrays)
    write(tmp_path / form, arrays)
    one_sentence(tmp_path / form, word or None)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float16, np.float64])
def test_numbers_of_other_types_are_taken_for_what_they_are(dtype, toy_data, tmp_path):
    name = "room" if np.issubdtype(dtype, np.integer) else "position"
    expected = toy_data.values[name].astype(dtype).astype(toy_data.values[name].dtype)
    for form in ("some.npz", "folder"):
        toy_data.save(str(tmp_path / "good.npz"))
        arrays = arrays_of(tmp_path / "good.npz")
        change(f"values/{name}", lambda x: x.astype(dtype))(arrays)
        write(tmp_path / form, arrays)
        loaded = Trajectories.load(str(tmp_path / form)).values[name]
        assert loaded.dtype == toy_data.values[name].dtype and (loaded == expected).all()


def test_a_deviation_of_0_is_refused_even_if_it_is_the_mean_itself():
    zeros = (0.0,)  # one object, as Python makes of equal literals
    factor = Factor("x", "STATE", "continuous", 1, zeros, zeros, (1.0,))
    with pytest.raises(ValueError, match="x needs statistics .* above 0"):
        Trajectories([factor], {"x": np.ones((3, 4, 1), np.float32)})


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
        velocity = toy_data.extras["start_velocity"][rows]
        assert (part.extras["start_velocity"] == velocity).all()


# ---- windows -------------------------------------------------------------------------------------


def draw(made, B, context, seed=0):
    """Windows of trajectories."""
    return data.Windows(made, context).draw(B, torch.Generator().manual_seed(seed))


def test_windows_are_consecutive_steps_of_one_trajectory():
    L, context = 9, 4
    made = small(7, L, lengths=np.array([9, 4, 5, 9, 6, 4, 8]))
    batch = draw(made, 2000, context)
    room, timestep = batch["room"], batch["timestep"]
    assert room.shape == timestep.shape == (2000, context)
    assert (room.diff(dim=1) == 1).all() and (room // L == room[:, :1] // L).all()
    assert torch.equal(timestep, room % L)
    assert torch.equal(batch["speed"], torch.stack([room, -room], dim=-1).float())
    last = torch.as_tensor(made.lengths)[room[:, 0] // L] - 1
    assert (timestep[:, -1] <= last).all()


def test_every_window_is_equally_likely_whatever_the_length_of_its_trajectory():
    B, context = 60_000, 4
    made = small(4, 40, lengths=np.array([6, 4, 40, 5]))
    counts = draw(made, B, context, seed=1)["room"][:, 0].bincount(minlength=160)
    possible = torch.arange(40) < torch.as_tensor(made.lengths)[:, None] - context + 1
    assert not counts.view(4, 40)[~possible].any()
    counts = counts.view(4, 40)[possible].double()  # 3 + 1 + 37 + 2 windows
    expected = B / 43
    statistic = ((counts - expected) ** 2 / expected).sum()
    p = torch.special.gammaincc(torch.tensor(42 / 2).double(), statistic / 2)  # chi-square
    assert len(counts) == 43 and 0.001 < p < 0.999


def test_windows_of_whole_trajectories_are_drawn_as_in_all_committed_results(doorkey_data):
    """Where each trajectory is one window, this is how they have been drawn from the first."""
    generator = torch.Generator().manual_seed(3)
    episode = torch.randint(len(doorkey_data), (500,), generator=generator)
    torch.rand(500, dtype=torch.float64, generator=generator)  # the start, which is 0
    after = torch.rand(1, generator=generator)
    ours = torch.Generator().manual_seed(3)
    batch = data.Windows(doorkey_data, 10).draw(500, ours)
    for name, tensor in doorkey_data.tensors().items():
        assert torch.equal(batch[name], tensor[episode])
    assert (batch["timestep"] == torch.arange(10)).all()
    assert torch.equal(torch.rand(1, generator=ours), after)  # what is drawn next is as it was


def test_windows_depend_on_their_generator_alone(doorkey_data):
    torch.manual_seed(0)
    first = draw(doorkey_data, 20, 4, seed=1)
    torch.manual_seed(5)
    again = draw(doorkey_data, 20, 4, seed=1)
    assert all(torch.equal(x, first[name]) for name, x in again.items())
    other = draw(doorkey_data, 20, 4, seed=2)
    assert not torch.equal(other["agent_pos"], first["agent_pos"])


def test_a_context_that_does_not_fit_is_refused(doorkey_data):
    of = lambda context: model.build(model.ModelConfig(context=context), doorkey_data.factors)
    checks.fit(of(1), doorkey_data, "doorkey")
    checks.fit(of(10), doorkey_data, "doorkey")
    with pytest.raises(ValueError, match="context=11.*10"):
        checks.fit(of(11), doorkey_data, "doorkey")


def unknown(trajectories, name, rows=slice(None)):
    """The same trajectories, of which some rows know nothing of a factor."""
    known = np.ones(trajectories.valid().shape, dtype=bool)
    known[rows] = False
    return replace(trajectories, values=trajectories.values | {f"{name}/known": known})


def test_a_task_of_which_the_training_data_know_nothing_is_refused(doorkey_data):
    network = model.build(model.ModelConfig(), doorkey_data.factors)
    weights = {f.name: 1.0 for f in doorkey_data.factors}
    checks.trainable(
        network, unknown(doorkey_data, "action", [0]), "past+behavior_cloning", weights
    )
    film = unknown(doorkey_data, "action")
    checks.trainable(network, film, "past", weights)
    for train, of in (film, weights), (doorkey_data, weights | {"action": 0.0}):
        with pytest.raises(ValueError, match="'behavior_cloning' asks for nothing that the train"):
            checks.trainable(network, train, "past+behavior_cloning", of)


def test_what_nobody_chose_and_the_data_do_not_know_is_left_out(doorkey_data, capsys):
    network = model.build(model.ModelConfig(), doorkey_data.factors)
    film = unknown(doorkey_data, "action")
    ask = lambda *tasks: evaluate.questions(film, tasks, 50, 10)
    found = checks.answerable(network, ask("past", "behavior_cloning"), chosen=False)
    assert list(found) == ["past"] and "behavior_cloning is left out" in capsys.readouterr().out
    for tasks, chosen in (("past", "behavior_cloning"), True), (("behavior_cloning",), False):
        with pytest.raises(ValueError, match="nothing that these data know"):
            checks.answerable(network, ask(*tasks), chosen)


def test_actions_are_squashed_where_all_that_count_are_within_1(doorkey_data, toy_data):
    of = lambda data: model.build(model.ModelConfig(tanh_actions=True), data.factors)
    checks.fit(of(doorkey_data), doorkey_data, "doorkey")  # of classes there is nothing to squash
    action = toy_data.values["action"].copy()
    action[~toy_data.valid()] = 7.0  # padding
    padded = replace(toy_data, values=toy_data.values | {"action": action})
    checks.fit(of(toy_data), padded, "toy.npz")
    action[0, 0] = 7.0
    with pytest.raises(ValueError, match="toy.npz has an action beyond"):
        checks.fit(of(toy_data), padded, "toy.npz")


def test_a_file_of_another_size_of_its_world_is_refused(tmp_path):
    replace(doorkey.make_dataset(4, seed=0, size=16), world="doorkey").save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"agent_pos \(16\).* not agent_pos \(196\)"):
        worlds.load(str(tmp_path / "a.npz"))


def test_an_episode_shorter_than_the_context_is_one_window_with_padding():
    made = small(3, 9, lengths=np.array([2, 9, 3]))
    batch = draw(made, 3000, 4)
    first, known = batch["room"][:, 0], batch["room/known"]
    assert set(first.tolist()) == {0, *range(9, 15), 18}
    length = torch.as_tensor(made.lengths)[first // 9, None]
    assert torch.equal(known, batch["timestep"] < length)
    assert torch.equal(known, batch["speed/known"])
    counts = first.bincount().double()[[0, *range(9, 15), 18]] / 3000
    assert (counts - 1 / 8).abs().max() < 0.03  # eight windows, each as likely
    assert "room/known" not in draw(small(), 5, 4)  # where nothing is padded, nothing is added


def test_what_the_data_do_not_know_is_told_by_windows_files_and_subsets(tmp_path):
    made = small(4, 6)
    made.values["speed/known"] = np.arange(24).reshape(4, 6) % 2 == 0
    for path in (str(tmp_path / "some.npz"), str(tmp_path / "some")):
        made.save(path)
        loaded = data.Trajectories.load(path)[1:]
        np.testing.assert_array_equal(loaded.values["speed/known"], made.values["speed/known"][1:])
        np.testing.assert_array_equal(loaded.valid("speed"), made.values["speed/known"][1:])
        assert loaded.valid("room").all()
    batch = draw(made, 50, 3)
    assert torch.equal(batch["speed/known"], batch["room"] % 2 == 0) and batch["room/known"].all()


@pytest.mark.parametrize("known", [np.ones((4, 5), bool), np.ones((4, 6))])
def test_what_is_known_has_the_shape_of_the_data(known):
    made = small(4, 6)
    with pytest.raises(ValueError, match="speed/known is .*not bool .4, 6"):
        replace(made, values=made.values | {"speed/known": known})


@pytest.mark.parametrize("name", ["Speed/known", "space/known"])
def test_what_is_known_is_of_a_factor(name):
    made = small(4, 6)
    with pytest.raises(ValueError, match=name):
        replace(made, values=made.values | {name: np.ones((4, 6), dtype=bool)})
    with pytest.raises(ValueError, match="speed"):
        replace(made, values={"room": made.values["room"]})


def test_sizes_and_lengths_may_come_as_numpy_or_lists_give_them():
    made = small(4, 6, lengths=[6, 5, 4, 6])
    room = Factor("room", "STATE", "categorical", made.values["room"].max() + 1)
    assert room == made.factors[0] and type(room.size) is int
    assert made.lengths.tolist() == [6, 5, 4, 6] and made.valid().sum() == 21
    lengths = np.array([2, 5, 4, 6], dtype=np.uint8)  # 2 - 5 + 1 would be 254
    assert data.Windows(replace(made, lengths=lengths), 5).count == 1 + 1 + 1 + 2


# ---- statistics ----------------------------------------------------------------------------------


def test_normalising_finds_mean_and_deviation_of_states_and_returns(toy_data):
    plain = [replace(f, mean=(), std=(), step_std=()) for f in toy_data.factors]
    done = data.normalise(replace(toy_data, factors=plain, lengths=None))
    position, room, action, returns = done.factors
    for factor in (position, action, returns):
        values = toy_data.values[factor.name].astype(float)
        assert factor.mean == pytest.approx(values.mean(axis=(0, 1)), rel=1e-5)
        assert factor.std == pytest.approx(values.std(axis=(0, 1)), rel=1e-5)
        assert factor.step_std == pytest.approx(np.diff(values, axis=1).std(axis=(0, 1)), rel=1e-5)
    assert room == toy_data.factors[1]
    assert all((done.values[name] == array).all() for name, array in toy_data.values.items())


def test_actions_of_a_world_stay_as_they_are_unless_they_leave_minus_one_to_one(toy_data):
    """All results in Maze2D were made so. Those of other data have any scale."""
    plain = [replace(f, mean=(), std=(), step_std=()) for f in toy_data.factors]
    action = data.normalise(replace(toy_data, factors=plain, world="maze2d-medium")).factors[2]
    assert action.mean == (0, 0) and action.std == action.step_std == (1, 1)
    forces = 20 * toy_data.values["action"]
    values = toy_data.values | {"action": forces}
    action = data.normalise(replace(toy_data, factors=plain, values=values, world="cart")).factors[
        2
    ]
    assert action.std == pytest.approx(forces[toy_data.valid()].astype(float).std(axis=0), rel=1e-5)


def test_statistics_are_of_what_is_known(toy_data):
    known = np.random.default_rng(0).random(toy_data.valid().shape) < 0.5
    plain = [replace(f, mean=(), std=(), step_std=()) for f in toy_data.factors]
    values = toy_data.values | {"action/known": known}
    made = replace(toy_data, factors=plain, values=values)
    there = toy_data.values["action"][known & toy_data.valid()].astype(float)
    found = data.normalise(made).factors[2]
    assert found.mean == pytest.approx(there.mean(axis=0), rel=1e-5)
    assert found.std == pytest.approx(there.std(axis=0), rel=1e-5)
    nothing = data.normalise(
        replace(made, values=values | {"action/known": known & False})
    ).factors[2]
    assert nothing.mean == (0, 0) and nothing.std == nothing.step_std == (1, 1)


def test_a_constant_dimension_is_not_scaled():
    x = np.tile(np.float32([7, 1]), (4, 3, 1))
    x[..., 1] += np.arange(3)
    made = Trajectories([Factor("x", "STATE", "continuous", 2)], {"x": x})
    [factor] = data.normalise(made).factors
    assert factor.mean == pytest.approx((7, 2))
    assert factor.std == pytest.approx((1, math.sqrt(2 / 3))) and factor.step_std == (1, 1)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_what_is_constant_does_not_depend_on_the_unit(size):
    x = np.float32([[1.0, 1.0, 5.0], [1.0, 1.1, 5.0], [1.0, 1.2, np.nextafter(np.float32(5), 6)]])
    made = Trajectories(
        [Factor("x", "STATE", "continuous", 3)], {"x": np.float32(size) * x[:, None]}
    )
    [factor] = data.normalise(made).factors
    assert factor.std == pytest.approx((1, math.sqrt(2 / 3) * 0.1 * size, 1), rel=1e-5)


def test_padding_does_not_count_when_normalising():
    x = np.ones((4, 4, 1), dtype=np.float32)
    x[::2, 1], x[1::2, 1] = 3, 5
    x[:, 2:] = 1e6  # padding
    made = Trajectories([Factor("x", "STATE", "continuous", 1)], {"x": x}, lengths=np.full(4, 2))
    [factor] = data.normalise(made).factors
    assert factor.mean == pytest.approx((2.5,)) and factor.std == pytest.approx((math.sqrt(2.75),))
    assert factor.step_std == pytest.approx((1,))  # of the steps 2 and 4


def test_statistics_of_very_large_data_are_those_of_a_part(toy_data, monkeypatch):
    monkeypatch.setattr(data, "LARGE", 200)  # instead of 2 ** 24
    values = {"position": toy_data.values["position"]}
    plain = replace(toy_data, factors=[Factor("position", "STATE", "continuous", 2)], values=values)
    some = plain[:: 1 + plain.values["position"].size // 200]
    assert 5 < len(some) < len(plain)
    found = data.normalise(plain).factors
    assert found != toy_data.factors[:1]
    monkeypatch.undo()
    assert found == data.normalise(some).factors


# ---- training and validation ---------------------------------------------------------------------


@pytest.mark.parametrize("n", [50, 1000, 1500])
def test_the_first_trajectories_of_a_world_train_and_its_last_validate(n):
    """More than 1,000 leave validation disjoint: more are made."""
    everything = doorkey.make_dataset(max(2000, n + 1000), seed=3).values
    train, validation = worlds.train_and_validation("doorkey", n, seed=3)
    assert len(train) == n and len(validation) == 1000
    for name, array in everything.items():
        assert (train.values[name] == array[:n]).all()
        assert (validation.values[name] == array[-1000:]).all()


@pytest.mark.parametrize("n, match", [(25, "24.*25"), (-1, "-1")])
def test_more_trajectories_than_there_are_is_refused(n, match, tmp_path):
    path = str(tmp_path / "some.npz")
    small(30).save(path)
    assert len(worlds.train_and_validation(path, 24, seed=0)[0]) == 24
    with pytest.raises(ValueError, match=match):
        worlds.train_and_validation(path, n, seed=0)


@pytest.mark.parametrize("n", [1, 2])
def test_two_trajectories_cannot_train_validate_and_test(n, tmp_path):
    small(n).save(str(tmp_path / "few.npz"))
    with pytest.raises(ValueError, match=f"{n} trajectories"):
        worlds.train_and_validation(str(tmp_path / "few.npz"), 0, seed=0)


@pytest.mark.parametrize("name", ["dorkey", "", "some.csv", "maze2d-tiny"])
def test_an_unknown_data_set_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match="doorkey"):
        worlds.train_and_validation(name, 10, seed=0)
