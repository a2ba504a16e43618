"""The connection of a run's processes: the one place that looks inside JAX.

`jax.distributed` makes the connection and has no public way to its key-value store, up to jax 0.12. The public
`jax.process_count()` and `jax.experimental.multihost_utils` start the devices, which needs every process at once; a
run must agree on its files, and tell of failures, before and beside that. Orbax reads the same three attributes.
"""

import dataclasses
from typing import Any

import jax

from cuma_jax.runtime.errors import CumaError


@dataclasses.dataclass(frozen=True)
class Connection:
    """Process `index` of `count`.

    `client` is JAX's client of the coordination service in process 0: `key_value_set`, `blocking_key_value_get`,
    `key_value_dir_get` and `wait_at_barrier`. None where there is a single process.
    """

    client: Any = None
    count: int = 1
    index: int = 0


def connection() -> Connection:
    """How this process is connected to others, touching no device; a `CumaError` for a JAX that keeps it elsewhere."""
    if not jax.distributed.is_initialized():
        return Connection()
    try:
        from jax._src.distributed import global_state as state

        return Connection(state.client, state.num_processes, state.process_id)
    except (ImportError, AttributeError) as error:
        raise CumaError(
            f"jax {jax.__version__} does not keep the connection of processes where cuma_jax looks for it ({error}); "
            "install jax 0.10.2 to 0.12 on every host, or run one process with --distributed none"
        ) from error
