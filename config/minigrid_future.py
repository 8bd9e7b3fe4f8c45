"""Future inference alone: the states and actions that follow what is seen.

    python train.py config/minigrid_future.py && python evaluate.py --out_dir=out/minigrid_future

0.7 minutes on one core, beside another run. Test loss 4.660 +- 0.026 over 6 seeds; the exact limit
is 4.170 (repro/results/minigrid_500.json).
"""

out_dir = "out/minigrid_future"
dataset = "doorkey"
task = "future"
dropout = 0.2
weight_decay = 0.1
dtype = "bfloat16"
norm = "post"  # which learns less by heart here
learning_rate = 2e-3
max_iters = 750
eval_tasks = "future"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
