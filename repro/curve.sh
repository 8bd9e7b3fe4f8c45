#!/usr/bin/env bash
# The learning curve of random masking on DoorKey: 50, 500, 1,000, 10,000 and unlimited trajectories, then
# assets/minigrid_curve.png.
#
#   bash repro/curve.sh                          # our recipe, 3 seeds: 17 minutes on 2 cores, beside other work
#   SMOKE=1 bash repro/curve.sh                  # tiny, one seed, into out/smoke: under a minute on 2 cores
#
# Runs that repro/minigrid.sh has made already are not made again. Killed, the same command goes on where it stopped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/run.sh"
if [ "$PRESET" = smoke ]; then SEEDS=${SEEDS:-0}; fi

run_jobs curve --preset="$PRESET" --seeds="${SEEDS:-0 1 2}"
python repro/curve.py --preset="$PRESET"
exit "$failed"
