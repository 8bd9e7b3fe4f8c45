"""Future inference alone: the states and actions that follow what is seen.

    python train.py config/minigrid_future.py && python evaluate.py --out_dir=out/minigrid_future

About TODO-numbers minutes on one core. Expect a test loss near TODO-numbers on its own task,
where the exact limit is 4.22.
"""

out_dir = "out/minigrid_future"
dataset = "doorkey"
task = "future"
