#!/usr/bin/env bash
# Runs one training process, and says by its exit code whether the job should be started again.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: worker.sh COMMAND...

Runs COMMAND (python -m cuma_jax.train ...) and passes SIGTERM on to it. The launch scripts call it; you need not.

Training that is asked to stop saves and exits with 0. To Kubernetes and SLURM that looks like work that is done, and
they would not start it again. So the exit codes here are:
  0     done
  2     bad input: starting again will not help
  143   stopped by SIGTERM, saved: start the same command again
  else  what COMMAND exited with

With CUMA_JAX_EXIT_FILE set, the code is also written to that file.
TEXT
}

case ${1:-} in
  --help | -h) usage && exit 0 ;;
  "") printf 'worker.sh: no command to run (see --help)\n' >&2 && exit 2 ;;
esac

child="" stopped=0 told=0
# shellcheck disable=SC2329  # called by the trap
stop() {
  stopped=1
  if [[ -n $child && $told == 0 ]]; then
    told=1
    kill -TERM "$child" 2>/dev/null || true
  fi
}
trap stop TERM

"$@" &
child=$!
# The signal may have come between these two lines.
if [[ $stopped == 1 ]]; then stop; fi
status=0
wait "$child" || status=$?
# A trapped signal ends `wait` early; the process itself is still saving.
while kill -0 "$child" 2>/dev/null; do
  status=0
  wait "$child" || status=$?
done
if [[ $stopped == 1 && $status == 0 ]]; then status=143; fi
if [[ -n ${CUMA_JAX_EXIT_FILE:-} ]]; then echo "$status" >"$CUMA_JAX_EXIT_FILE"; fi
exit "$status"
