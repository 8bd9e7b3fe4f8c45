"""Return-conditioned control in the medium maze, with past actions seen in half of the windows.

    python train.py config/maze2d_rc.py
    python evaluate.py --out_dir=out/maze2d_rc --rollouts=1000 --modes=rc,rc_states

Time and expected numbers: not measured yet.
"""

out_dir = "out/maze2d_rc"
dataset = "maze2d-medium"
task = "reward_conditioned+reward_conditioned_states"
num_trajectories = 900
dropout = 0.0
norm = "pre"
octaves = 5
differences = True
eval_rollouts = 100
eval_modes = "rc,rc_states"
keep_best = "return"
