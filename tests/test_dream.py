"""Dreams: who is asked what, where a dream comes from, what is refused, and training on dreams."""

import configurator

import ast
import io
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import small
import torch
from conftest import ROOT
from runs import MODEL, TINY, good, read_log, same, saved

import checkpoint
import doorkey
import dream
import evaluate
import masks
import model
import run as study
import traits
import worlds
from data import Factor, Trajectories

CELL = Factor("cell", "STATE", "categorical", 64)
MOVE = Factor("move", "ACTION", "categorical", 3)
WORTH = Factor("worth", "RETURN", "categorical", 5)
PLACE = Factor("place", "STATE", "continuous", 2)
PUSH = Factor("push", "ACTION", "continuous", 2)


class Stub(torch.nn.Module):
    """A network that answers what a function of (values, at) says, and notes what it was shown."""

    def __init__(self, say, factors=(CELL, MOVE, WORTH), context=10):
        super().__init__()
        self.config, self.factors = SimpleNamespace(context=context), list(factors)
        self.say, self.calls, self.nothing = say, [], torch.nn.Parameter(torch.zeros(1))

    def forward(self, values, see, at=None):
        copies = ({name: x.clone() for name, x in part.items()} for part in (values, see))
        self.calls.append((*copies, at))
        return self.say(values, at)


def says(f, probabilities=None):
    """An answer for Stub: always these probabilities of a factor's classes, by default equal."""
    shares = torch.ones(f.size) if probabilities is None else torch.tensor(probabilities)

    def say(values, at):
        B, T = values["timestep"].shape
        return {f.name: shares.log().expand(B, T if at is None else 1, f.size)}

    return say


def team(**networks):
    """The networks that dream() takes: any that are not given answer anything."""
    answers = {"policy": says(MOVE), "dynamics": says(CELL), "returns": says(WORTH)}
    return {name: [Stub(say)] for name, say in answers.items()} | networks


def starts(n):
    """Start states by which the trajectories can be told apart."""
    return {"cell": torch.arange(n) % CELL.size}


def chi_square(counts, expected):
    counts, expected = torch.as_tensor(counts).double(), torch.as_tensor(expected).double()
    return ((counts - expected).square() / expected).sum().item()


# --------------------------------------------------------------------------------------------------
# What each network is asked


def shown_when_asked_for(task, T, at):
    """(T, 3) what a task shows of a window of T when it asks for the timestep `at`."""
    see, predict = masks.draw(task, 2 * T, T, torch.Generator().manual_seed(0), balanced=True)
    return see[predict[:, at].any(dim=-1)][0]


def check_calls(network, task, times, length, made):
    """Assert that a network was asked for each of these timesteps as its task would ask."""
    assert len(network.calls) == len(times)
    T = min(network.config.context, length)
    for t, (values, see, at) in zip(times, network.calls):
        latest = min(t + 1, length - 1) if task == "return_backup" else t
        first = max(0, latest - T + 1)
        assert (at == t - first).all()
        assert (values["timestep"] == first + torch.arange(T)).all()
        expected = masks.expand(shown_when_asked_for(task, T, t - first), network.factors)
        for name, shown in see.items():
            assert (shown == expected[name]).all(), (t, name)
            window = made[name][:, first : first + T]  # what is shown is what was dreamt
            assert torch.equal(values[name][shown], window[shown]), (t, name)


@pytest.mark.parametrize(
    "length, contexts", [(6, (6, 6, 6)), (7, (4, 3, 5)), (9, (2, 2, 2)), (5, (5, 8, 30))]
)
def test_networks_are_asked_as_in_their_training(length, contexts, generator):
    """Behaviour cloning at each timestep, forward dynamics at the next, then returns backwards.

    Windows slide where trajectories are longer than the context of a network.
    """
    answers = zip((MOVE, CELL, WORTH), contexts)
    networks = [Stub(says(f), context=context) for f, context in answers]
    roles = dict(zip(("policy", "dynamics", "returns"), ([x] for x in networks)))
    made = dream.dream(roles, starts(13), length, generator)
    assert {name: x.shape for name, x in made.items()} == dict.fromkeys(made, (13, length))
    assert torch.equal(made["cell"][:, 0], starts(13)["cell"])
    check_calls(networks[0], "behavior_cloning", range(length), length, made)
    check_calls(networks[1], "forward_dynamics", range(1, length), length, made)
    check_calls(networks[2], "return_backup", range(length - 1, -1, -1), length, made)


