#!/usr/bin/env bash
# The DoorKey heatmap by the published recipe: hyperparameters of the paper's appendix and of the
# original's code, epochs turned into steps. Every setting is given, whatever train.py's defaults are.
#
#   PAPER=1 bash repro/minigrid.sh          # 6 seeds: 16 core-hours, by the tenth that was measured
#   FRACTION=0.1 PAPER=1 SEEDS=0 bash repro/minigrid.sh    # a tenth of the steps: 9 minutes on 2 cores
#
# N, SEEDS, ROWS, JOBS, LIST and SMOKE as in minigrid.sh.
set -euo pipefail
export PAPER=1
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

N=${N:-500} SEEDS=${SEEDS:-0 1 2 3 4 5}
STUDY=minigrid_${N}_paper
EVERY="--dataset=doorkey --num_trajectories=$N --context=10 --dropout=0.1 --keep_best=loss
  --warmup_iters=0 --decay_lr=False --weight_decay=1e-4 --grad_clip=0.5 --ema=0 --layout=timestep
  --hidden=zero --positions=sinusoidal --norm=post --fourier_features=0 --differences=False
  --tanh_actions=False --factor_hiding=0 --returns=unchanged --fresh=False --action_weight=1"
if [ "$FRACTION" != 1 ]; then STUDY="${STUDY}_$FRACTION" EVERY="$EVERY --steps_times=$FRACTION"; fi

# An epoch has N / batch steps, at least one. Half as many epochs with 1,000 trajectories, ten times
# as many with 50. An evaluation each fiftieth of the steps.
epochs() { # epochs at 500 trajectories, batch size
  local epoch=$((N > $2 ? N / $2 : 1))
  local steps=$(($1 * 500 / N * epoch))
  echo "--batch_size=$2 --max_iters=$steps --eval_interval=$((steps > 50 ? steps / 50 : 1))"
}
unimask() { run "$1" --model_type=unimask --task="$1" --learning_rate=1e-4 "${@:2}"; }
finetune() { # with the network and the batches of `random`
  run "random+finetune-$1" --model_type=unimask --task="$1" --tasks="$1" \
    --n_embd=128 --n_layer=2 --n_head=8 --n_ff=128 --state_weight=1 \
    --init_from="finetune:$RUNS/$STUDY/random_s$seed" "${@:2}"
}
BASELINE="--learning_rate=1e-4 --n_embd=32 --n_layer=3 --n_head=8 --n_ff=128"

for seed in $SEEDS; do
  unimask behavior_cloning $(epochs 1500 250) --n_embd=32 --n_layer=2 --n_head=4 --n_ff=128 --state_weight=0.1
  unimask reward_conditioned $(epochs 1500 50) --n_embd=32 --n_layer=3 --n_head=4 --n_ff=128 --state_weight=1
  unimask goal_conditioned $(epochs 3000 250) --n_embd=128 --n_layer=3 --n_head=8 --n_ff=128 --state_weight=1
  unimask waypoint $(epochs 3000 250) --n_embd=128 --n_layer=3 --n_head=8 --n_ff=128 --state_weight=1
  unimask past $(epochs 2000 250) --n_embd=32 --n_layer=4 --n_head=4 --n_ff=128 --state_weight=0.5
  unimask future $(epochs 2000 250) --n_embd=128 --n_layer=2 --n_head=4 --n_ff=32 --state_weight=0.5
  unimask forward_dynamics $(epochs 1500 250) --n_embd=128 --n_layer=3 --n_head=8 --n_ff=128 --state_weight=1
  unimask backward_dynamics $(epochs 1500 50) --n_embd=128 --n_layer=3 --n_head=8 --n_ff=128 --state_weight=0.5
  unimask all $(epochs 10000 250) --n_embd=32 --n_layer=3 --n_head=4 --n_ff=128 --state_weight=1
  unimask random $(epochs 10000 100) --eval_tasks=all --n_embd=128 --n_layer=2 --n_head=8 --n_ff=128 --state_weight=1
  run nn_bc --model_type=nn --task=behavior_cloning $(epochs 3000 100) $BASELINE --state_weight=0.5
  run nn_random --model_type=nn --task=random --eval_tasks=all $(epochs 10000 250) $BASELINE --state_weight=0.5
  run dt_bc --model_type=dt --task=dt_bc $(epochs 1500 250) $BASELINE --state_weight=1
  run dt_rc --model_type=dt --task=dt_rc $(epochs 1500 250) $BASELINE --state_weight=1
  finetune behavior_cloning $(epochs 10000 100) --learning_rate=5e-6
  finetune reward_conditioned $(epochs 500 100) --learning_rate=5e-6
  finetune goal_conditioned $(epochs 1500 100) --learning_rate=1e-5
  finetune waypoint $(epochs 1500 100) --learning_rate=1e-5
  finetune past $(epochs 500 100) --learning_rate=5e-6
  finetune future $(epochs 500 100) --learning_rate=5e-6
  finetune forward_dynamics $(epochs 10000 100) --learning_rate=1e-5
  finetune backward_dynamics $(epochs 1500 100) --learning_rate=1e-5
done

run_all
ensemble
draw "$STUDY"
exit "$failed"
