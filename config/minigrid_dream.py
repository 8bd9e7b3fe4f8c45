"""One set of weights, trained on nothing but dreams: 50,000 trajectories made up from 500
demonstrations.

    python train.py config/minigrid_bc.py && python train.py config/minigrid_forward.py
    python train.py config/dream_returns.py
    python dream.py --out=out/dreams.npz
    python train.py config/minigrid_dream.py && python evaluate.py --out_dir=out/minigrid_dream

`bash repro/dream.sh` does it for six seeds, with small models that are trained longer. Validation,
and so the choice of the checkpoint, is on real trajectories.
"""

out_dir = "out/minigrid_dream"
dataset = "doorkey"
dreams = "out/dreams.npz"
task = "random_return+all"  # what a return of its own would be is asked as well, for acting
eval_tasks = "all"  # the paper's eight; their sum chooses the checkpoint
return_weight = 0.2
dropout = 0.0
learning_rate = 2e-3
dtype = "bfloat16"
max_iters = 8000
eval_interval = 1000
