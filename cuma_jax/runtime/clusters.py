"""Which processes a run has: as the command line says, or as the launcher left it in the environment.

`auto` is the default, so it must be right on a laptop, on one TPU VM and in an allocation of one task: JAX is asked to
connect processes only where there are several. The variables are those that JAX itself reads.
"""

import dataclasses
import importlib.util
import os
import pathlib
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

from cuma_jax.runtime.errors import CumaError

_SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_GOOGLE = "0x1ae0"
_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
_SECONDS = 5


@dataclasses.dataclass(frozen=True)
class Processes:
    """Process `index` of `count`; number 0 listens at `address`, HOST:PORT."""

    address: str
    count: int
    index: int


def parse_distributed(value: str) -> "Processes | str":
    """`auto`, `none`, or the processes of HOST:PORT,N,I; a `CumaError` for anything else."""
    if value in ("auto", "none"):
        return value
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s,:]+):(\d{1,5}),(\d{1,6}),(\d{1,6})", value)
    if match is None:
        raise CumaError(
            f"--distributed is {value!r}; it must be auto, none or HOST:PORT,N,I, e.g. 10.0.0.1:1234,4,0 for the first "
            "of 4 processes"
        )
    host, port, count, index = match[1], int(match[2]), int(match[3]), int(match[4])
    if not 0 < port < 65536 or count < 1 or index >= count:
        raise CumaError(
            f"--distributed is {value!r}; the port must be 1 to 65535, N at least 1, and I from 0 to N - 1 "
            f"(here {max(count - 1, 0)})"
        )
    return Processes(f"{host}:{port}", count, index)


def found_by_jax(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several that `jax.distributed.initialize()` can connect without being told more.

    Raises:
        CumaError: one of several, but JAX cannot find the others; each by itself would write over the others' files.
    """
    if int(environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        if "OMPI_MCA_orte_hnp_uri" not in environ:
            raise CumaError(
                "mpirun started several processes, but this Open MPI does not say where (5 and later do not); give "
                "--distributed HOST:PORT,$OMPI_COMM_WORLD_SIZE,$OMPI_COMM_WORLD_RANK"
            )
        return True
    # A shell of an allocation of several tasks is itself a step of one task; only the step's own number tells.
    if all(name in environ for name in _SLURM):
        return int(environ.get("SLURM_STEP_NUM_TASKS", environ["SLURM_NTASKS"])) > 1
    hosts = environ.get("TPU_PROCESS_ADDRESSES", environ.get("TPU_WORKER_HOSTNAMES", ""))
    slices = environ.get("MEGASCALE_NUM_SLICES", "1")
    if hosts:
        return has_tpu() and ("," in hosts or int(slices) > 1)
    if has_tpu() and "TPU_SKIP_MDS_QUERY" not in environ:
        listed = re.search(r"^MEGASCALE_NUM_SLICES: '?(\d+)", _metadata("tpu-env"), re.MULTILINE)
        return "," in _metadata("worker-network-endpoints") or (listed is not None and int(listed[1]) > 1)
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        if importlib.util.find_spec("kubernetes") is not None:
            return True
        print(
            "this is a pod of an indexed Kubernetes Job; it runs by itself, because the package kubernetes is not "
            "there to find others (pip install 'jax[k8s]', or give --distributed HOST:PORT,N,$JOB_COMPLETION_INDEX; "
            "--distributed none silences this)",
            file=sys.stderr,
        )
    return False


def has_tpu() -> bool:
    """Whether JAX would look for other TPU hosts: there are Google's devices, and the TPU library."""
    vendors = pathlib.Path("/sys/bus/pci/devices").glob("*/vendor")
    google = any(vendor.read_text().strip() == _GOOGLE for vendor in vendors)
    return google and (importlib.util.find_spec("libtpu") is not None or "TPU_LIBRARY_PATH" in os.environ)


def may_have_tpu() -> bool:
    """Whether anything at all speaks of a TPU, also in a container that does not see the PCI bus."""
    nodes = [*pathlib.Path("/dev").glob("accel*"), *pathlib.Path("/dev/vfio").glob("[0-9]*")]
    own = re.compile(r"TPU_(ML_\w+|SKIP_MDS_QUERY|LIBRARY_PATH)")  # set by JAX wherever there is a library
    named = [n for n in os.environ if n.startswith(("TPU_", "MEGASCALE_")) and not own.fullmatch(n)]
    return bool(nodes or named) or has_tpu()


def _metadata(name: str) -> str:
    """An attribute of this Google Cloud machine; empty where it has none."""
    request = urllib.request.Request(_METADATA + name, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as reply:
            return reply.read().decode()
    except (urllib.error.URLError, TimeoutError):
        return ""
