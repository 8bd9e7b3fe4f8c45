"""Behaviour cloning in the medium maze, with past actions seen in half of the windows and hidden in the others.

    python train.py config/maze2d_bc.py
    python evaluate.py --out_dir=out/maze2d_bc --rollouts=1000 --modes=bc,bc_states

About TODO-numbers minutes on 2 cores. Expect a mean return of TODO-numbers; the demonstrator's is 2.83.
"""

out_dir = "out/maze2d_bc"
dataset = "maze2d-medium"
task = "behavior_cloning+behavior_cloning_states"
num_trajectories = 900
dropout = 0.0
norm = "pre"
octaves = 5
differences = True
eval_rollouts = 100
eval_modes = "bc,bc_states"
keep_best = "return"
