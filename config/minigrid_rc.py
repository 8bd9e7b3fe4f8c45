"""Return-conditioned control alone: the next action, given the past and the return still to go.

    python train.py config/minigrid_rc.py && python evaluate.py --out_dir=out/minigrid_rc

Time and expected numbers: not measured yet; the exact limit is 0.87.
"""

out_dir = "out/minigrid_rc"
dataset = "doorkey"
task = "reward_conditioned"