def test_batches_are_answered_at_once(generator):
    """The number of forward passes follows from that of timesteps, and of chunks, alone."""
    for n in (1, 40, evaluate.CHUNK, 2 * evaluate.CHUNK + 1):
        networks = team(returns=[Stub(says(WORTH))])
        dream.dream(networks, starts(n), 6, generator)
        passes = [len(network.calls) for (network,) in networks.values()]
        chunks = -(-n // evaluate.CHUNK)
        assert passes == [6 * chunks, 5 * chunks, 6 * chunks]


def test_several_networks_share_the_rows_anew_at_each_timestep(generator):
    policies = [Stub(says(MOVE)) for _ in range(3)]
    dream.dream(team(policy=policies), starts(64), 5, generator)
    shares = []
    for t in range(5):
        rows = [set(network.calls[t][0]["cell"][:, 0].tolist()) for network in policies]
        assert sorted(map(len, rows)) == [21, 21, 22] and set.union(*rows) == set(range(64))
        shares.append(frozenset(rows[0]))
    assert len(set(shares)) == 5


def test_to_draw_lots_is_to_average(generator):
    """Two that disagree, of actions and of states: each draw is from the mean of the two."""
    left, right = [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]
    low, high = (torch.zeros(CELL.size) for _ in range(2))
    low[:2], high[:2] = torch.tensor([0.9, 0.1]), torch.tensor([0.3, 0.7])
    policies = [Stub(says(MOVE, shares)) for shares in (left, right)]
    dynamics = [Stub(says(CELL, shares.tolist())) for shares in (low, high)]
    networks, n = team(policy=policies, dynamics=dynamics), 6000
    made = dream.dream(networks, starts(n), 3, generator)
    mean = (torch.tensor(left) + torch.tensor(right)) / 2
    # no trajectory keeps to one of the two: its draws are independent
    pairs = (3 * made["move"][:, 0] + made["move"][:, 1]).bincount(minlength=9)
    assert chi_square(pairs, n * torch.outer(mean, mean).flatten()) < 8 + 5 * 4
    mean = torch.tensor([0.6, 0.4])
    pairs = (2 * made["cell"][:, 1] + made["cell"][:, 2]).bincount(minlength=4)
    assert chi_square(pairs, n * torch.outer(mean, mean).flatten()) < 3 + 5 * 6**0.5


def test_states_and_actions_are_drawn_and_returns_are_the_most_probable(generator):
    best = Stub(says(WORTH, [0.2, 0.1, 0.2, 0.3, 0.2]))
    shares = [0.5, 0.3, 0.2]
    policy, n = Stub(says(MOVE, shares)), 4000
    made = dream.dream(team(policy=[policy], returns=[best]), starts(n), 2, generator)
    assert (made["worth"] == 3).all()
    for t in range(2):
        counts = made["move"][:, t].bincount(minlength=3)
        assert chi_square(counts, n * torch.tensor(shares)) < 2 + 5 * 2
    assert made["cell"][:, 1].unique().numel() == CELL.size


# --------------------------------------------------------------------------------------------------
# Numbers: a toy world of points that are pushed about


def gaussian(f, mean, variance):
    """An answer for Stub: a Gaussian (variance None: a mere mean) about a function of values."""

    def say(values, at):
        y = mean(values, at)[:, None]  # (B, 1, k)
        spread = {} if variance is None else {f"{f.name}/log_variance": (0 * y + variance).log()}
        return {f.name: y} | spread

    return say


def at_time(x, at):
    return x[torch.arange(len(at)), at]


@pytest.mark.parametrize("context", [3, 6])
def test_dreams_of_numbers_vary_as_the_head_says(context, generator):
    factors, n = [PLACE, PUSH], 2000
    back = lambda values, at: -0.5 * at_time(values["place"], at)
    onward = lambda values, at: sum(at_time(values[name], at - 1) for name in ("place", "push"))

    def made_with(push_variance, place_variance):
        policy = Stub(gaussian(PUSH, back, push_variance), factors, context)
        dynamics = Stub(gaussian(PLACE, onward, place_variance), factors, context)
        networks = team(policy=[policy], dynamics=[dynamics])
        first = {"place": torch.randn(n, 2, generator=generator)}
        made = dream.dream(networks, first, 6, generator)
        assert torch.equal(made["place"][:, 0], first["place"])
        place, push = made["place"], made["push"]
        return push + 0.5 * place, place.diff(dim=1) - push[:, :-1]

    for residual, deviation in zip(made_with(0.04, 0.25), (0.2, 0.5)):
        assert residual.std(dim=0).sub(deviation).abs().max() < 0.06 * deviation
        assert residual.mean(dim=0).abs().max() < 5 * deviation / n**0.5
        together = torch.corrcoef(residual.flatten(1).T)  # noise of its own at every entry
        assert (together - torch.eye(len(together))).abs().max() < 5 / n**0.5
    for residual in made_with(None, None):
        assert residual.abs().max() < 1e-6


# --------------------------------------------------------------------------------------------------
# The command: demonstrations and three runs in, a file out


def save_run(folder, factors, seed=0, context=10, dataset="doorkey", n=3, data_seed=0, **config):
    """An out_dir with an untrained network."""
    network = small.build(dict(context=context, n_layer=1) | config, factors, seed)
    settings = {"dataset": str(dataset), "num_trajectories": n, "data_seed": data_seed}
    settings |= {"fresh": False, "task": "random_return"}
    folder.mkdir()
    plain = checkpoint.to_plain(network) | {"config": settings, "iter": 0}
    checkpoint.save(str(folder / "best.pt"), plain)


def demonstrations():
    return doorkey.make_dataset(8, seed=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of runs on the first three demonstrations, and of some that do not fit."""
    here, factors = tmp_path_factory.mktemp("dreams"), doorkey.factors()
    for seed, name in enumerate(("policy", "dynamics", "policy2", "dynamics2")):
        save_run(here / name, factors, seed)
    save_run(here / "returns", factors, seed=7, return_weight=1.0)
    save_run(here / "returns2", factors, seed=8, return_weight=1.0)
    save_run(here / "short", factors, context=1, return_weight=1.0)
    save_run(here / "window", factors, context=5, return_weight=1.0)
    save_run(here / "dt", factors, model_type="dt")
    save_run(here / "larger", doorkey.factors(16))
    save_run(here / "doorkey16", doorkey.factors(16), dataset="doorkey16")
    save_run(here / "more", factors, n=4)
    save_run(here / "others", factors, data_seed=1)
    states = [f for f in factors if f.group == "STATE"]
    values = demonstrations().values
    walks = Trajectories(states, {f.name: values[f.name] for f in states})
    walks.save(str(here / "walks.npz"))
    save_run(here / "walks", states, dataset=here / "walks.npz")
    plain = saved(here / "policy", "best.pt")
    checkpoint.save(str(here / "plain.pt"), {k: x for k, x in plain.items() if k != "config"})
    fresh = plain | {"config": plain["config"] | {"fresh": True}}
    checkpoint.save(str(here / "fresh.pt"), fresh)
    return here


@pytest.fixture
def world(monkeypatch):
    """world(trajectories, ...): from now on these are what DoorKey makes; 2 of 8 validate."""

    def becomes(trajectories, **attributes):
        changed = dict(make=lambda n, seed: trajectories, total=8, validation=2) | attributes
        found = worlds.WORLDS["doorkey"]._replace(**changed)
        monkeypatch.setitem(worlds.WORLDS, "doorkey", found)

    becomes(demonstrations())
    return becomes


@pytest.fixture
def dreams(monkeypatch, place, world, tmp_path):
    """dreams(n=50): dream.py's main, with these settings; the bytes of the file that it makes."""

    def call(**settings):
        here = {"out": "d.npz", "n": 60, "seed": 0}
        here |= {name: name for name in ("policy", "dynamics", "returns")} | settings
        for name, value in here.items():
            if name in ("policy", "dynamics", "returns"):
                value = ",".join(str(place / part) for part in filter(None, value.split(",")))
            value = str(tmp_path / value) if name == "out" and value else value
            monkeypatch.setattr(dream, name, value)
        (tmp_path / "d.npz").unlink(missing_ok=True)  # of the call before
        dream.main()
        return (tmp_path / here["out"]).read_bytes() if here["out"].endswith(".npz") else None

    return call


def dreamt(content):
    """What is dreamt, {name: tensor}, in the bytes of a file of dreams."""
    arrays = np.load(io.BytesIO(content))
    return {name: torch.tensor(arrays[name]) for name in arrays if name.startswith("values/")}


def test_a_file_of_dreams_is_one_of_trajectories(dreams, tmp_path, capsys):
    dreams(n=300)
    found, given = Trajectories.load(str(tmp_path / "d.npz")), demonstrations()
    assert found.factors == given.factors and found.world == "doorkey"
    assert len(found) == 300 and (found.lengths == 10).all()
    states = ("agent_pos", "key_pos")
    begun = lambda some: set(zip(*(some.values[name][:, 0].tolist() for name in states)))
    assert begun(found) == begun(given[:3]) != begun(given), "every start of the three, no other"
    assert all(np.unique(found.values[name]).size > 1 for name in found.values)
    out = capsys.readouterr().out
    share = doorkey.valid_transitions(found.values).mean()
    assert f"{share:.2%} of the transitions are valid" in out and "300 trajectories" in out
    dreams(n=300, out="folder")
    mapped = Trajectories.load(str(tmp_path / "folder"))
    assert all((mapped.values[name] == x).all() for name, x in found.values.items())


def test_a_seed_is_a_dream(dreams):
    first = dreams()
    torch.manual_seed(5)
    assert dreams(out="again.npz") == first
    assert dreams(seed=1) != first
    for name in ("policy", "dynamics"):
        assert dreams(**{name: f"{name}2"}) != first
        assert dreams(**{name: f"{name},{name}2"}) != first


def mixed(first, rest):
    """Eight trajectories: three of the one, five of the other."""
    values = {k: np.concatenate([x[:3], rest.values[k][3:]]) for k, x in first.values.items()}
    return replace(first, values=values)


def test_nothing_comes_from_other_demonstrations(dreams, world):
    given, others = demonstrations(), doorkey.make_dataset(8, seed=9)
    whole = dreams()
    world(mixed(given, others))
    assert dreams() == whole
    world(mixed(others, given))
    assert dreams() != whole
    # Of those that count, it is the start that does: the rest has gone into the networks.
    values = {name: x.copy() for name, x in given.values.items()}
    for x in values.values():
        x[:, 1:] = 0
    values["action"][:] = values["return_to_go"][:] = 0
    world(replace(given, values=values))
    assert same(*map(dreamt, (dreams(), whole)))  # but for the mark, of what they were made


def test_nothing_comes_from_the_world(dreams, world, monkeypatch):
    """Its functions are not even called, but for the share of transitions that is printed."""
    whole, judged, given = dreams(), [], demonstrations()

    def forbidden(*_, **__):
        raise AssertionError("the world was asked")

    def judge(values):
        judged.append(values)
        return np.ones((60, 9), bool)

    for name in ("table", "valid_transitions", "make_dataset", "DoorKey", "_policy"):
        monkeypatch.setattr(doorkey, name, forbidden)
    asked = ("environment", "posterior", "surprisal")
    world(given, valid=judge, **dict.fromkeys(asked, forbidden))
    assert dreams() == whole
    assert len(judged) == 1 and judged[0]["action"].shape == (60, 10)


def test_the_returns_are_those_of_their_network(dreams, tmp_path, place):
    dreams()
    found = Trajectories.load(str(tmp_path / "d.npz"))
    network, values = checkpoint.load(place / "returns"), found.tensors()
    for t in range(10):
        seen = torch.zeros(60, 10, 3, dtype=torch.bool)
        seen[:, t, : masks.RETURN] = seen[:, t + 1 :, masks.RETURN][:, :1] = True
        best = evaluate.answer(network, values, seen)["return_to_go"][:, t].argmax(dim=-1)
        assert torch.equal(values["return_to_go"][:, t], best)
    dreams(returns="returns2")
    others = Trajectories.load(str(tmp_path / "d.npz")).values
    assert (others["return_to_go"] != found.values["return_to_go"]).any()
    assert all((others[k] == found.values[k]).all() for k in ("agent_pos", "action"))


def test_dreams_of_a_file_of_numbers(toy_data, dreams, place, tmp_path):
    """Continuous factors, unequal lengths, shorter windows, and starts of which half are unknown."""
    path = tmp_path / "toy.npz"
    known = np.arange(len(toy_data))[:, None] % 2 + np.arange(12) > 0
    replace(toy_data, values=toy_data.values | {"position/known": known}).save(str(path))
    train, _ = worlds.train_and_validation(str(path), 0, 0)
    for seed in range(2):
        where = place / f"toy{seed}"
        more = dict(head="gaussian", differences=True, return_weight=1.0, positions="timestep")
        save_run(where, train.factors, seed, 5, path, n=0, **more)
    runs = dict(policy="toy0", dynamics="toy0,toy1", returns="toy1")
    assert dreams(**runs) == dreams(**runs) != dreams(**runs, seed=2)
    found = Trajectories.load(str(tmp_path / "d.npz"))
    assert found.factors == train.factors and found.world == "" and (found.lengths == 12).all()
    starts = train.values["position"][train.values["position/known"][:, 0], 0]
    first = {tuple(x) for x in starts.tolist()}
    assert 0 < len(first) < len(train)
    assert {tuple(x) for x in found.values["position"][:, 0].tolist()} <= first
    done, dreamt = train.values["action"][train.valid()], found.values["action"]
    assert np.ptp(dreamt, axis=0).min() > 0.1
    assert (done.min(axis=0) <= dreamt).all() and (dreamt <= done.max(axis=0)).all()
    assert np.unique(found.values["room"]).tolist() == [0, 1, 2]


# ---- what is refused -----------------------------------------------------------------------------


def test_a_model_has_learned_what_its_task_asks_for():
    assert dream.asks("behavior_cloning", "ACTION", 5)
    assert not dream.asks("behavior_cloning", "STATE", 5), "its answers for states are noise"
    assert dream.asks("past+forward_dynamics", "STATE", 5) and dream.asks("all", "STATE", 5)
    assert dream.asks("return_backup", "RETURN", 5) and not dream.asks("random", "RETURN", 5)


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(out=""), "--out"),
        (dict(n=0), "n=0"),
        (dict(seed=-1), "seed=-1"),
        (dict(policy="larger"), "larger.*factors"),
        (dict(dynamics="larger"), "larger.*factors"),
        (dict(dynamics="doorkey16"), "doorkey16.*factors"),
        (dict(returns="larger"), "larger.*factors"),
        (dict(dynamics="more"), "more was not trained on the demonstrations of .*policy"),
        (dict(dynamics="others"), "others was not trained on the demonstrations"),
        (dict(dynamics="dynamics,more"), "more was not trained"),
        (dict(policy="policy,others"), "others was not trained"),
        (dict(policy="others"), "dynamics was not trained on the demonstrations of .*others"),
        (dict(policy="walks"), "walks does not predict the group ACTION"),
        (dict(dynamics="dt"), "dt does not predict the group STATE"),
        (dict(returns="policy"), "policy does not predict the group RETURN"),
        (dict(returns="short"), "short sees a single timestep"),
        (dict(returns="window"), "window sees 5 of 10 timesteps"),
        (dict(policy=""), "no checkpoint"),
        (dict(policy="nothing"), "nothing"),
        (dict(dynamics=""), "no run is named that predicts the group STATE"),
        (dict(returns=""), "no run is named that predicts the group RETURN"),
        (dict(policy="plain.pt"), "settings"),
        (dict(policy="fresh.pt"), "fresh.pt was trained on fresh"),
    ],
)
def test_what_cannot_dream_is_refused(settings, words, dreams, tmp_path):
    with pytest.raises(ValueError, match=words):
        dreams(**settings)
    assert not list(tmp_path.iterdir())


