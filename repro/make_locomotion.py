"""Data of mixed quality: all that a learner did from its first day to its last, and its best.

    pip install stable-baselines3==2.9.2 "minari[create]"                # for this script alone
    python repro/make_locomotion.py                # Hopper-v5, 300,000 steps
    python repro/make_locomotion.py --env=Pendulum-v1 --steps=20000 --name=pendulum

Soft actor-critic learns, and Minari records: NAME/replay-v0 is every step of the learning, with its
exploration; NAME/expert-v0 is what the best policy does without. They are Minari's local data sets,
under $MINARI_DATASETS_PATH. Read next: importing.py, which reads them; repro/locomotion.sh.
"""

import json
import os
import sys
import time
from pathlib import Path

import gymnasium
import minari
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import EvalCallback

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

# ---- settings ------------------------------------------------------------------------------------
env = "Hopper-v5"  # with actions that are numbers
name = "hopper"  # of the data sets
steps = 300_000  # of learning, all of them recorded
expert_steps = 50_000  # to record of the best policy, at least
width = 128  # of the two hidden layers of each network
every = 2  # steps from one update of them to the next
learning_rate = 5e-4
seed = 0
out = "out/locomotion"  # a folder for the best policy and the statistics
# --------------------------------------------------------------------------------------------------


def main():
    torch.set_num_threads(1)
    began = time.time()
    recorder = minari.DataCollector(gymnasium.make(env))
    best = EvalCallback(
        gymnasium.make(env), eval_freq=max(1, steps // 30), n_eval_episodes=5,
        best_model_save_path=f"{out}/{name}",
    )  # fmt: skip
    options = {"train_freq": every, "learning_rate": learning_rate, "seed": seed}
    learner = SAC("MlpPolicy", recorder, policy_kwargs={"net_arch": [width, width]}, **options)
    learner.learn(steps, callback=best)
    saved = {"replay": save(recorder, "replay")}
    recorder = minari.DataCollector(gymnasium.make(env))
    play(recorder, SAC.load(f"{out}/{name}/best_model"))
    saved["expert"] = save(recorder, "expert")
    minutes = round((time.time() - began) / 60, 1)
    found = {"env": env, "steps": steps, "seed": seed, "minutes": minutes} | saved
    with configurator.whole_file(f"{out}/{name}.json") as unfinished:
        Path(unfinished).write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found, indent=1))


def play(recorder, policy):
    """Whole episodes of a policy without exploration, until there are expert_steps."""
    played = 0
    while played < expert_steps:
        observation, _ = recorder.reset(seed=seed + played)
        over = False
        while not over:
            action, _ = policy.predict(observation, deterministic=True)
            observation, _, ended, cut, _ = recorder.step(action)
            played, over = played + 1, ended or cut


def save(recorder, kind):
    """Write what was recorded as NAME/KIND-v0. Returns its statistics."""
    made = recorder.create_dataset(f"{name}/{kind}-v0", algorithm_name="SAC")
    returns = sorted(float(episode.rewards.sum()) for episode in made.iterate_episodes())
    tenth = returns[-max(1, len(returns) // 10) :]
    mean = lambda numbers: round(sum(numbers) / len(numbers), 1)
    found = {"episodes": len(returns), "steps": int(made.total_steps), "mean": mean(returns)}
    return found | {"best_tenth": mean(tenth), "best": mean(returns[-1:])}


if __name__ == "__main__":
    configurator.apply(globals())
    os.makedirs(out, exist_ok=True)
    main()
