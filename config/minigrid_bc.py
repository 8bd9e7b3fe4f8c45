"""Behaviour cloning alone: what one task learns from 500 DoorKey trajectories, to compare with random masking.

    python train.py config/minigrid_bc.py && python evaluate.py --out_dir=out/minigrid_bc

About TODO-numbers minutes on one core. Expect a test loss near TODO-numbers on its own task,
where the exact limit is 1.09.
"""

out_dir = "out/minigrid_bc"
dataset = "doorkey"
task = "behavior_cloning"
