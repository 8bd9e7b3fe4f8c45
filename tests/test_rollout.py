"""Acting: what a policy is shown, what it earns, and the real rollout.py."""

import importlib.util
import json
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from runs import TINY, good

import doorkey
import maze2d
import rollout
import worlds
from data import Factor, Trajectories


class Replay(torch.nn.Module):
    """A policy that plays recorded actions (n, L, ...), and keeps what it was shown."""

    def __init__(self, trajectories, context):
        super().__init__()
        self.config, self.factors = SimpleNamespace(context=context), trajectories.factors
        self.device_of = torch.nn.Parameter(torch.zeros(1))
        self.action = torch.as_tensor(trajectories.values["action"])
        self.shown = []

    def forward(self, values, see, at):
        action = self.action[:, len(self.shown), None]  # (n, 1, ...)
        values, see = ({name: x.clone() for name, x in part.items()} for part in (values, see))
        self.shown.append((values, see, at))
        if action.dtype == torch.int64:  # logits of which only one action can be sampled
            action = torch.nn.functional.one_hot(action, 4) * 1e4
        return {"action": action.float()}


def doorkey_at_the_starts_of(demo):
    env = doorkey.DoorKey(len(demo), seed=0)
    first = [demo.values[name][:, 0] for name in ("agent_pos", "key_pos")]
    env.state = env.table.index[*first, 0, 0]
    return env


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(0)])
def test_replayed_actions_earn_their_return(generator):
    demo = doorkey.make_dataset(200, seed=3)
    env = doorkey_at_the_starts_of(demo)
    values, rewards = rollout.play(Replay(demo, context=10), env, generator=generator)
    np.testing.assert_array_equal(rewards.sum(axis=1), env.dataset_returns(demo))
    for name in ("agent_pos", "key_pos", "action"):  # what happened is what was recorded
        np.testing.assert_array_equal(values[name], demo.values[name])


@pytest.mark.parametrize("mode", rollout.MODES)
def test_a_policy_is_shown_the_past_and_no_more(mode):
    demo = doorkey.make_dataset(20, seed=4)
    env = doorkey_at_the_starts_of(demo)
    policy, steps = Replay(demo, context=4), torch.arange(4)
    rollout.play(policy, env, mode=mode, targets=env.dataset_returns(demo))
    assert len(policy.shown) == 10
    for t, (values, see, at) in enumerate(policy.shown):
        first = max(0, t - 3)
        now = t - first
        assert at.tolist() == [now] * 20
        past_actions = now if mode in ("bc", "rc") else 0
        returns = 1 if mode.startswith("rc") else 0  # at the window's first step
        names = {"agent_pos": now + 1, "key_pos": now + 1, "action": past_actions}
        for name, upto in (names | {"return_to_go": returns}).items():
            assert torch.equal(see[name], (steps < upto).expand(20, 4)), name
            recorded = torch.as_tensor(demo.values[name][:, first : first + upto])
            assert torch.equal(values[name][:, :upto], recorded), name
        assert torch.equal(values["timestep"][0], first + steps)


def test_a_condition_is_shown_until_the_world_gets_there():
    """A state ahead is seen, a known action is carried out, and neither outlives its timestep."""
    demo = doorkey.make_dataset(5, seed=6)
    env, policy = doorkey_at_the_starts_of(demo), Replay(demo, context=4)
    policy.action = torch.zeros(5, 10, dtype=torch.int64)
    blank = {f.name: torch.zeros(1, 4, dtype=torch.int64) for f in demo.factors}
    hidden = {f.name: torch.zeros(1, 4, dtype=torch.bool) for f in demo.factors}
    blank["agent_pos"][0, 3], hidden["agent_pos"][0, 3] = 15, True
    blank["action"][0, 1], hidden["action"][0, 1] = 2, True
    values, rewards = rollout.play(policy, env, condition=(blank, hidden), horizon=6)
    assert rewards.shape == (5, 6) and values["action"].shape == (5, 6)
    assert (values["action"][:, 1] == 2).all() and (values["action"][:, [0, 2, 3, 4, 5]] == 0).all()
    assert len(policy.shown) == 5, "nobody is asked what is known"
    for t, (shown, see, _) in zip((0, 2), policy.shown):
        assert see["agent_pos"][:, 3].all() and (shown["agent_pos"][:, 3] == 15).all(), t
        assert see["action"][:, 1].all()
    shown, see, at = policy.shown[2]  # at t=3 the world says where the agent is
    assert at[0] == 3 and torch.equal(shown["agent_pos"][:, 3], values["agent_pos"][:, 3])
    shown, see, at = policy.shown[3]  # and at t=4 nothing ahead is known any more
    assert at[0] == 3 and torch.equal(see["action"][0], torch.tensor([True, True, True, False]))
    assert torch.equal(shown["agent_pos"], values["agent_pos"][:, 1:5])


