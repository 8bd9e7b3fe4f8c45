"""How good is a dreamer? On DoorKey, where bayes.py knows the answer.

    python repro/dreaming.py --seeds=0,1,2,3,4,5      # after repro/dream.sh: seconds a seed

1. Likelihood: -log p of real test trajectories under the policy and the dynamics, in nats for each
   trajectory, beside the exact one, and of all seeds averaged. What is between them no student of
   the dreams can win back.
2. Valid: the share of dreamed transitions that MiniGrid's dynamics allow.
3. Returns: the share of dreamed returns-to-go that are what the trajectory earns.
2 and 3 are of those seeds whose dreams are there. Writes repro/results/dreaming.json, and draws,
with the results of dream.sh, what the dreamer knows, what its student keeps of it, and what more
dreams bring. Read next: dream.sh.
"""

import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import configurator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import bayes
import checkpoint
import doorkey
import evaluate
import files
import masks
import model
import run
import worlds
from data import Trajectories
from ensemble import Ensemble

# ---- settings ------------------------------------------------------------------------------------
runs = "out/runs/dream_500"  # where dream.sh keeps the small models and the dreams
seeds = "0"  # of the runs, e.g. "0,1,2"
result = "repro/results/dreaming.json"  # the file to write
picture = ""  # a file to draw to, e.g. assets/dreams.png
# --------------------------------------------------------------------------------------------------


def likelihood(policy, dynamics, demos):
    """(N,) nats: -log p(actions and states after the first) of whole trajectories, by the dreamer."""
    values, n, L = demos.tensors(), len(demos), int(demos.lengths[0])
    t, nats = torch.arange(L), torch.zeros(n, dtype=torch.float64)
    for now in range(L):
        questions = [(policy, t <= now, t < now, now)]
        if now + 1 < L:
            questions.append((dynamics, t == now, t == now, now + 1))
        for network, states, actions, at in questions:
            see = torch.stack([states, actions, torch.zeros(L, dtype=torch.bool)], dim=-1)
            at = torch.full((n,), at)
            outputs = evaluate.answer(network, values, see.expand(n, L, 3), at)
            entries = model.entry_losses(network, outputs, values, at)
            group = "ACTION" if network is policy else "STATE"
            nats += sum(entries[f.name][:, 0] for f in network.predicted if f.group == group)
    return nats


def exact_likelihood(demos):
    """(N,) nats: the same by the world itself, given the first state."""
    n, L = len(demos), int(demos.lengths[0])
    everything, start = torch.zeros(2, n, L, 3, dtype=torch.bool)
    everything[..., :2] = True
    start[:, 0, 0] = True
    return bayes.log_likelihood(demos, start) - bayes.log_likelihood(demos, everything)


def true_returns(values, size=6):
    """(N, L) classes of return_to_go that dreamed states and actions really earn; -1: impossible."""
    table = doorkey.table(size)
    states = table.index[values["agent_pos"], values["key_pos"]]
    states = states.reshape(*values["action"].shape, 4).max(axis=-1)  # (N, L), -1: unreachable
    last = table.successor[states[:, -1], values["action"][:, -1]]
    earned = table.distance[states] - table.distance[last][:, None] + doorkey.RETURN_OFFSET[size]
    return np.where((states >= 0) & (states[:, -1:] >= 0), earned, -1)


def gaps_of(study, row):
    """{task: [gap of each seed]} of a row of a results file."""
    lines = run.read_results(Path("repro/results", f"{study}.jsonl"))
    losses = [line["results"]["best"]["losses"] for line in lines if line["row"] == row]
    return {task: [x[task]["gap"] for x in losses] for task in masks.EIGHT if losses}


def draw(content):
    """How far dreamers are from the world, what the student keeps of its dreamer, how many dreams."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    colors = plt.get_cmap("viridis")([0.2, 0.35, 0.7])
    world, nats = content["mean"]["exact_nats"], [content["averaged_nats"], content["mean"]["nats"]]
    names = [f"{len(content['seeds'])} dreamers\naveraged", "one dreamer"]
    axes[0].barh(names, [x - world for x in nats], 0.5, color=colors)
    words = f"nats of a real trajectory, beyond the world's {world:.2f}"
    axes[0].set_title(words, fontsize=10)
    alone = [gaps_of("dream_500", "policy"), gaps_of("dream_500", "dynamics")]
    student, wide = gaps_of("minigrid_500", "dream"), 0.38
    for x, (task, teacher) in enumerate(zip(("behavior_cloning", "forward_dynamics"), alone)):
        for side, gaps in enumerate((teacher, student)):
            label = ("the dreamer", "its student")[side] if x == 0 else None
            height = statistics.fmean(gaps[task])
            axes[1].bar(x + side * wide, height, wide, color=colors[side + 1], label=label)
    axes[1].set_xticks([wide / 2, 1 + wide / 2], ["BC", "forward dynamics"])
    axes[1].set_title("gap to the exact limit (nats)", fontsize=10)
    axes[1].legend(frameon=False, fontsize=9)
    of_number = {500: ("dream_500", "dream_500"), 5000: ("dream_500", "dream_5000")}
    of_number[50_000] = ("minigrid_500", "dream")
    found = {n: gaps_of(*place) for n, place in of_number.items()}
    sums = {n: sum(gaps[0] for gaps in each.values()) for n, each in found.items() if each}
    axes[2].plot(list(sums), list(sums.values()), marker="o", color=colors[2])
    axes[2].set_xscale("log")
    axes[2].set_xticks(list(sums), [f"{n:,}" for n in sums])
    axes[2].minorticks_off()
    axes[2].set_ylim(0)
    axes[2].set_title("sum of gaps (nats) by number of dreams, seed 0", fontsize=10)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    with files.whole(picture) as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")
    plt.close(figure)


def main():
    torch.set_num_threads(1)
    began, rows, networks = time.time(), {}, {"policy": [], "dynamics": []}
    for seed in seeds.split(","):
        policy, dynamics = (checkpoint.load(f"{runs}/{x}_s{seed}") for x in networks)
        networks["policy"].append(policy)
        networks["dynamics"].append(dynamics)
        trained = checkpoint.settings(f"{runs}/policy_s{seed}")
        demos = worlds.evaluation_set(trained["dataset"], 0, trained["data_seed"], "test")
        rows[seed] = {
            "nats": float(likelihood(policy, dynamics, demos).mean()),
            "exact_nats": float(exact_likelihood(demos).mean()),
        }
        if os.path.exists(f"{runs}/dream_s{seed}.npz"):
            dreams = Trajectories.load(f"{runs}/dream_s{seed}.npz").values
            right = dreams["return_to_go"] == true_returns(dreams)
            rows[seed]["valid"] = float(doorkey.valid_transitions(dreams).mean())
            rows[seed]["returns_right"] = float(right.mean())
        print(seed, {name: round(x, 4) for name, x in rows[seed].items()}, flush=True)
    mean = {}
    for name in ("nats", "exact_nats", "valid", "returns_right"):
        known = [row[name] for row in rows.values() if name in row]
        mean |= {name: statistics.fmean(known)} if known else {}
    averaged = [Ensemble(same).eval() for same in networks.values()]  # their mean probabilities
    content = {
        "command": f"python repro/dreaming.py --runs={runs} --seeds={seeds}",
        "minutes": round((time.time() - began) / 60, 1),
        "mean": mean,
        "averaged_nats": float(likelihood(*averaged, demos).mean()),
        "seeds": rows,
    }
    files.save_json(result, content)
    if picture:
        draw(content)


if __name__ == "__main__":
    configurator.apply(globals())
    main()
