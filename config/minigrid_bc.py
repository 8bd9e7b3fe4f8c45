"""Behaviour cloning alone: what one task learns from 500 DoorKey trajectories, to compare with
random masking.

    python train.py config/minigrid_bc.py && python evaluate.py --out_dir=out/minigrid_bc

0.2 minutes on one core, beside another run. Test loss 1.092 +- 0.003 over 6 seeds; the exact limit
is 1.065 (repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_bc"
dataset = "doorkey"
task = "behavior_cloning"
n_embd = 32
n_layer = 2
n_head = 4
weight_decay = 0.1
max_iters = 750
eval_tasks = "behavior_cloning"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
