"""Checkpoints: a model comes back as it was saved; what is none of ours is refused, unopened."""

import itertools
import os
import pickle

import numpy as np
import pytest
import torch
from small import CONFIGS, FAMILIES, all_seen, build, identical, name_of, windows

import checkpoint
import worlds


def saved(folder, config, factors, name="best.pt", seed=0):
    network = build(config, factors, seed)
    checkpoint.save(folder / name, checkpoint.to_plain(network))
    return network


# every family, and one of each setting that a feature or a head depends on
SOME = FAMILIES + [CONFIGS[5]] + [c for c in CONFIGS if "head" in c or "tanh_actions" in c]


@pytest.mark.parametrize("config", SOME, ids=name_of)
def test_a_saved_model_comes_back_the_same(config, trajectories, tmp_path):
    network = saved(tmp_path, config, trajectories.factors)
    values, see = windows(trajectories), all_seen(trajectories)
    for path in (tmp_path, tmp_path / "best.pt", str(tmp_path)):
        loaded = checkpoint.load(path)
        assert not loaded.training
        assert loaded.factors == network.factors and loaded.config == network.config
        assert identical(loaded(values, see), network(values, see))


def test_checkpoints_hold_tensors_and_plain_data_only(toy_data, tmp_path):
    saved(tmp_path, {}, toy_data.factors)
    assert isinstance(torch.load(tmp_path / "best.pt", weights_only=True), dict)
    content = checkpoint.read(tmp_path)
    assert content.keys() == {"model_config", "factors", "weights"}


