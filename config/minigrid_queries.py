"""Unlimited data, and factors hidden on their own too: for joint samples that are filled in one
factor at a time.

    python train.py config/minigrid_queries.py
    python repro/sampling.py --out_dir=out/minigrid_queries --result=out/sampling

Begins with the weights of config/minigrid_infinite.py, which never met half a timestep: that the
agent is known, the key is not. A model that has can give the key's cell its distribution *given*
the agent's, and so keeps joint samples valid. 40,000 steps took 56 minutes on a third of two cores.
Expect gaps to the limit of at most 0.025 nats, and at least 99% valid transitions in samples filled
in forwards (random order: 98%); weights, log and evaluation are in assets/minigrid_queries.
"""

init_from = "finetune:assets/minigrid_infinite"
out_dir = "out/minigrid_queries"
dataset = "doorkey"
task = "random+all"
eval_tasks = "all"  # the paper's eight
factor_hiding = 0.2
fresh = True
dropout = 0.0
warmup_iters = 500
learning_rate = 1e-3
max_iters = 40000
eval_interval = 4000
eval_sequences = 2000
keep_best = (
    "none"  # of the evaluated questions none has half a timestep: the last weights are the best
)
