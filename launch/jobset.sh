#!/usr/bin/env bash
# Trains on Kubernetes by a JobSet, on TPU or GPU nodes.
set -euo pipefail

SCRIPT=jobset.sh
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck source=launch/parts/common.sh
source "$ROOT/launch/parts/common.sh"

PORT=8476

usage() {
  cat <<'TEXT'
Usage: launch/jobset.sh COMMAND NAME [options] [-- TRAINING ARGUMENTS]

Commands
  render   prints the manifest (launch/jobset/jobset.yaml filled in)
  run      applies it; needs the training arguments
  resume   deletes what is left of the JobSet and applies it again; training goes on from its newest checkpoint.
           Needed only when the restarts are used up: until then preempted jobs are started again by themselves.
  logs     follows the log of the first host
  status   shows the JobSet and its pods
  delete   deletes the JobSet; training saves first

Options
  --machine MACHINE      v5e-16, v5e-256, 2xv5e-256, v6e-256, v5p-64, 1xh100 or 8xh100 (render, run, resume)
  --nodes N              GPU: that many nodes of MACHINE; default 1. With more, give --mesh.* after -- yourself.
  --gpu-type TYPE        GPU: label cloud.google.com/gke-accelerator of the nodes; default nvidia-h100-80gb
  --image IMAGE          made by launch/docker.sh build --push (render, run, resume)
  --bucket BUCKET        Cloud Storage bucket, mounted in every pod by GKE's gcsfuse driver; or
  --claim CLAIM          a volume claim that all nodes may write (ReadWriteMany)
  --mount FOLDER         where it is mounted; default /mnt/cuma
  --namespace NAMESPACE  default: default
  --service-account SA   Kubernetes service account of the pods, which may write the bucket
  --hf-secret SECRET     name of a Kubernetes secret with a key `token`, for gated weights
  --queue QUEUE          Kueue's local queue
  --spot                 spot nodes
  --restarts N           how often a failed or preempted job is started again; default 50
  --grace SECONDS        time to save between SIGTERM and the end; default 300
  --dry-run              print the commands; run nothing

Example
  launch/jobset.sh run cuma1 --machine v5e-256 --spot --bucket my-bucket --service-account cuma \
    --image us-docker.pkg.dev/my-project/cuma/cuma_jax:tpu -- \
    --config qwen3_8b_wvb --data.wvb /mnt/cuma/WorldValuesBench --run.dir /mnt/cuma/runs/cuma1

The known traps are in docs/launch.md.
TEXT
}

in_yaml() { # TEXT: as a double-quoted YAML string
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "$text"
}

args_in_yaml() { # WORDS...: as a YAML list on one line. $(NAME) stays for Kubernetes; other dollars are doubled.
  # shellcheck disable=SC2016  # not for this shell
  local word line="" index='$(JOB_COMPLETION_INDEX)'
  for word in "$@"; do
    if [[ $word != *"$index" ]]; then word=${word//\$(/\$\$(}; fi
    line+="${line:+, }$(in_yaml "$word")"
  done
  printf '[%s]' "$line"
}

holds() { # WORD: whether a condition of the template holds
  case $1 in
    tpu | gpu) [[ $KIND == "$1" ]] ;;
    several) [[ $HOSTS -gt 1 && $KIND == gpu ]] ;;
    bucket) [[ -n $BUCKET ]] ;;
    claim) [[ -n $CLAIM ]] ;;
    queue) [[ -n $QUEUE ]] ;;
    account) [[ -n $ACCOUNT ]] ;;
    secret) [[ -n $SECRET ]] ;;
    spot) [[ -n $SPOT ]] ;;
    *) die "the template has an unknown condition: $1" ;;
  esac
}

render() {
  local line name value
  while IFS= read -r line; do
    if [[ $line == *" # if "* ]]; then
      holds "${line##* # if }" || continue
      line="${line% # if *}"
    fi
    [[ $line == *@* ]] || { printf '%s\n' "$line" && continue; }
    for name in NAME NAMESPACE QUEUE RESTARTS SLICES HOSTS GRACE ACCOUNT GKE_TPU TOPOLOGY GKE_GPU IMAGE PORT SECRET GPUS \
      MOUNT CLAIM BUCKET ARGS; do
      [[ $line == *"@$name@"* ]] || continue
      value=${!name}
      line="${line%%@"$name"@*}$value${line#*@"$name"@}"
    done
    printf '%s\n' "$line"
  done < <(tail -n +2 "$ROOT/launch/jobset/jobset.yaml")
}

