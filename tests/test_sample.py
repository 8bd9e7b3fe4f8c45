"""Answers to questions: the sampler and its likelihoods against exact inference, and worlds in the loop."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import bayes
import doorkey
import model as models
import queries
import sample
from data import Factor, Trajectories

FACTORS = doorkey.factors()
T = doorkey.LENGTH
GOAL = "state[0], state[9]"


@pytest.fixture(scope="module")
def trajectories():
    return doorkey.make_dataset(40, seed=11)


class ExactModel(torch.nn.Module):
    """Answers as a perfect model would: the logarithm of the exact posterior."""

    def __init__(self):
        super().__init__()
        self.config, self.factors = SimpleNamespace(model="unimask", context=T), FACTORS
        self.nothing = torch.nn.Parameter(torch.zeros(1))  # models have parameters, on a device

    def forward(self, values, see, only=slice(None)):
        given = Trajectories(FACTORS, {f.name: values[f.name].numpy() for f in FACTORS})
        return {name: torch.as_tensor(p).log() for name, p in bayes.posterior(given, see).items()}


class GaussianModel(torch.nn.Module):
    """A random walk: each position is Gaussian about the mean of the seen ones, with variance 1 / 4."""

    def __init__(self, head="gaussian"):
        super().__init__()
        self.config, self.factors = (
            SimpleNamespace(model="unimask", context=4, head=head),
            [Factor("position", "STATE", "continuous", 2), Factor("action", "ACTION", "categorical", 3)],
        )
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, values, see, only=slice(None)):
        shown = see["position"][..., None]
        mean = (values["position"] * shown).sum(1, keepdim=True) / shown.sum(1, keepdim=True).clamp(min=1)
        outputs = {"position": mean.expand(-1, 4, 2), "action": torch.zeros(*see["action"].shape, 3)}
        if self.config.head == "gaussian":
            outputs["position/log_variance"] = torch.full_like(outputs["position"], 0.25).log()
        return outputs


def ask(trajectories, rows=slice(None), **text):
    return queries.query({name: x[rows] for name, x in trajectories.tensors().items()}, FACTORS, **text)


def variation(drawn, probability):
    """Total variation between samples (n,) and probabilities (classes,)."""
    shares = torch.bincount(torch.as_tensor(drawn), minlength=len(probability)) / len(drawn)
    return 0.5 * (shares - torch.as_tensor(probability)).abs().sum().item()


# ---------------------------------------------------------------------------------------------------------------------
# Sampling and likelihood: with the exact posterior for a model, both must be exact


@pytest.mark.parametrize("order", ["forward", "random", "confidence"])
def test_samples_of_an_exact_model_have_the_exact_distribution(trajectories, order, generator):
    asked = ask(trajectories, [17], see="state[0], state[4], action[4:], state[5:]")
    n = 1500
    drawn, nats = sample.sample(ExactModel(), asked, n, generator, order)
    posterior = bayes.posterior(trajectories[[17]], asked.see)
    for name, mask in asked.predict.items():
        for t in mask[0].nonzero()[:, 0].tolist():
            assert variation(drawn[name][0, :, t], posterior[name][0, t]) < 0.05
    # Jointly too: samples are lawful, and each has the log-probability that exact inference gives it.
    flat = {name: x[0].numpy() for name, x in drawn.items()}
    assert sample.obeys(flat["agent_pos"], flat["key_pos"], flat["action"]).all()
    everything = {name: torch.as_tensor(x) for name, x in drawn.items()}
    see = {name: (asked.see[name] | asked.predict[name]).expand(n, T) for name in asked.see}
    joint = bayes.log_likelihood(Trajectories(FACTORS, {k: x[0].numpy() for k, x in everything.items()}), see)
    np.testing.assert_allclose(nats[0], joint - bayes.log_likelihood(trajectories[[17]], asked.see), atol=1e-6)


@pytest.mark.parametrize("text", [GOAL, "state[5:], action[5:]", "state[:3], return[0]", ""])
def test_chain_rule_of_an_exact_model_is_exact_in_every_order(trajectories, text, generator):
    some = trajectories[:6]
    asked = ask(some, see=text)
    whole = {name: asked.see[name] | asked.predict[name] for name in asked.see}
    exact = bayes.log_likelihood(some, whole) - bayes.log_likelihood(some, asked.see)
    for order in sample.ORDERS:
        nats = sample.log_likelihood(ExactModel(), asked, order, "factor", generator)
        np.testing.assert_allclose(nats, exact, atol=1e-6, err_msg=order)
    if (
        text == GOAL
    ):  # a token's factors count as independent; from a known start onwards they are, for moves are certain
        nats = sample.log_likelihood(ExactModel(), asked, "forward", "token")
        np.testing.assert_allclose(nats, exact, atol=1e-6)


def test_rows_may_ask_for_different_entries(trajectories, generator):
    """Sequences of one batch with masks of their own, each as if it were alone."""
    asked = ask(trajectories, slice(0, 8), task="past")
    nats = sample.log_likelihood(ExactModel(), asked, "backward")
    for row in range(8):
        alone = queries.Query(*({name: x[row : row + 1] for name, x in part.items()} for part in asked))
        assert torch.allclose(nats[row], sample.log_likelihood(ExactModel(), alone, "backward"), atol=1e-9)


@pytest.mark.parametrize("order", sample.ORDERS)
def test_seen_values_stay_seeds_decide_and_zero_temperature_is_argmax(trajectories, order):
    torch.manual_seed(0)
    network = models.build(models.ModelConfig(n_embd=32, n_ff=32, n_layer=1, n_head=2), FACTORS).eval()
    asked = ask(trajectories, slice(0, 3), see=GOAL, predict="action[:], agent_pos[1:9]")
    draw = lambda seed, **options: sample.sample(
        network, asked, 20, torch.Generator().manual_seed(seed), order, **options
    )[0]
    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    for name, x in first.items():
        left = ~asked.predict[name][:, None].expand_as(x)
        assert torch.equal(x[left], asked.values[name][:, None].expand_as(x)[left]), "only wanted entries may change"
    if order != "random":
        cold, best = draw(1, temperature=1e-4), draw(2, temperature=0.0)
        assert all(torch.equal(cold[name], best[name]) for name in cold)
    one = ask(trajectories, [0], see="state[:], action[1:]")
    greedy, _ = sample.sample(network, one, 1, torch.Generator(), order, temperature=0.0)
    assert greedy["action"][0, 0, 0] == sample.marginals(network, one.values, one.see)["action"][0, 0].argmax()


def test_gaussian_head_is_sampled_and_weighed(generator):
    factors = GaussianModel().factors
    values = {"position": torch.tensor([[[1.0, 2.0]] * 4]), "action": torch.zeros(1, 4, dtype=torch.int64)}
    asked = queries.query(values, factors, see="state[0]", predict="state[1:3], action[0]")
    drawn, nats = sample.sample(GaussianModel(), asked, 4000, generator)
    step = drawn["position"][0, :, 1] - torch.tensor([1.0, 2.0])
    assert step.mean(0).abs().max() < 0.05 and (step.std(0) - 0.5).abs().max() < 0.03
    assert torch.isfinite(nats).all() and drawn["position"].dtype == torch.float32
    chain = sample.log_likelihood(GaussianModel(), asked)  # the truth stays at the mean: the density's peak, twice
    assert chain.item() == pytest.approx(-2 * np.log(2 * np.pi * 0.25) - np.log(3))
    frozen, _ = sample.sample(GaussianModel(), asked, 5, generator, temperature=0.0)
    assert torch.equal(frozen["position"][0, 0], values["position"][0])
    mean_only, nats = sample.sample(GaussianModel("mean"), asked, 2, generator)
    assert torch.equal(mean_only["position"][0, 0], values["position"][0]) and nats.isnan().all()
    with pytest.raises(ValueError, match="gaussian"):
        sample.log_likelihood(GaussianModel("mean"), asked)


class Watched(ExactModel):
    """The exact model, and what it was shown at each call."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, values, see, only=slice(None)):
        outputs = super().forward(values, see, only)
        self.shown.append(({name: x.clone() for name, x in see.items()}, outputs))
        return outputs

    def filled(self, call):
        """{factor: (B, T)}: what was filled in after a call."""
        (before, _), (after, _) = self.shown[call : call + 2]
        return {name: after[name] & ~before[name] for name in before}


