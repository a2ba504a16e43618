#!/usr/bin/env bash
# Builds the container image, and trains in it on this machine.
set -euo pipefail

SCRIPT=docker.sh
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/parts/common.sh
source "$ROOT/launch/parts/common.sh"

usage() {
  cat <<'TEXT'
Usage: launch/docker.sh build --for tpu|cuda|cuda12 --tag IMAGE [--push] [--root] [--dry-run]
       launch/docker.sh run NAME --for tpu|cuda|cuda12 --tag IMAGE --volume FOLDER [options] -- TRAINING ARGUMENTS
       launch/docker.sh logs|stop NAME [--dry-run]

Commands
  build   builds the image; --push uploads it for launch/xpk.sh
  run     trains on this machine's devices, detached. After an end of any kind, the same command resumes.
  logs    follows the log of NAME
  stop    asks NAME to stop: it saves and ends

Options
  --for DEVICE        tpu, cuda (CUDA 13: driver 580 or newer) or cuda12
  --tag IMAGE         e.g. us-docker.pkg.dev/my-project/cuma/cuma_jax:cuda
  --root              build: the container's user is root, not uid 1000 (TPU under XPK)
  --machine MACHINE   run: 1xh100, 8xh100 or v5e-16 and so on; default: none, the mesh is that of the arguments
  --volume FOLDER     run: mounted as /data; put --run.dir there
  --dry-run           print the commands; run nothing

HF_TOKEN is passed on by name, from your environment.

Example
  launch/docker.sh build --for cuda --tag cuma_jax:cuda
  launch/docker.sh run cuma1 --for cuda --tag cuma_jax:cuda --machine 8xh100 --volume ~/cuma -- \
    --config qwen3_8b_wvb --data.wvb /data/WorldValuesBench --run.dir /data/runs/cuma1
TEXT
}

build() {
  local user=cuma
  [[ -z $AS_ROOT ]] || user=root
  run docker build --file "$ROOT/launch/Dockerfile" --build-arg "EXTRA=$DEVICE" --build-arg "RUN_AS=$user" \
    --tag "$TAG" "$ROOT"
  if [[ -n $PUSH ]]; then run docker push "$TAG"; fi
}

start() {
  local distributed=none args
  args=(--detach --name "$NAME" --stop-timeout 300 --volume "$VOLUME:/data" --env HF_TOKEN
    --env CUMA_JAX_CACHE=/data/cache --env HF_HOME=/data/cache/huggingface)
  if [[ $DEVICE == tpu ]]; then
    distributed=auto
    args+=(--privileged --network host --user 0)
  else
    # NCCL talks through shared memory; files in the volume are to be yours.
    args+=(--gpus all --shm-size 8g --user "$(id -u):$(id -g)" --env HOME=/tmp)
  fi
  train_command "$MACHINE" "$distributed" "/data/runs/$NAME"
  # A container of an earlier attempt may still have the name; one that is running is not removed, and `run` fails.
  run docker container prune --force --filter "label=cuma_jax=$NAME"
  run docker run "${args[@]}" --label "cuma_jax=$NAME" "$TAG" "${TRAIN[@]}"
}

# shellcheck disable=SC2034  # parse_line sets and others read them by name
parse() {
  DEVICE="" TAG="" PUSH="" AS_ROOT="" MACHINE="" VOLUME=""
  parse_line "container" "build run logs stop" "build" "--for=DEVICE --tag=TAG --machine=MACHINE --volume=VOLUME --push:PUSH --root:AS_ROOT" "$@"
}

main() {
  parse "$@"
  if [[ $COMMAND == build || $COMMAND == run ]]; then
    case $DEVICE in
      tpu | cuda | cuda12) ;;
      *) die "--for is ${DEVICE:-missing}; give tpu, cuda or cuda12 (see --help)" ;;
    esac
    need --tag "$TAG" "the image's name"
  fi
  if [[ $COMMAND == run ]]; then
    need --volume "$VOLUME" "the folder that is to outlive the container"
    [[ $VOLUME == /* ]] || die "--volume $VOLUME: give an absolute path"
    if [[ -n $MACHINE ]]; then
      machine_facts "$MACHINE"
      [[ $KIND == tpu && $DEVICE == tpu || $KIND == gpu && $DEVICE == cuda* ]] ||
        die "--machine $MACHINE does not go with --for $DEVICE"
    fi
  fi
  need_tool docker "see https://docs.docker.com/engine/install"
  case $COMMAND in
    build) build ;;
    run) start ;;
    logs) run docker logs --follow --tail 100 "$NAME" ;;
    stop) run docker stop "$NAME" ;;
  esac
}

main "$@"
