"""The loss: of what is predicted, as loops would add it up, and nothing else."""

import math

import pytest
import torch
import torch.nn as nn
from small import CONTEXT, build, identical, scrambled, windows

import masks
import model as models
from attention import pick


def loss_by_loops(outputs, values, predict, factors, weights):
    """Mean over the predicted entries of each factor, times its weight, summed: in scalars."""
    total, parts = 0.0, {}
    for f in factors:
        if f.name not in outputs:
            continue
        entries = []
        for b, t in predict[f.name].nonzero().tolist():
            prediction, truth = outputs[f.name][b, t].tolist(), values[f.name][b, t]
            if f.kind == "categorical":
                entries.append(math.log(sum(math.exp(x) for x in prediction)) - prediction[truth.item()])
            else:
                scale = f.std if f.group != "ACTION" else [1.0] * f.size
                errors = [((x - y) / s) ** 2 for x, y, s in zip(prediction, truth.tolist(), scale)]
                entries.append(sum(errors) / len(errors))
        parts[f.name] = sum(entries) / len(entries) if entries else 0.0
        total += weights.get(f.name, 1.0) * parts[f.name]
    return total, parts


def some_outputs(trajectories, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(trajectories), CONTEXT)
    return {
        f.name: torch.randn(*shape, f.size, generator=generator) for f in trajectories.factors if f.group != "RETURN"
    }


@pytest.mark.parametrize("task", ["random", "behavior_cloning", "past", "forward_dynamics", "all"])
@pytest.mark.parametrize("weights", [{}, {"action": 0.3, "key_pos": 0.0, "room": 2.0}])
def test_loss_agrees_with_loops(task, weights, trajectories, generator):
    values, outputs = windows(trajectories), some_outputs(trajectories)
    _, predict = masks.draw(task, len(trajectories), CONTEXT, generator)
    per_factor = masks.expand(predict, trajectories.factors)
    for mask in (predict, per_factor, masks.hide_factors(per_factor, trajectories.factors, 0.5, generator)):
        total, parts = models.loss(outputs, values, mask, trajectories.factors, weights)
        expected, expected_parts = loss_by_loops(
            outputs, values, masks.expand(mask, trajectories.factors), trajectories.factors, weights
        )
        assert total.item() == pytest.approx(expected, rel=1e-4)
        assert {name: x.item() for name, x in parts.items()} == pytest.approx(expected_parts, rel=1e-4)


def test_loss_ignores_what_is_not_predicted(trajectories, generator):
    values, outputs = windows(trajectories), some_outputs(trajectories)
    _, predict = masks.draw("behavior_cloning", len(trajectories), CONTEXT, generator)
    keep = masks.expand(predict, trajectories.factors)
    total, parts = models.loss(outputs, values, predict, trajectories.factors)
    other_outputs = {name: torch.where(keep[name][..., None], y, math.nan) for name, y in outputs.items()}
    other_values = scrambled(values, keep, trajectories.factors)
    again, again_parts = models.loss(other_outputs, other_values, predict, trajectories.factors)
    assert torch.equal(total, again) and identical(parts, again_parts)


def test_gradients_ignore_what_is_not_predicted(toy_data, generator):
    """Values that are neither seen nor predicted may be missing (NaN), in training too."""
    network, values = build(dict(dropout=0.0), toy_data.factors), windows(toy_data)
    see, predict = masks.draw("behavior_cloning", len(toy_data), CONTEXT, generator)
    keep = masks.expand(see | predict, toy_data.factors)
    gradients = []
    for batch in (values, scrambled(values, keep, toy_data.factors)):
        network.zero_grad()
        models.loss(network(batch, see), batch, predict, toy_data.factors)[0].backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters()})
    assert identical(*gradients)


@pytest.mark.parametrize("task", masks.ONE_TIMESTEP)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoding_only_the_predicted_timestep_trains_the_same(task, norm, toy_data, generator):
    network, values = build(dict(dropout=0.0, norm=norm), toy_data.factors), windows(toy_data)
    see, predict = masks.draw(task, len(toy_data), CONTEXT, generator)
    assert (predict.any(dim=-1).sum(dim=1) == 1).all()
    only, gradients = masks.asked_timestep(predict), []
    for part in (slice(None), only):
        network.zero_grad()
        truth = {name: pick(x, part) for name, x in values.items()}
        models.loss(network(values, see, part), truth, pick(predict, part), toy_data.factors)[0].backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5)


def test_loss_of_nothing_is_zero(trajectories):
    values, outputs = windows(trajectories), some_outputs(trajectories)
    nothing = torch.zeros(len(trajectories), CONTEXT, 3, dtype=torch.bool)
    total, parts = models.loss(outputs, values, nothing, trajectories.factors)
    assert total.item() == 0 and all(part.item() == 0 for part in parts.values())


def test_loss_of_the_truth_is_zero_and_returns_never_count(trajectories):
    values = windows(trajectories)
    everything = torch.ones(len(trajectories), CONTEXT, 3, dtype=torch.bool)
    truth = {
        f.name: 100.0 * nn.functional.one_hot(values[f.name], f.size) if f.kind == "categorical" else values[f.name]
        for f in trajectories.factors
        if f.group != "RETURN"
    }
    total, parts = models.loss(truth, values, everything, trajectories.factors)
    assert total.item() == pytest.approx(0, abs=1e-6) and "return_to_go" not in parts
