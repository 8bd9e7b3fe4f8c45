"""Forward dynamics alone: the state after a known state and action. What remains is the door, which
is not seen.

    python train.py config/minigrid_forward.py && python evaluate.py --out_dir=out/minigrid_forward

0.4 minutes on one core, beside another run. Test loss 0.001 +- 0.000 over 6 seeds; the exact limit
is 0.000 (repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_forward"
dataset = "doorkey"
task = "forward_dynamics"
n_embd = 64
n_head = 4
weight_decay = 0.1
max_iters = 600
eval_tasks = "forward_dynamics"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