@pytest.mark.parametrize("order", sample.ORDERS)
def test_the_order_says_which_entry_is_filled_in_next(trajectories, order, generator):
    asked, model = ask(trajectories, [0], see=GOAL), Watched()
    sample.sample(model, asked, 20, generator, order=order)
    filled = model.filled(0)
    assert (sum(x.sum(dim=1) for x in filled.values()) == 1).all()  # one entry in each sample
    if order == "forward":
        assert filled["action"][:, 0].all()  # the state before it is seen
    elif order == "backward":
        assert filled["action"][:, T - 1].all()
    elif order == "random":
        assert len({tuple(torch.cat(list(x)).tolist()) for x in zip(*filled.values())}) > 5  # each sample its own
    else:  # of least entropy, among all that are wanted
        outputs, wanted = model.shown[0][1], asked.predict
        entropy = {
            f: sample.Prediction(SimpleNamespace(kind="categorical", name=f), outputs).entropy() for f in outputs
        }
        least = min(entropy[f][0][wanted[f][0]].min() for f in outputs if wanted[f].any())
        assert min(entropy[f][filled[f]].max() for f in outputs if filled[f].any()) == least


def test_temperature_widens_a_gaussian_by_its_square_root(generator):
    model = GaussianModel()
    values = {"position": torch.zeros(1, 4, 2), "action": torch.zeros(1, 4, dtype=torch.long)}
    asked = queries.query(values, model.factors, see="position[0]", predict="position[1]")
    for temperature in (0.25, 4.0):
        drawn, _ = sample.sample(model, asked, 4000, generator, temperature=temperature)
        assert drawn["position"][0, :, 1].std().item() == pytest.approx(0.5 * temperature**0.5, rel=0.05)