def test_there_may_be_fewer_dreams_than_networks(dreams, tmp_path):
    dreams(n=1, policy="policy,policy2")
    assert len(Trajectories.load(str(tmp_path / "d.npz"))) == 1


def test_a_refusal_is_one_line(place, run_warm, refused, tmp_path):
    flags = [f"--{name}={place / name}" for name in ("policy", "dynamics")]
    line = refused(run_warm("dream.py", *flags, f"--returns={place / 'dt'}", cwd=tmp_path))
    assert "--out" in line
    flags += [f"--returns={place / 'dt'}", "--out=d.npz"]
    assert "RETURN" in refused(run_warm("dream.py", *flags, cwd=tmp_path))
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------
# Networks that predict returns


@pytest.mark.parametrize("config", small.FAMILIES, ids=small.name_of)
def test_a_return_weight_adds_an_output_and_without_one_a_model_is_as_before(config, doorkey_data):
    """Checkpoints from before there was a return_weight load, and answer what they did."""
    factors, values = doorkey_data.factors, small.windows(doorkey_data)
    plain = checkpoint.to_plain(small.build(config, factors))
    without, weighted = checkpoint.from_plain(plain).eval(), config | {"return_weight": 0.5}
    del plain["model_config"]["return_weight"]
    before, given = checkpoint.from_plain(plain).eval(), small.build(weighted, factors)
    see = small.all_seen(doorkey_data)
    assert small.identical(before(values, see), without(values, see))
    width = lambda network: sum(head.out_features for head in network.heads)
    sizes = {f.name: f.size for f in factors}
    returns, actions = sizes.pop("return_to_go"), sizes["action"]
    if config["model_type"] == "nn":
        width = lambda network: network.layers[-1].out_features // small.CONTEXT
    assert "return_to_go" not in without(values, see)
    if config["model_type"] == "dt":  # it predicts actions alone, whatever the weights are
        assert width(without) == width(given) == actions
        return
    assert width(without) == sum(sizes.values()) and width(given) == width(without) + returns
    assert given(values, see)["return_to_go"].shape == (len(doorkey_data), small.CONTEXT, returns)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def train(run_warm, folder):
    """train("name", "--task=past --seed=1"): train.py with TINY settings; its log."""

    def command(name, flags=""):
        line = [*TINY, f"--out_dir={name}", *flags.split()]
        good(run_warm("train.py", *line, cwd=folder))
        return read_log(folder / name)

    return command


