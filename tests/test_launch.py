"""The launch scripts: what they would run, that a dry run runs nothing, and that stopped jobs are started again."""

import contextlib
import functools
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from cuma_jax.commands.command_line import parse_runs, peek
from cuma_jax.commands.train import Options
from cuma_jax.config.machines import MACHINES, setting_of
from cuma_jax.runtime.clusters import parse_distributed

ROOT = pathlib.Path(__file__).parent.parent
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("parts/*.sh"), LAUNCH / "slurm.sbatch"])
COMMANDS = [path for path in SCRIPTS if path.parent == LAUNCH and path.suffix == ".sh"]
TOOLS = (
    *("gcloud", "gcsfuse", "xpk", "kubectl", "docker", "nohup", "sudo", "apt-get", "curl"),
    *("sbatch", "srun", "scancel", "squeue", "scontrol"),
)
TOKEN = "hf_thisMustNotBePrinted"
TRAIN = ("--", "--config", "qwen3_8b_wvb", "--data.wvb", "/mnt/my data", "--run.dir", "/mnt/cuma/runs/c1")
TRAINED = "--config qwen3_8b_wvb --data.wvb '/mnt/my data' --run.dir /mnt/cuma/runs/c1"
QUEUED = "gcloud compute tpus queued-resources"
PARTS = "cuma/src/launch/parts"


