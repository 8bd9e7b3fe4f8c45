#!/usr/bin/env bash
# The Maze2D table: 15 rows at contexts of 5 and 10 timesteps, 30 runs a seed. Then its tables and
# assets/maze2d_curve.png.
#
#   bash repro/maze2d.sh                    # medium maze, 3 seeds: 2 to 3 hours on 2 cores
#   MAZE=umaze SEEDS=0 CONTEXTS=5 ROWS="unimask_bc unimask_rc dt_bc dt_rc nn_bc nn_rc" bash repro/maze2d.sh
#                                           # six rows in another maze: 8 minutes; large: 6 minutes
#   LIST=1 bash repro/maze2d.sh             # print the lines, run nothing
#   SMOKE=1 bash repro/maze2d.sh            # everything tiny, one seed, T=5, into out/smoke: a minute
#   PAPER=1 bash repro/maze2d.sh            # the published recipe (maze2d_paper.sh): 209 core-hours a seed
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
if [ "${PAPER:-0}" = 1 ]; then exec bash "$here/maze2d_paper.sh"; fi
source "$here/common.sh"

MAZE=${MAZE:-medium} SEEDS=${SEEDS:-0 1 2} CONTEXTS=${CONTEXTS:-5 10}
STUDY=maze2d_$MAZE
EVERY="--dataset=maze2d-$MAZE"
if [ -n "$TINY" ]; then TINY="$TINY --eval_rollouts=4"; fi

TO_BC="--task=behavior_cloning_states --eval_modes=bc,bc_states"
TO_RC="--task=reward_conditioned_states --eval_modes=rc,rc_states"
FROM_RANDOM="--batch_size=400 --learning_rate=4e-3 --ema=0.995 --max_iters=2500 --eval_interval=625"
FROM_BOTH="--learning_rate=2e-3 --warmup_iters=50 --max_iters=2500 --eval_interval=625"

for seed in $(seeds); do
  for T in $CONTEXTS; do
    run "unimask_bc_T$T" config/maze2d_bc.py --context="$T"
    run "unimask_rc_T$T" config/maze2d_rc.py --context="$T"
    run "unimask_bc_rc_T$T" config/maze2d_bc_rc.py --context="$T"
    run "unimask_random_T$T" config/maze2d_random.py --context="$T"
    run "unimask_random_bc_T$T" config/maze2d_random.py --context="$T" --task=random_bc --eval_modes=bc,bc_states
    run "dt_bc_T$T" config/maze2d_dt_bc.py --context="$T"
    run "dt_rc_T$T" config/maze2d_dt_rc.py --context="$T"
    run "dt_bc_timestep_T$T" config/maze2d_dt_bc.py --context="$T" --positions=timestep
    run "dt_rc_timestep_T$T" config/maze2d_dt_rc.py --context="$T" --positions=timestep
    run "nn_bc_T$T" config/maze2d_nn_bc.py --context="$T"
    run "nn_rc_T$T" config/maze2d_nn_rc.py --context="$T"
    # finetuned, from random masks and from the two tasks together, of the same seed
    random="--init_from=finetune:$RUNS/$STUDY/unimask_random_T${T}_s$seed"
    both="--init_from=finetune:$RUNS/$STUDY/unimask_bc_rc_T${T}_s$seed"
    run "unimask_random_finetune_bc_T$T" config/maze2d_random.py --context="$T" "$random" $TO_BC $FROM_RANDOM
    run "unimask_random_finetune_rc_T$T" config/maze2d_random.py --context="$T" "$random" $TO_RC $FROM_RANDOM
    run "unimask_bc_rc_finetune_bc_T$T" config/maze2d_bc_rc.py --context="$T" "$both" $TO_BC $FROM_BOTH
    run "unimask_bc_rc_finetune_rc_T$T" config/maze2d_bc_rc.py --context="$T" "$both" $TO_RC $FROM_BOTH
  done
done

run_all
demonstrator
draw "$STUDY"
exit "$failed"
