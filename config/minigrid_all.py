"""Multi-task training: each sequence draws one of the eight tasks, instead of a random mask.

    python train.py config/minigrid_all.py && python evaluate.py --out_dir=out/minigrid_all

1.5 minutes on one core, beside another run. Test losses, mean of 6 seeds: BC 1.138, RC 1.123, goal
1.049, waypoint 1.039, past 4.770, future 4.657, forward dynamics 0.023, backward dynamics 0.608
(repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_all"
dataset = "doorkey"
task = "all"
max_iters = 2000
dtype = "bfloat16"
