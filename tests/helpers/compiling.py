"""What JAX compiles, as it says so itself."""

import contextlib
import logging
import re

import jax


@contextlib.contextmanager
def compiled(note=None):
    """The names of the programs that are compiled in the block, in order; `note(name)` is called for each."""
    names = []

    class Handler(logging.Handler):
        def emit(self, record):
            found = re.match(r"Finished XLA compilation of jit\((\S+)\)", record.getMessage())
            if found:
                names.append(found[1])
                if note is not None:
                    note(found[1])

    logger, handler = logging.getLogger("jax"), Handler()
    with jax.log_compiles():
        logger.addHandler(handler)
        try:
            yield names
        finally:
            logger.removeHandler(handler)
