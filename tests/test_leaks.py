"""The leak detector: no honest model is below the Bayes limit, and a model that peeks is caught."""

import pytest
import torch
from conftest import ROOT

import checkpoint
import doorkey
import evaluate
import masks
from data import GROUPS

pytestmark = pytest.mark.quick

SOME = ("behavior_cloning", "reward_conditioned", "waypoint")
PER_TASK = 1000


@pytest.fixture(scope="module")
def asked():
    """Questions of the eight tasks, and their exact limits."""
    test = doorkey.make_dataset(PER_TASK, seed=4321)
    questions = evaluate.questions(test, masks.EIGHT, PER_TASK, context=10, seed=7)
    return questions, evaluate.limits(test, questions)


@pytest.fixture(scope="module")
def network():
    return checkpoint.load(ROOT / "assets" / "minigrid_infinite")


class Peeking(torch.nn.Module):
    """A model that is shown, by mistake, every state one timestep after those it should see."""

    def __init__(self, network):
        super().__init__()
        self.network, self.config, self.factors = network, network.config, network.factors
        self.predicted = network.predicted

    def forward(self, values, see, at=None):
        see = {name: mask.clone() for name, mask in masks.expand(see, self.factors).items()}
        for name in ("agent_pos", "key_pos"):
            see[name][:, 1:] |= see[name][:, :-1].clone()
        return self.network(values, see, at)


def test_no_task_of_a_trained_model_is_below_the_limit(network, asked):
    results = evaluate.losses(network, *asked)
    assert evaluate.leaks(results) == []
    # the weights are near the limit everywhere, so that even a small leak would show
    assert all(row["gap"] < 0.05 for row in results.values())
    # loss and limit are of the same questions, so that their luck cancels
    assert all(row["gap_se"] < max(0.3 * row["se"], 1e-3) for row in results.values())


def test_a_model_that_sees_the_next_state_is_caught(network, asked):
    questions, exact = asked
    results = evaluate.losses(Peeking(network), {task: questions[task] for task in SOME}, exact)
    assert evaluate.leaks(results) == list(SOME)
    assert all(row["gap"] < -10 * row["gap_se"] for row in results.values())


@pytest.mark.parametrize("task", ["waypoint", "backward_dynamics", "past"])
def test_a_loss_is_the_mean_over_predicted_entries_whatever_is_computed(task, network, asked):
    values, see, predict = (
        {name: x[:300] for name, x in part.items()} if isinstance(part, dict) else part[:300]
        for part in asked[0][task]
    )
    outputs, total = evaluate.answer(network, values, see), 0.0  # every timestep of it
    for f in network.factors:
        entries = predict[..., GROUPS.index(f.group)]
        if entries.any():
            nats = -outputs[f.name].log_softmax(dim=-1)
            nats = nats.gather(-1, values[f.name][..., None])[..., 0]
            total += nats[entries].double().mean().item()
    [row] = evaluate.losses(network, {task: (values, see, predict)}).values()
    assert row["loss"] == pytest.approx(total, abs=1e-5)
