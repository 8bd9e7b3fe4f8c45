"""Asked for a return, what does a model earn? On DoorKey, beside the exact posterior and the optimum.

    python repro/acting.py                     # after minigrid.sh, one.sh and dream.sh, also LARGE=1
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
import shlex
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
import files
import rollout
import run
import worlds

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
runs = "out/runs"  # of the checkpoints: lost ones are trained again, but for dreams (dream.sh)
result = "repro/results/act_doorkey.json"  # the file to write
picture = "assets/act_doorkey.png"  # the figure
# --------------------------------------------------------------------------------------------------

NAMES = {
    "exact": "exact posterior",
    "dream_large": "dreams, larger",
    "dream": "dreams",
    "one": "one set of weights",
    "random": "random masks",
    "reward_conditioned": "return-conditioned alone",
    "dt_rc": "Decision-GPT",
}


def load(agent, seed):
    """The network of an agent. A lost checkpoint is trained again, if its data are there."""
    if agent == "exact":
        return bayes.ExactModel(returns=True)
    folder = Path(runs, study, f"{agent}_s{seed}")
    run.restore(folder, run.results)
    return checkpoint.load(str(folder))


def play(network, question, sampled, seed):
    """(return, share that reaches the goal) of episodes in which a network is asked a question.

    question: "bc", "best" (of its own), "feasible" (what the start allows) or a return.
    """
    env = doorkey.DoorKey(episodes, rollout.ROLLOUT_SEED)
    targets, mode = None, question if question in ("bc", "best") else "rc"
    if question == "feasible":
        targets = doorkey.best_return(env.state).astype(float)
    elif mode == "rc":
        targets = np.full(episodes, float(question))
    generator = torch.Generator().manual_seed(seed) if sampled else None
    _, rewards = rollout.play(network, env, mode, targets, generator, quantile=quantile)
    return float(rewards.sum(axis=1).mean()), float(env.at_goal.mean())


def earned(network, seed):
    """{"asked": {return: earned}, "bc_sampled", "best_feasible_sampled", ...}: see measure()."""
    numbers, demos = {}, worlds.evaluation_set("doorkey", 0, 0, "test")
    for how in ("argmax", "sampled"):
        asks = lambda question: play(network, question, how == "sampled", seed)
        returns = {question: asks(question)[0] for question in asked.split(",")}
        numbers["asked" if how == "sampled" else "asked_argmax"] = returns
        numbers[f"bc_{how}"] = asks("bc")[0]
        numbers[f"best_feasible_{how}"], goal = asks("feasible")
        numbers["goal_reached" if how == "argmax" else "goal_reached_sampled"] = goal
        if any(f.group == "RETURN" for f in network.predicted):
            network.returns = True  # which the exact posterior gives only if it is told to
            numbers["best" if how == "argmax" else "best_sampled"] = asks("best")[0]
            network.returns = False
        if network.config.model_type != "dt":
            game = dict(episodes=episodes, seed=rollout.ROLLOUT_SEED, modes=rollout.AHEAD)
            game |= dict(demos=demos, sampled=how == "sampled")
            for mode, measures in rollout.measure(network, "doorkey", None, **game).items():
                numbers[f"{mode}_{how}"] = measures["met_agent_pos"]["mean"]
    return numbers


def measure(agent):
    """What an agent earns, means over seeds, and their standard deviations as "std".

    asked: by sampled actions; asked_argmax: by the most probable ones. bc: asked for nothing.
    best_feasible: for the best return that the start allows; goal_reached: how many are then at the
    goal. best: for what the model itself thinks possible; by its most probable actions.
    goal, waypoint: asked to be where a test demonstration was, the share of places that the agent
    is at in time. "seeds": those of the list that the study has.
    """
    lines = run.read_results(ROOT / "repro" / "results" / f"{study}.jsonl")
    has = {line["seed"] for line in lines if line["row"] == agent}
    own = [0] if agent == "exact" else [s for s in map(int, seeds.split(",")) if s in has]
    if not own:
        raise ValueError(f"{study} has no line of the row {agent!r} with one of the seeds {seeds}")
    of_seed = []
    for seed in own:
        of_seed.append(earned(load(agent, seed), seed))
        print(agent, seed, of_seed[-1], flush=True)
    combine = lambda how, rows: {
        key: combine(how, [row[key] for row in rows]) if isinstance(rows[0][key], dict)
        else how([row[key] for row in rows]) for key in rows[0]
    }  # fmt: skip
    spread = combine(statistics.stdev, of_seed) if len(own) > 1 else None
    return combine(statistics.fmean, of_seed) | {"std": spread, "seeds": own}


def planning(network, candidates, begin):
    """{K: {"return", "ms"}}: what planning earns in the episodes of begin(), and an action's cost."""
    found = {}
    for k in map(int, candidates.split(",")):
        env, generator = begin(), torch.Generator()
        began = time.time()
        _, rewards = rollout.play(network, env, "plan", generator=generator, candidates=k)
        ms = 1000 * (time.time() - began) / env.n / env.horizon
        found[k] = {"return": float(rewards.sum(axis=1).mean()), "ms": round(ms, 2)}
        print("plan", k, found[k], flush=True)
    return found


