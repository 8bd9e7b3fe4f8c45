"""Checkpoints: a model comes back as it was saved, and what is no checkpoint of ours is refused, unopened."""

import os
import pickle

import pytest
import torch
from small import CONFIGS, CONTEXT, FAMILIES, build, identical, name_of, windows

import masks
import model as models


def saved(folder, config, factors, name="best.pt", seed=0):
    network = build(config, factors, seed)
    torch.save(models.to_plain(network), os.path.join(folder, name))
    return network


@pytest.mark.parametrize("config", FAMILIES + [CONFIGS[5], CONFIGS[-2]], ids=name_of)
def test_a_saved_model_comes_back_the_same(config, trajectories, tmp_path, generator):
    network = saved(tmp_path, config, trajectories.factors)
    values = windows(trajectories)
    task = "behavior_cloning" if config["model"] == "dt" else "random"
    see, _ = masks.draw(task, len(trajectories), CONTEXT, generator)
    for path in (tmp_path, tmp_path / "best.pt", str(tmp_path)):
        loaded = models.load(path)
        assert not loaded.training
        assert loaded.factors == network.factors and loaded.config == network.config
        assert identical(loaded(values, see), network(values, see))


def test_checkpoints_hold_tensors_and_plain_data_only(toy_data, tmp_path):
    saved(tmp_path, {}, toy_data.factors)
    assert isinstance(torch.load(tmp_path / "best.pt", weights_only=True), dict)


def test_the_best_checkpoint_of_a_folder_is_preferred(doorkey_data, tmp_path):
    last = saved(tmp_path, {}, doorkey_data.factors, "ckpt.pt", seed=1)
    same = lambda a, b: identical(a.state_dict(), b.state_dict())
    assert same(models.load(tmp_path), last)
    best = saved(tmp_path, {}, doorkey_data.factors, "best.pt", seed=2)
    assert same(models.load(tmp_path), best) and not same(best, last)
    assert same(models.load(tmp_path / "ckpt.pt"), last)


class Payload:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def one_sentence(path, match):
    """Loading raises a ValueError that names the path, without a line break."""
    with pytest.raises(ValueError, match=match) as error:
        models.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_checkpoints_are_refused(tmp_path):
    one_sentence(tmp_path / "no.pt", "there is no checkpoint")
    one_sentence(tmp_path, "there is no checkpoint")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_checkpoints_are_refused(share, doorkey_data, tmp_path):
    saved(tmp_path, {}, doorkey_data.factors)
    whole = (tmp_path / "best.pt").read_bytes()
    (tmp_path / "part.pt").write_bytes(whole[: int(share * len(whole))])
    one_sentence(tmp_path / "part.pt", "not a whole checkpoint")


@pytest.mark.parametrize("content", [b"garbage", b"\x80\x02garbage", b"PK\x03\x04garbage", b"{}", bytes(1000)])
def test_garbage_is_refused(content, tmp_path):
    (tmp_path / "bad.pt").write_bytes(content)
    one_sentence(tmp_path / "bad.pt", "bad.pt")


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_refused_and_not_run(save, tmp_path):
    save({"model_config": {}, "weights": Payload(tmp_path / "executed")}, tmp_path / "bad.pt")
    one_sentence(tmp_path / "bad.pt", "bad.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: [1, 2, 3],
        lambda plain: {"weights": plain["weights"]},
        lambda plain: {key: value for key, value in plain.items() if key != "factors"},
        lambda plain: {key: value for key, value in plain.items() if key != "weights"},
        lambda plain: plain | {"model_config": plain["model_config"] | {"n_embd": 32}},
        lambda plain: plain | {"model_config": plain["model_config"] | {"model": "gpt"}},
        lambda plain: plain | {"model_config": plain["model_config"] | {"wings": 2}},
        lambda plain: plain | {"weights": dict(list(plain["weights"].items())[1:])},
    ],
    ids=[
        "a list",
        "no config",
        "no factors",
        "no weights",
        "another width",
        "unknown model",
        "unknown setting",
        "a weight short",
    ],
)
def test_checkpoints_that_are_not_ours_are_refused(damage, doorkey_data, tmp_path):
    torch.save(damage(models.to_plain(build({}, doorkey_data.factors))), tmp_path / "bad.pt")
    one_sentence(tmp_path / "bad.pt", "bad.pt")
