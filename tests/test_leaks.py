"""The leak detector: no honest model is below the Bayes limit, and a model that peeks is caught."""

import os

import pytest
import torch

import doorkey
import evaluate
import masks
from model import load

WEIGHTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "assets", "minigrid_infinite")
PER_TASK = 2500  # 20,000 sequences over the eight tasks


@pytest.fixture(scope="module")
def asked():
    test = doorkey.make_dataset(PER_TASK, seed=4321)
    questions = evaluate.questions(test, masks.MIXTURE, PER_TASK, context=10, seed=7)
    return questions, evaluate.limits(test, questions)


@pytest.fixture(scope="module")
def network():
    return load(WEIGHTS)


class Peeking(torch.nn.Module):
    """A model that is shown, by mistake, every state one timestep after those it should see."""

    def __init__(self, network):
        super().__init__()
        self.network, self.config, self.factors = network, network.config, network.factors

    def forward(self, values, see, only=slice(None)):
        see = see.clone()
        see[:, 1:, masks.STATE] |= see[:, :-1, masks.STATE]
        return self.network(values, see, only)


def test_no_task_of_a_trained_model_is_below_the_limit(network, asked):
    results = evaluate.losses(network, *asked)
    assert evaluate.leaks(results) == []
    # the weights are near the limit everywhere, so that even a small leak would show
    assert all(row["gap"] < 0.05 for row in results.values())


def test_a_model_that_sees_the_next_state_is_caught(network, asked):
    questions, exact = asked
    some = ("behavior_cloning", "reward_conditioned", "waypoint")
    results = evaluate.losses(Peeking(network), {task: questions[task] for task in some}, exact)
    assert evaluate.leaks(results) == list(some)
    assert all(row["gap"] < -10 * row["gap_se"] for row in results.values())


@pytest.mark.parametrize("task", ["waypoint", "backward_dynamics", "past"])
def test_a_loss_is_the_mean_over_predicted_entries_whatever_is_decoded_of_them(task, network, asked):
    values, see, predict = asked[0][task]
    outputs, total = evaluate.answer(network, values, see), 0.0  # every timestep of it
    for f in network.factors:
        entries = predict[..., ("STATE", "ACTION", "RETURN").index(f.group)]
        if entries.any():
            chosen = outputs[f.name].log_softmax(dim=-1).gather(-1, values[f.name][..., None])[..., 0]
            total -= chosen[entries].double().mean().item()
    [row] = evaluate.losses(network, {task: asked[0][task]}).values()
    assert row["loss"] == pytest.approx(total, abs=1e-5)
