#!/usr/bin/env bash
# The Maze2D table by the published recipe: hyperparameters of the paper's appendix and of the
# original's code, epochs turned into steps. Every setting is given, whatever train.py's defaults are.
# README.md, "The published recipe", says what is still different.
#
#   PAPER=1 SEEDS=0 CONTEXTS=10 ROWS="unimask_bc unimask_random" bash repro/maze2d.sh
#
# MAZE, SEEDS, CONTEXTS, ROWS, JOBS, LIST and SMOKE as in maze2d.sh. PRETRAINED as in minigrid_paper.sh.
set -euo pipefail
export PAPER=1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

MAZE=${MAZE:-medium} SEEDS=${SEEDS:-0 1 2} CONTEXTS=${CONTEXTS:-5 10} PRETRAINED=${PRETRAINED:-0} LOOKS=${LOOKS:-0}
STUDY=maze2d_${MAZE}_paper
# Inputs and errors are in raw units (-raw). The state is one factor of four numbers in the original,
# and two of two here: with half the weight each, the loss is the same.
EVERY="--dataset=maze2d-$MAZE-raw --num_trajectories=900 --n_embd=128 --n_layer=4 --n_head=16 --n_ff=128
  --batch_size=100 --dropout=0 --keep_best=return_sum --eval_rollouts=100 --state_weight=0.5
  --action_weight=1 --by_turns=True --eval_tasks=behavior_cloning,reward_conditioned --head=mean
  --warmup_iters=0 --decay_lr=False --weight_decay=1e-4 --grad_clip=0.5 --ema=0 --layout=timestep
  --hidden=zero --fourier_features=0 --differences=False --tanh_actions=False
  --factor_hiding=0 --returns=unchanged --fresh=False"
if [ -n "$TINY" ]; then TINY="$TINY --eval_rollouts=4"; fi

# An epoch is 900 episodes of 200 steps in batches of 100 windows of T. LOOKS=20: so many evaluations.
epochs() { # how many, and every how many is an evaluation
  local epoch=$((900 * 200 / (100 * T)))
  echo "--context=$T --max_iters=$(($1 * epoch)) --eval_interval=$(((LOOKS ? $1 / LOOKS : $2) * epoch))"
}
# how training was followed by rollouts, and how the result is played: every policy is asked twice
BC="--eval_modes=bc --modes=bc,bc_states"
RC="--eval_modes=rc --modes=rc,rc_states"
BOTH="--eval_modes=bc,rc --modes=bc,bc_states,rc,rc_states"
UNIMASK="--model_type=unimask --norm=post --embedding=relu --init_range=0.1 --positions=sinusoidal"
GPT="--model_type=dt --norm=pre --embedding=norm --init_range=0 --learning_rate=1e-4"
NN="--model_type=nn --learning_rate=1e-4"

for seed in $(seeds); do
  for T in $CONTEXTS; do
    steps=$(epochs 2000 20)
    one="$UNIMASK --learning_rate=1e-4 $steps"
    run "unimask_bc_T$T" $one --task=behavior_cloning $BC
    run "unimask_rc_T$T" $one --task=reward_conditioned $RC
    run "unimask_bc_rc_T$T" $one --task=behavior_cloning+reward_conditioned $BOTH
    run "unimask_random_T$T" $one --task=random $BOTH
    run "unimask_random_bc_T$T" $one --task=random_bc $BC
    run "dt_bc_T$T" $GPT --positions=learned --task=dt_bc $BC $steps
    run "dt_rc_T$T" $GPT --positions=learned --task=dt_rc $RC $steps
    run "dt_bc_timestep_T$T" $GPT --positions=timestep --task=dt_bc $BC $steps
    run "dt_rc_timestep_T$T" $GPT --positions=timestep --task=dt_rc $RC $steps
    run "nn_bc_T$T" $NN --task=behavior_cloning $BC $steps
    run "nn_rc_T$T" $NN --task=reward_conditioned $RC $steps
    # finetuned, from random masks and from the two tasks together, of one seed as published
    start=$PRETRAINED each=
    if [ "$start" = each ]; then start=$seed each=_each; fi
    tune="$UNIMASK --learning_rate=8e-5 $(epochs 600 10)"
    random="--init_from=finetune:$RUNS/$STUDY/unimask_random_T${T}_s$start"
    both="--init_from=finetune:$RUNS/$STUDY/unimask_bc_rc_T${T}_s$start"
    run "unimask_random_finetune_bc${each}_T$T" $tune "$random" --task=behavior_cloning $BC
    run "unimask_random_finetune_rc${each}_T$T" $tune "$random" --task=reward_conditioned $RC
    run "unimask_bc_rc_finetune_bc${each}_T$T" $tune "$both" --task=behavior_cloning $BC
    run "unimask_bc_rc_finetune_rc${each}_T$T" $tune "$both" --task=reward_conditioned $RC
  done
done

run_all
demonstrator
draw "$STUDY"
exit "$failed"
