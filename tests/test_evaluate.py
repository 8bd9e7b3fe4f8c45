"""The real evaluate.py: which questions it asks, of which trajectories, and what it measures."""

import json

import numpy as np
import pytest
import torch
from runs import FAMILIES, TINY, good, same

import checkpoint
import doorkey
import evaluate
import masks
import traits
import worlds
from data import Factor, Trajectories


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluated")


@pytest.fixture(scope="module")
def train(run_warm, folder):
    """train("name", *flags): a tiny run in folder/name; does nothing if it is there."""

    def command(name, *flags):
        if not (folder / name).exists():
            good(run_warm("train.py", *TINY, f"--out_dir={name}", *flags, cwd=folder))
        return folder / name

    return command


@pytest.fixture(scope="module")
def measure(run_warm, folder):
    """measure("name", *flags): what evaluate.py writes of folder/name, and what it prints."""

    def command(name, *flags, out=None):
        process = good(run_warm("evaluate.py", f"--out_dir={name}", *flags, cwd=folder))
        path = folder / (out or f"{name}/eval.json")
        return json.loads(path.read_text()), process.stdout

    return command


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_task_has_its_loss_limit_and_gap(kind, train, measure):
    train(kind, *FAMILIES[kind])
    results, text = measure(kind, "--sequences=60")
    tasks = [task for task in masks.EIGHT if traits.can(kind, task)]
    trained = ["random"] if kind == "unimask" else ["dt_bc", "dt_rc"] if kind == "dt" else []
    assert list(results) == tasks + trained
    for task in tasks:
        row = results[task]
        assert task in text and row["loss"] > 0 and row["limit"] >= 0
        assert row["gap"] == pytest.approx(row["loss"] - row["limit"], abs=1e-6)
    for task in ("dt_bc", "dt_rc") if kind == "dt" else ():
        assert results[task]["limit"] is None  # it shows its answers: to others it is no question


def test_it_asks_the_tasks_it_is_told_of_the_data_it_is_told(train, measure):
    train("unimask", *FAMILIES["unimask"])
    asked = ["--sequences=40", "--tasks=past,span(2,5)"]
    val, again, test = (
        measure("unimask", *asked, f"--split={s}")[0] for s in ("val", "val", "test")
    )
    assert set(val) == {"past", "span(2,5)"} and val == again
    assert val["past"]["loss"] != test["past"]["loss"]
    assert test == measure("unimask", *asked)[0], "the test set is the default"


def test_tasks_that_a_short_context_has_no_room_for_are_left_out_and_named(
    train, measure, folder, toy_data
):
    toy_data.save(str(folder / "toy.npz"))
    train("short", "--dataset=toy.npz", "--context=1")
    (folder / "short").chmod(0o500)
    results, text = measure("short", "--sequences=20", "--out=short.json", out="short.json")
    (folder / "short").chmod(0o700)
    missing = {"goal_conditioned", "forward_dynamics", "backward_dynamics"}
    assert set(results) == {*masks.EIGHT, "random"} - missing
    assert all(f"{name} is left out: " in text for name in missing)
    assert not (folder / "short" / "eval.json").exists()


def test_the_settings_inside_a_checkpoint_are_the_ones_that_count(train, measure):
    out_dir = train("edited", "--data_seed=3")
    before = measure("edited", "--sequences=20")
    (out_dir / "config.json").write_text('{"dataset": "doorkey16", "data_seed": 4}')
    assert measure("edited", "--sequences=20") == before


def test_windows_of_longer_trajectories_have_no_limit(train, measure):
    train("short", "--context=6", "--max_iters=1")
    results, text = measure("short", "--sequences=20", "--tasks=past")
    assert results["past"]["limit"] is None and results["past"]["gap"] is None
    assert text.splitlines()[1].split()[2:4] == ["-", "-"]


def test_what_cannot_happen_in_its_world_is_named_and_not_a_limit_of_infinity():
    made = doorkey.make_dataset(20, seed=5)
    asked = evaluate.questions(made, ["forward_dynamics"], 200, doorkey.LENGTH, seed=0)
    assert evaluate.limits(made, asked)["forward_dynamics"]
    made.values["agent_pos"][3, -1] = (made.values["agent_pos"][3, -2] + 10) % 16  # it leaps
    asked = evaluate.questions(made, ["forward_dynamics"], 200, doorkey.LENGTH, seed=0)
    with pytest.raises(ValueError, match="cannot happen in the world doorkey"):
        evaluate.limits(made, asked)


