"""How long will it take? A few steps, an evaluation and the last episodes of each line of a script.

    LIST=1 PAPER=1 SEEDS="0 1" bash repro/minigrid.sh | python repro/cost.py

Prints a row for each line and the sum. It counts processor time, so that a busy machine matters
little, of one thread. Seeds cost the same, and are timed once. Without what it takes to begin, to
write checkpoints, and DoorKey's 40,000 test questions: seconds a line. Read next: run.py.
"""

import math
import os
import shlex
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import configurator

import torch

import bench
import evaluate
import files
import rollout
import run

# ---- settings ------------------------------------------------------------------------------------
steps = 16  # of training to time, after two others
result = ""  # a file for the numbers, JSON
# --------------------------------------------------------------------------------------------------

APART = ("out_dir", "init_from", "seed")  # what makes no difference to the time


def cost(config, modes):
    """{"step_ms", "evaluation_s", "final_s"} of train.py's settings; modes: those played at last."""
    changed = {k: v for k, v in config.items() if v != run.train_defaults()[k] and k not in APART}
    evaluated = {name: config[name] for name in ("eval_tasks", "eval_sequences")}
    training = bench.training(changed | evaluated)
    bench.steps(training, 2)
    step = seconds(lambda: bench.steps(training, steps)) / steps
    network = training.evaluated.eval()
    asked = lambda: evaluate.losses(network, training.questions, training.limits)
    evaluation, final, episodes = seconds(asked), 0.0, config["eval_rollouts"]
    if episodes:
        game = config["dataset"], training.train
        play = lambda n, modes: rollout.measure(network, *game, n, rollout.SELECTION_SEED, modes)
        evaluation += seconds(lambda: play(episodes, rollout.parse_modes(config["eval_modes"])))
        # the best checkpoint plays each mode again, in more episodes
        final = len(modes) * seconds(lambda: play(run.rollouts, modes[:1]))
    return {"step_ms": 1000 * step, "evaluation_s": evaluation, "final_s": final}


def seconds(function):
    """Of processor time."""
    began = time.process_time()
    function()
    return time.process_time() - began


def main():
    torch.set_num_threads(1)
    found, known = [], {}
    for line in sys.stdin:
        arguments = shlex.split(line)[2:]
        if not line.startswith("python repro/run.py "):
            print(f"not timed: {line.strip()[:100]}")
            continue
        vars(run).update(configurator.override(run.OWN, run.split(arguments)[0]))
        config = run.train_settings(arguments)
        modes = rollout.parse_modes(run.modes or config["eval_modes"])
        same = {k: v for k, v in config.items() if k not in (*APART, "learning_rate")}
        key = str((same, run.rollouts, modes))
        if key not in known:
            known[key] = cost(config, modes)
        evaluations = math.ceil(config["max_iters"] / config["eval_interval"]) + 1
        row = {"row": run.row, "seed": config["seed"], "steps": config["max_iters"]} | known[key]
        whole = row["steps"] * row["step_ms"] / 1000 + evaluations * row["evaluation_s"]
        found.append(row | {"evaluations": evaluations, "minutes": (whole + row["final_s"]) / 60})
        numbers = f"{row['step_ms']:7.1f} ms a step, {row['evaluation_s']:6.2f} s an evaluation"
        print(f"{run.row:36s} {numbers}: {found[-1]['minutes']:7.1f} minutes", flush=True)
    hours = sum(row["minutes"] for row in found) / 60
    print(f"{len(found)} lines, {hours:.1f} core-hours")
    if result:
        rounded = [{k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}
                   for row in found]  # fmt: skip
        files.save_json(result, {"core_hours": round(hours, 2), "lines": rounded})


if __name__ == "__main__":
    os.chdir(run.ROOT)
    configurator.apply(globals())
    main()