def test_the_best_checkpoint_of_a_folder_is_preferred(doorkey_data, tmp_path):
    last = saved(tmp_path, {}, doorkey_data.factors, "ckpt.pt", seed=1)
    same = lambda a, b: identical(a.state_dict(), b.state_dict())
    assert same(checkpoint.load(tmp_path), last)
    best = saved(tmp_path, {}, doorkey_data.factors, "best.pt", seed=2)
    assert same(checkpoint.load(tmp_path), best) and not same(best, last)
    assert same(checkpoint.load(tmp_path / "ckpt.pt"), last)


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "ckpt.pt"
    checkpoint.save(path, {"model_config": {}, "number": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write .*ckpt.pt: No space left"):
        checkpoint.save(path, {"model_config": {}, "number": 2})
    assert checkpoint.read(path)["number"] == 1 and list(tmp_path.iterdir()) == [path]


# ---- what is refused -----------------------------------------------------------------------------


class Payload:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def one_sentence(path, match):
    """Loading raises a ValueError that names the path, without a line break."""
    with pytest.raises(ValueError, match=match) as error:
        checkpoint.load(path)
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


def test_a_flipped_bit_in_the_weights_is_refused(doorkey_data, tmp_path):
    """torch.load() itself takes it as it is."""
    network = saved(tmp_path, {}, doorkey_data.factors)
    whole = (tmp_path / "best.pt").read_bytes()
    weights = network.blocks[0].mlp[0].weight.detach().numpy().tobytes()
    at = whole.index(weights) + 100
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    (tmp_path / "bad.pt").write_bytes(flipped)
    assert torch.load(tmp_path / "bad.pt", weights_only=True)
    one_sentence(tmp_path / "bad.pt", "not a whole checkpoint: the checksum")


@pytest.mark.parametrize(
    "content", [b"garbage", b"\x80\x02garbage", b"PK\x03\x04garbage", b"{}", bytes(1000)]
)
def test_garbage_is_refused(content, tmp_path):
    (tmp_path / "bad.pt").write_bytes(content)
    one_sentence(tmp_path / "bad.pt", "bad.pt")


@pytest.mark.parametrize("form", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_code_in_a_checkpoint_is_refused_and_not_run(form, tmp_path):
    form({"model_config": {}, "weights": Payload(tmp_path / "executed")}, tmp_path / "bad.pt")
    one_sentence(tmp_path / "bad.pt", "bad.pt")
    assert not (tmp_path / "executed").exists()


def configured(**changes):
    return lambda plain: plain | {"model_config": plain["model_config"] | changes}


def without(name):
    return lambda plain: {key: value for key, value in plain.items() if key != name}


OTHERS = {  # what is wrong: what it makes of a good checkpoint, and words of the refusal
    "a list": (lambda plain: [1, 2, 3], "train.py"),
    "no config": (without("model_config"), "train.py"),
    "no factors": (without("factors"), "factors"),
    "no weights": (without("weights"), "weights"),
    "another width": (configured(n_embd=32), "size mismatch"),
    "an unknown model": (configured(model_type="gpt"), "gpt.*unimask"),
    "an unknown setting": (configured(wings=2), "wings"),
    "a weight short": (
        lambda plain: plain | {"weights": dict(list(plain["weights"].items())[1:])},
        "embedding",
    ),
}


@pytest.mark.parametrize("wrong", OTHERS)
def test_checkpoints_that_are_not_ours_are_refused_by_what_is_wrong(wrong, doorkey_data, tmp_path):
    damage, words = OTHERS[wrong]
    torch.save(damage(checkpoint.to_plain(build({}, doorkey_data.factors))), tmp_path / "bad.pt")
    one_sentence(tmp_path / "bad.pt", words)


# ---- the folder of a run -------------------------------------------------------------------------


def test_a_folder_that_holds_a_run_is_claimed_by_no_other(tmp_path):
    checkpoint.claim(tmp_path / "new", overwrite=False)
    (tmp_path / "notes.txt").write_text("mine")
    checkpoint.claim(tmp_path, overwrite=False)
    for name in checkpoint.RUN:
        (tmp_path / name).write_text("")
        with pytest.raises(ValueError, match=f"another run \\({name}\\)"):
            checkpoint.claim(tmp_path, overwrite=False)
        checkpoint.claim(tmp_path, overwrite=True)
        (tmp_path / name).unlink()


def test_clearing_a_folder_removes_the_files_of_a_run_and_no_others(tmp_path):
    for name in [*checkpoint.RUN, "notes.txt"]:
        (tmp_path / name).write_text("")
    checkpoint.begin(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_saved_model_decides_its_shape_and_what_was_given_may_not_contradict(doorkey_data):
    plain = checkpoint.to_plain(build(dict(n_embd=16), doorkey_data.factors))
    config = {"n_embd": 128, "dropout": 0.5, "init_from": "finetune:a.pt"}
    shape = checkpoint.architecture(plain, config, given=set())
    assert shape["n_embd"] == 16 and "dropout" not in shape
    assert checkpoint.architecture(plain, config | {"n_embd": 16}, {"n_embd"}) == shape
    assert checkpoint.architecture(plain, config, {"dropout", "task"}) == shape
    with pytest.raises(ValueError, match="n_embd=128 contradicts .*a.pt, which has n_embd=16"):
        checkpoint.architecture(plain, config, {"n_embd"})


def test_a_run_goes_on_with_its_own_settings_only():
    before = {"out_dir": "a", "seed": 1, "max_iters": 10, "device": "cpu"}
    saved = {"config": before, "optimizer": {}, "iter": 10, "rows": [{"iter": 10}]}
    saved |= {"best": 0.0, "loss_sum": 0.0, "loss_count": 0}
    checkpoint.check_resumable(saved, before | {"out_dir": "b", "max_iters": 20, "device": "cuda"})
    with pytest.raises(ValueError, match="seed=2.*1"):
        checkpoint.check_resumable(saved, before | {"seed": 2})
    for part in saved.keys() - {"optimizer"}:  # which restore() looks into
        with pytest.raises(ValueError, match="resume a: .*no |a holds no"):
            checkpoint.check_resumable(saved | {part: "text"}, before)


def test_a_checkpoint_whose_parts_do_not_fit_cannot_go_on(doorkey_data):
    network = build({}, doorkey_data.factors)
    of = lambda network: torch.optim.AdamW(network.parameters())
    ours, theirs = of(network), of(build(dict(n_embd=32), doorkey_data.factors))
    for optimizer in (ours, theirs):
        for group in optimizer.param_groups:
            for p in group["params"]:
                optimizer.state[p] = {"exp_avg": torch.zeros_like(p), "step": torch.tensor(1.0)}
    saved = {"iter": 1, "rows": [{"iter": 1}], "best": 0.0, "loss_sum": 0.0, "loss_count": 0}
    good = saved | {"optimizer": ours.state_dict(), "weights": network.state_dict()}
    assert checkpoint.restore(good, of(network), network) == (1, [{"iter": 1}], 0.0, 0.0, 0)
    for state in ours.state.values():  # what another optimiser counts or keeps is its own affair
        state |= {"count": 3, "row": torch.zeros(5)}
    assert checkpoint.restore(good | {"optimizer": ours.state_dict()}, of(network), network)
    bad = [{"optimizer": theirs.state_dict()}, {"optimizer": {}}, {"optimizer": 3}, {"rows": [3]}]
    for changes in bad:
        with pytest.raises(ValueError, match="to resume is not whole: "):
            checkpoint.restore(good | changes, of(network), network)


def test_weights_that_are_not_finite_are_refused(doorkey_data, tmp_path):
    network = build({}, doorkey_data.factors)
    network.embedding[0].weight.data[0, 0] = torch.nan
    checkpoint.save(tmp_path / "best.pt", checkpoint.to_plain(network))
    one_sentence(tmp_path, "not finite")


def test_no_run_is_validated_by_what_its_start_was_trained_on():
    run = {"dataset": "doorkey", "data_seed": 0, "init_from": "finetune:there"}
    refused = []
    for theirs, ours in itertools.product((500, 1000, 1500), repeat=2):
        trained, _ = worlds.train_and_validation("doorkey", theirs, 0)
        _, validation = worlds.train_and_validation("doorkey", ours, 0)
        both = ([row.tobytes() for row in np.hstack(list(part.values.values()))]
                for part in (trained, validation))  # fmt: skip
        known, asked = set(next(both)), next(both)
        seen = sum(row in known for row in asked) / len(asked)  # some by chance: starts are few
        start = {"config": run | {"num_trajectories": theirs}}
        try:
            checkpoint.check_start(start, run | {"num_trajectories": ours})
            assert seen < 0.2
        except ValueError as error:
            assert seen > 0.4 and "there was trained on" in str(error)
            refused.append((theirs, ours))
        checkpoint.check_start(start, run | {"num_trajectories": ours, "data_seed": 1})
    assert refused == [(1500, 500), (1500, 1000)]
