"""Waypoint-conditioned control alone: the next action, given the past and four states on the way.

    python train.py config/minigrid_waypoint.py
    python evaluate.py --out_dir=out/minigrid_waypoint

0.5 minutes on one core, beside another run. Test loss 0.782 +- 0.008 over 6 seeds; the exact limit
is 0.550 (repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_waypoint"
dataset = "doorkey"
task = "waypoint"
n_embd = 64
n_head = 4
weight_decay = 0.1
norm = "post"  # which learns less by heart here
learning_rate = 2e-3
max_iters = 1000
eval_tasks = "waypoint"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