@pytest.mark.skipif(not importlib.util.find_spec("d4rl"), reason="needs requirements-maze.txt")
def test_replayed_expert_actions_earn_the_experts_return():
    demo = maze2d.make_dataset(10, seed=6)
    env = worlds.environment("maze2d-medium", 10, 0)
    first = {name: demo.values[name][:, 0] for name in ("position", "goal")}
    env.set_state(first["position"], demo.extras["start_velocity"], first["goal"])
    policy = Replay(demo, context=5)
    _, rewards = rollout.play(policy, env, mode="bc_states")
    earned = env.dataset_returns(demo)
    np.testing.assert_allclose(rewards.sum(axis=1), earned, rtol=0, atol=1e-6)
    values, see, _ = policy.shown[-1]
    recorded = torch.as_tensor(demo.values["position"][:, -5:])
    assert torch.equal(values["position"], recorded)  # the recorded path, to the bit
    assert not see["action"].any()


# ---- the bounds of actions -------------------------------------------------------------------------


class Wide(gymnasium.Env):
    """Ten steps that earn their action, which may be anything from -2 to 2."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.zeros(1, dtype=np.float32), float(action[0]), False, False, {}


gymnasium.register("Wide-v0", Wide, max_episode_steps=10)


@pytest.mark.parametrize("script", ["rollout.py", "sample.py"])
def test_actions_may_be_as_large_as_the_environment_allows(script, run_warm, tmp_path):
    """A model of somebody who always does 1.75 earns 17.5, whoever lets it act."""
    factors = [
        Factor("observation", "STATE", "continuous", 1),
        Factor("action", "ACTION", "continuous", 1),
    ]
    values = {"observation": np.zeros((20, 10, 1)), "action": np.full((20, 10, 1), 1.75)}
    values = {name: x.astype(np.float32) for name, x in values.items()}
    Trajectories(factors, values).save(str(tmp_path / "wide.npz"))
    flags = "--dataset=wide.npz --num_trajectories=0 --task=random_bc --learning_rate=1e-2 "
    flags += "--out_dir=run --max_iters=100 --eval_interval=50 --eval_tasks=behavior_cloning"
    good(run_warm("train.py", *TINY, *flags.split(), cwd=tmp_path))
    play = {"rollout.py": "--episodes=2 --modes=bc", "sample.py": "--world --samples=2"}[script]
    line = [script, "--out_dir=run", "--env=Wide-v0", *play.split()]
    text = good(run_warm(*line, cwd=tmp_path)).stdout
    earned = float(text.split("return ")[1].split()[0])
    assert earned == pytest.approx(17.5, abs=1.0)


# ---- the command -----------------------------------------------------------------------------------


def test_the_command_plays_each_mode_and_writes_what_it_prints(run_warm, refused, tmp_path):
    flags = "--out_dir=run --task=random_rc --max_iters=60 --learning_rate=1e-2"
    good(run_warm("train.py", *TINY, *flags.split(), cwd=tmp_path))
    line = ["rollout.py", "--out_dir=run", "--episodes=20"]
    text = good(run_warm(*line, "--modes=bc,bc_states,rc", cwd=tmp_path)).stdout
    played = json.loads((tmp_path / "run" / "rollouts.json").read_text())
    assert list(played) == ["bc", "bc_states", "rc"]
    for measures in played.values():
        assert set(measures) == {"return", "key", "door", "goal"}
        assert -6 <= measures["return"]["mean"] <= 10 and measures["return"]["sem"] > 0
        assert f"{measures['return']['mean']:.3f}" in text
    again = good(run_warm(*line, "--modes=bc,bc_states,rc", cwd=tmp_path)).stdout
    assert again == text, "the same episodes, and the same draws"
    texts = set()
    for target in (-5, 0.5, 10):  # a return of one's own is another question
        flags = ["--modes=rc", f"--target_return={target}"]
        texts.add(good(run_warm(*line, *flags, cwd=tmp_path)).stdout)
    assert len(texts) == 3
    assert "target_return" in refused(run_warm(*line, "--target_return=nan", cwd=tmp_path))
