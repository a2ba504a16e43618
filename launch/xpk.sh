#!/usr/bin/env bash
# Trains on GKE by XPK, on a cluster that XPK made.
set -euo pipefail

SCRIPT=xpk.sh
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/parts/common.sh
source "$ROOT/launch/parts/common.sh"

usage() {
  cat <<'TEXT'
Usage: launch/xpk.sh COMMAND NAME --cluster CLUSTER [options] [-- TRAINING ARGUMENTS]

Commands
  run      creates the workload NAME; needs the training arguments, --image and --storage
  resume   deletes what is left of the workload and creates it again; training goes on from its newest checkpoint.
           Needed only when the restarts are used up: until then the cluster starts preempted jobs again by itself.
  logs     follows the log of the first host
  status   lists the workload
  delete   deletes the workload; training saves first

Options
  --cluster CLUSTER    made by `xpk cluster create`, or taken over by `xpk cluster adapt`
  --zone ZONE, --project PROJECT   default: those of gcloud
  --machine MACHINE    v5e-16, v5e-256, 2xv5e-256, v6e-256, v5p-64, or 8xh100 (run, resume)
  --device-type TYPE   XPK's name of the GPU machine; default h100-80gb-8
  --image IMAGE        made by launch/docker.sh build --push; for TPU with --root
  --storage NAME       from `xpk storage attach`: the bucket, mounted in every container (run, resume)
  --env-file FILE      lines NAME=VALUE, or NAME alone: its value is taken from your environment, e.g. HF_TOKEN
  --restarts N         how often a failed or preempted job is started again; default 50
  --grace SECONDS      time to save between SIGTERM and the end; default 300
  --dry-run            print the commands; run nothing

Example
  xpk storage attach runs --cluster my-cluster --zone us-central1-a --type gcsfuse --bucket my-bucket \
    --mount-point /mnt/cuma --readonly false --size 1 --auto-mount false \
    --mount-options implicit-dirs,metadata-cache-ttl-secs=0,metadata-cache-negative-ttl-secs=0
  launch/xpk.sh run cuma1 --cluster my-cluster --zone us-central1-a --machine v5e-256 --storage runs \
    --image us-docker.pkg.dev/my-project/cuma/cuma_jax:tpu -- \
    --config qwen3_8b_wvb --data.wvb /mnt/cuma/WorldValuesBench --run.dir /mnt/cuma/runs/cuma1

The known traps are in docs/launch.md.
TEXT
}

xpk_run() { # WORDS...: an xpk command, in this cluster, zone and project
  run xpk "$@" --cluster="$CLUSTER" ${ZONE:+--zone="$ZONE"} ${PROJECT:+--project="$PROJECT"}
}

create() {
  local args=(--workload="$NAME" --docker-image="$IMAGE" --storage="$STORAGE")
  if [[ $KIND == tpu ]]; then
    args+=(--tpu-type="$TPU_TYPE" --num-slices="$SLICES")
  else
    args+=(--device-type="$DEVICE" --num-nodes=1)
  fi
  # XPK starts again on codes from 127 up, worker.sh's 143 among them; 1 is a Python error, as when another host dies.
  args+=(--max-restarts="$RESTARTS" --restart-on-exit-codes=1 --termination-grace-period-seconds="$GRACE")
  [[ -z $ENV_FILE ]] || args+=(--env-file="$ENV_FILE")
  # XPK's shell sends SIGTERM to the command's own shell; exec makes worker.sh that process.
  args+=(--command="exec bash /app/launch/parts/worker.sh $(quoted "${TRAIN[@]}")")
  xpk_run workload create "${args[@]}"
}

# shellcheck disable=SC2034  # parse_line sets and others read them by name
parse() {
  CLUSTER="" ZONE="" PROJECT="" MACHINE="" DEVICE=h100-80gb-8 IMAGE="" STORAGE="" ENV_FILE="" RESTARTS=50 GRACE=300
  parse_line "workload" "run resume logs status delete" "" "
    --cluster=CLUSTER --zone=ZONE --project=PROJECT --machine=MACHINE --device-type=DEVICE --image=IMAGE
    --storage=STORAGE --env-file=ENV_FILE --restarts=RESTARTS --grace=GRACE" "$@"
}

main() {
  parse "$@"
  need --cluster "$CLUSTER" "the cluster that XPK made"
  case $COMMAND in
    run | resume)
      machine_facts "$MACHINE"
      [[ $MACHINE != 1xh100 ]] || die "--machine 1xh100 is one GPU; XPK gives whole machines: use 8xh100, or launch/gpu_node.sh"
      need --image "$IMAGE" "the image to run, made by launch/docker.sh build --push"
      need --storage "$STORAGE" "the storage that holds the run's folder, from: xpk storage attach"
      [[ -z $ENV_FILE || -f $ENV_FILE ]] || die "--env-file $ENV_FILE: no such file"
      train_command "$MACHINE" "$([[ $KIND == tpu ]] && echo auto || echo none)" "/mnt/cuma/runs/$NAME"
      ;;
  esac
  if [[ $COMMAND == logs ]]; then
    need_tool kubectl "get it with: gcloud components install kubectl"
  else
    need_tool xpk "get it with: pip install xpk"
  fi
  case $COMMAND in
    run) create ;;
    resume)
      xpk_run workload delete --workload="$NAME" --force
      create
      ;;
    logs)
      run kubectl logs --follow --selector="jobset.sigs.k8s.io/jobset-name=$NAME,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0" --container=jax-tpu
      ;;
    status) xpk_run workload list --filter-by-job="$NAME" ;;
    delete) xpk_run workload delete --workload="$NAME" --force ;;
  esac
}

main "$@"
