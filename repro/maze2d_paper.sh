#!/usr/bin/env bash
# The Maze2D table by the published recipe: hyperparameters of the paper's appendix and of the
# original's code, epochs turned into steps. Every setting is given, whatever train.py's defaults are.
#
#   PAPER=1 bash repro/maze2d.sh            # 230 core-hours a seed, by the 500th that was measured
#   FRACTION=0.002 PAPER=1 SEEDS=0 bash repro/maze2d.sh    # a 500th of the steps: 37 minutes on 2 cores
#
# MAZE, SEEDS, CONTEXTS, ROWS, JOBS, LIST and SMOKE as in maze2d.sh.
set -euo pipefail
export PAPER=1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

MAZE=${MAZE:-medium} SEEDS=${SEEDS:-0 1 2} CONTEXTS=${CONTEXTS:-5 10}
STUDY=maze2d_${MAZE}_paper
EVERY="--dataset=maze2d-$MAZE --num_trajectories=900 --n_embd=128 --n_layer=4 --n_head=16 --n_ff=128
  --batch_size=100 --dropout=0 --keep_best=return --eval_rollouts=100 --state_weight=1 --action_weight=1
  --warmup_iters=0 --decay_lr=False --weight_decay=1e-4 --grad_clip=0.5 --ema=0 --layout=timestep
  --hidden=zero --norm=post --fourier_features=0 --differences=False --tanh_actions=False
  --factor_hiding=0 --returns=unchanged --fresh=False"
if [ "$FRACTION" != 1 ]; then STUDY="${STUDY}_$FRACTION" EVERY="$EVERY --steps_times=$FRACTION"; fi
if [ -n "$TINY" ]; then TINY="$TINY --eval_rollouts=4"; fi

# An epoch is 900 episodes of 200 steps in batches of 100 windows of T. An evaluation each fiftieth.
epochs() {
  local steps=$(($1 * 900 * 200 / (100 * T)))
  echo "--context=$T --max_iters=$steps --eval_interval=$((steps / 50))"
}
# how training was followed by rollouts, and how the result is played: every policy is asked twice
BC="--eval_modes=bc --modes=bc,bc_states"
RC="--eval_modes=rc --modes=rc,rc_states"
BOTH="--eval_modes=bc,rc --modes=bc,bc_states,rc,rc_states"
BEGIN="--learning_rate=1e-4 --positions=sinusoidal"
TIMESTEP="--learning_rate=1e-4 --positions=timestep"
TUNE="--learning_rate=8e-5 --positions=sinusoidal --model_type=unimask"

for seed in $SEEDS; do
  for T in $CONTEXTS; do
    steps=$(epochs 2000)
    run "unimask_bc_T$T" --model_type=unimask --task=behavior_cloning $BC $steps $BEGIN
    run "unimask_rc_T$T" --model_type=unimask --task=reward_conditioned $RC $steps $BEGIN
    run "unimask_bc_rc_T$T" --model_type=unimask --task=behavior_cloning+reward_conditioned $BOTH $steps $BEGIN
    run "unimask_random_T$T" --model_type=unimask --task=random $BOTH $steps $BEGIN
    run "unimask_random_bc_T$T" --model_type=unimask --task=random_bc $BC $steps $BEGIN
    run "dt_bc_T$T" --model_type=dt --task=dt_bc $BC $steps $BEGIN
    run "dt_rc_T$T" --model_type=dt --task=dt_rc $RC $steps $BEGIN
    run "dt_bc_timestep_T$T" --model_type=dt --task=dt_bc $BC $steps $TIMESTEP
    run "dt_rc_timestep_T$T" --model_type=dt --task=dt_rc $RC $steps $TIMESTEP
    run "nn_bc_T$T" --model_type=nn --task=behavior_cloning $BC $steps $BEGIN
    run "nn_rc_T$T" --model_type=nn --task=reward_conditioned $RC $steps $BEGIN
    # finetuned, from random masks and from the two tasks together, of the same seed
    steps=$(epochs 600)
    random="--init_from=finetune:$RUNS/$STUDY/unimask_random_T${T}_s$seed"
    both="--init_from=finetune:$RUNS/$STUDY/unimask_bc_rc_T${T}_s$seed"
    run "unimask_random_finetune_bc_T$T" "$random" --task=behavior_cloning $BC $steps $TUNE
    run "unimask_random_finetune_rc_T$T" "$random" --task=reward_conditioned $RC $steps $TUNE
    run "unimask_bc_rc_finetune_bc_T$T" "$both" --task=behavior_cloning $BC $steps $TUNE
    run "unimask_bc_rc_finetune_rc_T$T" "$both" --task=reward_conditioned $RC $steps $TUNE
  done
done

run_all
demonstrator
draw "$STUDY"
exit "$failed"