def tool(folder, name, body):
    """An executable bash script in `folder`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    path.chmod(0o755)
    return path


def launch(script, *args, path=None, **env):
    """Runs a launch script; `path` stands before everything else on PATH."""
    search = f"{path}{os.pathsep}{os.environ['PATH']}" if path else os.environ["PATH"]
    command = ["bash", str(LAUNCH / script), *map(str, args)]
    environ = {**os.environ, "PATH": search, **env}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    """Runs a script with --dry-run where every tool that could do something notes that it was called."""
    folder = tmp_path_factory.mktemp("tools")
    for name in TOOLS:
        tool(folder / "bin", name, f'echo "{name} $*" >>"{folder}/called"; exit 97')

    def dry_run(script, *args):
        at = args.index("--") if "--" in args else len(args)
        done = launch(script, *args[:at], "--dry-run", *args[at:], path=folder / "bin", HF_TOKEN=TOKEN)
        assert not (folder / "called").exists(), (folder / "called").read_text()
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert TOKEN not in done.stdout
        return done.stdout

    return dry_run


def commands(text):
    """The commands of a dry run as lists of words, comments left out."""
    return [shlex.split(line) for line in text.splitlines() if not line.startswith("#")]


def training(words):
    """The arguments of every `python -m cuma_jax.train` in a command, however deep it is quoted."""
    for i in range(len(words) - 2):
        if words[i : i + 3] == ["python", "-m", "cuma_jax.train"]:
            return [words[i + 3 :]]
    inner = [shlex.split(word.partition("=")[2]) for word in words if "cuma_jax.train" in word and "=" in word]
    return [found for command in inner for found in training(command)]


@functools.cache
def config_of(args):
    """Parsing takes a tenth of a second, and many commands have the same arguments. Their data are not on this disk."""
    return parse_runs("train", "", list(args), Options, chains=False)[1][0]


def parsed(args):
    """The config of training arguments, and what --distributed and --machine were."""
    options = peek(Options, args)
    parse_distributed(options.distributed)
    if options.machine:
        at = args.index("--machine")
        rest = args[:at] + args[at + 2 :]
        if not setting_of(options.machine, config_of(tuple(rest)).model.source):  # it has nothing to say of this model
            args = rest
    return config_of(tuple(args)), options.distributed, options.machine


def test_shellcheck_finds_nothing():
    search = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=search)
    assert shellcheck, "shellcheck is missing: pip install -e '.[test]'"
    command = [shellcheck, "-x", "--extended-analysis=false", *map(str, SCRIPTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.name != "common.sh"], ids=lambda path: path.name)
def test_every_script_has_help(path):
    done = launch(path.relative_to(LAUNCH), "--help")
    assert done.returncode == 0
    assert not done.stderr
    assert path.name in done.stdout


SSH = f"{QUEUED} ssh c1 --node=all --worker=all --batch-size=all"
SEE = f"{QUEUED} describe c1 '--format=value(state.state)' --zone=z1"
NEW = f"{QUEUED} create c1 --accelerator-type=v5litepod-{{}} --runtime-version=v2-alpha-tpuv5-lite"
TPU = ("--zone", "z1", "--machine", "v5e-16")
XPK = ("--cluster", "k1", "--zone", "z1", "--image", "i:tpu", "--storage", "runs", "--machine")
WORKLOAD = (
    "xpk workload create --workload=c1 --docker-image=i:tpu --storage=runs {} --max-restarts=50 "
    "--restart-on-exit-codes=1 --termination-grace-period-seconds=300 '--command=exec bash "
    "/app/launch/parts/worker.sh "
)
JOB = f"sbatch --job-name=c1 --chdir={ROOT} --nodes={{}} --ntasks-per-node={{}} --gpus-per-node=8 --cpus-per-task={{}} "
JOB += "--time=24:00:00 --output=/l/c1.log "
DETACHED = f"bash {LAUNCH}/parts/detached.sh"
PLAIN = f"python -m cuma_jax.train --machine 8xh100 --distributed none {TRAINED}"
# What is typed, and how each line that it would run begins.
PRINTED = [
    (("tpu_vm.sh", "create", "c1", *TPU, "--project", "p", "--spot"),
     [f"{NEW.format(16)} --node-id=c1 --spot --zone=z1 --project=p"]),
    (("tpu_vm.sh", "create", "c1", "--zone", "z1", "--machine", "2xv5e-256", "--wait"),
     [f"{NEW.format(256)} --node-count=2 --node-prefix=c1 --zone=z1", "# every minute, until", SEE]),
    (("tpu_vm.sh", "setup", "c1", "--zone", "z1", "--bucket", "gs://b"),
     [f"git -C {ROOT} archive", f"{QUEUED} scp ", f"{SSH} '--command=rm -rf cuma/src && mkdir",
      f"{SSH} '--command=bash {PARTS}/tpu_worker.sh install --bucket b' --zone=z1"]),
    (("tpu_vm.sh", "logs", "c1", "--zone", "z1", "--worker", "3"),
     [f"{QUEUED} ssh c1 --node=0 --worker=3 '--command=bash {PARTS}/tpu_worker.sh logs' --zone=z1"]),
    (("tpu_vm.sh", "status", "c1", "--zone", "z1"), [SEE, f"{SSH} '--command=bash {PARTS}/tpu_worker.sh status'"]),
    (("tpu_vm.sh", "stop", "c1", "--zone", "z1"), [f"{SSH} '--command=bash {PARTS}/tpu_worker.sh stop' --zone=z1"]),
    (("tpu_vm.sh", "delete", "c1", "--zone", "z1"), [f"{QUEUED} delete c1 --force --quiet --zone=z1"]),
    (("xpk.sh", "run", "c1", *XPK, "2xv5e-256", *TRAIN),
     [WORKLOAD.format("--tpu-type=v5litepod-256 --num-slices=2") + "python -m cuma_jax.train --machine 2xv5e-256"]),
    (("xpk.sh", "resume", "c1", *XPK, "8xh100", *TRAIN),
     ["xpk workload delete --workload=c1 --force --cluster=k1 --zone=z1",
      WORKLOAD.format("--device-type=h100-80gb-8 --num-nodes=1")]),
    (("xpk.sh", "logs", "c1", "--cluster", "k1"), ["kubectl logs --follow --selector=jobset.sigs.k8s.io/"]),
    (("xpk.sh", "status", "c1", "--cluster", "k1"), ["xpk workload list --filter-by-job=c1 --cluster=k1"]),
    (("slurm.sh", "run", "c1", "--machine", "8xh100", "--log-dir", "/l", *TRAIN),
     ["mkdir -p", f"{JOB.format(1, 1, 64)}--export=ALL,CUMA_JAX_GPUS=8 {LAUNCH}/slurm.sbatch {PLAIN}"]),
    # Two nodes are another machine than the one named: the mesh is then the user's.
    (("slurm.sh", "resume", "c1", "--machine", "8xh100", "--log-dir", "/l", "--nodes", "2", "--per", "gpu",
      "--partition", "g", *TRAIN),
     ["mkdir -p", f"{JOB.format(2, 8, 8)}--partition=g --export=ALL,CUMA_JAX_GPUS=8 {LAUNCH}/slurm.sbatch "
      "python -m cuma_jax.train --distributed auto --config"]),
    (("slurm.sh", "status", "c1"), ["squeue --me --name=c1 --long"]),
    (("slurm.sh", "stop", "c1"), ["scancel --me --name=c1 --signal=TERM"]),
    (("slurm.sh", "delete", "c1"), ["scancel --me --name=c1"]),
    (("slurm.sh", "logs", "c1", "--log-dir", "/l"), ["tail -n 100 -F /l/c1.log"]),
    (("gpu_node.sh", "run", "--machine", "8xh100", *TRAIN), [PLAIN]),
    (("gpu_node.sh", "start", "c1", "--machine", "any", "--gpus", "0,2", *TRAIN),
     [f"env CUDA_VISIBLE_DEVICES=0,2 {DETACHED} start {ROOT}/runs/launch/c1 python -m cuma_jax.train --distributed"]),
    (("gpu_node.sh", "stop", "c1"), [f"{DETACHED} stop {ROOT}/runs/launch/c1"]),
    (("docker.sh", "build", "--for", "tpu", "--tag", "t", "--push", "--root"),
     [f"docker build --file {LAUNCH}/Dockerfile --build-arg EXTRA=tpu --build-arg RUN_AS=root --tag t {ROOT}",
      "docker push t"]),
    (("docker.sh", "run", "c1", "--tag", "t", "--volume", "/d", "--for", "cuda", "--machine", "1xh100", *TRAIN),
     ["docker container prune --force --filter label=cuma_jax=c1",
      "docker run --detach --name c1 --stop-timeout 300 --volume /d:/data --env HF_TOKEN --env CUMA_JAX_CACHE="]),
    (("docker.sh", "logs", "c1"), ["docker logs --follow --tail 100 c1"]),
    (("docker.sh", "stop", "c1"), ["docker stop c1"]),
    (("parts/tpu_worker.sh", "install", "--bucket", "b"),
     ["python3 -m pip install", f"{pathlib.Path.home()}/.local/bin/uv venv", f"{pathlib.Path.home()}/.local/bin/uv pip",
      "sudo curl", "sudo sh -c", "sudo apt-get -o DPkg::Lock::Timeout=600 update", "sudo apt-get -o DPkg"]),
    (("parts/tpu_worker.sh", "start", "--bucket", "b", "--hf-secret", "s", "--", "python", "-m", "cuma_jax.train"),
     ["sudo mkdir -p /mnt/cuma", "sudo chown", "gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0",
      "# export HF_TOKEN", "sudo rm -f /tmp/libtpu_lockfile", "sudo sh -c",
      f"{DETACHED} start {pathlib.Path.home()}/cuma/job python -m"]),
]  # fmt: skip


@pytest.mark.parametrize(("args", "expected"), PRINTED, ids=lambda value: " ".join(value[:2]))
def test_a_dry_run_prints_the_commands_and_runs_none(dry, args, expected):
    lines = dry(*args).splitlines()
    assert [line[: len(begin)] for line, begin in zip(lines, expected, strict=True)] == expected


def test_tpu_vm_resume_shows_both_ways(dry):
    text = dry("tpu_vm.sh", "resume", "c1", *TPU, "--spot", "--bucket", "b", *TRAIN)
    actions = [words[4] for words in commands(text) if words[0] == "gcloud"]
    assert actions == ["describe", "delete", "create", "describe", "scp", "ssh", "ssh", "ssh", "ssh"]
    assert dry("tpu_vm.sh", "run", "c1", *TPU, "--bucket", "b", *TRAIN) == text.splitlines(keepends=True)[-1]


def test_dockerfile_and_setup_agree_on_the_extras():
    extras = re.search(r"extras_require=\{(.*?)\n    \}", (ROOT / "setup.py").read_text(), re.DOTALL)
    assert extras
    for name in ("tpu", "cuda", "cuda12"):
        assert f'"{name}":' in extras[1]
    text = (LAUNCH / "Dockerfile").read_text()
    assert "USER ${RUN_AS}" in text
    assert not re.search(r"token|secret|password", text, re.IGNORECASE)
    kept = [line[1:] for line in (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
    assert sorted(kept) == sorted(name for names in copied for name in names.split())
    assert all((ROOT / name).exists() for name in kept)


# What is launched

LAUNCHED = [
    ("tpu_vm.sh", "run", "c1", *TPU),
    ("tpu_vm.sh", "resume", "c1", *TPU),
    ("xpk.sh", "run", "c1", *XPK, "v6e-256"),
    ("slurm.sh", "run", "c1", "--machine", "8xh100", "--nodes", "4"),
    ("slurm.sh", "run", "c1", "--machine", "1xh100"),
    ("gpu_node.sh", "start", "c1", "--machine", "8xh100"),
    ("docker.sh", "run", "c1", "--for", "cuda", "--tag", "t", "--volume", "/d", "--machine", "1xh100"),
]


@pytest.mark.parametrize("args", LAUNCHED, ids=lambda args: " ".join(args[:2]))
def test_the_launched_command_parses(dry, args):
    found = [one for words in commands(dry(*args, *TRAIN)) for one in training(words)]
    assert len(found) == 1
    config, distributed, machine = parsed(found[0])
    assert (config.name, config.data.wvb, config.run.dir) == ("qwen3_8b_wvb", "/mnt/my data", "/mnt/cuma/runs/c1")
    assert machine == ("" if "--nodes" in args else args[args.index("--machine") + 1])
    assert distributed == ("none" if "h100" in machine else "auto")


def examples():
    """Every launch command of the docs and of the scripts' help."""
    for path in (*COMMANDS, ROOT / "docs" / "launch.md", LAUNCH / "README.md"):
        joined = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in joined.splitlines():
            if re.match(r"\s*launch/\w+\.sh [a-z]+ ", line) and "NAME" not in line and "IMAGE" not in line:
                words = [os.path.expanduser(word) for word in shlex.split(line, comments=True)]
                yield pytest.param(words, id=f"{path.name}: {line.strip()[:40]}")