def test_transitions_of_unknown_actions_are_not_judged(trajectories):
    samples = {name: trajectories.tensors()[name].clone() for name in ("agent_pos", "key_pos", "action")}
    known = {name: torch.ones(T, dtype=torch.bool) for name in samples}
    samples["action"][:, 3] = (samples["action"][:, 3] + 1) % 4
    assert sample.lawful_share(samples, known) < 1
    known["action"][3] = False
    assert sample.lawful_share(samples, known) == 1


def test_half_a_wanted_token_is_all_that_is_filled_in(trajectories, generator):
    asked = ask(trajectories, [0], see=GOAL, predict="agent_pos[1:9]")
    drawn, _ = sample.sample(ExactModel(), asked, 30, generator, unit="token")
    assert (drawn["agent_pos"] != asked.values["agent_pos"][:, None]).any()
    assert torch.equal(drawn["key_pos"], asked.values["key_pos"][:, None].expand(1, 30, T))


def test_the_unit_follows_from_how_a_model_was_trained():
    assert sample.choose_unit("auto", {"factor_hiding": 0.2}) == "factor"
    assert sample.choose_unit("auto", {"factor_hiding": 0.0}) == sample.choose_unit("auto", {}) == "token"
    assert sample.choose_unit("factor", {}) == "factor"


def test_what_cannot_be_sampled_is_refused(trajectories, generator):
    asked = ask(trajectories, [0], see=GOAL)
    for options, reason in [
        (dict(order="sideways"), "confidence"),
        (dict(unit="half"), "token"),
        (dict(temperature=-1.0), "-1"),
    ]:
        with pytest.raises(ValueError, match=reason):
            sample.sample(ExactModel(), asked, 2, generator, **options)
    with pytest.raises(ValueError, match="at least 1"):
        sample.sample(ExactModel(), asked, 0, generator)
    causal = models.build(models.ModelConfig(model="dt", n_embd=32, n_ff=32, n_layer=1, n_head=2), FACTORS).eval()
    with pytest.raises(ValueError, match="does not predict agent_pos"):
        sample.sample(causal, asked, 2, generator)
    with pytest.raises(ValueError, match="looks only back"):
        sample.sample(causal, ask(trajectories, [0], see="state[:]", predict="action[3:]"), 2, generator)
    drawn, _ = sample.sample(
        causal, ask(trajectories, [0], see="state[:4], action[:3]", predict="action[3]"), 2, generator
    )
    assert drawn["action"].shape == (1, 2, T)


# ---------------------------------------------------------------------------------------------------------------------
# Worlds


def test_lawfulness_accepts_demonstrations_and_finds_corruption(reference):
    agent, key, action = (reference[name] for name in ("pos", "key_pos", "action"))
    assert sample.obeys(agent, key, action).all()
    big = doorkey.make_dataset(50, seed=1, size=16).values
    assert sample.obeys(big["agent_pos"], big["key_pos"], big["action"], size=16).all()
    for t in range(1, T - 1):
        jumped = agent.copy()
        jumped[:, t] = (jumped[:, t] + 8) % 16  # two columns away: never a step
        assert not sample.obeys(jumped, key, action)[:, t - 1 : t + 1].any()
    moves = np.flatnonzero(agent[:, 4] != agent[:, 5])
    turned = action[moves].copy()
    turned[:, 4] = (turned[:, 4] + 2) % 4
    assert not sample.obeys(agent[moves], key[moves], turned)[:, 4].any()


