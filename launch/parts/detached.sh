#!/usr/bin/env bash
# A training process that outlives the terminal: started, watched and stopped by a folder with its pid and log.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
  cat <<'TEXT'
Usage: detached.sh start FOLDER COMMAND...
       detached.sh status|logs|stop FOLDER

The launch scripts call it; you need not. FOLDER holds train.log (appended to), pid, and exit: the exit code.
  start    starts COMMAND under nohup; does nothing where it is running already
  status   prints: running PID | ended CODE | killed | not started
  logs     follows the log
  stop     sends SIGTERM: training saves and ends
TEXT
}

die() { printf 'detached.sh: %s\n' "$1" >&2 && exit 2; }

running() { [[ -f $folder/pid ]] && kill -0 "$(cat "$folder/pid")" 2>/dev/null; }

case ${1:-} in --help | -h) usage && exit 0 ;; esac
[[ $# -ge 2 ]] || die "an action and a folder are needed (see --help)"
action=$1 folder=$2
shift 2
case $action in
  start)
    [[ $# -gt 0 ]] || die "no command to start (see --help)"
    if running; then
      echo "running already (pid $(cat "$folder/pid"), log $folder/train.log)"
      exit 0
    fi
    mkdir -p "$folder"
    rm -f "$folder/exit"
    CUMA_JAX_EXIT_FILE="$folder/exit" PYTHONUNBUFFERED=1 \
      nohup bash "$here/worker.sh" "$@" >>"$folder/train.log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
    echo "started (pid $!, log $folder/train.log)"
    ;;
  status)
    if running; then
      echo "running $(cat "$folder/pid")"
    elif [[ -f $folder/exit ]]; then
      echo "ended $(cat "$folder/exit")"
    elif [[ -f $folder/pid ]]; then
      echo "killed"
    else
      echo "not started"
    fi
    ;;
  logs)
    [[ -f $folder/train.log ]] || die "there is no $folder/train.log: nothing was started here"
    exec tail -n 100 -F "$folder/train.log"
    ;;
  stop)
    running || die "nothing is running in $folder"
    kill -TERM "$(cat "$folder/pid")"
    echo "asked to stop (it saves first)"
    ;;
  *) die "no such action: $action (see --help)" ;;
esac