@pytest.mark.parametrize("words", examples())
def test_examples_in_docs_and_help(dry, words):
    for command in commands(dry(words[0].removeprefix("launch/"), *words[1:])):
        for args in training(command):
            parsed(args)


def test_machines_are_those_of_training():
    known = launch("tpu_vm.sh", "create", "c1", "--zone", "z", "--machine", "none").stderr.partition("one of ")[2]
    assert set(known.strip().split(", ")) == set(MACHINES)
    facts = 'source "$0"; machine_facts "$1"; echo "$KIND $SLICES $GPUS"'
    for name, machine in MACHINES.items():
        command = ["bash", "-c", facts, str(LAUNCH / "parts" / "common.sh"), name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        kind, gpus = ("gpu", machine.devices) if machine.gpu else ("tpu", 0)
        assert done.stdout == f"{kind} {machine.slices} {gpus}\n"


# Mistakes

BAD = [
    ("tpu_vm.sh", (), "no command"),
    ("tpu_vm.sh", ("launch",), "no such command: launch"),
    ("tpu_vm.sh", ("create",), "the TPU's name is missing"),
    ("tpu_vm.sh", ("create", "C_1", "--zone", "z"), "the name 'C_1' is not allowed"),
    ("tpu_vm.sh", ("create", "c1", "--zone", "--spot"), "--zone needs a value"),
    ("tpu_vm.sh", ("create", "c1", "--zone", "z"), "--machine is missing"),
    ("tpu_vm.sh", ("create", "c1", "--zone", "z", "--machine", "1xh100"), "is a GPU"),
    ("tpu_vm.sh", ("create", "c1", *TPU, "--spot", "--reserved"), "exclude each other"),
    ("tpu_vm.sh", ("create", "c1", *TPU, "--sppot"), "unknown argument: --sppot"),
    ("tpu_vm.sh", ("run", "c1", *TPU), "no training arguments"),
    ("tpu_vm.sh", ("run", "c1", *TPU, "--", "--config", "debug"), "--run.dir is missing"),
    ("tpu_vm.sh", ("run", "c1", *TPU, "--", "--run.dir", "r", "--machine=v5e-16"), "--machine stands after --"),
    ("xpk.sh", ("run", "c1", "--cluster", "k", "--machine", "1xh100"), "XPK gives whole machines"),
    ("xpk.sh", ("run", "c1", *XPK, "v5e-16", "--env-file", "/nowhere", *TRAIN), "/nowhere: no such file"),
    ("slurm.sh", ("run", "c1", "--machine", "v5e-16"), "is a TPU"),
    ("slurm.sh", ("run", "c1", "--machine", "1xh100", "--nodes", "two"), "--nodes two: give a whole number"),
    ("slurm.sh", ("run", "c1", "--machine", "1xh100", "--per", "core"), "--per core: give node or gpu"),
    ("slurm.sbatch", ("python",), "not inside a SLURM job"),
    ("gpu_node.sh", ("run", "--machine", "8xh100", "--gpus", "0,1"), "--gpus 0,1 is not the 8"),
    ("gpu_node.sh", ("run", "--machine", "any", "--gpus", "all"), "--gpus all: give numbers"),
    ("docker.sh", ("build", "--tag", "t"), "--for is missing"),
    ("docker.sh", ("run", "c1", "--for", "cuda", "--tag", "t", "--volume", "d"), "give an absolute path"),
    ("docker.sh", ("run", "c1", "--for", "cuda", "--tag", "t", "--volume", "/d", "--machine", "v5e-16"), "does not go"),
    ("parts/detached.sh", ("start",), "an action and a folder"),
]


@pytest.mark.parametrize(("script", "args", "message"), BAD, ids=lambda value: str(value)[:60])
def test_a_mistake_is_one_line(script, args, message):
    done = launch(script, *args, SLURM_JOB_ID="", HF_TOKEN=TOKEN)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{pathlib.Path(script).name}: ")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("script", "args", "missing"),
    [
        ("tpu_vm.sh", ("run", "c1", *TPU, *TRAIN), "gcloud"),
        ("xpk.sh", ("run", "c1", *XPK, "v5e-16", *TRAIN), "xpk"),
        ("xpk.sh", ("logs", "c1", "--cluster", "k"), "kubectl"),
        ("slurm.sh", ("run", "c1", "--machine", "1xh100", *TRAIN), "sbatch"),
        ("gpu_node.sh", ("run", "--machine", "1xh100", *TRAIN), "python"),
    ],
)
def test_a_missing_tool_is_one_line_that_says_how_to_get_it(tmp_path, script, args, missing):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    command = [shutil.which("bash"), str(LAUNCH / script), *args]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not done.stdout
    assert re.fullmatch(rf"{re.escape(script)}: {missing} is not installed; .{{20,}}\n", done.stderr)


