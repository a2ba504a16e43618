#!/usr/bin/env bash
# Trains on a Cloud TPU VM, a pod slice, or several slices, by queued resources.
set -euo pipefail

SCRIPT=tpu_vm.sh
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/parts/common.sh
source "$ROOT/launch/parts/common.sh"

usage() {
  cat <<'TEXT'
Usage: launch/tpu_vm.sh COMMAND NAME --zone ZONE [options] [-- TRAINING ARGUMENTS]

Commands
  create   asks for the TPU (a queued resource called NAME) and returns; with --wait, when it is there
  setup    copies the last commit of this checkout to every worker and installs it there
  run      starts training on every worker, detached; needs the training arguments
  logs     follows the log of one worker (--worker, default 0)
  status   state of the TPU, and of the process on every worker
  stop     asks training to stop on every worker: it saves and ends
  resume   goes on after a preemption: takes the TPU anew if it is gone, sets it up, runs the same training arguments.
           Does nothing where training is running or has finished, so it can be called every few minutes.
  delete   deletes the TPU and the queued resource; the bucket stays

Options
  --zone ZONE            e.g. us-central1-a
  --project PROJECT      default: that of gcloud
  --machine MACHINE      v5e-16, v5e-256, 2xv5e-256, v6e-256 or v5p-64 (create, run, resume)
  --spot                 cheaper, can be taken away at any time (create, resume)
  --reserved             from a reservation (create, resume)
  --service-account SA   the account that the workers act as (create, resume)
  --network NETWORK      VPC network (create, resume)
  --wait                 create: wait until the TPU is there
  --bucket BUCKET        Cloud Storage bucket, mounted on every worker with gcsfuse (setup, run, resume)
  --mount FOLDER         where it is mounted; default /mnt/cuma
  --hf-secret SECRET     name of a Secret Manager secret that holds a Hugging Face token, for gated weights (run, resume)
  --worker N             logs: which worker
  --iap                  SSH through Identity-Aware Proxy, for workers without external addresses
  --dry-run              print the commands; run nothing

Example: a spot v5e-16 from nothing to training, then what to type after a preemption (from cron, if you like)
  launch/tpu_vm.sh create cuma1 --zone us-central1-a --machine v5e-16 --spot --wait
  launch/tpu_vm.sh setup cuma1 --zone us-central1-a --bucket my-bucket
  launch/tpu_vm.sh run cuma1 --zone us-central1-a --machine v5e-16 --bucket my-bucket -- \
    --config qwen3_8b_wvb --data.wvb /mnt/cuma/WorldValuesBench --run.dir /mnt/cuma/runs/cuma1
  launch/tpu_vm.sh resume cuma1 --zone us-central1-a --machine v5e-16 --spot --bucket my-bucket -- \
    --config qwen3_8b_wvb --data.wvb /mnt/cuma/WorldValuesBench --run.dir /mnt/cuma/runs/cuma1

The known traps are in docs/launch.md.
TEXT
}

queued() { # ACTION ARGS...: gcloud's command on queued resources, in this project and zone
  local action=$1
  shift
  run gcloud compute tpus queued-resources "$action" "$@" --zone="$ZONE" ${PROJECT:+--project="$PROJECT"}
}

on_workers() { # NODE WORKER COMMAND...: runs a command of tpu_worker.sh there
  local node=$1 worker=$2
  shift 2
  local batch=()
  [[ $worker != all ]] || batch=(--batch-size=all)
  queued ssh "$NAME" --node="$node" --worker="$worker" ${batch[@]+"${batch[@]}"} ${IAP:+--tunnel-through-iap} \
    --command="bash cuma/src/launch/parts/tpu_worker.sh $(quoted "$@")"
}

create() {
  local args=("$NAME" --accelerator-type="$TPU_TYPE" --runtime-version="$RUNTIME")
  if [[ $SLICES == 1 ]]; then
    args+=(--node-id="$NAME")
  else
    args+=(--node-count="$SLICES" --node-prefix="$NAME")
  fi
  [[ -z $SPOT ]] || args+=(--spot)
  [[ -z $RESERVED ]] || args+=(--reserved)
  [[ -z $ACCOUNT ]] || args+=(--service-account="$ACCOUNT")
  [[ -z $NETWORK ]] || args+=(--network="$NETWORK")
  queued create "${args[@]}"
}

# ACCEPTED, WAITING_FOR_RESOURCES, PROVISIONING, ACTIVE, SUSPENDING, SUSPENDED (spot: taken away), FAILED; GONE: none.
state() {
  local answer
  if answer="$(queued describe "$NAME" --format='value(state.state)' 2>&1)"; then
    printf '%s' "${answer##*$'\n'}"
  elif [[ $answer == *NOT_FOUND* || $answer == *"not found"* ]]; then
    printf 'GONE'
  else
    die "gcloud cannot tell the state of $NAME: ${answer##*$'\n'}"
  fi
}

