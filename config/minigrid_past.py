"""Past inference alone: the states and actions that led to what is seen.

    python train.py config/minigrid_past.py && python evaluate.py --out_dir=out/minigrid_past

0.6 minutes on one core, beside another run. Test loss 4.656 +- 0.005 over 6 seeds; the exact limit
is 4.319 (repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_past"
dataset = "doorkey"
task = "past"
n_embd = 64
n_head = 4
weight_decay = 0.1
norm = "post"  # which learns less by heart here
learning_rate = 2e-3
max_iters = 1000
eval_tasks = "past"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