def test_returns_are_learned_and_measured_against_the_limit(train, folder, run_warm):
    flags = "--task=return_to_go+random_return --return_weight=1 --max_iters=120 "
    flags += "--eval_interval=120 --learning_rate=3e-3 --num_trajectories=200 --dropout=0"
    first, last = train("worth", flags)
    for task, better in (("return_to_go", 0.8), ("random_return", 0.2)):
        assert float(last[task]) < float(first[task]) - better
    assert last["return_to_go"] == last["return_to_go_gap"], "all is seen, so its limit is 0"
    limits = [float(row["random_return"]) - float(row["random_return_gap"])
              for row in (first, last)]  # fmt: skip
    assert 1.5 < limits[0] == pytest.approx(limits[1], abs=1e-6)
    flags = "--out_dir=worth", "--tasks=return_to_go,past", "--sequences=50"
    out = good(run_warm("evaluate.py", *flags, cwd=folder)).stdout
    assert "return_to_go" in out.splitlines()[1].split()[4:], "the factor, with its accuracy"


def test_the_weight_is_of_the_returns_alone(train, folder):
    """Twice the weight is twice the gradient."""
    flags = "--task=return_to_go --eval_tasks=return_to_go --max_iters=4 --eval_interval=2"
    once, twice = (train(f"w{w}", f"{flags} --return_weight={w}") for w in (1, 2))
    assert float(twice[1]["train_loss"]) == pytest.approx(2 * float(once[1]["train_loss"]))


