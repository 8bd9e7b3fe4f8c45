"""The studies of repro/: acting beside the exact posterior, and questions of no distribution."""

import json
import sys

import gymnasium
import numpy as np
import pytest
import small
import torch

import acting
import acting_maze2d
import bayes
import checkpoint
import doorkey
import generality
import maze2d
import pendulum
from data import Trajectories, normalise


@pytest.fixture
def network():
    config = dict(context=doorkey.LENGTH, return_weight=1.0)
    return small.build(config, doorkey.factors()).eval()


def test_acting_writes_what_each_agent_earns(tmp_path, monkeypatch, network):
    folder = tmp_path / "runs" / "minigrid_500" / "dream_s0"
    folder.mkdir(parents=True)
    plain = checkpoint.to_plain(network) | {"config": {}, "iter": 0}
    checkpoint.save(str(folder / "best.pt"), plain)
    settings = dict(agents="exact,dream", seeds="0", asked="2,6", episodes=20, planner="dream")
    settings |= dict(candidates="1,2", plans=5, runs=str(tmp_path / "runs"))
    settings |= dict(result=str(tmp_path / "act.json"), picture=str(tmp_path / "act.png"))
    for name, value in settings.items():
        monkeypatch.setattr(acting, name, value)
    acting.main()
    found = json.loads((tmp_path / "act.json").read_text())
    exact, model = (found["agents"][name] for name in ("exact", "dream"))
    assert list(exact) == list(model) and list(exact["asked"]) == ["2", "6"]
    for own in ("best_feasible_argmax", "best_feasible_sampled", "best", "best_sampled"):
        assert exact[own] == pytest.approx(found["optimum"]) and model[own] < found["optimum"]
    assert exact["asked"]["2"] == exact["asked_argmax"]["2"] == 2 != model["asked"]["2"]
    assert model["waypoint_argmax"] < exact["waypoint_argmax"] and exact["goal_argmax"] == 1
    assert 2.5 < found["demonstrator"] < 3.5
    assert list(found["plan"]["candidates"]) == ["1", "2"]
    assert (tmp_path / "act.png").stat().st_size > 10_000
    monkeypatch.setattr(acting, "agents", "exact")  # what the others had stays
    monkeypatch.setattr(acting, "planner", "")
    acting.main()
    assert json.loads((tmp_path / "act.json").read_text())["agents"]["dream"] == model


def test_acting_in_the_maze_writes_what_is_earned_and_how_near_a_place_is_reached(
    tmp_path, monkeypatch
):
    factors = maze2d.make_dataset(1, seed=0).factors
    config = dict(context=3, return_weight=1.0, head="gaussian")
    network = small.build(config, factors)
    folder = tmp_path / "runs" / "maze2d_medium" / "mine_s0"
    folder.mkdir(parents=True)
    trained = {"dataset": "maze2d-medium", "num_trajectories": 20, "data_seed": 0}
    plain = checkpoint.to_plain(network) | {"config": trained, "iter": 0}
    checkpoint.save(str(folder / "best.pt"), plain)
    settings = dict(agents="mine", asked="0,1", episodes=3, candidates="1,2", plans=2)
    settings |= dict(runs=str(tmp_path / "runs"))
    settings |= dict(result=str(tmp_path / "act.json"), picture=str(tmp_path / "act.png"))
    for name, value in settings.items():
        monkeypatch.setattr(acting_maze2d, name, value)
    monkeypatch.setattr(sys, "argv", ["acting_maze2d.py", "--agents=mine"])
    acting_maze2d.main()
    found = json.loads((tmp_path / "act.json").read_text())
    mine = found["agents"]["mine"]
    assert set(mine) == {"command", "obeyed", "reached", "planned", "best"}
    assert (
        mine["command"] == "python repro/acting_maze2d.py --agents=mine"
        and 0 < found["nearest"] < 10
    )
    assert mine["obeyed"]["first"]["0"] != mine["obeyed"]["first"]["1"]
    assert 0 < mine["reached"]["moved"] < 0.1 and mine["reached"]["goal"] != mine["reached"]["bc"]
    assert list(mine["planned"]) == ["1", "2"]
    assert (tmp_path / "act.png").stat().st_size > 10_000


def test_the_questions_of_generality_are_possible_and_hide_what_they_ask():
    asked = generality.questions()
    assert len(asked) * generality.EACH == 1000
    for family, (some, _, see, predict) in asked.items():
        assert len(some) == generality.EACH
        for name, mask in see.items():
            assert not (mask & predict[name]).any(), family
        assert torch.stack(list(predict.values())).any(0).any(dim=1).all(), "each row asks"
        nats = generality.per_question(bayes.surprisal(some, see), predict)
        assert nats.isfinite().all() and (nats >= 0).all()


def test_a_question_counts_the_mean_of_its_entries():
    entries = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, 3)}
    predict = {"a": torch.tensor([[1, 1, 0], [0, 0, 1]]).bool(), "b": torch.zeros(2, 3).bool()}
    predict["b"][1] = True
    assert generality.per_question(entries, predict).tolist() == [0.5, 6.0]


def test_generality_is_the_gap_over_all_seeds(tmp_path, monkeypatch, network):
    lines = [
        {"row": row, "seed": seed, "settings": {}} for row in ("mine", "other") for seed in (0, 1)
    ]
    (tmp_path / "study.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for seed in (0, 1):
        folder = tmp_path / "runs" / "study" / f"mine_s{seed}"
        folder.mkdir(parents=True)
        plain = checkpoint.to_plain(network) | {"config": {}, "iter": 0}
        checkpoint.save(str(folder / "best.pt"), plain)
    settings = dict(study="study", rows="mine", results=str(tmp_path), runs=str(tmp_path / "runs"))
    for name, value in settings.items():
        monkeypatch.setattr(generality, name, value)
    generality.main()
    found = json.loads((tmp_path / "generality.json").read_text())
    row = found["rows"]["mine"]
    assert row["seeds"] == 2 and row["std"] == 0 and 1 < row["gap"] < 10
    assert len(row["families"]) == len(found["limit"]) == 10


# ---- demonstrators who disagree ------------------------------------------------------------------


def test_of_three_demonstrators_one_swings_the_pendulum_up(tmp_path, monkeypatch):
    monkeypatch.setattr(pendulum, "demonstrations", 30)
    earned = pendulum.demonstrate(tmp_path / "data.npz")
    assert earned["expert"] > -300 and max(earned["random"], earned["down"]) < -600
    torques, classes = (
        Trajectories.load(str(tmp_path / f"{name}.npz")).values["action"]
        for name in ("data", "bins")
    )
    assert torques.shape == (30, 200, 1) and set(classes.flat) == set(range(pendulum.CLASSES))
    width = 4 / pendulum.CLASSES
    middle = (classes + 0.5) * width - 2
    assert np.abs(middle - torques[..., 0]).max() < width / 2 + 1e-6
    envs = [gymnasium.make(name) for name in (pendulum.ENV, pendulum.BINS)]
    for env in envs:
        env.reset(seed=0)
    after = [env.step(action)[0] for env, action in zip(envs, (middle[0, :1], classes[0, 0]))]
    np.testing.assert_allclose(*after, rtol=1e-5)
    # a model of theirs plays each mode, asked for a return where the mode asks for one
    monkeypatch.setattr(pendulum, "episodes", 3)
    for name in ("data", "bins"):
        train = normalise(Trajectories.load(str(tmp_path / f"{name}.npz")))
        network = small.build(dict(context=3), train.factors).eval()
        for mode in pendulum.MODES:
            assert -2500 < pendulum.play(network, train, mode, earned["expert"], False) < 0
