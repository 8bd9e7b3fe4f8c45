"""Random masking with fresh trajectories at every step: how close to the exact limit the model itself can come.

    python train.py config/minigrid_infinite.py && python evaluate.py --out_dir=out/minigrid_infinite

About TODO-numbers minutes on 2 cores. Expect gaps to the limit of TODO-numbers.
There is nothing to overfit, so no dropout.
"""

out_dir = "out/minigrid_infinite"
dataset = "doorkey"
task = "random"
fresh = True
dropout = 0.0
