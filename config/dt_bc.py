"""Decision-GPT on DoorKey, behaviour cloning: a causal model that predicts every action from what
came before.

    python train.py config/dt_bc.py && python evaluate.py --out_dir=out/dt_bc

0.4 minutes on one core, beside another run. Test loss 1.100 +- 0.004 over 6 seeds; the exact limit
is 1.065 (repro/results/minigrid_500.json).
"""

out_dir = "out/dt_bc"
dataset = "doorkey"
model_type = "dt"
task = "dt_bc"
best_tasks = "behavior_cloning"
n_embd = 64
n_layer = 2
n_head = 4
weight_decay = 0.3
norm = "post"
learning_rate = 3e-3
max_iters = 400
eval_tasks = "behavior_cloning"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 50
dropout = 0.3
