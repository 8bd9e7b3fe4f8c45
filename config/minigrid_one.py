"""One set of weights for DoorKey, of nothing but 500 demonstrations: random masks, random control and
the eight tasks.

    python train.py config/minigrid_one.py && python evaluate.py --out_dir=out/minigrid_one

3 to 5 minutes on one core. Test losses, mean of 6 seeds: BC 1.162, RC 1.067, goal 0.955, waypoint
0.751, past 4.546, future 4.549, forward dynamics 0.037, backward dynamics 0.626 (the row `one` of
repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_one"
dataset = "doorkey"
task = "random+all+random_control"
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
dtype = "bfloat16"
learning_rate = 6e-3
max_iters = 4000
