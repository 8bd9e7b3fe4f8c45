"""Waypoint-conditioned control alone: the next action, given the past and four states on the way.

    python train.py config/minigrid_waypoint.py && python evaluate.py --out_dir=out/minigrid_waypoint

Time and expected numbers: not measured yet; the exact limit is 0.55.
"""

out_dir = "out/minigrid_waypoint"
dataset = "doorkey"
task = "waypoint"
