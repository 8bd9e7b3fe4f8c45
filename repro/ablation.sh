#!/usr/bin/env bash
# What each part of the Maze2D recipe is worth: one thing changed at a time, then assets/maze2d_ablation.md.
#
#   bash repro/ablation.sh                       # 14 variants, 3 seeds: 45 minutes on 2 cores
#   SMOKE=1 bash repro/ablation.sh               # tiny, one seed, into out/smoke: under a minute on 2 cores
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/run.sh"
if [ "$PRESET" = smoke ]; then SEEDS=${SEEDS:-0}; fi

lines=$(python repro/ablation.py --list --preset="$PRESET" --seeds="${SEEDS:-0 1 2}" --rows="${ROWS:-}")
run_lines "$lines"
python repro/ablation.py --preset="$PRESET"
exit "$failed"
