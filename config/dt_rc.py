"""Decision-GPT on DoorKey, return-conditioned: the return still to go is shown at the first
timestep.

    python train.py config/dt_rc.py && python evaluate.py --out_dir=out/dt_rc

0.4 minutes on one core, beside another run. Test loss 1.023 +- 0.004 over 6 seeds; the exact limit
is 0.867 (repro/results/minigrid_500.json).
"""

out_dir = "out/dt_rc"
dataset = "doorkey"
model_type = "dt"
task = "dt_rc"
best_tasks = "reward_conditioned"
n_embd = 64
n_layer = 2
n_head = 4
weight_decay = 0.3
norm = "post"
learning_rate = 3e-3
max_iters = 400
eval_tasks = "reward_conditioned"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 50
dropout = 0.3
