#!/usr/bin/env bash
# A grid search: a config file, and every pair of the values of two settings. Then a table of them,
# the best in validation first: out/sweep/sweep_CONFIG.md (other settings are part of that name).
# Losses of several heads, tasks or weights have other units: these cannot be ranked so.
#
#   bash repro/sweep.sh config/minigrid_bc.py learning_rate=3e-4,1e-3,3e-3 n_embd=32,64
#   SEEDS="0 1 2" bash repro/sweep.sh config/minigrid_rc.py dropout=0.1,0.3 n_layer=2,3 --max_iters=500
#   LIST=1 bash repro/sweep.sh ...          # print the lines, run nothing
#   SMOKE=1 bash repro/sweep.sh ...         # everything tiny, into out/smoke
#
# Other settings may follow. Killed at any moment, the same command goes on where it stopped; with
# other values it adds to the table. JOBS: one-thread processes at a time.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ $# -lt 3 || "$1" != *.py || "$2" != *=* || "$3" != *=* ]]; then
  echo "usage: bash repro/sweep.sh config/x.py setting=value,value setting=value,value" >&2
  exit 1
fi
case " $2 $3" in *" seed="*) echo "seeds are named by SEEDS=\"0 1\"" >&2; exit 1 ;; esac
SEEDS=${SEEDS:-0}
STUDY=sweep_$(basename "$1" .py)$(printf '%s' "${@:4}" | tr -c '[:alnum:]=_.+-' _)
if [ -z "$TINY" ]; then RESULTS=out/sweep; fi
EVERY="--results=$RESULTS"

for seed in $SEEDS; do
  for one in ${2//,/ --${2%%=*}=}; do # a=1,2 is a=1 --a=2
    for two in ${3//,/ --${3%%=*}=}; do
      run "${one#--},${two#--}" "$1" "--${one#--}" "--${two#--}" "${@:4}"
    done
  done
done

run_all
draw "$STUDY"
exit "$failed"
