"""Asked for a return, what does a model earn? On DoorKey, beside the exact posterior and the optimum.

    python repro/acting.py                     # after minigrid.sh and dream.sh: 10 minutes
    python repro/acting.py --agents=exact      # only some; the others keep what they have

Each agent is asked for the same returns in the same episodes: for numbers, for the best return that
its start allows (which the world's table tells), and, if it predicts returns, for the best that it
itself thinks possible. Actions are its most probable ones, or drawn from its probabilities. The
agent `exact` acts by the exact posterior: nobody who learns from this demonstrator can know better
what he would do. Writes repro/results/act_doorkey.json and draws assets/act_doorkey.png.
Read next: rollout.py, bayes.py.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import bayes
import checkpoint
import configurator
import doorkey
import evaluate
import rollout
import run

# ---- settings ------------------------------------------------------------------------------------
agents = (
    "exact,dream_large,dream,one,random,reward_conditioned,dt_rc"  # rows of the study, or exact
)
study = "minigrid_500"  # which results file says how they are trained
seeds = "0,1,2"  # of the models
asked = "-2,0,2,4,6,8,10"  # returns to ask for
episodes = 2000  # for each question and seed
quantile = 0.99  # of mode best
planner = "dream"  # the agent that plans as well, seed 0; "": none
candidates = "1,4,16,64"  # completions to choose from at each step, K
plans = 200  # episodes for each of these
runs = "out/runs"  # the folder of the checkpoints: what is missing is trained again
result = "repro/results/act_doorkey.json"  # the file to write
picture = "assets/act_doorkey.png"  # the figure
# --------------------------------------------------------------------------------------------------

FEASIBLE = "best feasible"  # the best return that the start allows
OWN = "best"  # the best that the model itself thinks possible
NAMES = {
    "exact": "exact posterior",
    "dream_large": "dreams, larger",
    "dream": "dreams",
    "random": "random masks",
    "reward_conditioned": "return-conditioned alone",
    "dt_rc": "Decision-GPT",
}


def load(agent, seed):
    """The network of an agent. If its checkpoint is lost, it is trained again."""
    if agent == "exact":
        return bayes.ExactModel(returns=True)
    folder = Path(runs, study, f"{agent}_s{seed}")
    run.restore(folder)
    return checkpoint.load(str(folder))


def earned(network, question, sampled, seed):
    """The mean return of episodes in which a network is asked a question, and how many reach the goal."""
    env = doorkey.DoorKey(episodes, rollout.ROLLOUT_SEED)
    targets, mode = None, "rc"
    if question in ("bc", OWN):
        mode = question
    elif question == FEASIBLE:
        targets = doorkey.best_return(env.state).astype(float)
    else:
        targets = np.full(episodes, float(question))
    generator = torch.Generator().manual_seed(seed) if sampled else None
    _, rewards = rollout.play(network, env, mode, targets, generator, quantile=quantile)
    return {"return": float(rewards.sum(axis=1).mean()), "goal": float(env.at_goal.mean())}


def questions_of(network):
    own = [OWN] if any(f.group == "RETURN" for f in network.predicted) else []
    return ["bc", *asked.split(","), FEASIBLE, *own]


def measure(agent):
    """{question: {"most probable", "sampled": {"return", "goal": {"mean", "std"}}}}."""
    found = {}
    for seed in [0] if agent == "exact" else map(int, seeds.split(",")):
        network = load(agent, seed)
        for question in questions_of(network):
            network.returns = question == OWN  # the exact posterior of returns takes a while
            for how in ("most probable", "sampled"):
                numbers = earned(network, question, how == "sampled", seed)
                for name, x in numbers.items():
                    cell = found.setdefault(question, {}).setdefault(how, {})
                    cell.setdefault(name, []).append(x)
        print(agent, seed, flush=True)
    for ways in found.values():
        for cell in ways.values():
            for name, x in cell.items():
                spread = statistics.stdev(x) if len(x) > 1 else None
                cell[name] = {"mean": statistics.fmean(x), "std": spread}
    return found


def planning(network):
    """{K: {"return", "ms"}}: what planning earns in the first episodes, and its cost for an action."""
    found = {}
    for k in map(int, candidates.split(",")):
        env, generator = doorkey.DoorKey(plans, rollout.ROLLOUT_SEED), torch.Generator()
        began = time.time()
        _, rewards = rollout.play(network, env, "plan", generator=generator, candidates=k)
        ms = 1000 * (time.time() - began) / plans / env.horizon
        found[k] = {"return": float(rewards.sum(axis=1).mean()), "ms": round(ms, 2)}
        print("plan", k, found[k], flush=True)
    return found


def draw(found, optimum):
    """Asked against earned, a panel for the most probable and one for sampled actions."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    numbers = [float(x) for x in asked.split(",")]
    shown = [agent for agent in NAMES if agent in found]
    for ax, how in zip(axes, ("most probable", "sampled")):
        ax.plot(numbers, numbers, color="0.8", linewidth=1, zorder=0)
        ax.axhline(optimum, color="0.5", linestyle=":", linewidth=1)
        ax.text(numbers[0], optimum + 0.12, "optimum", color="0.4", fontsize=9)
        for i, agent in enumerate(shown):
            color = "black" if agent == "exact" else plt.get_cmap("viridis")(i / len(shown))
            y = [found[agent][x][how]["return"]["mean"] for x in asked.split(",")]
            style = {"color": color, "marker": "os^vD<>"[i], "markersize": 5, "linewidth": 1.3}
            ax.plot(numbers, y, label=NAMES[agent], **style)
            best = found[agent][FEASIBLE][how]["return"]["mean"]
            ax.plot([numbers[-1] + 1.5], [best], **style)
        ax.set_xticks([*numbers, numbers[-1] + 1.5], [*asked.split(","), "best\nfeasible"])
        ax.set_title(f"{how} actions", fontsize=11)
        ax.set_xlabel("return asked for")
        ax.grid(axis="y", linewidth=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("return earned")
    axes[1].legend(fontsize=9, frameon=False)
    figure.savefig(picture, dpi=130)
    plt.close(figure)


def main():
    torch.set_num_threads(1)
    began, path = time.time(), Path(result)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"agents": {}}
    found, plan = before["agents"], before.get("plan")
    for agent in agents.split(",") if agents else ():
        found[agent] = measure(agent)
    if planner:
        starts = doorkey.DoorKey(plans, rollout.ROLLOUT_SEED).state
        best = float(doorkey.best_return(starts).mean())
        plan = {"agent": planner, "episodes": plans, "optimum": best}
        plan["candidates"] = planning(load(planner, 0))
    starts = doorkey.DoorKey(episodes, rollout.ROLLOUT_SEED).state
    content = {
        "command": f"python repro/acting.py --seeds={seeds} --planner={planner}",
        "minutes": round((time.time() - began) / 60, 1),
        "episodes": episodes,
        "optimum": float(doorkey.best_return(starts).mean()),
        "agents": {agent: found[agent] for agent in NAMES if agent in found},
        "plan": plan,
    }
    evaluate.save_json(result, content)
    draw(found, content["optimum"])


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
