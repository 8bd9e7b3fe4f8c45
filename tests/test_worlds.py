"""Worlds by name, what worlds.py makes, and playing in any Gymnasium environment."""

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image
from runs import MODEL, good
from small import build
from test_import import write_hdf5

import rollout
import worlds
from data import Factor, Trajectories
from model import ModelConfig
from worlds import GymEnv


class Countdown(gymnasium.Env):
    """Starts at a number from 1 to 5 and counts down to 0. A step earns its action."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 3, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.np_random.integers(1, 6)
        return np.float32([self.left, 0]), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        return np.float32([self.left, 1]), float(action[0]), self.left == 0, False, {}


class Long(Countdown):
    """A Countdown that never arrives."""

    def step(self, action):
        self.left = 9
        return super().step(action)


class Named(Countdown):
    """A Countdown with a dictionary of observations and two actions, which earn their number."""

    place = gymnasium.spaces.Box(-9, 9, (2,))
    observation_space = gymnasium.spaces.Dict(place=place, room=gymnasium.spaces.Discrete(3))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        return {"place": super().reset(seed=seed)[0], "room": 2}, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left -= 1
        seen = {"place": np.float32([self.left, 1]), "room": 2}
        return seen, float(action), self.left == 0, False, {}


class Shifted(Named):
    action_space = gymnasium.spaces.Discrete(2, start=1)


class Tupled(Countdown):
    observation_space = gymnasium.spaces.Tuple([Countdown.observation_space] * 2)


gymnasium.register("Countdown-v0", Countdown, max_episode_steps=30)
gymnasium.register("Endless-v0", Countdown)
gymnasium.register("Long-v0", Long, max_episode_steps=30)
gymnasium.register("Named-v0", Named, max_episode_steps=30)
gymnasium.register("Shifted-v0", Shifted, max_episode_steps=30)
gymnasium.register("Tuple-v0", Tupled, max_episode_steps=30)
FACTORS = [
    Factor("observation", "STATE", "continuous", 2),
    Factor("action", "ACTION", "continuous", 1),
    Factor("return_to_go", "RETURN", "continuous", 2),
]
SMALL = dict(context=4, n_layer=1, n_embd=16, n_head=2, n_ff=16)


class Constant(torch.nn.Module):
    """A policy that always takes the same action, and keeps the windows that it is shown."""

    def __init__(self, action, factors=FACTORS, context=4):
        super().__init__()
        self.config, self.factors, self.action = ModelConfig(context=context), factors, action
        self.predicted = [f for f in factors if f.group == "ACTION"]
        self.device_of, self.shown = torch.nn.Parameter(torch.zeros(1)), []

    def forward(self, values, see, at):
        self.shown.append({name: value.clone() for name, value in values.items()})
        return {"action": torch.tensor([[self.action]]).repeat(len(at), 1, 1)}


def test_an_episode_that_is_over_earns_nothing():
    env, policy = GymEnv("Countdown-v0", 20, 3, FACTORS), Constant(1.0)
    starts = env.observe()["observation"][:, 0].astype(int)
    assert len(set(starts)) > 3
    values, rewards = rollout.play(policy, env)
    assert len(policy.shown) == starts.max()  # when all are over, nobody is asked any more
    # and it stays in its last state, 0, though the environment begins another episode
    left = (starts[:, None] - np.arange(30)).clip(min=0)
    np.testing.assert_array_equal(values["observation"][..., 0], left)
    np.testing.assert_array_equal(rewards, np.arange(30) < starts[:, None])
    np.testing.assert_array_equal(env.report()["length"], starts)


@pytest.mark.parametrize("action, done", [(10.0, 3.0), (-10.0, -2.0), (2.5, 2.5)])
def test_continuous_actions_are_clipped_to_the_environments_bounds(action, done):
    """To its own: an action of 2.5 is none of the usual ones, and is done as it is."""
    env, policy = GymEnv("Countdown-v0", 5, 3, FACTORS), Constant(action)
    starts = env.observe()["observation"][:, 0]
    values, rewards = rollout.play(policy, env)
    np.testing.assert_array_equal(rewards.sum(axis=1), done * starts)
    assert (values["action"][:, 0] == done).all()
    assert (policy.shown[1]["action"][:, 0] == done).all()  # remembered is what was done
    actions = np.full((2, 1), action, dtype=np.float32)
    assert (GymEnv("Countdown-v0", 2, 3, FACTORS).step(actions) == done).all()


def test_the_same_seed_plays_the_same_episodes():
    def play(seed):
        return rollout.play(Constant(1.0), GymEnv("Countdown-v0", 20, seed, FACTORS))[1]

    assert (play(3) == play(3)).all() and (play(3) != play(4)).any()


def test_a_target_counts_down_as_rewards_come_in():
    env, policy = GymEnv("Countdown-v0", 20, 3, FACTORS), Constant(1.0, context=2)
    _, rewards = rollout.play(policy, env, "rc", targets=np.full(20, 7.0))
    for t, values in enumerate(policy.shown):
        first = max(0, t - 1)
        expected = np.stack([7 - rewards[:, :first].sum(axis=1), np.full(20, first)], axis=1)
        np.testing.assert_array_equal(values["return_to_go"][:, 0], expected)


def test_targets_are_better_than_what_the_nearest_start_earned():
    env = GymEnv("Countdown-v0", 20, 3, FACTORS)
    values = {f.name: np.zeros((7, 2, f.size), dtype=np.float32) for f in FACTORS}
    values["observation"][:, 0, 0] = [3, 1, 2, 3, 4, 5, 5]
    values["return_to_go"][:, 0, 0] = [99, -12, -6, 0, 10, 20, 99]
    values["observation/known"] = np.ones((7, 2), dtype=bool)
    values["observation/known"][[0, 6], 0] = False  # of these it cannot be said where they began
    starts = env.observe()["observation"][:, 0].astype(int)
    targets = rollout.target_returns(env, Trajectories(FACTORS, values))
    np.testing.assert_allclose(targets, np.array([-10, -5, 0, 12, 24])[starts - 1])


@pytest.mark.parametrize(
    "settings",
    [{"positions": "timestep", "max_timestep": 8}, {"positions": "learned"}, {"model_type": "dt"}],
)
def test_rollouts_may_be_longer_than_anything_in_training(settings):
    env = GymEnv("Long-v0", 3, 0, FACTORS)
    _, rewards = rollout.play(build(SMALL | settings, FACTORS), env, "rc", targets=np.ones(3))
    assert rewards.shape == (3, 30) and (env.length == 30).all() and rewards[:, -1].all()


@pytest.mark.parametrize("rooms", [3, 2], ids=["all rooms known", "a room that the data lack"])
def test_dictionaries_and_classes_are_played_by_their_names(rooms):
    states = [
        Factor("place", "STATE", "continuous", 2),
        Factor("room", "STATE", "categorical", rooms),
    ]
    factors = [*states, Factor("action", "ACTION", "categorical", 2)]
    env = GymEnv("Named-v0", 20, 3, factors)
    assert env.observe()["room"].tolist() == [2] * 20
    starts = env.observe()["place"][:, 0]
    network = build(SMALL, factors)
    with torch.no_grad():  # it always takes action 1
        network.heads[0].bias[-2:] = torch.tensor([-1e4, 1e4])
    _, rewards = rollout.play(network, env, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(rewards.sum(axis=1), starts)
    factors[1] = Factor("room", "STATE", "categorical", 4)
    with pytest.raises(ValueError, match="categorical 4"):
        GymEnv("Named-v0", 2, 3, factors)


def test_a_return_that_importing_did_not_make_cannot_be_asked_for():
    cost, other = (Factor(name, "RETURN", "continuous", 2) for name in ("cost", "rtg"))
    for returns in ([other], [cost, FACTORS[2]]):
        factors = [*FACTORS[:2], *returns]
        env = GymEnv("Countdown-v0", 2, 3, factors)
        with pytest.raises(ValueError, match="knows no return_to_go as importing.py makes it"):
            rollout.play(Constant(1.0, factors), env, "rc", targets=np.ones(2))


def test_a_model_without_returns_cannot_be_given_a_target():
    network = Constant(1.0, FACTORS[:2])
    env = GymEnv("Countdown-v0", 2, 3, network.factors)
    with pytest.raises(ValueError, match="knows no return_to_go"):
        rollout.play(network, env, "rc", targets=np.ones(2))


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_what_an_environment_gives_must_be_finite(what, monkeypatch):
    def step(self, action):
        seen = np.float32([np.nan if what == "observation" else 3, 1])
        return seen, np.nan if what == "reward" else 1.0, False, False, {}

    monkeypatch.setattr(Countdown, "step", step)
    env = GymEnv("Countdown-v0", 2, 3, FACTORS[:2])
    with pytest.raises(ValueError, match=f"Countdown-v0 gave an? {what} that is not finite"):
        rollout.play(Constant(1.0, FACTORS[:2]), env)


UNFIT = {
    "Nothing-v0": "Nothing",
    "no_package:Thing-v0": "no_package",
    "Endless-v0": "time limit",
    "CartPole-v1": "continuous 4",
    "FrozenLake-v1": "categorical 16",
    "Tuple-v0": "Tuple",
}


def test_actions_that_are_not_counted_from_0_are_refused():
    states = Factor("place", "STATE", "continuous", 2), Factor("room", "STATE", "categorical", 3)
    factors = [*states, Factor("action", "ACTION", "categorical", 2), FACTORS[2]]
    GymEnv("Named-v0", 2, 0, factors)
    with pytest.raises(ValueError, match="start=1"):
        GymEnv("Shifted-v0", 2, 0, factors)


@pytest.mark.parametrize("env_id", UNFIT)
def test_an_environment_that_does_not_fit_is_refused(env_id):
    with pytest.raises(ValueError, match=UNFIT[env_id]) as error:
        GymEnv(env_id, 2, 0, FACTORS)
    assert "\n" not in str(error.value)


def test_worlds_are_found_by_name_and_others_refused():
    for name in worlds.WORLDS:
        assert worlds.find(name).environment
    for wrong in (worlds.find, lambda name: worlds.environment(name, 1, 0)):
        with pytest.raises(ValueError, match="doorkey, doorkey16, maze2d-open"):
            wrong("dorkey")
    with pytest.raises(ValueError, match="--env=Hopper-v5"):
        worlds.stage("mine.npz", None, 1, 0, FACTORS)


def test_the_command_makes_data_and_tells_what_files_hold(run_warm, tmp_path):
    """A file, and a folder of the same, which trains as well."""
    for out in ("some.npz", "below/some", "beside"):
        line = ["worlds.py", "--world=doorkey", "--n=30", "--seed=3", f"--out={out}"]
        text = good(run_warm(*line, cwd=tmp_path)).stdout
        assert f"saved to {out}" in text
        made, expected = Trajectories.load(str(tmp_path / out)), worlds.make("doorkey", 30, 3)
        assert made.factors == expected.factors and made.world == "doorkey"
        assert all((made.values[name] == x).all() for name, x in expected.values.items())
        told = good(run_warm("worlds.py", f"--file={out}", cwd=tmp_path)).stdout
        assert told.strip() and text.startswith(told)
    flags = "--dataset=beside --num_trajectories=0 --max_iters=1 --eval_sequences=10"
    good(run_warm("train.py", *MODEL, *flags.split(), "--out_dir=run", cwd=tmp_path))


def collected(env_id, episodes, policy):
    """Episodes of an environment as D4RL would store them."""
    env, rng = gymnasium.make(env_id), np.random.default_rng(0)
    made = {name: [] for name in ("observations", "actions", "rewards", "terminals", "timeouts")}
    for episode in range(episodes):
        seen, over = env.reset(seed=episode)[0], False
        while not over:
            action = policy(seen, rng)
            after, reward, terminated, truncated, _ = env.step(action)
            for row, value in zip(made.values(), (seen, action, reward, terminated, truncated)):
                row.append(value)
            seen, over = after, terminated or truncated
    return {name: np.array(rows) for name, rows in made.items()}


PLAYED = {  # environment: the episodes to import, and who plays them
    "CartPole-v1": (20, lambda seen, rng: int(seen[2] + seen[3] / 2 + rng.normal() / 2 > 0)),
    "Pendulum-v1": (5, lambda seen, rng: rng.uniform(-2, 2, 1).astype(np.float32)),
}


@pytest.mark.parametrize("env_id", PLAYED)
def test_imported_data_train_and_play_through_the_real_commands(
    env_id, run_warm, refused, tmp_path
):
    write_hdf5(tmp_path / "some.hdf5", collected(env_id, *PLAYED[env_id]))
    line = "importing.py --source=some.hdf5 --min_length=10 --out=new/some.npz"
    text = good(run_warm(*line.split(), cwd=tmp_path)).stdout
    made = Trajectories.load(str(tmp_path / "new" / "some.npz"))
    returns = made.values["return_to_go"][:, 0, 0].astype(np.float64)
    low, high = returns.min(), returns.max()
    assert f"{returns.mean():.4g} on average, from {low:.4g} to {high:.4g}" in text
    tiny = "--num_trajectories=0 --context=5 --batch_size=20 --max_iters=20 --eval_interval=10 "
    tiny += "--eval_sequences=20 --dataset=new/some.npz --out_dir=out"
    good(run_warm("train.py", *MODEL, *tiny.split(), cwd=tmp_path))
    line = ["rollout.py", "--out_dir=out", "--modes=bc,rc", "--episodes=3"]
    text = good(run_warm(*line, f"--env={env_id}", cwd=tmp_path)).stdout
    for row in text.splitlines():
        total, length = (float(part.split()[-3]) for part in row.split(","))
        if env_id == "CartPole-v1":
            assert total == length and 8 <= length <= 500
        else:
            assert length == 200 and -2000 < total < 0
    line_of_film = ["film.py", "--out_dir=out", "--episodes=2", f"--env={env_id}"]
    good(run_warm(*line_of_film, cwd=tmp_path))
    with Image.open(tmp_path / "out" / "episodes.gif") as picture:
        assert 8 <= picture.n_frames <= 41
    assert "--env" in refused(run_warm(*line, cwd=tmp_path))
    other = next(name for name in PLAYED if name != env_id)
    assert other in refused(run_warm(*line, f"--env={other}", cwd=tmp_path))
