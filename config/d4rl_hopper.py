"""Any data set of yours, with D4RL's Hopper as the example: one model for every question, control
among them.

    python importing.py --source=hopper_medium-v2.hdf5 --min_length=10 --out=out/hopper.npz  # or minari:ID
    python train.py config/d4rl_hopper.py    # or --dataset=out/mine.npz
    python rollout.py --out_dir=out/d4rl_hopper --env=Hopper-v5 --modes=bc,bc_states,rc

Nothing here depends on Hopper: the file says what its observations and actions are, numbers or
classes, and how many. D4RL's Hopper ran on MuJoCo 2.1 and Gymnasium's does not, so compare returns
with the data's with care. Time and expected numbers: not measured, because no D4RL file is at hand
here.
"""

out_dir = "out/d4rl_hopper"
dataset = "out/hopper.npz"
num_trajectories = 0
task = "random"
dropout = 0.0
norm = "pre"
max_iters = 20000