# Stopped, preempted, started again

SAVES_ON_SIGTERM = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done"


def wait_for(condition, seconds=60.0):
    """Waits until `condition()` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@pytest.mark.parametrize("code", [0, 1, 2, 134])
def test_worker_passes_exit_codes_on(code):
    assert launch("parts/worker.sh", "bash", "-c", f"exit {code}").returncode == code


def test_worker_turns_a_saved_stop_into_143(tmp_path):
    # Training that was stopped exits with 0; Kubernetes and SLURM would take that for done.
    command = ["bash", str(LAUNCH / "parts" / "worker.sh"), "bash", "-c", SAVES_ON_SIGTERM]
    environ = {**os.environ, "CUMA_JAX_EXIT_FILE": str(tmp_path / "exit")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True) as worker:
        assert worker.stdout.readline() == "ready\n"
        worker.send_signal(signal.SIGTERM)
        try:
            assert worker.communicate(timeout=60)[0] == "saved\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
    assert worker.returncode == 143
    assert (tmp_path / "exit").read_text() == "143\n"


def test_a_detached_job_is_started_once_and_stopped_with_a_save(tmp_path):
    def detached(action, *command):
        return launch("parts/detached.sh", action, tmp_path / "job", *command).stdout

    assert detached("status") == "not started\n"
    assert detached("start", "bash", "-c", SAVES_ON_SIGTERM).startswith("started")
    log = tmp_path / "job" / "train.log"
    try:
        wait_for(lambda: "ready" in log.read_text())
        assert detached("status").startswith("running ")
        assert detached("start", "bash", "-c", "exit 1").startswith("running already")
    finally:
        assert detached("stop") == "asked to stop (it saves first)\n"
    wait_for(lambda: not detached("status").startswith("running"))
    assert detached("status") == "ended 143\n"
    assert "saved" in log.read_text()


@pytest.mark.parametrize(("code", "requeued"), [(143, True), (0, False), (1, False), (2, False)])
def test_slurm_requeues_what_was_stopped_and_nothing_else(tmp_path, code, requeued):
    calls = tmp_path / "calls"
    tool(tmp_path / "bin", "srun", f'echo "srun $* ids=${{JAX_LOCAL_DEVICE_IDS:-}}" >>{calls}; exit {code}')
    tool(tmp_path / "bin", "scontrol", f'echo "scontrol $*" >>{calls}')
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "1", "CUMA_JAX_GPUS": "8", "SLURM_CPUS_PER_TASK": "64"}
    done = launch("slurm.sbatch", "python", "-m", "cuma_jax.train", path=tmp_path / "bin", **job)
    options = "--gpu-bind=none --kill-on-bad-exit=0 --cpus-per-task=64"
    step = f"srun {options} bash launch/parts/worker.sh python -m cuma_jax.train"
    # One process a node has to be told to use all GPUs: under SLURM JAX takes one a process.
    expected = [f"{step} ids=0,1,2,3,4,5,6,7", *(["scontrol requeue 7"] if requeued else [])]
    assert calls.read_text().splitlines() == expected
    assert done.returncode == (0 if requeued else code)


GCLOUD = """
echo "$4 ${5:-}" >>"$CALLS"
case "$4" in
  describe) cat "$STATE"; [[ -s $STATE ]] || { echo "ERROR: $ERROR" >&2; exit 1; } ;;
  create) echo ACTIVE >"$STATE" ;;
  delete) : >"$STATE" ;;
  ssh) case "$*" in *"tpu_worker.sh status"*) echo "$JOB" ;; *"tpu_worker.sh start"*) echo start >>"$CALLS" ;; esac ;;
