"""Asked for a return, what does a model earn in Maze2D? And does it get to a place in nine steps?

    python repro/acting_maze2d.py                        # after maze2d.sh and one.sh: 30 minutes
    python repro/acting_maze2d.py --agents=dt_rc_T5      # only some; the others keep what they have
    python repro/acting_maze2d.py --agents=              # none: the figure alone

The return asked for is a multiple of that of the training episode with the nearest start, shown at
the first timestep of the window or at every one. Past actions are hidden. A model that fills in
states as well is also asked to be where a test demonstration was at the end of a window; and one
that predicts returns plans. Writes repro/results/act_maze2d.json and draws assets/act_maze2d.png.
Read next: acting.py, which does the same on DoorKey.
"""

import json
import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import configurator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import acting
import checkpoint
import files
import rollout
import run
import worlds

# ---- settings ------------------------------------------------------------------------------------
agents = (  # rows of the study; none: only draw
    "unimask_one_T5,unimask_one_T10,unimask_rc_T5,unimask_rc_T10,dt_rc_T5,dt_rc_T10"
)
study = "maze2d_medium"  # which results file says how they are trained
seed = 0  # of the models
asked = "0,0.2,0.4,0.6,0.8,1,1.2"  # times the nearest return
episodes = 300  # for each question
candidates = "1,4,16,64"  # completions to choose from at each step, K, for models that can plan
plans = 50  # episodes for each of these
runs = "out/runs"  # the folder of the checkpoints: what is missing is trained again
result = "repro/results/act_maze2d.json"  # the file to write
picture = "assets/act_maze2d.png"  # the figure
# --------------------------------------------------------------------------------------------------

SHOWN = {"first": "rc_states", "every": "rc_all_states"}  # at which timesteps the return shows
NAMES = {  # of rows, without their context
    "unimask_one": "one set of weights",
    "unimask_rc": "return-conditioned alone",
    "dt_rc": "Decision-GPT",
}


def obeyed(network, dataset, train):
    """{"first" or "every": {multiple: mean return}}."""
    found = {}
    for shown, mode in SHOWN.items():
        found[shown] = {}
        for target in rollout.parse_targets(f"x{asked.replace(',', ',x')}"):
            game = train, episodes, rollout.ROLLOUT_SEED, [mode]
            row = rollout.measure(network, dataset, *game, target=target)[mode]
            found[shown][target.removeprefix("x")] = row["return"]["mean"]
    return found


def reached(network, dataset, demos):
    """How far from the place to be in T-1 steps episodes end, in metres, means over episodes.

    goal: asked to be there. bc: asked for nothing. moved: how far the demonstrations went.
    """
    T, demos = network.config.context, demos[:episodes]
    condition = rollout.condition_of(demos, "goal", T)
    position = condition[0]["position"]  # (n, T, 2)
    states = [f for f in network.factors if f.name == "position"]
    found = {"moved": float((position[:, -1] - position[:, 0]).norm(dim=-1).mean())}
    for mode in ("goal", "bc"):
        env = worlds.environment(dataset, len(demos), rollout.ROLLOUT_SEED)
        env.start_at({name: demos.values[name][:, 0] for name in demos.values} | demos.extras)
        shown = condition if mode == "goal" else None
        values, _ = rollout.play(network, env, mode, condition=shown, horizon=T)
        found[mode] = float(rollout.arrivals(values, condition, states)["missed_position"].mean())
    return found


def measure(agent):
    """{"command", "obeyed", and where the model can "reached", "planned", "best"} of an agent."""
    folder = Path(runs, study, f"{agent}_s{seed}")
    run.restore(folder, run.results)
    network, trained = checkpoint.load(str(folder)), checkpoint.settings(str(folder))
    dataset, source = trained["dataset"], worlds.source_of(trained)
    train, _ = worlds.train_and_validation(*source)
    found = {"command": shlex.join(["python", "repro/acting_maze2d.py", *sys.argv[1:]])}
    found["obeyed"] = obeyed(network, dataset, train)
    if {f.group for f in network.predicted} >= {"STATE", "ACTION"}:
        demos = worlds.evaluation_set(*source, "test")
        found["reached"] = reached(network, dataset, demos)
    if any(f.group == "RETURN" for f in network.predicted):
        begin = lambda: worlds.environment(dataset, plans, rollout.ROLLOUT_SEED)
        found["planned"] = acting.planning(network, candidates, begin)
        game = train, episodes, rollout.ROLLOUT_SEED, ["best"]
        found["best"] = rollout.measure(network, dataset, *game)["best"]["return"]["mean"]
    return found


def draw(found, nearest):
    """Asked against earned, a panel for each way to show the return. found: {agent: measure()}."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    factors = [float(x) for x in asked.split(",")]
    rows = list(dict.fromkeys(agent.rpartition("_T")[0] for agent in found))  # a colour each
    for ax, (shown, where) in zip(
        axes, (("first", "the first timestep"), ("every", "each timestep"))
    ):
        ax.plot(factors, [x * nearest for x in factors], color="0.8", linewidth=1, zorder=0)
        ax.text(0.55, 0.45 * nearest, "as asked", color="0.4", fontsize=9)
        for agent, cells in found.items():
            row, _, T = agent.rpartition("_T")
            i = rows.index(row)
            style = {"marker": "os^vD<>*"[i % 8], "color": plt.get_cmap("viridis")(i / len(rows))}
            style["linestyle"] = "-" if T == "5" else "--"
            y = [cells["obeyed"][shown][x] for x in asked.split(",")]
            label = f"{NAMES.get(row, row)}, T={T}"
            ax.plot(factors, y, markersize=5, linewidth=1.3, label=label, **style)
        ax.set_title(f"the return shows at {where}", fontsize=11)
        ax.set_xlabel("return asked for, times that of the nearest start")
        ax.grid(axis="y", linewidth=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("return earned (m)")
    axes[1].legend(fontsize=9, frameon=False)
    with files.whole(picture) as unfinished:
        figure.savefig(unfinished, dpi=130, format="png")
    plt.close(figure)


def main():
    torch.set_num_threads(1)
    path = Path(result)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"agents": {}}
    found = before["agents"]
    if found and before["episodes"] != episodes:
        raise ValueError(f"{result} is of {before['episodes']} episodes: take another --result")
    for agent in agents.split(",") if agents else ():
        found[agent] = measure(agent)
        print(agent, found[agent], flush=True)
    dataset = study.replace("maze2d_", "maze2d-")
    train, _ = worlds.train_and_validation(dataset, 0, 0)
    env = worlds.environment(dataset, episodes, rollout.ROLLOUT_SEED)
    nearest = float(rollout.target_returns(env, train, 1.0).mean())
    files.save_json(result, {"episodes": episodes, "nearest": nearest, "agents": found})
    draw(found, nearest)


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
