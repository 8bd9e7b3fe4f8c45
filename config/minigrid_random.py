"""The main experiment: one model, trained by random masking on 500 DoorKey trajectories, does all
eight tasks.

    python train.py config/minigrid_random.py && python evaluate.py --out_dir=out/minigrid_random

A minute on one core. Test losses: BC 1.18, RC 1.10, goal 0.98, waypoint 0.78, past 4.57, future
4.56, forward dynamics 0.16, backward dynamics 0.78; the exact limits are 1.07, 0.87, 0.81, 0.55,
4.32, 4.17, 0 and 0.53. The log and evaluation of that run are in assets/minigrid_random.
"""

out_dir = "out/minigrid_random"
dataset = "doorkey"
task = "random"
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
learning_rate = 8e-3
max_iters = 1500
