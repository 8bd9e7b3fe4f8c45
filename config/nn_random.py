"""The feed-forward net on DoorKey, random masking: what attention adds is the difference to minigrid_random.

    python train.py config/nn_random.py && python evaluate.py --out_dir=out/nn_random

Time and expected numbers: not measured yet.
"""

out_dir = "out/nn_random"
dataset = "doorkey"
model = "nn"
task = "random"
n_embd = 512
weight_decay = 0.3
max_iters = 3000
n_layer = 2
dropout = 0.5
