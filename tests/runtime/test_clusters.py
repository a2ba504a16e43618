"""`--distributed`: what it may be, and where `auto` finds several processes."""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from jax._src import xla_bridge

from cuma_jax.commands import train
from cuma_jax.runtime import clusters
from cuma_jax.runtime.clusters import Processes, found_by_jax, parse_distributed
from cuma_jax.runtime.errors import CumaError

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n1,n2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


def test_the_three_forms():
    assert parse_distributed("auto") == "auto"
    assert parse_distributed("none") == "none"
    assert parse_distributed("10.0.0.1:1234,4,3") == Processes("10.0.0.1:1234", 4, 3)
    assert parse_distributed("[::1]:1234,2,0") == Processes("[::1]:1234", 2, 0)


@pytest.mark.parametrize(
    "value", ["yes", "host", "host:1234", "host:1234,2", "host:x,2,0", "host:1234,2,2", "host:0,2,0", ":1234,2,0",
              "host:1234,0,0", "host:1234,2,-1", "host:99999,2,0", "::1:1234,2,0"]
)  # fmt: skip
def test_anything_else_is_one_message(value):
    with pytest.raises(CumaError, match=f"--distributed is '{value}'"):
        parse_distributed(value)


@pytest.mark.parametrize(
    ("environ", "several"),
    [
        ({}, False),
        (SLURM | {"SLURM_NTASKS": "1"}, False),
        (SLURM | {"SLURM_NTASKS": "4"}, True),
        (SLURM | {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, False),  # a shell inside an allocation
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, False),  # the batch script itself, without srun
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://h:1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://h:1"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),  # a notebook in a cluster
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, False),  # no TPU here
    ],
)
def test_auto_joins_only_where_there_are_several(environ, several):
    assert found_by_jax(environ) is several


@pytest.mark.parametrize(
    ("environ", "metadata", "several"),
    [
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, {}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, {}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, {}, True),
        ({}, {}, False),
        ({}, {"worker-network-endpoints": "10.0.0.2"}, False),
        ({}, {"worker-network-endpoints": "u:x:10.0.0.2,u:x:10.0.0.3"}, True),
        ({}, {"worker-network-endpoints": "h", "tpu-env": "ZONE: 'z'\nMEGASCALE_NUM_SLICES: '2'\n"}, True),
        ({"TPU_SKIP_MDS_QUERY": "1"}, {"worker-network-endpoints": "a,b"}, False),
    ],
)
def test_auto_on_a_tpu(environ, metadata, several, monkeypatch):
    monkeypatch.setattr(clusters, "has_tpu", lambda: True)
    monkeypatch.setattr(clusters, "_metadata", lambda name: metadata.get(name, ""))
    assert found_by_jax(environ) is several


def test_processes_that_cannot_find_each_other_are_told_what_to_give():
    with pytest.raises(CumaError, match=r"mpirun started several.*--distributed HOST:PORT,\$OMPI_COMM_WORLD_SIZE"):
        found_by_jax({"OMPI_COMM_WORLD_SIZE": "2"})


def test_a_lone_pod_of_a_job_says_that_it_is_alone(monkeypatch, capsys):
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}
    monkeypatch.setattr(clusters.importlib.util, "find_spec", lambda name: None)
    assert not found_by_jax(pod)
    assert "runs by itself" in capsys.readouterr().err


def test_a_tpu_library_without_a_tpu_is_not_tried():
    """It is there for `plan`; JAX would try it at every start and complain. A run says nothing of it."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (pip install 'cuma_jax[plan]')")
    if clusters.may_have_tpu():
        pytest.skip("this machine speaks of a TPU")
    code = "import jax; from cuma_jax.runtime.jax_setup import prepare_jax; prepare_jax(''); jax.devices()"
    clean = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("config", [ROOT / "configs" / "debug.py", ROOT / "tests" / "helpers" / "chain_case.py"])
def test_jax_is_set_up_before_the_first_device_is_asked_for(config, monkeypatch):
    """By then it is too late: compiled programs would not be kept, and a TPU library without a TPU would complain."""

    class PreparedError(Exception):
        pass

    def prepare(config):
        raise PreparedError

    def asked(*_):
        raise AssertionError("a device was asked for first")

    monkeypatch.setattr("cuma_jax.commands.train_runs.prepare_jax", prepare)
    monkeypatch.setattr(xla_bridge, "backends", asked)
    monkeypatch.setattr(sys, "argv", ["train", "--config", str(config)])
    with pytest.raises(PreparedError):
        train.main()