def draw(found, optimum):
    """Asked against earned, a panel for the most probable and one for sampled actions."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    numbers = [float(x) for x in asked.split(",")]
    shown = [agent for agent in NAMES if agent in found]
    for ax, how in zip(axes, ("argmax", "sampled")):
        ax.plot(numbers, numbers, color="0.8", linewidth=1, zorder=0)
        ax.axhline(optimum, color="0.5", linestyle=":", linewidth=1)
        ax.text(numbers[0], optimum + 0.12, "optimum", color="0.4", fontsize=9)
        ax.text(
            numbers[-1] - 0.5, numbers[-1] - 0.2, "as asked", color="0.4", fontsize=9, ha="right"
        )
        for i, agent in enumerate(shown):
            color = "black" if agent == "exact" else plt.get_cmap("viridis")(i / len(shown))
            of_each = found[agent]["asked" if how == "sampled" else "asked_argmax"]
            style = {"color": color, "marker": "os^vD<>"[i], "markersize": 5, "linewidth": 1.3}
            y = [of_each[x] for x in asked.split(",")]
            ax.plot(numbers, y, label=NAMES[agent], **style)
            ax.plot([numbers[-1] + 1.5], [found[agent][f"best_feasible_{how}"]], **style)
        words = [*asked.replace("-", "−").split(","), "best\nfeasible"]
        ax.set_xticks([*numbers, numbers[-1] + 1.5], words)
        title = "drawn actions" if how == "sampled" else "most probable actions"
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("return asked for")
        ax.grid(axis="y", linewidth=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("return earned")
    axes[1].legend(fontsize=9, frameon=False)
    with files.whole(picture) as unfinished:
        figure.savefig(unfinished, dpi=130, format="png")
    plt.close(figure)


def main():
    torch.set_num_threads(1)
    path = Path(result)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"agents": {}}
    found, plan = before["agents"], before.get("plan")
    if found and before["episodes"] != episodes:
        raise ValueError(f"{result} is of {before['episodes']} episodes: take another --result")
    for agent in agents.split(",") if agents else ():
        found[agent] = measure(agent)
    if planner:
        begin = lambda: doorkey.DoorKey(plans, rollout.ROLLOUT_SEED)
        best = float(doorkey.best_return(begin().state).mean())
        plan = {"agent": planner, "episodes": plans, "optimum": best}
        plan["candidates"] = planning(load(planner, 0), candidates, begin)
    env = doorkey.DoorKey(episodes, rollout.ROLLOUT_SEED)
    demos = worlds.evaluation_set("doorkey", 0, 0, "test")
    content = {
        "last_command": shlex.join(["python", "repro/acting.py", *sys.argv[1:]]),
        "episodes": episodes,
        "optimum": float(doorkey.best_return(env.state).mean()),
        "demonstrator": float(env.dataset_returns(demos).mean()),
        "agents": {agent: found[agent] for agent in NAMES if agent in found},
        "plan": plan,
    }
    files.save_json(result, content)
    draw(found, content["optimum"])


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
