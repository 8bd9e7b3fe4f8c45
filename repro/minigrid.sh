#!/usr/bin/env bash
# The DoorKey heatmap (Uni[MASK], figure 7): 15 rows x 8 tasks, 22 runs a seed, then assets/minigrid_heatmap.png.
#
#   bash repro/minigrid.sh                       # our recipe, N=500, 6 seeds: 57 minutes on 2 cores (AMD EPYC), beside other work
#   N=50 bash repro/minigrid.sh                  # with 50 trajectories (3 seeds: 17 minutes), or 1000 (3 seeds: 45 minutes)
#   PAPER=1 bash repro/minigrid.sh               # published hyperparameters and steps: 8 hours on 2 cores, by the next but one line
#   SMOKE=1 bash repro/minigrid.sh               # everything tiny, one seed, into out/smoke: under 2 minutes on 2 cores
#   FRACTION=0.1 PAPER=1 SEEDS=0 bash repro/minigrid.sh   # a tenth of the published steps: 9 minutes
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/run.sh"
N=${N:-500}
if [ "$PRESET" = smoke ]; then SEEDS=${SEEDS:-0}; fi
SEEDS=${SEEDS:-0 1 2 3 4 5}
STUDY=(--preset="$PRESET" --fraction="${FRACTION:-1}" --n="$N")

run_jobs minigrid "${STUDY[@]}" --seeds="$SEEDS"
if [ "$(wc -w <<< "$SEEDS")" -gt 1 ]; then python repro/ensemble.py "${STUDY[@]}" || failed=1; fi
python repro/heatmap.py "${STUDY[@]}" --parallel="$JOBS"
exit "$failed"