@pytest.mark.parametrize("size", [6, 16])
def test_lawfulness_need_not_know_of_key_and_door(size):
    """States with the same cells, whatever their flags, lead to the same cells: so obeys() can judge single steps."""
    table, leads_to = doorkey.table(size), {}
    for state, successors in zip(table.states, table.successor):
        cells = table.states[successors, :2].tolist()
        assert leads_to.setdefault(tuple(state[:2]), cells) == cells


def test_lawfulness_of_single_steps():
    agent, key = (
        np.array([[4, 8, 4, 4]]),
        np.array([[4, 8, 4, 4]]),
    )  # left of the door, in it, back, and stuck before it
    assert sample.obeys(agent, key, np.array([[0, 2, 0, 0]]))[0].tolist() == [True, True, False]
    key_left_behind = np.array([[4, 4, 4, 4]])
    assert sample.obeys(agent, key_left_behind, np.array([[0, 2, 0, 0]]))[0].tolist() == [False, False, False]
    in_the_wall = np.array([[5, 9, 5, 4]])  # cell 9 is inner wall: neither into it nor out of it
    assert sample.obeys(in_the_wall, in_the_wall, np.array([[0, 2, 3, 0]]))[0].tolist() == [False, False, True]


def test_played_completions_are_lawful_and_start_as_asked(trajectories, generator):
    asked = ask(trajectories, [3], see=GOAL, given="action[1]=2")
    env = sample.place("doorkey", asked, 64, seed=0)
    played, rewards = sample.play(ExactModel(), asked, env, generator)
    flat = [played[name].numpy() for name in ("agent_pos", "key_pos", "action")]
    assert sample.obeys(*flat).all() and rewards.shape == (64, T)
    assert (flat[0][:, 0] == trajectories.values["agent_pos"][3, 0]).all() and (flat[2][:, 1] == 2).all()
    # an exact model that is told where an episode ends leads there, whatever else happens
    reached = (played["agent_pos"][:, 9] == asked.values["agent_pos"][0, 9]).double().mean()
    assert reached == 1.0
    for text, reason in [
        (dict(see="state[9]"), "known state"),
        (dict(given="agent_pos[0]=15,key_pos[0]=2"), "no episode begins"),
    ]:
        with pytest.raises(ValueError, match=reason):
            sample.place("doorkey", ask(trajectories, [3], **text), 2, seed=0)


class Pusher(torch.nn.Module):
    """Names an action outside its bounds at every timestep, and remembers which actions it was shown."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(model="unimask", context=T, head="mean")
        self.factors = [Factor("position", "STATE", "continuous", 2), Factor("action", "ACTION", "continuous", 2)]
        self.nothing, self.shown = torch.nn.Parameter(torch.zeros(1)), []

    def forward(self, values, see, only=slice(None)):
        self.shown.append(see["action"][0].tolist())
        return {"action": torch.tensor([3.0, -3.0]).expand(*see["action"].shape, 2)}


class Plane:
    """A world without walls: positions move by the action."""

    def __init__(self, n):
        self.n, self.position, self.pushes = n, np.zeros((n, 2), dtype=np.float32), []

    def observe(self):
        return {"position": self.position}

    def step(self, action):
        self.pushes.append(action)
        self.position = self.position + action
        return self.observe(), np.zeros(self.n)


def test_a_played_action_is_within_its_bounds_and_seen_from_then_on(generator):
    pusher, plane, steps = Pusher(), Plane(3), 4
    values = {"position": torch.zeros(1, steps, 2), "action": torch.zeros(1, steps, 2)}
    asked = queries.query(values, pusher.factors, see="state[0]")
    played, _ = sample.play(pusher, asked, plane, generator)
    expected = torch.tensor([1.0, -1.0]).expand(3, steps, 2)
    assert torch.equal(played["action"], expected) and (np.array(plane.pushes) == [1, -1]).all()
    assert torch.equal(played["position"], torch.arange(4)[:, None] * expected)
    assert [sum(shown) for shown in pusher.shown] == [0, 1, 2, 3]  # nothing but the actions before
