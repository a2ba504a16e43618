#!/usr/bin/env bash
# Trains on the GPUs of this machine.
set -euo pipefail

SCRIPT=gpu_node.sh
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/parts/common.sh
source "$ROOT/launch/parts/common.sh"

usage() {
  cat <<'TEXT'
Usage: launch/gpu_node.sh COMMAND [NAME] [options] [-- TRAINING ARGUMENTS]

One process that sees all GPUs is enough for JAX: there is no launcher of one process a GPU, as torchrun is.

Commands
  run      trains in this terminal; needs the training arguments
  start    trains detached, under nohup; does nothing where NAME is running already
  resume   the same as start: training goes on from its newest checkpoint
  logs     follows the log of NAME
  status   says whether NAME is running, or how it ended
  stop     asks NAME to stop: it saves and ends

Options
  --machine MACHINE   1xh100 or 8xh100, or `any`: then give --mesh.* after -- yourself, where the default does not suit
  --gpus LIST         only these, e.g. 0,1
  --dry-run           print the commands; run nothing

NAME (start and the commands below it) is a folder under runs/launch/ with the log.

Example
  launch/gpu_node.sh start cuma1 --machine 8xh100 -- \
    --config qwen3_8b_wvb --data.wvb ~/WorldValuesBench --run.dir runs/cuma1
TEXT
}

# shellcheck disable=SC2034  # parse_line sets and others read them by name
parse() {
  MACHINE="" DEVICES=""
  parse_line "job" "run start resume logs status stop" "run" "--machine=MACHINE --gpus=DEVICES" "$@"
}

train() {
  local env=() commas="${DEVICES//[!,]/}"
  [[ -z $DEVICES || $DEVICES =~ ^[0-9]+(,[0-9]+)*$ ]] || die "--gpus $DEVICES: give numbers with commas, e.g. 0,1"
  if [[ $MACHINE == any ]]; then
    MACHINE=""
  else
    need_gpu "$MACHINE"
    [[ -z $DEVICES || $((${#commas} + 1)) == "$GPUS" ]] || die "--gpus $DEVICES is not the $GPUS of --machine $MACHINE"
  fi
  train_command "$MACHINE" none "runs/${NAME:-cuma1}"
  need_tool python "activate the virtual environment in which the package is installed with its extra cuda"
  [[ -z $DEVICES ]] || env=(env "CUDA_VISIBLE_DEVICES=$DEVICES")
  if [[ $COMMAND == run ]]; then
    run ${env[@]+"${env[@]}"} "${TRAIN[@]}"
  else
    run ${env[@]+"${env[@]}"} bash "$ROOT/launch/parts/detached.sh" start "$ROOT/runs/launch/$NAME" "${TRAIN[@]}"
  fi
}

main() {
  parse "$@"
  case $COMMAND in
    run | start | resume) train ;;
    *) run bash "$ROOT/launch/parts/detached.sh" "$COMMAND" "$ROOT/runs/launch/$NAME" ;;
  esac
}

main "$@"