esac
"""
TAKEN_ANEW = ["create c1", "describe c1", "scp", "ssh c1", "ssh c1", "ssh c1", "ssh c1", "start"]


@pytest.mark.parametrize(
    ("state", "job", "expected"),
    [
        (None, "", ["describe c1"]),
        ("SUSPENDED", "not started", ["describe c1", "delete c1", *TAKEN_ANEW]),
        ("FAILED", "not started", ["describe c1", "delete c1", *TAKEN_ANEW]),
        ("", "not started", ["describe c1", *TAKEN_ANEW]),
        ("ACTIVE", "running 12", ["describe c1", "ssh c1"]),
        ("ACTIVE", "ended 0", ["describe c1", "ssh c1"]),
        ("ACTIVE", "ended 143", ["describe c1", "ssh c1", "ssh c1", "start"]),
        ("ACTIVE", "killed", ["describe c1", "ssh c1", "ssh c1", "start"]),
    ],
)
def test_tpu_vm_resume_takes_a_preempted_tpu_anew(tmp_path, state, job, expected):
    tool(tmp_path / "bin", "gcloud", GCLOUD)
    tool(tmp_path / "bin", "git", "exit 0")
    (tmp_path / "state").write_text(f"{state}\n" if state else "")
    error = "PERMISSION_DENIED" if state is None else "NOT_FOUND: none"
    env = {"CALLS": str(tmp_path / "calls"), "STATE": str(tmp_path / "state"), "JOB": job, "ERROR": error}
    done = launch("tpu_vm.sh", "resume", "c1", *TPU, "--spot", *TRAIN, path=tmp_path / "bin", **env)
    unknown = "tpu_vm.sh: gcloud cannot tell the state of c1: ERROR: PERMISSION_DENIED\n"
    assert (done.returncode, done.stderr) == ((2, unknown) if state is None else (0, ""))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call if not call.startswith("scp") else "scp" for call in calls] == expected
