#!/usr/bin/env bash
# What launch/tpu_vm.sh does on each worker of a TPU slice, over SSH.
set -euo pipefail

SCRIPT=tpu_worker.sh
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(cd "$here/../.." && pwd)"
# shellcheck source=launch/parts/common.sh
source "$here/common.sh"

HOME_DIR="$HOME/cuma"
# A host must see at once what another has written: gcsfuse on TPU machines caches metadata for ever by default.
GCSFUSE=(gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0)

usage() {
  cat <<'TEXT'
Usage: tpu_worker.sh install|start|status|logs|stop [--bucket BUCKET] [--mount FOLDER] [--hf-secret NAME] [--dry-run]
                     [-- COMMAND...]

Called by launch/tpu_vm.sh on every worker; you need not.
  install   a virtual environment in ~/cuma/venv with this checkout and its tpu extra; gcsfuse where --bucket is given
  start     mounts the bucket, takes HF_TOKEN from Secret Manager (--hf-secret), starts COMMAND detached
  status, logs, stop   of that process
TEXT
}

install() {
  # Ubuntu 22.04 has Python 3.10; the package needs 3.11 or newer. uv fetches one.
  run python3 -m pip install --user --quiet uv
  run "$HOME/.local/bin/uv" venv --quiet --allow-existing --python 3.12 "$HOME_DIR/venv"
  run "$HOME/.local/bin/uv" pip install --quiet --python "$HOME_DIR/venv/bin/python" "${ROOT}[tpu]"
  if [[ -n $BUCKET ]] && { [[ $DRY_RUN == 1 ]] || ! command -v gcsfuse >/dev/null; }; then
    install_gcsfuse
  fi
}

install_gcsfuse() {
  local key=/usr/share/keyrings/cloud.google.asc list=/etc/apt/sources.list.d/gcsfuse.list release=jammy
  if [[ $DRY_RUN == 0 ]]; then release="$(lsb_release --codename --short)"; fi
  run sudo curl --fail --silent --show-error --output "$key" https://packages.cloud.google.com/apt/doc/apt-key.gpg
  run sudo sh -c "echo 'deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$release main' >$list"
  # Right after the boot, unattended upgrades hold apt's lock.
  run sudo apt-get -o DPkg::Lock::Timeout=600 update --quiet
  run sudo apt-get -o DPkg::Lock::Timeout=600 install --quiet --yes gcsfuse
}

mount_bucket() {
  if [[ $DRY_RUN == 0 ]] && mountpoint --quiet "$MOUNT"; then return; fi
  run sudo mkdir -p "$MOUNT"
  run sudo chown "$(id -u):$(id -g)" "$MOUNT"
  run "${GCSFUSE[@]}" "$BUCKET" "$MOUNT"
}

start() {
  local state
  state="$(bash "$here/detached.sh" status "$HOME_DIR/job")"
  if [[ $DRY_RUN == 0 && $state == running* ]]; then
    echo "$state"
    return
  fi
  if [[ -n $BUCKET ]]; then mount_bucket; fi
  if [[ -n $HF_SECRET && $DRY_RUN == 1 ]]; then
    note "export HF_TOKEN=(the newest version of the secret $HF_SECRET)"
  elif [[ -n $HF_SECRET ]]; then
    HF_TOKEN="$(gcloud secrets versions access latest --secret="$HF_SECRET")"
    export HF_TOKEN
  fi
  free_tpu
  if [[ $DRY_RUN == 0 ]]; then export PATH="$HOME_DIR/venv/bin:$PATH"; fi
  run bash "$here/detached.sh" start "$HOME_DIR/job" "${TRAIN_ARGS[@]}"
}

free_tpu() { # a process that was killed leaves libtpu's lock file behind; it is removed where nothing holds the TPU
  local devices=(/dev/accel* /dev/vfio/*)
  if [[ $DRY_RUN == 0 ]] && command -v fuser >/dev/null && sudo fuser --silent "${devices[@]}" 2>/dev/null; then
    die "another process holds the TPU; find it with: sudo fuser --verbose /dev/accel* /dev/vfio/*"
  fi
  run sudo rm -f /tmp/libtpu_lockfile
  # JAX asks for it: starting and ending on v5e and newer is much slower without.
  run sudo sh -c 'echo always >/sys/kernel/mm/transparent_hugepage/enabled'
}

main() {
  local action=${1:-}
  case $action in
    --help | -h) usage && exit 0 ;;
    "") die "no action (see --help)" ;;
  esac
  shift
  BUCKET="" MOUNT=/mnt/cuma HF_SECRET=""
  while [[ $# -gt 0 ]]; do
    case $1 in
      --bucket) BUCKET="$(value_of "$@")"; shift 2 ;;
      --mount) MOUNT="$(value_of "$@")"; shift 2 ;;
      --hf-secret) HF_SECRET="$(value_of "$@")"; shift 2 ;;
      --dry-run) DRY_RUN=1 && shift ;;
      --) shift && TRAIN_ARGS=("$@") && break ;;
      *) die "unknown argument: $1 (see --help)" ;;
    esac
  done
  case $action in
    install) install ;;
    start)
      [[ ${#TRAIN_ARGS[@]} -gt 0 ]] || die "no command; give it after --"
      start
      ;;
    status | logs | stop) run bash "$here/detached.sh" "$action" "$HOME_DIR/job" ;;
    *) die "no such action: $action (see --help)" ;;
  esac
}

main "$@"
