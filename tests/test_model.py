"""The models: what is hidden never matters, the future never leaks, every part agrees with an independent one."""

import itertools
import math

import pytest
import torch
import torch.nn as nn
from small import CONFIGS, CONTEXT, FAMILIES, SMALL, build, identical, name_of, scrambled, torch_layer, windows

import masks
import model as models
from model import ModelConfig

# ---------------------------------------------------------------------------------------------------------------------
# What is hidden never matters


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_values_of_hidden_entries_never_change_an_output(config, trajectories, generator):
    network, values, B = build(config, trajectories.factors), windows(trajectories), len(trajectories)
    tasks = [task for task in masks.TASKS if masks.can(config["model"], task)]
    assert len(tasks) >= 6
    with torch.inference_mode():
        for task in tasks:
            see, _ = masks.draw(task, B, CONTEXT, generator)
            for mask in (see, masks.hide_factors(see, trajectories.factors, 0.3, generator)):
                keep = masks.expand(mask, trajectories.factors)
                outputs = network(values, mask)
                for seed, number in enumerate((math.nan, math.inf, -1e30)):
                    changed = scrambled(values, keep, trajectories.factors, number, seed)
                    assert identical(network(changed, mask), outputs), f"{task} with {number}"


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_values_of_seen_entries_do_change_the_outputs(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    B = len(trajectories)
    see = {f.name: torch.ones(B, CONTEXT, dtype=torch.bool) for f in trajectories.factors}
    with torch.inference_mode():
        outputs = network(values, see)
        for f in trajectories.factors:
            if config["model"] == "dt" and f.group == "ACTION":
                timesteps = range(CONTEXT - 1)  # nothing is predicted after the last action
            else:
                timesteps = range(CONTEXT)
            for t in timesteps:
                keep = {name: mask.clone() for name, mask in see.items()}
                keep[f.name][:, t] = False
                changed = network(scrambled(values, keep, trajectories.factors, number=0.123), see)
                moved = sum((changed[name] - outputs[name]).abs().flatten(1).sum(dim=1) for name in outputs)  # (B,)
                assert (moved > 1e-6).all(), f"{f.name} at {t}"


@pytest.mark.parametrize("config", [c for c in CONFIGS if c["model"] == "dt"], ids=name_of)
def test_no_later_entry_changes_an_earlier_action_of_decision_gpt(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    B, step = len(trajectories), torch.arange(CONTEXT)
    see = torch.ones(B, CONTEXT, 3, dtype=torch.bool)
    action = next(f.name for f in trajectories.factors if f.group == "ACTION")
    with torch.inference_mode():
        before = network(values, see)[action]
        for t in range(CONTEXT):  # the action at t may depend on returns and states up to t and actions before t
            known = {"STATE": step <= t, "ACTION": step < t, "RETURN": step <= t}
            keep = {f.name: known[f.group].expand(B, CONTEXT) for f in trajectories.factors}
            changed = scrambled(values, keep, trajectories.factors, number=7.0)
            assert torch.equal(network(changed, see)[action][:, : t + 1], before[:, : t + 1]), t
            assert torch.equal(network(changed, keep)[action][:, : t + 1], before[:, : t + 1]), f"hidden after {t}"
            if t + 1 < CONTEXT:
                assert not torch.equal(network(changed, see)[action][:, t + 1], before[:, t + 1])


@pytest.mark.parametrize("config", FAMILIES, ids=name_of)
def test_outputs_have_the_shapes_of_their_factors(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    outputs = network(values, torch.ones(len(trajectories), CONTEXT, 3, dtype=torch.bool))
    predicted = ("ACTION",) if config["model"] == "dt" else ("STATE", "ACTION")
    expected = {f.name: (len(trajectories), CONTEXT, f.size) for f in trajectories.factors if f.group in predicted}
    assert {name: tuple(y.shape) for name, y in outputs.items()} == expected


@pytest.mark.parametrize("config", FAMILIES, ids=name_of)
def test_decoding_some_timesteps_gives_the_same_as_decoding_all(config, trajectories):
    network, values = build(config, trajectories.factors), windows(trajectories)
    see = torch.ones(len(trajectories), CONTEXT, 3, dtype=torch.bool)
    outputs = network(values, see)
    for only in (slice(3, 4), slice(1, 4), torch.tensor([4, 0])):
        for name, y in network(values, see, only=only).items():
            torch.testing.assert_close(y, outputs[name][:, only], rtol=0, atol=1e-6)
    own = torch.arange(2 * len(trajectories)).view(-1, 2) % CONTEXT  # two timesteps of each sequence, others in each
    for name, y in network(values, see, only=own).items():
        expected = outputs[name].take_along_dim(own[..., None], dim=1)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["unimask", "dt"])
def test_a_transformer_takes_shorter_windows_but_no_longer_ones(kind, trajectories):
    network = build(dict(model=kind), trajectories.factors)
    see = lambda T: torch.ones(len(trajectories), T, 3, dtype=torch.bool)
    outputs = network(windows(trajectories, 3), see(3))
    assert all(y.shape[:2] == (len(trajectories), 3) for y in outputs.values())
    with pytest.raises(ValueError, match="6.*5"):
        network(windows(trajectories, 6), see(6))


@pytest.mark.parametrize("T", [4, 6])
def test_the_feed_forward_net_needs_exactly_its_context(T, trajectories):
    network = build(dict(model="nn"), trajectories.factors)
    with pytest.raises(ValueError, match=f"5.*{T}"):
        network(windows(trajectories, T), torch.ones(len(trajectories), T, 3, dtype=torch.bool))


def test_timestep_positions_count_from_the_start_of_the_episode(toy_data):
    network, values = build(dict(positions="timestep"), toy_data.factors), windows(toy_data)
    see = torch.ones(len(toy_data), CONTEXT, 3, dtype=torch.bool)
    later = network(values | {"timestep": values["timestep"] + 1}, see)
    assert not identical(network(values, see), later)


# ---------------------------------------------------------------------------------------------------------------------
# Parity with independent computations


def sinusoid(T, d):
    """Position table of "Attention is all you need", in scalars."""
    rows = []
    for t in range(T):
        rows.append([(math.sin if j % 2 == 0 else math.cos)(t / 10000 ** (2 * (j // 2) / d)) for j in range(d)])
    return torch.tensor(rows)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_published_model_agrees_with_one_made_of_pytorch_s_modules(norm, doorkey_data, generator):
    """Masked one-hot factors, hidden ones all zero -> linear -> ReLU -> x sqrt(d) + sinusoid -> encoder -> linear."""
    config = ModelConfig(**SMALL | dict(hidden="zero", norm=norm, dropout=0.0))
    network = build(dict(hidden="zero", norm=norm, dropout=0.0), doorkey_data.factors)
    values, B, d = windows(doorkey_data), len(doorkey_data), config.n_embd
    see, _ = masks.draw("random", B, CONTEXT, generator)
    features = torch.zeros(B, CONTEXT, sum(f.size for f in doorkey_data.factors))
    groups = {"STATE": 0, "ACTION": 1, "RETURN": 2}
    for b, t in itertools.product(range(B), range(CONTEXT)):
        offset = 0
        for f in doorkey_data.factors:
            if see[b, t, groups[f.group]]:
                features[b, t, offset + values[f.name][b, t]] = 1.0
            offset += f.size
    first, last = (
        next(m for m in part.modules() if isinstance(m, nn.Linear)) for part in (network.inputs, network.outputs)
    )
    x = torch.relu(features @ first.weight.T + first.bias) * math.sqrt(d) + sinusoid(CONTEXT, d)
    for block in network.blocks:
        x = torch_layer(block, config)(x)
    x = network.norm(x) if norm == "pre" else x
    expected = torch.cat([y for y in network(values, see).values()], dim=-1)
    torch.testing.assert_close(x @ last.weight.T + last.bias, expected, rtol=1e-5, atol=1e-5)


def test_continuous_features_are_the_value_and_its_octaves(toy_data):
    factor = toy_data.factors[0]
    encoder = models.Encoder([factor], ModelConfig(octaves=3, hidden="zero"))
    values = windows(toy_data)
    see = {factor.name: torch.ones(len(toy_data), CONTEXT, dtype=torch.bool)}
    features = encoder(values, see)
    assert features.shape == (len(toy_data), CONTEXT, encoder.width) == (len(toy_data), CONTEXT, 2 * 7)
    for b, t in ((0, 0), (3, 4), (11, 2)):
        expected = []
        for k in range(2):
            x = (values[factor.name][b, t, k].item() - factor.mean[k]) / factor.std[k]
            expected += [x, *(wave(x * 2**octave) for octave in range(3) for wave in (math.sin, math.cos))]
        torch.testing.assert_close(
            features[b, t].sort().values, torch.tensor(expected).sort().values, rtol=0, atol=1e-4
        )


def test_actions_and_returns_have_no_octaves(toy_data):
    """A sine of the return would tell the training episodes apart."""
    rest = [f for f in toy_data.factors if f.group != "STATE" and f.kind == "continuous"]
    widths = [models.Encoder(rest, ModelConfig(octaves=octaves)).width for octaves in (0, 5)]
    assert rest and widths[0] == widths[1]


def test_predictions_are_in_raw_units(toy_data):
    """A network that says 0 of a normalised factor means its mean."""
    for kind in ("unimask", "nn"):
        network = build(dict(model=kind), toy_data.factors)
        last = list(network.outputs.parameters()) if kind == "unimask" else list(network.layers[-1].parameters())
        for p in last:
            nn.init.zeros_(p)
        outputs = network(windows(toy_data), torch.ones(len(toy_data), CONTEXT, 3, dtype=torch.bool))
        position, action = toy_data.factors[0], toy_data.factors[2]
        assert abs(position.mean[0]) > 1
        assert torch.allclose(outputs["position"], torch.tensor(position.mean).expand_as(outputs["position"]))
        assert action.size == 2 and (outputs["action"] == 0).all()


@pytest.mark.parametrize("kind", ["unimask", "dt", "nn"])
def test_tanh_squashes_actions_and_nothing_else(kind, toy_data):
    plain, squashed = (build(dict(model=kind, tanh_actions=tanh), toy_data.factors) for tanh in (False, True))
    with torch.no_grad():
        for network in (plain, squashed):
            for p in network.parameters():
                p.mul_(1.5)
    values, see = windows(toy_data), torch.ones(len(toy_data), CONTEXT, 3, dtype=torch.bool)
    raw, bounded = plain(values, see), squashed(values, see)
    assert torch.equal(bounded["action"], raw["action"].tanh()) and not torch.equal(bounded["action"], raw["action"])
    assert all(torch.equal(bounded[name], raw[name]) for name in raw if name != "action")


def test_loss_of_a_gaussian_head_is_the_negative_log_density_per_dimension(toy_data):
    network, values = build(dict(head="gaussian"), toy_data.factors), windows(toy_data)
    see = torch.rand(len(toy_data), CONTEXT, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    outputs = network(values, see)
    nats = models.entry_losses(outputs, values, toy_data.factors)
    for f in (f for f in toy_data.factors if f.kind == "continuous" and f.group != "RETURN"):
        density = torch.distributions.Normal(outputs[f.name], (outputs[f"{f.name}/log_variance"] / 2).exp())
        unit = torch.tensor(f.std or (1.0,) * f.size).log().mean()  # the loss is in units of the standard deviation
        expected = -density.log_prob(values[f.name]).mean(dim=-1) - unit
        torch.testing.assert_close(nats[f.name], expected)


def test_a_gaussian_head_learns_mean_and_variance():
    torch.manual_seed(0)
    factors = [models.Factor("x", "STATE", "continuous", 2, (5.0, -3.0), (2.0, 0.1), (1.0, 1.0))]
    data = torch.tensor([4.0, -2.9]) + torch.tensor([3.0, 0.2]) * torch.randn(4000, 1, 2)
    network = build(dict(model="nn", head="gaussian", context=1, n_layer=0), factors)
    see, predict = torch.zeros(2, 4000, 1, 3, dtype=torch.bool).unbind()
    predict = predict | True
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        models.loss(network({"x": data}, see), {"x": data}, predict, factors)[0].backward()
        optimizer.step()
    outputs = network({"x": data[:1]}, see[:1])
    torch.testing.assert_close(outputs["x"][0, 0], data.mean(dim=0)[0], rtol=0.02, atol=0)
    deviation = (outputs["x/log_variance"][0, 0] / 2).exp()
    torch.testing.assert_close(deviation, data.std(dim=0)[0], rtol=0.02, atol=0)


def test_a_median_goes_the_likelier_of_two_ways_where_a_mean_goes_neither():
    factors = [models.Factor("x", "ACTION", "continuous", 1)]
    data = torch.where(torch.arange(1000) % 5 < 3, 1.0, -1.0).view(-1, 1, 1)  # three of five go to 1
    see, predict = torch.zeros(2, 1000, 1, 3, dtype=torch.bool).unbind()
    for head, expected in (("mean", 0.2), ("median", 1.0)):
        torch.manual_seed(0)
        network = build(dict(model="nn", head=head, context=1, n_layer=0), factors)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(600):
            optimizer.zero_grad()
            total, _ = models.loss(network({"x": data}, see), {"x": data}, predict | True, factors, head=head)
            total.backward()
            optimizer.step()
        assert network({"x": data[:1]}, see[:1])["x"].item() == pytest.approx(expected, abs=0.02)
        assert total.item() == pytest.approx({"mean": 0.96, "median": 0.8}[head], abs=0.01)


# ---------------------------------------------------------------------------------------------------------------------
# Settings, size, optimiser


@pytest.mark.parametrize(
    "key, value",
    [
        ("model", "gpt"),
        ("layout", "stacked"),
        ("hidden", "mask"),
        ("positions", "rotary"),
        ("norm", "rms"),
        ("context", 0),
        ("n_layer", -1),
        ("n_head", 0),
        ("n_embd", 0),
        ("n_ff", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("octaves", -1),
        ("n_head", 3),
        ("n_embd", 33),
        ("max_timestep", 0),
        ("dropout", math.nan),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"{key}='?{value}"):
        ModelConfig(**{key: value})


def test_number_of_parameters_is_that_of_the_formula(doorkey_data):
    inputs, outputs, d, ff, layers = 16 + 16 + 4 + 17, 16 + 16 + 4, 16, 24, 2
    block = 3 * d * d + 3 * d + d * d + d + 2 * 2 * d + 2 * d * ff + ff + d
    transformer = (inputs + 1) * d + layers * block + (d + 1) * outputs
    assert models.num_params(build(dict(hidden="zero"), doorkey_data.factors)) == transformer
    assert models.num_params(build(dict(hidden="flag"), doorkey_data.factors)) == transformer + 4 * d
    assert (
        models.num_params(build(dict(hidden="zero", positions="learned"), doorkey_data.factors)) == transformer + 5 * d
    )
    net = (inputs * CONTEXT + 1) * d + (d + 1) * d + (d + 1) * outputs * CONTEXT
    assert models.num_params(build(dict(model="nn", hidden="zero"), doorkey_data.factors)) == net


@pytest.mark.parametrize("config", FAMILIES + [dict(positions="learned"), dict(positions="timestep")], ids=name_of)
def test_weight_decay_shrinks_matrices_only(config, doorkey_data):
    network = build(config, doorkey_data.factors)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = models.configure_optimizer(network, learning_rate=0.1, weight_decay=0.5)
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    matrices = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    assert len(matrices) >= 3
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if name in matrices else 1.0), msg=name)