def test_what_a_causal_model_cannot_see_is_no_part_of_its_limit():
    """The exact posterior takes the returns after the asked action; Decision-GPT has not seen them."""
    made = doorkey.make_dataset(20, seed=5)
    for returns, known in ("unchanged", True), ("all", False):
        asked = evaluate.questions(made, ["reward_conditioned"], 40, 10, seed=0, returns=returns)
        assert bool(evaluate.limits(made, asked, "dt")["reward_conditioned"]) == known
        assert evaluate.limits(made, asked)["reward_conditioned"]


# ---- a file of one's own ---------------------------------------------------------------------------


def walks(n, actions):
    """n trajectories of 6 steps in which everybody stands still and does what `actions` says."""
    factors = [
        Factor("place", "STATE", "categorical", 3),
        Factor("action", "ACTION", "categorical", 4),
    ]
    values = {"place": np.zeros((n, 6), dtype=np.int64)}
    return Trajectories(factors, values | {"action": np.repeat(actions[:, None], 6, axis=1)})


def test_the_test_set_of_a_file_neither_trained_nor_validated(train, measure, folder):
    """It alone does something else, which no model can have learned."""
    actions = np.zeros(50, dtype=np.int64)
    actions[40:45] = 1  # the tenth before the last
    walks(50, actions).save(str(folder / "walks.npz"))
    flags = "--dataset=walks.npz --num_trajectories=0 --context=6 --task=behavior_cloning "
    flags += "--max_iters=60 --learning_rate=1e-2"
    train("walks", *flags.split())
    asked = ["--sequences=50", "--tasks=behavior_cloning"]
    val, test = (measure("walks", *asked, f"--split={s}") for s in ("val", "test"))
    assert val[0]["behavior_cloning"]["loss"] < 0.1
    assert test[0]["behavior_cloning"]["loss"] > 2
    assert test[0]["behavior_cloning"]["limit"] is None


@pytest.mark.parametrize(
    "n, sizes", [(3, (1, 1, 1)), (50, (40, 5, 5)), (20010, (18010, 1000, 1000))]
)
def test_a_file_is_split_in_three(n, sizes, tmp_path):
    path = str(tmp_path / "some.npz")
    values = {"action": np.arange(n * 2).reshape(n, 2)}
    Trajectories([Factor("action", "ACTION", "categorical", 2 * n)], values).save(path)
    train, validation = worlds.train_and_validation(path, 0, 0)
    test = worlds.evaluation_set(path, 0, 0, "test")
    parts = [train, test, validation]
    assert tuple(len(part) for part in parts) == sizes
    together = np.concatenate([part.values["action"] for part in parts])
    assert np.array_equal(together, values["action"])  # in this order, and none of them twice
    again = worlds.evaluation_set(path, 1, 0, "val").values["action"]
    assert np.array_equal(again, validation.values["action"])


def test_the_test_set_of_a_world_is_of_another_seed():
    train, validation = worlds.train_and_validation("doorkey", 500, 0)
    test = worlds.evaluation_set("doorkey", 500, 0, "test")
    assert (len(train), len(validation), len(test)) == (500, 1000, 1000)
    same = worlds.make("doorkey", 1000, worlds.TEST_SEED).values["action"]
    assert np.array_equal(test.values["action"], same)
    assert not np.array_equal(same, validation.values["action"])


def test_no_seed_gives_the_test_set_to_training(run_warm, refused, tmp_path):
    """Its own is that of the data seed and a million: data seeds end there, and fresh ones too."""
    with pytest.raises(ValueError, match="data_seed=1000000 .* below 1000000"):
        worlds.train_and_validation("doorkey", 20, worlds.TEST_SEED)
    test = worlds.make("doorkey", 50, worlds.TEST_SEED + 3).values["action"]
    fresh = worlds.make("doorkey", 50, [worlds.TEST_SEED + 3, 0, 0]).values["action"]
    assert np.array_equal(test, fresh), "numbers that numpy takes for the same seed"
    flags = "--fresh=True", f"--seed={worlds.TEST_SEED + 3}", "--max_iters=1"
    assert "seed=1000003" in refused(run_warm("train.py", *flags, cwd=tmp_path))


