"""Random masking in the medium maze: one model for every question, control among them.

    python train.py config/maze2d_random.py
    python evaluate.py --out_dir=out/maze2d_random --rollouts=1000 --modes=bc,bc_states,rc,rc_states

Time and expected numbers: not measured yet.
"""

out_dir = "out/maze2d_random"
dataset = "maze2d-medium"
task = "random"
num_trajectories = 900
dropout = 0.0
norm = "pre"
octaves = 5
differences = True
eval_rollouts = 100
eval_modes = "bc,bc_states,rc,rc_states"
keep_best = "return"
