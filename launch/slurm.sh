#!/usr/bin/env bash
# Trains on the GPUs of a SLURM cluster.
set -euo pipefail

SCRIPT=slurm.sh
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/parts/common.sh
source "$ROOT/launch/parts/common.sh"

usage() {
  cat <<'TEXT'
Usage: launch/slurm.sh COMMAND NAME [options] [-- TRAINING ARGUMENTS]

Commands
  run      submits a job; needs the training arguments. It goes back into the queue by itself when it is preempted or
           its time is up, and goes on from its newest checkpoint.
  resume   the same as run: after a failure, submit the same command again
  logs     follows the job's log
  status   shows the job
  stop     asks training to stop: it saves, and the job goes back into the queue
  delete   cancels the job

Options
  --machine MACHINE    1xh100 or 8xh100: one or eight GPUs of a node (run, resume)
  --nodes N            that many nodes of MACHINE; default 1. With more, give --mesh.* after -- yourself.
  --per node|gpu       one process a node, which sees all its GPUs (default), or one a GPU
  --partition P, --account A, --qos Q, --time T   as sbatch takes them; --time default 24:00:00
  --cpus N             CPU cores a node; default 8 a GPU
  --setup FILE         sourced in the job before training: module load ..., source .venv/bin/activate
  --log-dir FOLDER     default: runs/launch
  --dry-run            print the commands; run nothing

Call it in the environment that training needs, or use --setup; sbatch passes your environment on, HF_TOKEN too.

Example
  launch/slurm.sh run cuma1 --machine 8xh100 --partition gpu -- \
    --config qwen3_8b_wvb --data.wvb /shared/WorldValuesBench --run.dir /shared/runs/cuma1

The known traps are in docs/launch.md.
TEXT
}

submit() {
  local tasks=1
  [[ $PER == node ]] || tasks=$GPUS
  local args=(
    --job-name="$NAME" --chdir="$ROOT" --nodes="$NODES" --ntasks-per-node="$tasks" --gpus-per-node="$GPUS"
    --cpus-per-task="$(((${CPUS:-$((8 * GPUS))} + tasks - 1) / tasks))" --time="$TIME" --output="$LOG_DIR/$NAME.log"
  )
  [[ -z $PARTITION ]] || args+=(--partition="$PARTITION")
  [[ -z $ACCOUNT ]] || args+=(--account="$ACCOUNT")
  [[ -z $QOS ]] || args+=(--qos="$QOS")
  args+=(--export="ALL,CUMA_JAX_GPUS=$GPUS${SETUP:+,CUMA_JAX_SETUP=$SETUP}")
  run mkdir -p "$LOG_DIR"
  run sbatch "${args[@]}" "$ROOT/launch/slurm.sbatch" "${TRAIN[@]}"
}

# shellcheck disable=SC2034  # parse_line sets and others read them by name
parse() {
  MACHINE="" NODES=1 PER=node PARTITION="" ACCOUNT="" QOS="" TIME=24:00:00 CPUS="" SETUP=""
  LOG_DIR="$ROOT/runs/launch"
  parse_line "job" "run resume logs status stop delete" "" "
    --machine=MACHINE --nodes=NODES --per=PER --partition=PARTITION --account=ACCOUNT --qos=QOS
    --time=TIME --cpus=CPUS --setup=SETUP --log-dir=LOG_DIR" "$@"
}

check_job() {
  need_gpu "$MACHINE"
  [[ $NODES =~ ^[1-9][0-9]*$ ]] || die "--nodes $NODES: give a whole number"
  [[ -z $CPUS || $CPUS =~ ^[1-9][0-9]*$ ]] || die "--cpus $CPUS: give a whole number"
  [[ $PER == node || $PER == gpu ]] || die "--per $PER: give node or gpu"
  [[ -z $SETUP || -f $SETUP ]] || die "--setup $SETUP: no such file"
  [[ $SETUP != *,* ]] || die "--setup $SETUP: sbatch cannot pass a name with a comma"
  local distributed=auto machine=$MACHINE
  if [[ $NODES == 1 && ($PER == node || $GPUS == 1) ]]; then distributed=none; fi
  if [[ $NODES -gt 1 ]]; then machine=""; fi
  train_command "$machine" "$distributed" "/shared/runs/$NAME"
}

main() {
  parse "$@"
  case $COMMAND in run | resume) check_job ;; esac
  if [[ $COMMAND != logs ]]; then
    need_tool sbatch "call this on a login node of the cluster (SLURM's own package, slurm-client, holds it)"
  fi
  case $COMMAND in
    run | resume) submit ;;
    logs) run tail -n 100 -F "$LOG_DIR/$NAME.log" ;;
    status) run squeue --me --name="$NAME" --long ;;
    stop) run scancel --me --name="$NAME" --signal=TERM ;;
    delete) run scancel --me --name="$NAME" ;;
  esac
}

main "$@"