SILENT = {  # a wrong command: what it should name
    # a model without returns answers these tasks with a loss of 0
    "train.py --eval_tasks=return_to_go": "return",
    "evaluate.py --out_dir=past --sequences=20 --tasks=return_backup": "return",
    # from a checkpoint of before, which has no return output: nothing is trained
    "train.py --init_from=finetune:old.pt --return_weight=1 --task=return_to_go": "return_weight",
    # the network is made for the dreams, and validated on what has other classes
    "train.py --dreams=larger.npz": "larger.npz",
    "train.py --dreams=still.npz --fresh": "dreams",  # which are then left unused
    "train.py --task=return_to_go --return_weight=1 --returns=all": "returns",  # shows the answer
    # numbers without the statistics that they are scaled by
    "train.py --dataset=raw.npz --context=4 --dreams=raw.npz": "raw.npz does not hold dreams",
    # what the world made, of which the last trajectories validate
    "train.py --dreams=real.npz": "real.npz does not hold dreams",
    # what was made of more demonstrations, of which some validate
    "train.py --dreams=still.npz --num_trajectories=10": "these 10 demonstrations of doorkey",
    # a model that was shown no returns is now, and asked for them
    "train.py --init_from=finetune:valued --returns=with_state --eval_tasks=return_to_go": "shows",
}