wait_until_active() {
  local now
  if [[ $DRY_RUN == 1 ]]; then
    note "every minute, until it prints ACTIVE:"
    queued describe "$NAME" --format='value(state.state)'
    return
  fi
  while true; do
    now="$(state)"
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPEND* | DELET* | GONE) die "$NAME is $now; see: launch/tpu_vm.sh status $NAME --zone $ZONE" ;;
    esac
    note "$NAME is $now; waiting"
    sleep 60
  done
}

setup() {
  local archive="${TMPDIR:-/tmp}/cuma_jax.tar.gz"
  if [[ $DRY_RUN == 0 && -n $(git -C "$ROOT" status --porcelain) ]]; then
    note "what is not committed is not copied"
  fi
  run git -C "$ROOT" archive --format=tar.gz --output="$archive" HEAD
  queued scp "$archive" "$NAME:cuma_jax.tar.gz" --node=all --worker=all --batch-size=all ${IAP:+--tunnel-through-iap}
  queued ssh "$NAME" --node=all --worker=all --batch-size=all ${IAP:+--tunnel-through-iap} \
    --command="rm -rf cuma/src && mkdir -p cuma/src && tar -xzf cuma_jax.tar.gz -C cuma/src"
  on_workers all all install ${BUCKET:+--bucket "$BUCKET"}
}

start() {
  on_workers all all start ${BUCKET:+--bucket "$BUCKET" --mount "$MOUNT"} ${HF_SECRET:+--hf-secret "$HF_SECRET"} \
    -- "${TRAIN[@]}"
}

resume() {
  local now
  if [[ $DRY_RUN == 1 ]]; then
    queued describe "$NAME" --format='value(state.state)'
    note "where it prints SUSPENDED or FAILED (preempted):"
    queued delete "$NAME" --force --quiet
    note "then, or where there is none:"
    create
    wait_until_active
    setup
    note "where it is ACTIVE, only the rest; nothing where this prints running or ended 0:"
    on_workers 0 0 status
    start
    return
  fi
  now="$(state)"
  note "$NAME is $now"
  case $now in
    ACTIVE) ;;
    SUSPENDED | FAILED | GONE)
      [[ $now == GONE ]] || queued delete "$NAME" --force --quiet
      create
      wait_until_active
      setup
      ;;
    SUSPENDING | DELETING) die "$NAME is $now; call resume again in a few minutes" ;;
    *)
      wait_until_active
      setup
      ;;
  esac
  now="$(on_workers 0 0 status)" || now=unknown
  case $now in
    *running*) note "training is running on worker 0" ;;
    *"ended 0"*) note "training has finished; delete the TPU with: launch/tpu_vm.sh delete $NAME --zone $ZONE" ;;
    unknown)
      setup
      start
      ;;
    *) start ;;
  esac
}

# shellcheck disable=SC2034  # parse_line sets and others read them by name
parse() {
  ZONE="" PROJECT="" MACHINE="" SPOT="" RESERVED="" ACCOUNT="" NETWORK="" WAIT="" BUCKET="" MOUNT=/mnt/cuma
  HF_SECRET="" WORKER=0 IAP=""
  parse_line "TPU" "create setup run logs status stop resume delete" "" "
    --zone=ZONE --project=PROJECT --machine=MACHINE --service-account=ACCOUNT --network=NETWORK
    --bucket=BUCKET --mount=MOUNT --hf-secret=HF_SECRET --worker=WORKER --spot:SPOT --reserved:RESERVED
    --wait:WAIT --iap:IAP" "$@"
  BUCKET="${BUCKET#gs://}"
}

main() {
  parse "$@"
  need --zone "$ZONE" "the zone of the TPU, e.g. us-central1-a"
  [[ -z $SPOT || -z $RESERVED ]] || die "--spot and --reserved exclude each other"
  case $COMMAND in create | run | resume) need_tpu "$MACHINE" ;; esac
  case $COMMAND in run | resume) train_command "$MACHINE" auto "$MOUNT/runs/$NAME" ;; esac
  need_tool gcloud "it is in the Google Cloud CLI: https://cloud.google.com/sdk/docs/install"
  case $COMMAND in
    create)
      create
      if [[ -n $WAIT ]]; then wait_until_active; fi
      ;;
    setup) setup ;;
    run) start ;;
    logs) on_workers 0 "$WORKER" logs ;;
    status)
      queued describe "$NAME" --format='value(state.state)'
      on_workers all all status
      ;;
    stop) on_workers all all stop ;;
    resume) resume ;;
    delete) queued delete "$NAME" --force --quiet ;;
  esac
}

main "$@"
