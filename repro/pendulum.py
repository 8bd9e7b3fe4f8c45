"""Demonstrators who disagree: which head clones a policy from them? Pendulum, imported as any data.

    python repro/pendulum.py                      # 3 seeds: half an hour of one core
    python repro/pendulum.py --heads=gaussian     # only some; the others keep what they have

Of 500 episodes 60% are an expert's, who swings the pendulum up; in 20% actions are drawn at random,
in 20% somebody pushes it down wherever it is. For each head one model is trained on cloning and on
return-conditioning, with past actions and without. Asked for returns, it is asked for the expert's.
`bins` is no head: it makes 11 classes of the torque, whose probabilities hold any mixture. A
Gaussian and these classes act by what is most probable, and by samples. Writes
repro/results/pendulum.json. Read next: importing.py, rollout.py.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from gymnasium.wrappers import DiscretizeAction

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import configurator

import gymnasium
import numpy as np
import torch

import checkpoint
import files
import importing
import rollout
import run

# ---- settings ------------------------------------------------------------------------------------
heads = "mean,median,gaussian,bins"  # of train.py, and bins
seeds = "0,1,2"  # of the models
max_iters = 6000  # steps of training
demonstrations = 500  # episodes of 200 steps
expert = 0.6  # share of the expert; the two others share the rest
episodes = 200  # to play in each mode, the same for all
runs = "out/runs/pendulum"  # of the data and checkpoints, by settings; what is there stays
result = "repro/results/pendulum.json"  # the file to write
# --------------------------------------------------------------------------------------------------

ENV, CLASSES = "Pendulum-v1", 11
BINS = "PendulumBins-v1"  # the same, its torque in classes
make_bins = lambda **options: DiscretizeAction(gymnasium.make(ENV, **options), CLASSES)
gymnasium.register(BINS, make_bins, max_episode_steps=200)
MODES = ("bc", "bc_states", "rc", "rc_states")
SHAPE = "--n_embd=64 --n_layer=2 --n_head=4 --dropout=0 --norm=post --learning_rate=1e-3"
SHAPE += " --eval_interval=1000"


def act(observation, generator):
    """{demonstrator: (n, 1) torques in [-2, 2]} at observations (n, 3)."""
    cosine, sine, speed = observation.T
    energy = speed**2 / 6 + 5 * (cosine - 1)  # 0 at rest on top
    swing = -2 * np.sign(energy) * np.where(speed < 0, -1, 1)
    hold = -12 * np.arctan2(sine, cosine) - 3 * speed
    on_top = (cosine > 0.9) & (np.abs(speed) < 2.5)
    torques = {
        "expert": np.clip(np.where(on_top, hold, swing), -2, 2),
        "random": generator.uniform(-2, 2, len(speed)),
        "down": 2 * np.where(sine < 0, -1, 1),
    }
    return {name: x[:, None].astype(np.float32) for name, x in torques.items()}


def demonstrate(path):
    """Write the demonstrations as trajectories, and with classes of torques into a file beside.

    Returns {demonstrator: its mean return}.
    """
    envs = gymnasium.make_vec(ENV, num_envs=demonstrations, vectorization_mode="sync")
    generator = np.random.default_rng(0)
    shares = [expert, (1 - expert) / 2, (1 - expert) / 2]
    who = generator.choice(3, demonstrations, p=shares)  # (n,)
    rows = {"observations": [], "actions": [], "rewards": []}
    observation, _ = envs.reset(seed=0)
    for _ in range(200):
        torques = np.stack(list(act(observation, generator).values()))  # (demonstrators, n, 1)
        action = torques[who, np.arange(demonstrations)]
        after, reward, *_ = envs.step(action)
        for row, x in zip(rows.values(), (observation, action, reward)):
            row.append(x)
        observation = after
    arrays = {name: np.stack(row, axis=1) for name, row in rows.items()}  # (n, 200, ...)
    earned = arrays["rewards"].sum(axis=1)
    flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in arrays.items()}
    flat["episode_ends"] = 200 * np.arange(1, demonstrations + 1)
    classes = np.clip((flat["actions"] + 2) / 4 * CLASSES, 0, CLASSES - 1).astype(np.int64)
    plain = path.with_name("arrays.npz")
    for file, actions in (path, flat["actions"]), (path.with_name("bins.npz"), classes):
        np.savez(plain, **flat | {"actions": actions})
        importing.read(str(plain)).save(file)
    names = list(act(observation, generator))
    parts = {names[number]: earned[who == number].mean() for number in np.unique(who)}
    return {name: round(float(x), 1) for name, x in (parts | {"all": earned.mean()}).items()}


def play(network, train, mode, asked, sampled):
    """The mean return of episodes in a mode. sampled: draw actions."""
    env_id = BINS if network.predicted[-1].kind == "categorical" else ENV
    setting = ("pendulum", train, episodes, rollout.ROLLOUT_SEED, mode, str(asked), env_id)
    env, game = rollout.begin(network, *setting, sampled=False)
    if sampled:
        game["generator"] = torch.Generator().manual_seed(0)
    return rollout.play(network, env, **game)[1].sum(axis=1).mean()


def main():
    configurator.check(globals(), {"demonstrations": (30, 10_000), "expert": (0.1, 1.01)})
    configurator.check(globals(), dict.fromkeys(("max_iters", "episodes"), (1, 10**6)))
    for head in heads.split(","):
        configurator.check({"heads": head}, {"heads": ("mean", "median", "gaussian", "bins")})
    torch.set_num_threads(1)
    path = Path(result)
    folder = Path(runs, f"{demonstrations}_{expert:g}_{max_iters}")
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"heads": {}}
    content["command"] = shlex.join(["python", "repro/pendulum.py", *sys.argv[1:]])
    content["demonstrators"] = demonstrate(folder / "data.npz")
    tasks = "behavior_cloning+reward_conditioned"
    tasks += "+behavior_cloning_states+reward_conditioned_states"
    for head in heads.split(","):
        found, data = {}, folder / ("bins.npz" if head == "bins" else "data.npz")
        train, kind = importing.Trajectories.load(data), "mean" if head == "bins" else head
        for seed in seeds.split(","):
            out = folder / f"{head}_s{seed}"
            if not run.complete(out):
                flags = (
                    f"--dataset={data} --num_trajectories=0 --task={tasks} --eval_tasks={tasks} "
                )
                flags += f"--head={kind} --max_iters={max_iters} --seed={seed} --out_dir={out} "
                flags += "--overwrite=True "
                line = [sys.executable, "train.py", *(flags + SHAPE).split()]
                if subprocess.run(line).returncode:
                    raise ValueError(f"train.py did not make {out}")
            network = checkpoint.load(str(out))
            for mode in MODES:
                for sampled in (False, True) if head in ("gaussian", "bins") else (False,):
                    name = f"{mode}, sampled" if sampled else mode
                    asked = content["demonstrators"]["expert"]
                    earned = play(network, train, mode, asked, sampled)
                    found.setdefault(name, []).append(round(float(earned), 1))
        mean = {name: round(statistics.fmean(x), 1) for name, x in found.items()}
        content["heads"][head] = {"returns": mean, "seeds": found}
        print(head, mean, flush=True)
        files.save_json(result, content)


if __name__ == "__main__":
    os.chdir(ROOT)
    configurator.apply(globals())
    main()
