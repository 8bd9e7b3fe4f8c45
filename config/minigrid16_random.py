"""Random masking on the larger DoorKey: a 14 x 14 interior, 196 cells, and walks too short to reach
the goal.

    python train.py config/minigrid16_random.py
    python evaluate.py --out_dir=out/minigrid16_random

17.5 minutes on a core shared with other runs, and 2.5 to evaluate: the exact limits are slower with
so many cells. Test losses: BC 1.13, RC 1.10, goal 0.87, waypoint 0.60, past 5.52, future 4.24,
forward dynamics 0.16, backward dynamics 0.41; the exact limits are 1.05, 0.86, 0.72, 0.46, 5.12,
3.70, 0 and 0.24. The log and evaluation of that run are in assets/minigrid16_random. With 500
trajectories, as in the small world, few cells are visited often enough: forward dynamics stays at
1.5.
"""

out_dir = "out/minigrid16_random"
dataset = "doorkey16"
task = "random"
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
num_trajectories = 20000
dropout = 0.0
norm = "post"
learning_rate = 1e-3
max_iters = 5000
