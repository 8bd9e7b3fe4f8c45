"""One set of weights for DoorKey, of nothing but 500 demonstrations: random masks and the eight
tasks.

    python train.py config/minigrid_one.py && python evaluate.py --out_dir=out/minigrid_one

1.5 minutes on one core, beside another run. Test losses, mean of 6 seeds: BC 1.154, RC 1.068, goal
0.966, waypoint 0.801, past 4.551, future 4.529, forward dynamics 0.040, backward dynamics 0.652
(the row `one` of repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_one"
dataset = "doorkey"
task = "random+all+random_control"
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
dtype = "bfloat16"
learning_rate = 6e-3
max_iters = 4000