@pytest.mark.parametrize("line", SILENT)
def test_what_would_be_wrong_in_silence_is_refused(
    line, train, folder, run_warm, refused, toy_data
):
    if not (folder / "past").exists():
        train("past", "--max_iters=1 --eval_interval=1 --eval_tasks=past")
        valued = "--task=random_return --return_weight=1 --eval_tasks=return_to_go"
        train("valued", f"{valued} --max_iters=1 --eval_interval=1")
        old = saved(folder / "past")
        old["model_config"].pop("return_weight")
        checkpoint.save(str(folder / "old.pt"), old)
        doorkey.make_dataset(20, 0, size=16).save(str(folder / "larger.npz"))
        still().save(str(folder / "still.npz"))
        doorkey.make_dataset(2000, 0).save(str(folder / "real.npz"))
        bare = [replace(f, mean=(), std=(), step_std=()) for f in toy_data.factors]
        replace(toy_data, factors=bare).save(str(folder / "raw.npz"))
    script, *flags = line.split()
    if script == "train.py":
        tiny = [flag for flag in TINY if flag not in MODEL or "finetune" not in line]
        flags = [*tiny, "--max_iters=1", "--out_dir=refused", "--overwrite", *flags]
    assert SILENT[line] in refused(run_warm(script, *flags, cwd=folder))


