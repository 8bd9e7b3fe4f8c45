"""Future inference alone: the states and actions that follow what is seen.

    python train.py config/minigrid_future.py && python evaluate.py --out_dir=out/minigrid_future

Time and expected numbers: not measured yet; the exact limit is 4.22.
"""

out_dir = "out/minigrid_future"
dataset = "doorkey"
task = "future"
