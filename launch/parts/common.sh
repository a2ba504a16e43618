# shellcheck shell=bash
# Shared by the launch scripts; sourced, not run. Written for bash 3.2, which macOS still ships.
# SCRIPT and ROOT are set by whoever sources this.

DRY_RUN=0
TRAIN_ARGS=()

die() { # MESSAGE: one line on stderr, exit code 2
  printf '%s: %s\n' "${SCRIPT:-launch}" "$1" >&2
  exit 2
}

quoted() { # WORDS...: the words as one line that can be pasted into a shell
  local word line="" escaped="'\\''"
  for word in "$@"; do
    if [[ -z $word || $word == *[!A-Za-z0-9_@%+=:,./-]* ]]; then
      word=${word//\'/$escaped}
      word="'$word'"
    fi
    line+="${line:+ }$word"
  done
  printf '%s' "$line"
}

run() { # COMMAND...: runs it; under --dry-run only prints it
  if [[ $DRY_RUN == 1 ]]; then
    printf '%s\n' "$(quoted "$@")"
  else
    "$@"
  fi
}

note() { # TEXT: under --dry-run a comment between the commands, else a line of progress
  printf '# %s\n' "$1"
}

need_tool() { # NAME HOW: the tool must be there, unless nothing is going to be run
  [[ $DRY_RUN == 1 ]] || command -v "$1" >/dev/null 2>&1 || die "$1 is not installed; $2"
}

need() { # FLAG VALUE WHAT: a flag that must have been given
  [[ -n $2 ]] || die "$1 is missing; $3 (see --help)"
}

value_of() { # FLAG [VALUE]: the value after a flag; call it as a plain assignment: VALUE="$(value_of "$@")"
  [[ $# -ge 2 && $2 != --* && -n $2 ]] || die "$1 needs a value (see --help)"
  printf '%s' "$2"
}

# What every script reads: COMMAND, NAME, options, and after -- the training's own arguments.
parse_line() { # WHAT COMMANDS NAMELESS OPTIONS ARGUMENTS...
  # WHAT is a NAME's, in messages; NAMELESS are the commands without one. OPTIONS are words: --flag=VARIABLE takes a
  # value, --flag:VARIABLE sets it to 1. Sets COMMAND, NAME, DRY_RUN, TRAIN_ARGS and those variables.
  local what=$1 commands=$2 nameless=$3 options=$4 word variable value
  shift 4
  case ${1:-} in
    --help | -h) usage && exit 0 ;;
    "") die "no command; one of ${commands// /, } (see --help)" ;;
  esac
  [[ " $commands " == *" $1 "* ]] || die "no such command: $1 (see --help)"
  COMMAND=$1 NAME="" && shift
  if [[ " $nameless " != *" $COMMAND "* ]]; then
    case ${1:-} in
      --help | -h) usage && exit 0 ;;
      "" | -*) die "the $what's name is missing; it stands after $COMMAND (see --help)" ;;
    esac
    NAME=$1 && shift
    need_name "$NAME"
  fi
  while [[ $# -gt 0 ]]; do
    case $1 in
      --dry-run) DRY_RUN=1 && shift && continue ;;
      --help | -h) usage && exit 0 ;;
      --) shift && TRAIN_ARGS=("$@") && break ;;
    esac
    variable="" value=1
    for word in $options; do
      case $word in
        "$1="*)
          variable=${word#*=}
          value="$(value_of "$@")"
          shift
          break
          ;;
        "$1:"*) variable=${word#*:} ;;
      esac
    done
    [[ -n $variable ]] || die "unknown argument: $1; training arguments stand after -- (see --help)"
    printf -v "$variable" '%s' "$value"
    shift
  done
}

need_name() { # NAME: what clouds and Kubernetes take as a name
  [[ $1 =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
    die "the name '$1' is not allowed; use at most 40 lower-case letters, digits and dashes, a letter first"
}

has_arg() { # FLAG: whether the training arguments hold FLAG or FLAG=VALUE
  local arg
  for arg in ${TRAIN_ARGS[@]+"${TRAIN_ARGS[@]}"}; do
    [[ $arg != "$1" && $arg != "$1="* ]] || return 0
  done
  return 1
}

# What --machine says about the hardware to ask for: the names are those of `python -m cuma_jax.train --machine`.
# Cloud names count the chips of v5e and v6e, but the cores of v5p, two a chip.
machine_facts() { # MACHINE: sets KIND SLICES, for TPU: TPU_TYPE RUNTIME, for GPU: GPUS
  local known="one of v5e-16, v5e-256, 2xv5e-256, v6e-256, v5p-64, 1xh100, 8xh100"
  KIND=tpu SLICES=1 GPUS=0 TPU_TYPE="" RUNTIME=""
  case $1 in
    v5e-16) TPU_TYPE=v5litepod-16 RUNTIME=v2-alpha-tpuv5-lite ;;
    v5e-256) TPU_TYPE=v5litepod-256 RUNTIME=v2-alpha-tpuv5-lite ;;
    2xv5e-256) TPU_TYPE=v5litepod-256 RUNTIME=v2-alpha-tpuv5-lite SLICES=2 ;;
    v6e-256) TPU_TYPE=v6e-256 RUNTIME=v2-alpha-tpuv6e ;;
    v5p-64) TPU_TYPE=v5p-64 RUNTIME=v2-alpha-tpuv5 ;;
    1xh100) KIND=gpu GPUS=1 ;;
    8xh100) KIND=gpu GPUS=8 ;;
    "") die "--machine is missing; $known (see --help)" ;;
    *) die "--machine $1 is unknown; $known" ;;
  esac
  export KIND SLICES GPUS TPU_TYPE RUNTIME
}

need_tpu() { # MACHINE
  machine_facts "$1"
  [[ $KIND == tpu ]] || die "--machine $1 is a GPU; use launch/gpu_node.sh, launch/slurm.sh or launch/xpk.sh"
}

need_gpu() { # MACHINE
  machine_facts "$1"
  [[ $KIND == gpu ]] || die "--machine $1 is a TPU; use launch/tpu_vm.sh or launch/xpk.sh"
}

# The training command, in TRAIN. Every process runs the same one, and running it again resumes the run: so the run's
# folder has to be named, on a disk that all hosts and the next attempt see.
train_command() { # MACHINE DISTRIBUTED WHERE: WHERE is an example of a folder that all hosts see
  local flag
  [[ ${#TRAIN_ARGS[@]} -gt 0 ]] || die "no training arguments; give them after --, e.g. -- --config qwen3_8b_wvb --run.dir $3"
  for flag in --machine --distributed; do
    ! has_arg "$flag" || die "$flag stands after --; the script sets it (see --help)"
  done
  has_arg --run.dir || die "--run.dir is missing after --; a run resumes from its folder: name one that outlives the job, e.g. $3"
  TRAIN=(python -m cuma_jax.train)
  [[ -z $1 ]] || TRAIN+=(--machine "$1")
  TRAIN+=(--distributed "$2" "${TRAIN_ARGS[@]}")
}