# --------------------------------------------------------------------------------------------------
# Training on dreams


def still(n=50):
    """Dreams in which nothing ever moves: it takes few steps to learn them by heart."""
    constant = {"agent_pos": 5, "key_pos": 2, "action": 1, "return_to_go": 6}
    values = {name: np.full((n, 10), x) for name, x in constant.items()}
    demonstrations, _ = worlds.train_and_validation("doorkey", 20, 0)
    mark = {"dreamed": np.full(n, worlds.fingerprint("", demonstrations))}
    return Trajectories(doorkey.factors(), values, "doorkey", extras=mark)


def test_it_trains_on_dreams_and_validates_on_what_is_real(train, folder):
    still().save(str(folder / "still.npz"))
    flags = "--task=past --eval_tasks=past,behavior_cloning --max_iters=60 --eval_interval=60 "
    flags += "--learning_rate=1e-2 --dropout=0"
    real, dreamt = train("real", flags), train("dreamt", f"{flags} --dreams=still.npz")
    assert dreamt[0] == real[0] and {"past_gap", "behavior_cloning_gap"} <= real[0].keys()
    # what it has learned is no use in the real world
    assert float(dreamt[1]["train_loss"]) < 0.5 * float(real[1]["train_loss"])
    assert float(dreamt[1]["past"]) > float(dreamt[0]["past"]) > float(real[1]["past"])
    limit = lambda rows: float(rows[1]["past"]) - float(rows[1]["past_gap"])
    assert limit(dreamt) == pytest.approx(limit(real), abs=1e-6)
    # and what it says of the dreams shows that it has seen them
    network, one = checkpoint.load(str(folder / "dreamt" / "ckpt.pt")), still(1)
    see, _ = masks.draw("past", 1, 10, torch.Generator().manual_seed(3))
    answers = evaluate.answer(network, one.tensors(), see)
    assert answers["action"].argmax(-1)[0].tolist() == [1] * 10
    assert saved(folder / "dreamt")["config"]["dreams"] == "still.npz"


def test_a_run_on_dreams_resumes_to_the_bit(train, folder):
    still().save(str(folder / "still.npz"))
    flags = "--dreams=still.npz --eval_tasks=past --eval_interval=2 --decay_lr=False"
    whole = train("whole", f"{flags} --max_iters=4")
    train("parts", f"{flags} --max_iters=2")
    assert train("parts", f"{flags} --max_iters=4 --init_from=resume") == whole


# --------------------------------------------------------------------------------------------------
# From end to end


def commands_of(name):
    """The commands in a config file's docstring, each a list of words after `python`."""
    text = ast.get_docstring(ast.parse((ROOT / "config" / name).read_text()))
    lines = [line for line in text.splitlines() if line.startswith("    python ")]
    return [shlex.split(part)[1:] for line in lines for part in line.split("&&")]


SMALLER = {
    "train.py": [*MODEL, *"--num_trajectories=20 --max_iters=2 --eval_interval=2".split(),
                 "--eval_sequences=20", "--batch_size=16"],
    "dream.py": ["--n=60"],
    "evaluate.py": ["--sequences=20"],
}  # fmt: skip


