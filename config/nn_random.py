"""The feed-forward net on DoorKey, random masking: what attention adds is the difference to
minigrid_random.

    python train.py config/nn_random.py && python evaluate.py --out_dir=out/nn_random

0.6 minutes on one core, beside another run. Test losses, mean of 6 seeds: BC 1.292, RC 1.285, goal
1.281, waypoint 1.218, past 4.965, future 5.234, forward dynamics 1.663, backward dynamics 2.054
(repro/results/minigrid_500.json).
"""

out_dir = "out/nn_random"
dataset = "doorkey"
model_type = "nn"
task = "random"
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
n_embd = 512
weight_decay = 0.3
max_iters = 3000
n_layer = 2
dropout = 0.5
learning_rate = 1e-3
