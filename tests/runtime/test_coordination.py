"""Where the connection of a run's processes is found inside JAX."""

import subprocess
import sys
import types

import jax
import pytest
from processes import environment, free_port

from cuma_jax.runtime.coordination import Connection, connection
from cuma_jax.runtime.errors import CumaError

CONNECTED = """
import sys, jax
from cuma_jax.runtime.coordination import connection
jax.distributed.initialize(sys.argv[1], 1, 0)
found = connection()
assert (found.count, found.index) == (1, 0), found
found.client.key_value_set("folder/0", "value")
assert found.client.blocking_key_value_get("folder/0", 1000) == "value"
assert found.client.key_value_dir_get("folder/") == [("folder/0", "value")]
found.client.wait_at_barrier("barrier", 1000)
"""


def test_this_jax_keeps_the_connection_where_we_look_for_it():
    command = [sys.executable, "-c", CONNECTED, f"127.0.0.1:{free_port()}"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"jax {jax.__version__} has moved what cuma_jax/runtime/coordination.py reads: look in its "
        "jax/_src/distributed.py for the client, the number of processes and this process's own, read them from there, "
        f"and change the versions in its message and in setup.py\n{done.stderr}"
    )


def test_a_single_process_is_not_connected_and_another_jax_is_one_message(monkeypatch):
    assert connection() == Connection(client=None, count=1, index=0)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setitem(sys.modules, "jax._src.distributed", types.ModuleType("moved"))
    with pytest.raises(CumaError, match=r"does not keep the connection .*install jax 0\.10\.2 to 0\.12"):
        connection()
