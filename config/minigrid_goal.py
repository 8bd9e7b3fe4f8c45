"""Goal-conditioned control alone: the next action, given the past and the last state.

    python train.py config/minigrid_goal.py && python evaluate.py --out_dir=out/minigrid_goal

Time and expected numbers: not measured yet; the exact limit is 0.81.
"""

out_dir = "out/minigrid_goal"
dataset = "doorkey"
task = "goal_conditioned"
