"""The loss: of what is predicted, as loops would add it up, by the network's own head, no more."""

import math

import pytest
import torch
import torch.nn as nn
from small import CONTEXT, build, identical, scrambled, windows

import masks
import model
import traits
from data import Factor

pytestmark = pytest.mark.quick

HEADS = ("mean", "median", "gaussian")


def loss_of(f, head, prediction, truth, log_variance):
    """The loss of one entry of a factor, in scalars. All but `head`: plain lists or numbers."""
    if f.kind == "categorical":
        return math.log(sum(math.exp(x) for x in prediction)) - prediction[truth]
    scale = f.std
    total = 0.0
    for x, y, s, v in zip(prediction, truth, scale, log_variance):
        if head == "gaussian":  # the density of the value in units of its standard deviation
            variance = math.exp(v) / s**2
            error = ((x - y) / s) ** 2 / variance
            total += 0.5 * (error + math.log(2 * math.pi * variance))
        else:
            total += ((x - y) / s) ** 2 if head == "mean" else abs(x - y) / s
    return total / f.size


def loss_by_loops(network, outputs, values, task, predict, weights):
    """Mean over the predicted entries of each factor, times its weight, summed.

    Of a mixture: the mean of what this is for each of its tasks.
    """
    total, parts, predict = 0.0, {}, masks.expand(predict, network.factors)
    for f in (f for f in network.factors if f.group != "RETURN"):
        parts[f.name] = 0.0
        log_variance = outputs.get(f"{f.name}/log_variance", outputs[f.name])
        for name, rows in masks.rows_of(task, len(predict[f.name])).items():
            entries = []
            for b, t in predict[f.name][rows].nonzero().tolist():
                tensors = (x[rows][b, t] for x in (outputs[f.name], values[f.name], log_variance))
                entries.append(loss_of(f, network.config.head, *(x.tolist() for x in tensors)))
            parts[f.name] += masks.parse(task)[name] * sum(entries) / max(1, len(entries))
        total += weights.get(f.name, 1.0) * parts[f.name]
    return total, parts


def alike(network, predict):
    """Every predicted entry of a factor counts the same."""
    return traits.shares("random", predict, network.factors)


def some_outputs(network, B, seed=0):
    """Random numbers in the place of what a network puts out."""
    generator, outputs = torch.Generator().manual_seed(seed), {}
    for f in network.predicted:
        outputs[f.name] = torch.randn(B, CONTEXT, f.size, generator=generator)
        if f.kind == "continuous" and network.config.head == "gaussian":
            log_variance = torch.randn(B, CONTEXT, f.size, generator=generator)
            outputs[f"{f.name}/log_variance"] = log_variance
    return outputs


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("weights", [{}, {"action": 0.3, "key_pos": 0.0, "room": 2.0}])
@pytest.mark.parametrize("task", ["random", "random+all", "past+forward_dynamics+waypoint"])
def test_loss_agrees_with_loops(task, weights, head, trajectories, generator):
    network, B = build(dict(head=head), trajectories.factors), len(trajectories)
    values, outputs = windows(trajectories), some_outputs(network, B)
    see, predict = masks.draw(task, B, CONTEXT, generator)
    _, per_factor = masks.hide_factors(see, predict, trajectories.factors, 0.5, generator)
    for mask in (predict, per_factor):
        shares = traits.shares(task, mask, trajectories.factors)
        total, parts = model.loss(network, outputs, values, shares, weights=weights)
        expected, expected_parts = loss_by_loops(network, outputs, values, task, mask, weights)
        assert total.item() == pytest.approx(expected, rel=1e-4)
        assert {n: x.item() for n, x in parts.items()} == pytest.approx(expected_parts, rel=1e-4)


def test_the_loss_is_that_of_the_network_s_own_head(toy_data):
    """Nobody has to say which head it is: three networks, one answer, three losses."""
    values, everything = windows(toy_data), torch.ones(len(toy_data), CONTEXT, 3, dtype=torch.bool)
    gaussian = build(dict(head="gaussian"), toy_data.factors)
    outputs, found = some_outputs(gaussian, len(toy_data)), {}
    for head in HEADS:
        network = build(dict(head=head), toy_data.factors)
        found[head] = model.loss(network, outputs, values, alike(network, everything))[1]
    distance = (outputs["action"] - values["action"]) / torch.tensor(network.factors[2].std)
    assert found["mean"]["action"].item() == pytest.approx(distance.square().mean().item())
    assert found["median"]["action"].item() == pytest.approx(distance.abs().mean().item())
    assert len({round(parts["action"].item(), 4) for parts in found.values()}) == 3
    assert len({round(parts["position"].item(), 4) for parts in found.values()}) == 3
    assert len({parts["room"].item() for parts in found.values()}) == 1  # classes have no head


