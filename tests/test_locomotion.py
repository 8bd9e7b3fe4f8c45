"""The study of other people's data: how they are made, which are films, and its table."""

import json

import numpy as np
import pytest

import films
import importing
import locomotion
import worlds
from data import Trajectories


def test_a_learner_leaves_its_whole_life_and_its_best(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    import make_locomotion

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    few = {"env": "CartPole-v1", "name": "toy", "steps": 4000, "record": 2000, "alive": 0.0}
    for name, value in {**few, "noise": 2.0, "out": str(tmp_path)}.items():
        monkeypatch.setattr(make_locomotion, name, value)
    make_locomotion.main()
    found = json.loads((tmp_path / "toy.json").read_text())
    replay, expert = (importing.read(f"minari:toy/{kind}-v0") for kind in ("replay", "expert"))
    assert replay.lengths.sum() == found["replay"]["steps"] >= 2000
    assert expert.lengths.sum() == found["expert"]["steps"] >= 2000 // 6
    earned = replay.values["return_to_go"][:, 0, 0]
    assert found["replay"]["mean"] == pytest.approx(earned.mean(), abs=0.06)
    assert earned.min() < 20 < earned.max()  # bad days and good ones
    assert expert.values["return_to_go"][:, 0, 0].mean() > 2 * earned.mean()


def test_of_films_all_but_a_tenth_of_the_training_episodes_have_no_actions(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = {"observations": rng.normal(size=(250, 2)), "actions": rng.normal(size=(250, 1))}
    ends = 5 * np.arange(1, 51)
    np.savez(tmp_path / "some.npz", **arrays, rewards=np.ones(250), episode_ends=ends)
    importing.read(str(tmp_path / "some.npz")).save(str(tmp_path / "whole.npz"))
    for name, value in (("source", "whole.npz"), ("out", "films.npz")):
        monkeypatch.setattr(films, name, str(tmp_path / value))
    films.main()
    found = Trajectories.load(str(tmp_path / "films.npz"))
    train, validation = worlds.train_and_validation(str(tmp_path / "films.npz"), 0, 0)
    assert len(train) == 40 and validation.valid("action").all()
    assert train.valid("action").all(axis=1).tolist() == [True] * 4 + [False] * 36
    assert not train.values["action"][4:].any() and train.valid("observation").all()
    assert found.values["action"][:4].any() and found.values["action"][40:].any()


def test_the_table_has_mean_and_spread_over_seeds(tmp_path, monkeypatch):
    def line(row, seed, earned):
        played = {"return": {"mean": earned, "sem": 2.0}, "score": {"mean": earned / 10, "sem": 1}}
        results = {"best": {"rollouts": {"rc_states, asked for 30": played}}}
        minutes = {"training": 1.5, "evaluation": 0.5}
        return {"row": row, "seed": seed, "minutes": minutes, "results": results}

    lines = [line("one", 0, 10.0), line("one", 1, 14.0), line("dt", 0, 5.0)]
    text = "".join(json.dumps(x) + "\n" for x in lines)
    (tmp_path / "locomotion_hopper.jsonl").write_text(text)
    (tmp_path / "hopper.json").write_text(json.dumps({"env": "Hopper-v5"}))
    for name in ("results", "data"):
        monkeypatch.setattr(locomotion, name, str(tmp_path))
    locomotion.main()
    (tmp_path / "hopper.json").unlink()
    locomotion.main()  # what is known of the data stays
    found = json.loads((tmp_path / "locomotion.json").read_text())
    assert found["data"] == {"env": "Hopper-v5"} and found["minutes"] == 6
    two, one = (found["rows"][f"{row}, rc_states, asked for 30"] for row in ("one", "dt"))
    assert two == {"return": 12.0, "sem": 2.0, "score": 1.2, "seeds": 2, "minutes": 1.5}
    assert one["sem"] == 2.0 and one["seeds"] == 1
    assert "| 12 ± 2 | 1.2 | 2 | 1.5 |" in (tmp_path / "locomotion.md").read_text()
