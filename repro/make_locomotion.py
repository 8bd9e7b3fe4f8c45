"""Data of mixed quality: what a learner did from its first day to its last, and its best.

    python repro/make_locomotion.py                # Hopper-v5: two data sets of Minari
    python repro/make_locomotion.py --env=CartPole-v1 --name=cartpole --alive=0 --steps=60000

The learner is a linear policy, found by augmented random search (Mania et al. 2018, version V2-t):
try some directions there and back, and go along the best of them. NAME/replay-v0 is an even sample
of all episodes that it tried; NAME/expert-v0 is what its best policy does. They are Minari's local
data sets, in $MINARI_DATASETS_PATH. Read next: importing.py, which reads them; locomotion.sh.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import files

# ---- settings ------------------------------------------------------------------------------------
env = "Hopper-v5"  # of Gymnasium, with observations that are numbers
name = "hopper"  # of the data sets
steps = 400_000  # of learning
record = 300_000  # of these steps, to keep; and a sixth as many of the best policy
directions = 8  # to try in an iteration, each there and back
used = 4  # the best of them, which are followed
step_size = 0.01
noise = 0.025  # how far to try
alive = 1.0  # of each step's reward is not counted in learning: who only survives earns nothing
seed = 1
out = "out/locomotion_data"  # a folder for the statistics
# --------------------------------------------------------------------------------------------------


class Normaliser:
    """A running mean and standard deviation of observations (k,)."""

    def __init__(self, k):
        self.n, self.mean, self.squares = 0, np.zeros(k), np.zeros(k)

    def add(self, rows):
        """rows: (steps, k)."""
        n, mean, total = len(rows), rows.mean(axis=0), self.n + len(rows)
        shift = mean - self.mean
        self.squares += ((rows - mean) ** 2).sum(axis=0) + shift**2 * self.n * n / total
        self.mean, self.n = self.mean + shift * n / total, total

    def std(self):
        return np.sqrt(self.squares / max(self.n, 1)) + 1e-6 if self.n else np.ones(len(self.mean))


def play(world, policy, seed):
    """An episode of a linear policy (matrix, mean, std), as an EpisodeBuffer."""
    matrix, mean, std = policy
    space = world.action_space
    limit = gymnasium.spec(env).max_episode_steps
    observation, _ = world.reset(seed=seed)
    seen, actions, rewards, ended, cut = [observation], [], [], False, False
    while not (ended or cut):
        action = matrix @ ((observation - mean) / std)
        if isinstance(space, gymnasium.spaces.Discrete):
            action = int(action.argmax())
        else:
            action = np.clip(action, space.low, space.high).astype(np.float32)
        observation, reward, ended, _, _ = world.step(action)
        cut = len(rewards) + 1 >= limit
        seen.append(observation)
        actions.append(action)
        rewards.append(float(reward))
    flags = {"terminations": [False] * len(rewards), "truncations": [False] * len(rewards)}
    flags["terminations"][-1], flags["truncations"][-1] = ended, not ended
    arrays = {"observations": np.array(seen, np.float32), "actions": np.array(actions)}
    return EpisodeBuffer(**arrays, rewards=rewards, **flags, infos={})


def learn(world, rng):
    """Random search. Returns the episodes kept, and the policy of the best return on the way."""
    actions = gymnasium.spaces.flatdim(world.action_space)  # numbers, or classes
    shape = actions, world.observation_space.shape[0]
    matrix, normaliser = np.zeros(shape), Normaliser(shape[1])
    done, kept, episodes, best = 0, 0, [], (-np.inf, None)
    while done < steps:
        tried, earned = rng.normal(size=(directions, *shape)), np.zeros((directions, 2))
        mean, std, seen = normaliser.mean, normaliser.std(), []
        for i, sign in np.ndindex(directions, 2):
            policy = matrix + (1 - 2 * sign) * noise * tried[i], mean, std
            episode = play(world, policy, int(rng.integers(2**31)))
            n = len(episode.rewards)
            earned[i, sign] = sum(episode.rewards) - alive * n
            seen.append(episode.observations)
            done += n
            if kept < record * done / steps:
                kept += n
                episodes.append(episode)
        normaliser.add(np.concatenate(seen))
        chosen = np.argsort(-earned.max(axis=1))[:used]
        change = np.einsum("i,ikj->kj", earned[chosen, 0] - earned[chosen, 1], tried[chosen])
        matrix = matrix + step_size / (used * earned[chosen].std() + 1e-6) * change
        policy = matrix, normaliser.mean, normaliser.std()
        score = np.mean([sum(play(world, policy, seed + i).rewards) for i in range(2)])
        if score > best[0]:
            best = score, policy
        print(f"{done} steps, return {score:.0f}, best {best[0]:.0f}", flush=True)
    return episodes, best[1]


def save(world, episodes, kind):
    """Write episodes as NAME/KIND-v0. Returns their statistics."""
    spaces = {"observation_space": world.observation_space, "action_space": world.action_space}
    numbers = gymnasium.spaces.Box(-np.inf, np.inf, world.observation_space.shape, np.float32)
    if f"{name}/{kind}-v0" in minari.list_local_datasets():  # of a run that was stopped
        minari.delete_dataset(f"{name}/{kind}-v0")
    with warnings.catch_warnings(action="ignore"):  # that it has no author
        minari.create_dataset_from_buffers(
            f"{name}/{kind}-v0", episodes, env=env, **spaces | {"observation_space": numbers}
        )
    returns = np.sort([sum(episode.rewards) for episode in episodes])
    found = {"episodes": len(returns), "steps": sum(len(e.rewards) for e in episodes)}
    tenth = returns[-max(1, len(returns) // 10) :]
    means = {"mean": returns.mean(), "best_tenth": tenth.mean(), "best": returns[-1]}
    return found | {key: round(float(x), 1) for key, x in means.items()}


def main():
    began, rng = time.time(), np.random.default_rng(seed)
    world = gymnasium.make(env).unwrapped  # without the checks of each step
    episodes, policy = learn(world, rng)
    found = {"env": env, "learning_steps": steps, "seed": seed}
    found["replay"] = save(world, episodes, "replay")
    expert = []
    while sum(len(e.rewards) for e in expert) < record // 6:
        expert.append(play(world, policy, 10_000 + len(expert)))
    found["expert"] = save(world, expert, "expert")
    found["minutes"] = round((time.time() - began) / 60, 1)
    files.save_json(f"{out}/{name}.json", found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    configurator.apply(globals())
    os.makedirs(out, exist_ok=True)
    main()
