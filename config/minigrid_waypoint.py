"""Waypoint-conditioned control alone: the next action, given the past and four states on the way.

    python train.py config/minigrid_waypoint.py && python evaluate.py --out_dir=out/minigrid_waypoint

About TODO-numbers minutes on one core. Expect a test loss near TODO-numbers on its own task,
where the exact limit is 0.55.
"""

out_dir = "out/minigrid_waypoint"
dataset = "doorkey"
task = "waypoint"