def test_loss_of_a_gaussian_head_is_the_negative_log_density_of_its_answer(toy_data, generator):
    network, values = build(dict(head="gaussian"), toy_data.factors), windows(toy_data)
    see = torch.rand(len(toy_data), CONTEXT, 3, generator=generator) < 0.5
    outputs = network(values, see)
    nats = model.entry_losses(network, outputs, values)
    for f in (f for f in network.predicted if f.kind == "continuous"):
        answer = model.distribution(f, outputs)
        unit = torch.tensor(f.std).log().mean()  # the loss is in units of the standard deviation
        expected = -answer.log_prob(values[f.name]) / f.size - unit
        torch.testing.assert_close(nats[f.name].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_loss_ignores_what_is_not_predicted(head, trajectories, generator):
    network, B = build(dict(head=head), trajectories.factors), len(trajectories)
    values, outputs = windows(trajectories), some_outputs(network, B)
    _, predict = masks.draw("behavior_cloning", B, CONTEXT, generator)
    keep = masks.expand(predict, trajectories.factors)
    total, parts = model.loss(network, outputs, values, alike(network, predict))
    others = {n: torch.where(keep[n.split("/")[0]][..., None], y, 1e3) for n, y in outputs.items()}
    missing = scrambled(values, keep, trajectories.factors)
    again, again_parts = model.loss(network, others, missing, alike(network, predict))
    assert total.isfinite() and torch.equal(total, again) and identical(parts, again_parts)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("whole", [True, False])
def test_gradients_ignore_what_is_not_predicted(whole, head, toy_data, generator):
    """Values that are neither seen nor predicted may be missing (NaN), in training too."""
    network, values = build(dict(dropout=0.0, head=head), toy_data.factors), windows(toy_data)
    see, predict = masks.draw("behavior_cloning", len(toy_data), CONTEXT, generator)
    at = None if whole else traits.wanted_timestep("behavior_cloning", predict)
    keep = masks.expand(see | predict, toy_data.factors)
    gradients = []
    for batch in (values, scrambled(values, keep, toy_data.factors)):
        network.zero_grad()
        shares = alike(network, predict)
        model.loss(network, network(batch, see, at), batch, shares, at)[0].backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    assert identical(*gradients)


MODELS = {  # a model: a task of one timestep
    "unimask": (dict(head="gaussian"), "waypoint"),
    "post-entry": (dict(norm="post", layout="entry"), "forward_dynamics"),
    "dt": (dict(model_type="dt", positions="learned"), "reward_conditioned"),
    "nn": (dict(model_type="nn", head="median"), "behavior_cloning+backward_dynamics"),
    "shallow": (dict(n_layer=1, layout="factor", norm="post"), "inverse_dynamics"),
}


@pytest.mark.parametrize("name", MODELS)
def test_computing_only_the_wanted_timestep_trains_the_same(name, trajectories, generator):
    config, task = MODELS[name]
    network = build(config | dict(dropout=0.0), trajectories.factors)
    values, B = windows(trajectories), len(trajectories)
    see, predict = masks.draw(task, B, CONTEXT, generator)
    wanted, losses, gradients = traits.wanted_timestep(task, predict), [], []
    for at in (None, wanted):
        network.zero_grad()
        shares = traits.shares(task, predict, trajectories.factors)
        total, parts = model.loss(network, network(values, see, at), values, shares, at)
        total.backward()
        losses.append({"total": total.detach()} | {n: x.detach() for n, x in parts.items()})
        used = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        gradients.append(used)
    assert wanted is not None and losses[0]["total"] > 0
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_loss_of_nothing_is_zero(trajectories):
    network, B = build({}, trajectories.factors), len(trajectories)
    nothing = torch.zeros(B, CONTEXT, 3, dtype=torch.bool)
    outputs = some_outputs(network, B)
    total, parts = model.loss(network, outputs, windows(trajectories), alike(network, nothing))
    assert total.item() == 0 and all(part.item() == 0 for part in parts.values())


def test_loss_of_the_truth_is_zero_and_returns_never_count(trajectories):
    network, values, truth = build({}, trajectories.factors), windows(trajectories), {}
    everything = torch.ones(len(trajectories), CONTEXT, 3, dtype=torch.bool)
    for f in network.predicted:
        categorical = f.kind == "categorical"
        value = values[f.name]
        truth[f.name] = 100.0 * nn.functional.one_hot(value, f.size) if categorical else value
    total, parts = model.loss(network, truth, values, alike(network, everything))
    assert total.item() == pytest.approx(0, abs=1e-6) and "return_to_go" not in parts


# --------------------------------------------------------------------------------------------------
# What a head learns


def trained(f, x, head, steps, lr):
    """The last loss, and the outputs, of a model that learns the numbers x (n, 1, k) blindly."""
    config = dict(model_type="nn", head=head, context=1, n_layer=1)
    network, values = build(config, [f]), {f.name: x}
    see = torch.zeros(len(x), 1, 3, dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        total, _ = model.loss(network, network(values, see), values, alike(network, ~see))
        total.backward()
        optimizer.step()
    return total.item(), {name: y[0, 0] for name, y in network(values, see).items()}


def test_a_gaussian_head_learns_mean_and_variance(generator):
    f = Factor("x", "STATE", "continuous", 2, (5.0, -3.0), (2.0, 0.1), (1.0, 1.0))
    noise = torch.randn(1000, 1, 2, generator=generator)
    x = torch.tensor([4.0, -2.9]) + torch.tensor([3.0, 0.2]) * noise
    _, outputs = trained(f, x, "gaussian", steps=200, lr=0.05)
    torch.testing.assert_close(outputs["x"], x.mean(dim=(0, 1)), rtol=0.02, atol=0)
    deviation = (outputs["x/log_variance"] / 2).exp()
    torch.testing.assert_close(deviation, x.flatten(0, 1).std(dim=0), rtol=0.02, atol=0)


@pytest.mark.parametrize("head, goes, loss", [("mean", 0.2, 0.96), ("median", 1.0, 0.8)])
def test_a_median_goes_the_likelier_of_two_ways_where_a_mean_goes_neither(head, goes, loss):
    f = Factor("x", "ACTION", "continuous", 1)
    x = torch.where(torch.arange(100) % 5 < 3, 1.0, -1.0).view(-1, 1, 1)  # three of five go to 1
    total, outputs = trained(f, x, head, steps=600, lr=0.01)
    assert outputs["x"].item() == pytest.approx(goes, abs=0.02)
    assert total == pytest.approx(loss, abs=0.01)
