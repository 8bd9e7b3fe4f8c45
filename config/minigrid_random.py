"""The main experiment: one model, trained by random masking on 500 DoorKey trajectories, does all eight tasks.

    python train.py config/minigrid_random.py && python evaluate.py --out_dir=out/minigrid_random

About 3 minutes on 2 cores. Expect test losses near BC 1.18, RC 1.13, goal 0.98, waypoint 0.74, past 4.54, future 4.58,
forward dynamics 0.22, backward dynamics 0.95; the exact limits are 1.09, 0.87, 0.81, 0.55, 4.33, 4.22, 0 and 0.55.
"""

out_dir = "out/minigrid_random"
dataset = "doorkey"
task = "random"