command_of_the_pods() {
  local distributed=auto machine=$MACHINE word
  for word in ${TRAIN_ARGS[@]+"${TRAIN_ARGS[@]}"}; do
    [[ $word != *[[:cntrl:]]* ]] || die "a training argument holds a line break or a tab; they do not go into a manifest"
  done
  if [[ $KIND == gpu ]]; then
    # Names of pods, and the index that Kubernetes gives each: JAX need not ask the API server, which takes rights.
    distributed=none
    if [[ $HOSTS -gt 1 ]]; then
      distributed="$NAME-slice-0-0.$NAME:$PORT,$HOSTS,\$(JOB_COMPLETION_INDEX)"
      machine=""
    fi
  fi
  train_command "$machine" "$distributed" "$MOUNT/runs/$NAME"
  ARGS="$(args_in_yaml "${TRAIN[@]}")"
}

apply() {
  if [[ $DRY_RUN == 1 ]]; then
    printf "kubectl apply --filename=- <<'YAML'\n"
    render
    printf 'YAML\n'
  else
    render | kubectl apply --filename=-
  fi
}

# shellcheck disable=SC2034  # parse_line sets and others read them by name
parse() {
  MACHINE="" NODES="" GKE_GPU=nvidia-h100-80gb IMAGE="" BUCKET="" CLAIM="" MOUNT=/mnt/cuma NAMESPACE=default
  ACCOUNT="" SECRET="" QUEUE="" SPOT="" RESTARTS=50 GRACE=300 ARGS=""
  parse_line "JobSet" "render run resume logs status delete" "" "
    --machine=MACHINE --nodes=NODES --gpu-type=GKE_GPU --image=IMAGE --bucket=BUCKET --claim=CLAIM
    --mount=MOUNT --namespace=NAMESPACE --service-account=ACCOUNT --hf-secret=SECRET --queue=QUEUE
    --restarts=RESTARTS --grace=GRACE --spot:SPOT" "$@"
  BUCKET="${BUCKET#gs://}"
}

check_manifest() {
  machine_facts "$MACHINE"
  [[ -z $NODES || $NODES =~ ^[1-9][0-9]*$ ]] || die "--nodes $NODES: give a whole number"
  [[ -z $NODES || $KIND == gpu ]] || die "--nodes is for GPUs; --machine $MACHINE says how many hosts a TPU has"
  if [[ $KIND == gpu ]]; then HOSTS=${NODES:-1}; fi
  need --image "$IMAGE" "the image to run, made by launch/docker.sh build --push"
  [[ -n $BUCKET$CLAIM ]] || die "--bucket or --claim is missing; the run's folder must outlive the pods (see --help)"
  [[ -z $BUCKET || -z $CLAIM ]] || die "--bucket and --claim exclude each other"
  [[ $RESTARTS =~ ^[0-9]+$ ]] || die "--restarts $RESTARTS: give a whole number"
  [[ $GRACE =~ ^[0-9]+$ ]] || die "--grace $GRACE: give whole seconds"
  command_of_the_pods
}

main() {
  parse "$@"
  case $COMMAND in render | run | resume) check_manifest ;; esac
  [[ $COMMAND == render ]] || need_tool kubectl "see https://kubernetes.io/docs/tasks/tools"
  case $COMMAND in
    render) render ;;
    run) apply ;;
    resume)
      run kubectl delete jobset "$NAME" --namespace="$NAMESPACE" --ignore-not-found --wait
      apply
      ;;
    logs)
      run kubectl logs --follow --namespace="$NAMESPACE" --container=train --selector="jobset.sigs.k8s.io/jobset-name=$NAME,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
      ;;
    status)
      run kubectl get jobset "$NAME" --namespace="$NAMESPACE" --output=wide
      run kubectl get pods --namespace="$NAMESPACE" --selector="jobset.sigs.k8s.io/jobset-name=$NAME"
      ;;
    delete) run kubectl delete jobset "$NAME" --namespace="$NAMESPACE" --wait ;;
  esac
}

main "$@"
