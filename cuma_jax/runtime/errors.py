"""The one exception for a user's mistake, and how a command line reports it.

A `CumaError` carries one message that says what is wrong, where, and what to do. Command-line mains print it
without a traceback and exit with code 2; as a library it is an ordinary exception.
"""

import os
import sys
from collections.abc import Callable
from typing import Any


class CumaError(Exception):
    """A mistake in a config, a file, or an environment that the user can put right."""


def out_of_memory(error: BaseException) -> str | None:
    """What a user is told where memory, of the host or a device, does not suffice; None for any other error."""
    said = str(error).strip().partition("\n")[0][:200]
    if not isinstance(error, MemoryError) and "out of memory" not in said.lower():
        return None
    return (
        f"there is not enough memory ({said or 'of the host'}). Lower train.batch_size or raise train.micro_batches; "
        "take a lower data.max_length, adapter.rank or adapter.experts, or more devices. python -m cuma_jax.plan says "
        "what fits"
    )


def run_main(main: Callable[..., Any], *args: Any) -> None:
    """Runs `main(*args)`; a `CumaError` becomes one message on stderr and exit code 2, Ctrl-C exit code 130."""
    try:
        main(*args)
    except CumaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if (text := out_of_memory(error)) is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(130)
