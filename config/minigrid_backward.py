"""Backward dynamics alone: the state before a known action that led to a known state.

    python train.py config/minigrid_backward.py && python evaluate.py --out_dir=out/minigrid_backward

About TODO-numbers minutes on one core. Expect a test loss near TODO-numbers on its own task,
where the exact limit is 0.55.
"""

out_dir = "out/minigrid_backward"
dataset = "doorkey"
task = "backward_dynamics"
