"""Multi-task training: each sequence draws one of the eight tasks, instead of a random mask.

    python train.py config/minigrid_all.py && python evaluate.py --out_dir=out/minigrid_all

2.5 minutes on one core, beside another run. Test losses, mean of 6 seeds: BC 1.132, RC 1.118, goal
1.056, waypoint 1.028, past 4.723, future 4.685, forward dynamics 0.175, backward dynamics 0.727
(repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_all"
dataset = "doorkey"
task = "all"
max_iters = 4000
dtype = "bfloat16"
