"""The rollout harness itself: what it shows a policy, and that a policy gets the return that its actions earn."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import data
import doorkey
import evaluate


class Replay(torch.nn.Module):
    """A policy that plays recorded actions (n, L, ...), whatever it is shown, and remembers what that was."""

    def __init__(self, trajectories, context):
        super().__init__()
        self.config, self.factors = SimpleNamespace(context=context), trajectories.factors
        self.device_of = torch.nn.Parameter(torch.zeros(1))
        self.action = torch.as_tensor(trajectories.values["action"])
        self.shown = []

    def forward(self, values, see, only):
        action = self.action[:, len(self.shown), None]  # (n, 1, ...)
        self.shown.append(({name: value.clone() for name, value in values.items()}, see.clone(), only))
        if action.dtype == torch.int64:  # logits of which only one action can be sampled
            action = torch.nn.functional.one_hot(action, 4) * 1e4
        return {"action": action.float()}


def test_replayed_doorkey_actions_earn_their_return():
    demo = doorkey.make_dataset(200, seed=3)
    env = doorkey.DoorKey(200, seed=0)
    env.state = env.table.index[demo.values["agent_pos"][:, 0], demo.values["key_pos"][:, 0], 0, 0]
    rewards = evaluate.rollout(Replay(demo, context=10), env, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(rewards.sum(axis=1), env.dataset_returns(demo))


def test_a_policy_is_shown_the_past_and_no_more():
    demo = doorkey.make_dataset(20, seed=4)
    env = doorkey.DoorKey(20, seed=0)
    env.state = env.table.index[demo.values["agent_pos"][:, 0], demo.values["key_pos"][:, 0], 0, 0]
    policy = Replay(demo, context=4)
    evaluate.rollout(policy, env, mode="rc", targets=env.dataset_returns(demo))
    for t, (values, see, only) in enumerate(policy.shown):
        first = max(0, t - 3)
        now = t - first
        assert only == slice(now, now + 1)
        steps = torch.arange(4)
        assert torch.equal(see[..., 0], (steps <= now).expand(20, 4))
        assert torch.equal(see[..., 1], (steps < now).expand(20, 4))
        assert torch.equal(see[..., 2], (steps == 0).expand(20, 4))
        for name, upto in (("agent_pos", now + 1), ("key_pos", now + 1), ("action", now), ("return_to_go", 1)):
            recorded = torch.as_tensor(demo.values[name][:, first : first + upto])
            assert torch.equal(values[name][:, :upto], recorded), name
        assert torch.equal(values["timestep"][0], first + steps)


@pytest.mark.skipif(importlib.util.find_spec("d4rl") is None, reason="d4rl is not installed (requirements-maze.txt)")
def test_replayed_expert_actions_earn_the_experts_return():
    demo = data.make("maze2d-medium", 20, seed=6)
    env = data.environment("maze2d-medium", 20, seed=0)
    first = {name: demo.values[name][:, 0] for name in ("position", "goal")}
    env.set_state(first["position"], demo.extras["start_velocity"], first["goal"])
    policy = Replay(demo, context=5)
    rewards = evaluate.rollout(policy, env, mode="bc_states")
    np.testing.assert_allclose(rewards.sum(axis=1), env.dataset_returns(demo), rtol=0, atol=1e-6)
    values, see, _ = policy.shown[-1]
    recorded = torch.as_tensor(demo.values["position"][:, -5:])
    assert torch.equal(values["position"], recorded)  # the last window holds the recorded path, to the bit
    assert not see[..., 1].any()
