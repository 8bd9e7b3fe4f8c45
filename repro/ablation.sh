#!/usr/bin/env bash
# What each part of the Maze2D recipe is worth: behaviour cloning with one thing changed at a time,
# half the windows of config/maze2d_bc.py, in batches of 100, T=10. Then repro/results/maze2d_ablation.md.
#
#   bash repro/ablation.sh                  # 14 variants, 3 seeds: 45 minutes on 2 cores
#   SMOKE=1 bash repro/ablation.sh          # tiny, one seed, into out/smoke: under a minute
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

SEEDS=${SEEDS:-0 1 2}
STUDY=maze2d_ablation
BASE="config/maze2d_bc.py --context=10 --batch_size=100 --learning_rate=2e-3 --ema=0.998
  --max_iters=10000 --eval_interval=5000"
if [ -n "$TINY" ]; then TINY="$TINY --eval_rollouts=4"; fi

for seed in $(seeds); do
  run base $BASE
  run mean $BASE --head=mean
  run narrow $BASE --n_layer=3 --n_ff=128
  run fourier_features $BASE --fourier_features=0
  run differences $BASE --differences=False
  run plain $BASE --fourier_features=0 --differences=False
  run actions $BASE --task=behavior_cloning
  run flag $BASE --hidden=zero
  run constant $BASE --decay_lr=False
  run average $BASE --ema=0
  run neither $BASE --decay_lr=False --ema=0
  run targets $BASE --task=behavior_cloning_states+random
  run context $BASE --context=5
  run float32 $BASE --dtype=float32
done

run_all
draw "$STUDY"
exit "$failed"
