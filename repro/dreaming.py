"""How good is a dreamer? On DoorKey, where bayes.py knows the answer.

    python repro/dreaming.py --seeds=0,1,2,3,4,5      # after repro/dream.sh: a minute a seed

1. Likelihood: -log p of real test trajectories under the policy and the dynamics, in nats for each
   trajectory, beside the exact one. What is between them no student of the dreams can win back.
2. Valid: the share of dreamed transitions that MiniGrid's dynamics allow.
3. Returns: the share of dreamed returns-to-go that are what the trajectory earns.
Writes repro/results/dreaming.json. Read next: dream.sh.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bayes
import checkpoint
import configurator
import doorkey
import evaluate
import model
import worlds
from data import Trajectories

# ---- settings ------------------------------------------------------------------------------------
runs = "out/runs/dream_500"  # where dream.sh keeps the small models and the dreams
seeds = "0"  # of the runs, e.g. "0,1,2"
result = "repro/results/dreaming.json"  # the file to write
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


def main():
    torch.set_num_threads(1)
    began, rows = time.time(), {}
    for seed in seeds.split(","):
        policy, dynamics = (checkpoint.load(f"{runs}/{x}_s{seed}") for x in ("policy", "dynamics"))
        trained = checkpoint.settings(f"{runs}/policy_s{seed}")
        demos = worlds.evaluation_set(trained["dataset"], 0, trained["data_seed"], "test")
        dreams = Trajectories.load(f"{runs}/dreams_s{seed}.npz").values
        rows[seed] = {
            "nats": float(likelihood(policy, dynamics, demos).mean()),
            "exact_nats": float(exact_likelihood(demos).mean()),
            "valid": float(doorkey.valid_transitions(dreams).mean()),
            "returns_right": float((dreams["return_to_go"] == true_returns(dreams)).mean()),
        }
        print(seed, {name: round(x, 4) for name, x in rows[seed].items()}, flush=True)
    mean = {name: float(np.mean([row[name] for row in rows.values()])) for name in rows[seed]}
    command = f"python repro/dreaming.py --runs={runs} --seeds={seeds}"
    minutes = round((time.time() - began) / 60, 1)
    content = {"command": command, "minutes": minutes, "mean": mean, "seeds": rows}
    evaluate.save_json(result, content)


if __name__ == "__main__":
    configurator.apply(globals())
    main()
