#!/usr/bin/env bash
# The DoorKey heatmap (Uni[MASK], figure 7): 15 rows x 8 tasks, 22 runs a seed. Then the tables and
# assets/minigrid_heatmap.png.
#
#   bash repro/minigrid.sh                  # 500 trajectories, 6 seeds: 42 minutes on 2 cores
#   N=50 SEEDS="0 1 2" bash repro/minigrid.sh      # 50 trajectories: 17 minutes; N=1000: 23 minutes
#   ROWS="random nn_bc" bash repro/minigrid.sh     # only some rows
#   LIST=1 bash repro/minigrid.sh           # print the lines, run nothing
#   SMOKE=1 bash repro/minigrid.sh          # everything tiny, one seed, into out/smoke: 2 minutes
#   PAPER=1 bash repro/minigrid.sh          # the published recipe (minigrid_paper.sh): 2.6 core-hours a seed
#
# Killed at any moment, the same command goes on where it stopped. JOBS: one-thread processes at a time.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
if [ "${PAPER:-0}" = 1 ]; then exec bash "$here/minigrid_paper.sh"; fi
source "$here/common.sh"

N=${N:-500} SEEDS=${SEEDS:-0 1 2 3 4 5}
STUDY=minigrid_$N
EVERY="--num_trajectories=$N"
FEW= DYNAMICS="--learning_rate=1e-3 --max_iters=400"
if [ "$N" = 50 ]; then # they are soon known by heart: small models, much dropout, fewer steps
  EVERY="$EVERY --steps_times=0.4"
  FEW="--n_embd=64 --n_layer=2 --n_head=4 --dropout=0.4 --weight_decay=0.5"
  DYNAMICS="$DYNAMICS --dropout=0.1 --max_iters=1500" # random masks have taught few moves
fi

# One model more for each column. It starts from `random` of the same seed, and has its network.
finetune() { # task, and its own settings
  run "random+finetune-$1" config/minigrid_random.py --dtype=bfloat16 --task="$1" --eval_tasks="$1" \
    --tasks="$1" --eval_sequences=4000 --eval_interval=50 --warmup_iters=20 \
    --init_from="finetune:$RUNS/$STUDY/random_s$seed" "${@:2}"
}
# What predicts one action overfits first: more dropout there.
CONTROL="--learning_rate=5e-4 --dropout=0.2 --weight_decay=0.1 --max_iters=300 $FEW"
INFERENCE="--learning_rate=3e-4 --max_iters=$((N < 1000 ? 200 : 400))" # more data, more to learn

for seed in $(seeds); do
  # one task each
  run behavior_cloning config/minigrid_bc.py
  run reward_conditioned config/minigrid_rc.py
  run goal_conditioned config/minigrid_goal.py
  run waypoint config/minigrid_waypoint.py
  run past config/minigrid_past.py
  run future config/minigrid_future.py
  run forward_dynamics config/minigrid_forward.py
  run backward_dynamics config/minigrid_backward.py
  # all eight, and random masks
  run all config/minigrid_all.py $FEW
  run random config/minigrid_random.py --max_iters=2500 --eval_interval=500 --dtype=bfloat16 $FEW
  # feed-forward nets and Decision-GPT
  run nn_bc config/nn_bc.py
  run nn_random config/nn_random.py
  run dt_bc config/dt_bc.py
  run dt_rc config/dt_rc.py
  # random masks, then a task
  finetune behavior_cloning $CONTROL --learning_rate=1e-3
  finetune reward_conditioned $CONTROL
  finetune goal_conditioned $CONTROL
  finetune waypoint $CONTROL
  finetune past $INFERENCE $FEW
  finetune future $INFERENCE --dropout=0.2 $FEW
  finetune forward_dynamics $FEW $DYNAMICS
  finetune backward_dynamics $FEW $DYNAMICS
done

run_all
ensemble
draw "$STUDY"
exit "$failed"
