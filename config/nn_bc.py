"""The feed-forward net on DoorKey, behaviour cloning: what attention adds is the difference to minigrid_bc.

    python train.py config/nn_bc.py && python evaluate.py --out_dir=out/nn_bc

About TODO-numbers minutes on one core. Expect a test loss near TODO-numbers on its own task,
where the exact limit is 1.09.
"""

out_dir = "out/nn_bc"
dataset = "doorkey"
model = "nn"
task = "behavior_cloning"
