"""Backward dynamics alone: the state before a known action that led to a known state.

    python train.py config/minigrid_backward.py
    python evaluate.py --out_dir=out/minigrid_backward

0.7 minutes on one core, beside another run. Test loss 0.579 +- 0.002 over 6 seeds; the exact limit
is 0.532 (repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_backward"
dataset = "doorkey"
task = "backward_dynamics"
n_embd = 64
n_head = 4
weight_decay = 0.1
max_iters = 1400
eval_tasks = "backward_dynamics"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
