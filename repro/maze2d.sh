#!/usr/bin/env bash
# The Maze2D table: 15 rows at contexts of 5 and 10 timesteps, 30 runs a seed, then assets/maze2d_table.md.
#
#   bash repro/maze2d.sh                         # our recipe, medium maze, 3 seeds: 3.6 hours on 2 cores
#   MAZE=umaze SEEDS=0 bash repro/maze2d.sh      # another maze: umaze, medium or large; CONTEXTS=5 and 6 rows: 11 to 16 minutes
#   PAPER=1 bash repro/maze2d.sh                 # published hyperparameters and steps: 230 core-hours a seed, by a 500th of one
#   SMOKE=1 bash repro/maze2d.sh                 # tiny, one seed, T=5, into out/smoke: under 2 minutes on 2 cores
#   FRACTION=0.002 PAPER=1 SEEDS=0 bash repro/maze2d.sh   # a 500th of the published steps, to measure their time: 37 minutes
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/run.sh"
MAZE=${MAZE:-medium}
if [ "$PRESET" = smoke ]; then SEEDS=${SEEDS:-0} CONTEXTS=${CONTEXTS:-5}; fi
SEEDS=${SEEDS:-0 1 2}
STUDY=(--preset="$PRESET" --fraction="${FRACTION:-1}" --maze="$MAZE")

run_jobs maze2d "${STUDY[@]}" --seeds="$SEEDS" --contexts="${CONTEXTS:-5 10}"
python repro/table.py "${STUDY[@]}" --parallel="$JOBS"
exit "$failed"