# ---- questions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [["random"], worlds.WORLDS["maze2d-medium"].tasks])
def test_a_tasks_questions_depend_on_its_name_and_the_seed_alone(more, toy_data):
    """And they are those of all results: the seed and the place in the list that is the default."""
    tasks = [*masks.EIGHT, *more]
    together = evaluate.questions(toy_data, tasks, 40, 10, seed=5)
    for place, task in enumerate(tasks):
        alone = evaluate.questions(toy_data, [task], 40, 10, seed=5)[task]
        assert same(alone, together[task])
        generator = torch.Generator().manual_seed(5 + place)
        torch.rand(40, dtype=torch.float64, generator=generator)  # where the windows begin
        assert same(alone[1:], masks.draw(task, 40, 10, generator, balanced=True))


# ---- the head --------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["mean", "median", "gaussian"])
def test_a_model_is_measured_by_the_loss_of_its_own_head(head, train, measure, folder, toy_data):
    """Against losses written out with torch.distributions."""
    toy_data.save(str(folder / "toy.npz"))
    flags = f"--head={head} --dataset=toy.npz --num_trajectories=0 --context=5 --learning_rate=1e-2"
    network = checkpoint.load(train(head, *flags.split()))
    results, _ = measure(head, "--sequences=30", "--tasks=past", "--split=val")
    validation = worlds.evaluation_set(str(folder / "toy.npz"), 0, 0, "val")
    asked = evaluate.questions(validation, ["past"], 30, 5, evaluate.seed)
    values, see, predict = asked["past"]
    with torch.no_grad():
        outputs = network(values, see)
    for f in (f for f in network.predicted if f.kind == "continuous"):
        std = torch.tensor(f.std)
        y, truth = outputs[f.name] / std, values[f.name] / std
        if head == "gaussian":
            deviation = (outputs[f"{f.name}/log_variance"] / 2).exp() / std
            entries = -torch.distributions.Normal(y, deviation).log_prob(truth)
        else:
            entries = (y - truth).square() if head == "mean" else (y - truth).abs()
        mask = predict[..., ("STATE", "ACTION", "RETURN").index(f.group)]
        expected = entries.mean(dim=-1)[mask].mean().item()
        assert results["past"]["factors"][f.name]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("returns", ["unchanged", "with_state"])
def test_a_model_is_asked_with_the_returns_that_it_was_trained_with(returns, train, measure):
    name, task = f"returns_{returns}", "behavior_cloning_states"
    folder = train(name, f"--task={task}", f"--returns={returns}", "--eval_tasks=past")
    found, _ = measure(name, "--sequences=40", f"--tasks={task}", "--split=val")
    network, source = checkpoint.load(folder), worlds.source_of(checkpoint.settings(folder))
    validation = worlds.evaluation_set(*source, "val")
    asked = evaluate.questions(validation, [task], 40, 10, evaluate.seed, returns)
    shown = asked[task][1]
    assert torch.equal(
        shown[..., masks.RETURN], shown[..., masks.STATE] & (returns == "with_state")
    )
    assert same(found, evaluate.losses(network, asked, evaluate.limits(validation, asked)))


def test_asking_about_the_same_trajectories_again_makes_no_loss_more_certain():
    generator = torch.Generator().manual_seed(0)
    entries = {"a": torch.rand(50, 4, generator=generator)}
    predict = {"a": torch.rand(50, 4, generator=generator) < 0.5}
    _, loss, error = evaluate.pooled(entries, predict, torch.arange(50))
    assert evaluate.pooled(entries, predict, torch.zeros(50, dtype=torch.long))[2] is None
    again = [{"a": x["a"].repeat(3, 1)} for x in (entries, predict)]
    assert evaluate.pooled(*again, torch.arange(150) % 50)[1:] == pytest.approx((loss, error))
    assert evaluate.pooled(*again, torch.arange(150))[2] == pytest.approx(error / 3**0.5, rel=0.01)