def test_the_commands_of_the_config_file_work(run_warm, tmp_path):
    commands = commands_of("minigrid_dream.py")
    assert [words[0] for words in commands] == [*["train.py"] * 3, "dream.py", "train.py",
                                                "evaluate.py"]  # fmt: skip
    for script, *words in commands:
        words = [str(ROOT / word) if word.startswith("config/") else word for word in words]
        good(run_warm(script, *words, *SMALLER[script], cwd=tmp_path))
    out = tmp_path / "out"
    assert len(Trajectories.load(str(out / "dreams.npz"))) == 60
    config = saved(out / "minigrid_dream")["config"]
    assert (config["dreams"], config["num_trajectories"]) == ("out/dreams.npz", 20)
    assert set(masks.EIGHT) <= read_log(out / "minigrid_dream")[-1].keys()
    assert (out / "minigrid_dream" / "eval.json").exists()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """script("SMOKE=1"): the lines of dream.sh, in a copy of the repository without results."""
    skipped = shutil.ignore_patterns(".*", "out", "assets", "results", "tests", "__pycache__")
    copy = shutil.copytree(ROOT, tmp_path_factory.mktemp("repository") / "copy", ignore=skipped)
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"

    def lines(variables):
        line = ["bash", "-c", f"{variables} LIST=1 bash repro/dream.sh"]
        done = subprocess.run(
            line, cwd=copy, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0 and not (copy / "out").exists(), done.stderr
        return done.stdout.splitlines()

    return lines


@pytest.mark.parametrize(
    "variables, number, smoke",
    [
        ("SMOKE=1", 5, True),
        ("", 30, False),
        ("SEEDS=3 N=50 ROWS=random", 20, False),  # of six dreamers
        ("SEEDS=1 DREAMS=5000", 5, False),
        ("SEEDS='0 1' LARGE=1", 22, False),
    ],
)
def test_every_line_of_the_script_is_accepted(variables, number, smoke, script, monkeypatch):
    monkeypatch.chdir(ROOT)
    for key, value in study.OWN.items():
        monkeypatch.setattr(study, key, value)
    lines, made, dreamt = script(variables), {}, set()
    assert len(lines) == number
    for line in lines:
        words = shlex.split(line)
        if words[0] == "test":
            check_dream_line(words, made, smoke)
            dreamt.add(words[2])
            continue
        assert words[:2] == ["python", "repro/run.py"]
        own, _ = study.split(words[2:])
        vars(study).update(configurator.override(study.OWN, own))
        config = study.train_settings(words[2:])
        traits.check(config["model_type"], config["task"])
        shape = {name: config[name] for name in model.ModelConfig.__dataclass_fields__}
        network = model.build(model.ModelConfig(**shape), doorkey.factors())
        made[config["out_dir"]] = config, {f.group for f in network.predicted}
        assert config["out_dir"].startswith("out/smoke/" if smoke else "out/runs/")
        if study.row.startswith("dream"):
            assert config["dreams"] in dreamt and config["num_trajectories"] in (50, 500)
            dreamt.remove(config["dreams"])
    assert not dreamt


def check_dream_line(words, made, smoke):
    """Assert that a line makes dreams with runs that were made before, all of the same data."""
    out, newer, command = words[2], words[6], words[15:]
    assert words[:2] == ["test", "-f"] and words[3:6] == ["&&", "test", "-z"]
    assert words[7:15] == ["||", "rm", "-f", f"{out};", "test", "-f", out, "||"]
    assert command[:2] == ["python", "dream.py"] and f"-newer {out}" in newer
    settings = configurator.override(configurator.configurable(vars(dream)), command[2:])
    assert settings["out"] == out
    for name in ("policy", "dynamics", "returns"):
        assert set(settings[name].split(",")) <= set(newer.split())
    sources = set()
    for name, group in zip(("policy", "dynamics", "returns"), ("ACTION", "STATE", "RETURN")):
        configs = [made[run] for run in settings[name].split(",")]
        assert all(group in predicted for _, predicted in configs)
        seeds = [config["seed"] for config, _ in configs]
        assert seeds == [settings["seed"]] or seeds == list(range(6))
        keys = ("dataset", "num_trajectories", "data_seed")
        sources |= {tuple(config[key] for key in keys) for config, _ in configs}
    assert len(sources) == 1


def test_no_file_is_overwritten_by_dreams(dreams, toy_data, tmp_path):
    path = tmp_path / "toy.npz"
    toy_data.save(str(path))
    before = path.read_bytes()
    with pytest.raises(OSError, match="toy.npz: it is there already"):
        dreams(out="toy.npz")
    assert path.read_bytes() == before
