"""Answers to questions: samples and likelihoods against exact inference, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import bayes
import data
import doorkey
import masks
import model
import rollout
import sample
import worlds
from bayes import ExactModel
from data import Factor, Trajectories

FACTORS = doorkey.factors()
T = doorkey.LENGTH
GOAL = "state[0], state[9]"


class Stub(torch.nn.Module):
    """A model without training: what its forward() says. Models have parameters, on a device."""

    def __init__(self, factors, context, model_type="unimask"):
        super().__init__()
        self.config = SimpleNamespace(model_type=model_type, context=context)
        self.factors = factors
        groups = ("ACTION",) if model_type == "dt" else ("STATE", "ACTION")
        self.predicted = [f for f in factors if f.group in groups]
        self.nothing = torch.nn.Parameter(torch.zeros(1))


class Watched(Stub):
    """Another model, and what it was shown and answered at each call."""

    def __init__(self, network):
        super().__init__(FACTORS, T)
        self.network, self.calls = network, []

    def forward(self, values, see, at=None):
        outputs = self.network(values, see)
        self.calls.append(({name: x.clone() for name, x in see.items()}, outputs))
        return {name: model.take(y, at) for name, y in outputs.items()}

    def filled(self):
        """{factor: (B, T)}: what was filled in after the first call."""
        (before, _), (after, _) = self.calls[:2]
        return {name: after[name] & ~before[name] for name in before}


class GaussianModel(Stub):
    """Each position is Gaussian about the mean of the seen ones, with variance 1/4."""

    def __init__(self, head="gaussian"):
        position = Factor("position", "STATE", "continuous", 2)
        super().__init__([position, Factor("push", "ACTION", "categorical", 3)], 4)
        self.head = head

    def forward(self, values, see, at=None):
        shown = see["position"][..., None]
        count = shown.sum(1, keepdim=True).clamp(min=1)
        mean = (values["position"] * shown).sum(1, keepdim=True) / count  # (B, 1, 2)
        outputs = {"position": mean.expand(-1, 4, 2), "push": torch.zeros(len(mean), 4, 3)}
        if self.head == "gaussian":
            variance = torch.full_like(outputs["position"], 0.25)
            outputs["position/log_variance"] = variance.log()
        return {name: model.take(y, at) for name, y in outputs.items()}


@pytest.fixture(scope="module")
def trajectories():
    return doorkey.make_dataset(40, seed=11)


@pytest.fixture(scope="module")
def small():
    """A real network, untrained."""
    torch.manual_seed(0)
    return model.build(model.ModelConfig(n_embd=32, n_ff=32, n_layer=1, n_head=2), FACTORS).eval()


def ask(trajectories, rows=slice(None), **text):
    values = {name: x[rows] for name, x in trajectories.tensors().items()}
    return sample.query(values, FACTORS, **text)


def variation(drawn, probability):
    """Total variation between samples (n,) and probabilities (classes,)."""
    shares = torch.bincount(drawn, minlength=len(probability)) / len(drawn)
    return 0.5 * (shares - torch.as_tensor(probability)).abs().sum().item()


# --------------------------------------------------------------------------------------------------
# With the exact posterior for a model, samples and likelihoods must be exact


@pytest.mark.parametrize("order", ["forward", "random", "confidence"])
def test_samples_of_an_exact_model_are_exact(trajectories, order, generator):
    asked = ask(trajectories, [17], see="state[0], state[4], action[4:], state[5:]")
    n = 600
    drawn, nats = sample.sample(ExactModel(), asked, n, generator, order)
    posterior = bayes.posterior(trajectories[[17]], asked.see)
    for name, mask in asked.predict.items():
        for t in mask[0].nonzero()[:, 0].tolist():
            assert variation(drawn[name][0, :, t], posterior[name][0, t]) < 0.09
    # Jointly too: each is valid, and has the log-probability that exact inference gives it.
    flat = {name: x[0].numpy() for name, x in drawn.items()}
    assert doorkey.valid_transitions(flat).all()
    whole = {name: (asked.see[name] | asked.predict[name]).expand(n, T) for name in asked.see}
    joint = bayes.log_likelihood(Trajectories(FACTORS, flat), whole)
    known = bayes.log_likelihood(trajectories[[17]], asked.see)
    np.testing.assert_allclose(nats[0], joint - known, atol=1e-6)


@pytest.mark.parametrize("text", [GOAL, "state[5:], action[5:]", "state[:3], return[0]", ""])
def test_the_chain_rule_is_exact_in_every_order(trajectories, text, generator):
    some = trajectories[:4]
    asked = ask(some, see=text)
    whole = {name: asked.see[name] | asked.predict[name] for name in asked.see}
    exact = bayes.log_likelihood(some, whole) - bayes.log_likelihood(some, asked.see)
    for order in sample.ORDERS:
        nats = sample.log_likelihood(ExactModel(), asked, order, "factor", generator)
        np.testing.assert_allclose(nats, exact, atol=1e-6, err_msg=order)
    if text == GOAL:
        # a token's factors count as independent; and so they are from a known start onwards,
        # because moves are certain
        nats = sample.log_likelihood(ExactModel(), asked, "forward", "group")
        np.testing.assert_allclose(nats, exact, atol=1e-6)


@pytest.mark.parametrize("order", sample.ORDERS)
def test_a_return_is_asked_for_like_anything_else(trajectories, order, generator):
    """Of a model that predicts returns: marginals, samples and likelihoods."""
    network, some = ExactModel(returns=True), trajectories[:1]
    asked = ask(some, see="state[0]", predict="return[0], state[9], return[9]")
    sample.check(network, asked, order)
    posterior = bayes.posterior(some, asked.see, returns=True)
    found = sample.marginals(network, asked.values, asked.see)["return_to_go"]
    np.testing.assert_allclose(found, posterior["return_to_go"], atol=1e-6)
    whole = {name: asked.see[name] | asked.predict[name] for name in asked.see}
    exact = bayes.log_likelihood(some, whole) - bayes.log_likelihood(some, asked.see)
    nats = sample.log_likelihood(network, asked, order, "factor", generator)
    np.testing.assert_allclose(nats, exact, atol=1e-6)
    drawn, _ = sample.sample(network, asked, 300, generator, order)
    for t in (0, 9):
        assert variation(drawn["return_to_go"][0, :, t], posterior["return_to_go"][0, t]) < 0.12


def test_by_default_returns_are_wanted_of_who_predicts_them(trajectories):
    network = ExactModel(returns=True)
    asked = ask(trajectories[:3], see="state[:], action[:]", predicted=network.predicted)
    assert asked.predict["return_to_go"].all()
    # they follow from the rest
    assert sample.log_likelihood(network, asked).abs().max() < 1e-6
    with pytest.raises(ValueError, match="nothing is left"):
        ask(trajectories[:3], see="state[:], action[:]", predicted=ExactModel().predicted)
    sample.check(network, ask(trajectories[:3], task="return_to_go"))
    with pytest.raises(ValueError, match="not return_to_go"):
        sample.check(ExactModel(), ask(trajectories[:3], task="return_to_go"))


def test_rows_may_ask_for_different_entries(trajectories):
    """Each sequence of a batch has a mask of its own, and is answered as if it were alone."""
    asked = ask(trajectories, slice(0, 6), task="past")
    nats = sample.log_likelihood(ExactModel(), asked, "backward")
    for row in range(6):
        parts = [{name: x[row : row + 1] for name, x in part.items()} for part in asked]
        alone = sample.log_likelihood(ExactModel(), sample.Query(*parts), "backward")
        assert torch.allclose(nats[row], alone, atol=1e-9)


@pytest.mark.parametrize("unit", sample.UNITS)
@pytest.mark.parametrize("order", sample.ORDERS)
def test_the_order_says_what_is_filled_in_next(trajectories, small, order, unit, generator):
    asked, network = ask(trajectories, [0], see=GOAL), Watched(small)
    sample.sample(network, asked, 20, generator, order=order, unit=unit)
    filled = network.filled()
    count = sum(x.sum(dim=1) for x in filled.values())  # (20,)
    states = filled["agent_pos"].any(dim=1)
    assert torch.equal(count, 1 + (states if unit == "group" else 0 * states))
    if order == "forward":
        assert filled["action"][:, 0].all(), "the state before it is seen"
    elif order == "backward":
        assert filled["action"][:, T - 1].all()
    elif order == "random":
        samples = {tuple(torch.cat(list(x)).tolist()) for x in zip(*filled.values())}
        assert len(samples) > 5, "each sample has an order of its own"
    else:
        outputs, least = network.calls[0][1], {}
        for f in network.predicted:
            entropy = sample.entropy(f, outputs)  # (20, T)
            least[f.name] = entropy.masked_fill(~asked.predict[f.name], np.inf).min()
        assert any(sample.entropy(f, outputs)[filled[f.name]].min() == min(least.values())
                   for f in network.predicted if filled[f.name].any())  # fmt: skip


def test_half_a_wanted_token_is_all_that_is_filled_in(trajectories, small, generator):
    asked = ask(trajectories, [0], see=GOAL, predict="agent_pos[1:9]")
    network = Watched(small)
    drawn, _ = sample.sample(network, asked, 10, generator, unit="group")
    assert not network.filled()["key_pos"].any()
    assert torch.equal(drawn["key_pos"][0, 0], asked.values["key_pos"][0])


# --------------------------------------------------------------------------------------------------
# Any model


@pytest.mark.parametrize("order", sample.ORDERS)
def test_what_is_seen_stays_and_the_seed_decides(trajectories, small, order):
    asked = ask(trajectories, slice(0, 3), see=GOAL, predict="action[:], agent_pos[1:9]")

    def draw(seed, temperature=1.0):
        generator = torch.Generator().manual_seed(seed)
        return sample.sample(small, asked, 20, generator, order, temperature)[0]

    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    for name, x in first.items():
        left = ~asked.predict[name][:, None].expand_as(x)
        assert torch.equal(x[left], asked.values[name][:, None].expand_as(x)[left])
    if order != "random":
        best = draw(2, temperature=0.0)
        for temperature in (1e-4, 1e-320):
            cold = draw(1, temperature=temperature)
            assert all(torch.equal(cold[name], best[name]) for name in cold)
    one = ask(trajectories, [0], see="state[:], action[1:]")
    greedy, _ = sample.sample(small, one, 1, torch.Generator(), order, temperature=0.0)
    best = sample.marginals(small, one.values, one.see)["action"][0, 0].argmax()
    assert greedy["action"][0, 0, 0] == best


def test_hidden_values_never_matter(trajectories, small):
    asked = ask(trajectories, slice(0, 5), see="agent_pos[2:5], action[1], return[0]")
    other = {}
    for f in FACTORS:
        wrong = (asked.values[f.name] + 1) % f.size
        other[f.name] = torch.where(asked.see[f.name], asked.values[f.name], wrong)
    ours, theirs = (sample.marginals(small, values, asked.see) for values in (asked.values, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name, p in ours.items():
        assert torch.allclose(p.sum(dim=-1), torch.ones(5, T)), name
    drawn = []
    for values in (asked.values, other):
        query = sample.Query(values, asked.see, asked.predict)
        drawn.append(sample.sample(small, query, 4, torch.Generator().manual_seed(0))[0])
    for name in ("agent_pos", "key_pos", "action"):
        assert torch.equal(drawn[0][name], drawn[1][name])


def test_a_gaussian_is_sampled_and_weighed(generator):
    network = GaussianModel()
    values = {"position": torch.tensor([[[1.0, 2.0]] * 4]), "push": torch.zeros(1, 4).long()}
    asked = sample.query(values, network.factors, see="state[0]", predict="state[1:3], action[0]")
    drawn, nats = sample.sample(network, asked, 4000, generator)
    step = drawn["position"][0, :, 1] - torch.tensor([1.0, 2.0])
    assert step.mean(0).abs().max() < 0.05 and (step.std(0) - 0.5).abs().max() < 0.03
    assert torch.isfinite(nats).all() and drawn["position"].dtype == torch.float32
    # the truth stays at the mean: the density's peak, twice, and one push of three
    chain = sample.log_likelihood(network, asked)
    assert chain.item() == pytest.approx(-2 * np.log(2 * np.pi * 0.25) - np.log(3))
    for temperature in (0.25, 4.0):
        drawn, _ = sample.sample(network, asked, 4000, generator, temperature=temperature)
        deviation = drawn["position"][0, :, 1].std(0).mean().item()
        assert deviation == pytest.approx(0.5 * temperature**0.5, rel=0.05)
    frozen, _ = sample.sample(network, asked, 5, generator, temperature=0.0)
    assert torch.equal(frozen["position"][0, 0], values["position"][0])


def test_of_mere_means_there_is_no_likelihood(generator):
    network = GaussianModel("mean")
    values = {"position": torch.tensor([[[1.0, 2.0]] * 4]), "push": torch.zeros(1, 4).long()}
    asked = sample.query(values, network.factors, see="state[0]", predict="state[1:3], action[0]")
    drawn, nats = sample.sample(network, asked, 2, generator)
    assert torch.equal(drawn["position"][0, 0], values["position"][0]) and nats.isnan().all()
    with pytest.raises(ValueError, match="gaussian"):
        sample.log_likelihood(network, asked)


@pytest.mark.parametrize(
    "options, reason",
    [
        (dict(n=0), "samples=0"),
        (dict(temperature=-1), "at least 0"),
        (dict(temperature=float("nan")), "temperature=nan"),
        (dict(temperature=float("inf")), "temperature=inf"),
        (dict(order="sideways"), "confidence"),
        (dict(unit="trajectory"), "group"),
    ],
)
def test_options_out_of_range(trajectories, small, generator, options, reason):
    asked = ask(trajectories, [0], see=GOAL)
    with pytest.raises(ValueError, match=reason):
        sample.sample(small, asked, **{"n": 1, "generator": generator} | options)


def test_what_a_model_cannot_answer(trajectories, small):
    for network, text, options, reason in [
        (small, dict(predict="return[0]"), {}, "not return_to_go"),
        (Stub(FACTORS, T, "dt"), dict(see=GOAL), {}, "predicts action, and not agent_pos"),
        (Stub(FACTORS, T, "dt"), dict(see=GOAL, predict="action[3]"), {}, "looks only back"),
        (Stub(FACTORS, T, "dt"), dict(predict="action[3]"), dict(order="random"), "forward"),
    ]:
        with pytest.raises(ValueError, match=reason):
            sample.check(network, ask(trajectories, [0], **text), **options)
    past = ask(trajectories, [0], see="state[:4], return[:4], action[:3]", predict="action[3]")
    sample.check(Stub(FACTORS, T, "dt"), past)


def test_a_causal_model_sees_no_other_action_of_the_timestep_that_it_answers():
    arms = [Factor(name, "ACTION", "categorical", 3) for name in ("left", "right")]
    values = {f.name: torch.zeros(1, 4, dtype=torch.long) for f in arms}
    before = sample.query(values, arms, see="left[:2], right[:2]", predict="left[2]")
    sample.check(Stub(arms, 4, "dt"), before)
    beside = sample.query(values, arms, see="left[:2], right[:3]", predict="left[2]")
    with pytest.raises(ValueError, match="no action with what is wanted"):
        sample.check(Stub(arms, 4, "dt"), beside)
    sample.check(Stub(arms, 4), beside)


def test_a_task_may_show_the_returns_that_a_model_was_trained_with(trajectories):
    values = trajectories[[0, 5]].tensors()
    for returns in masks.RETURN_MODES:
        asked = sample.query(values, FACTORS, task="behavior_cloning", returns=returns)
        states = int(asked.see["agent_pos"][0].sum())
        expected = {"unchanged": 0, "with_state": states, "all": T}[returns]
        assert int(asked.see["return_to_go"][0].sum()) == expected


def test_what_comes_after_the_end_of_a_trajectory_is_wanted_only_by_name(toy_data):
    short = replace(toy_data[:2], lengths=np.array([3, 6]))
    window = data.Windows(short, 5).at(torch.tensor([0]), torch.tensor([0]))
    for options in (dict(see="state[0]"), dict(task="span(1,5)")):
        asked = sample.query(window, toy_data.factors, **options)
        assert asked.predict["action"].any() and not asked.predict["action"][:, 3:].any()
    named = sample.query(window, toy_data.factors, see="state[0]", predict="action[2:]")
    assert named.predict["action"].tolist() == [[False, False, True, True, True]]
    with pytest.raises(ValueError, match="do not know all of action"):
        sample.log_likelihood(Stub(toy_data.factors, 5), named)


# --------------------------------------------------------------------------------------------------
# Worlds


def test_what_is_played_is_valid_and_conditions_lead_there(trajectories, generator):
    asked = ask(trajectories, [3], see=GOAL, given="action[1]=2")
    env = worlds.environment("doorkey", 40, seed=0)
    env.start_at({name: asked.values[name][0, 0] for name in ("agent_pos", "key_pos")})
    played, rewards = rollout.play(ExactModel(), env, generator=generator, condition=asked[:2])
    flat = {name: x.numpy() for name, x in played.items()}
    assert doorkey.valid_transitions(flat).all() and rewards.shape == (40, T)
    assert (flat["agent_pos"][:, 0] == trajectories.values["agent_pos"][3, 0]).all()
    assert (flat["action"][:, 1] == 2).all()
    # an exact model that is told where an episode ends leads there, whatever else happens
    assert (flat["agent_pos"][:, 9] == int(asked.values["agent_pos"][0, 9])).all()


def test_only_known_transitions_are_judged(trajectories, capsys):
    known = {f.name: torch.ones(T, dtype=torch.bool) for f in FACTORS}
    drawn = trajectories.tensors()
    drawn["action"] = drawn["action"].clone()
    drawn["action"][:, 3] = (drawn["action"][:, 3] + 1) % 4
    judge = worlds.WORLDS["doorkey"].valid
    sample.tell_valid(judge, FACTORS, drawn, known)
    known["action"][3] = False
    sample.tell_valid(judge, FACTORS, drawn, known)
    known["action"][:] = False
    sample.tell_valid(judge, FACTORS, drawn, known)
    first, second = capsys.readouterr().out.splitlines()
    assert "100.00%" not in first and second == "100.00% of their transitions are valid"


def test_what_the_data_do_not_know_is_not_seen_unless_it_is_given(toy_data):
    values = {name: x[:, :5] for name, x in toy_data.tensors().items()}
    known = torch.arange(5).expand(len(toy_data), 5)
    values |= {"room/known": (known < 1) | (known > 2)}
    text = dict(see="room[:4],action[:]", predict="room[4]", given="room[2]=1")
    asked = sample.query(values, toy_data.factors, **text)
    assert asked.see["room"][0].tolist() == [True, False, True, True, False]
    assert asked.see["action"].all() and asked.predict["room"][:, 4].all()
