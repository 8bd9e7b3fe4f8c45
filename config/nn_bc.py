"""The feed-forward net on DoorKey, behaviour cloning: what attention adds is the difference to
minigrid_bc.

    python train.py config/nn_bc.py && python evaluate.py --out_dir=out/nn_bc

0.2 minutes on one core, beside another run. Test loss 1.200 +- 0.004 over 6 seeds; the exact limit
is 1.065 (repro/results/minigrid_500.json).
"""

out_dir = "out/nn_bc"
dataset = "doorkey"
model_type = "nn"
task = "behavior_cloning"
n_layer = 2
dropout = 0.3
learning_rate = 1e-3
weight_decay = 0.1
max_iters = 1000
eval_tasks = "behavior_cloning"  # its own task chooses the best checkpoint
eval_sequences = 4000
eval_interval = 100
