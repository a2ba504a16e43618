"""The one exception for a user's mistake, and how a command line reports it.

A `CumaError` carries one message that says what is wrong, where, and what to do. Command-line mains print it
without a traceback and exit with code 2; as a library it is an ordinary exception.
"""

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, or a file above the size that is allowed."""
AGAIN = "interrupted; run the same command again to resume"
_cleaning: list[Callable[[], object]] = []


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


def os_error_text(error: OSError, path: object = "") -> str:
    """What a refusal of the operating system means for a user: which path, the cause, and what to do."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else str(path)
    cause = error.strerror or str(error).partition("\n")[0]
    if error.errno in FULL:
        return (
            f"{where or 'a file'} cannot be written: {cause}. What was whole before is kept; free space (or raise the "
            "quota) and run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where or 'a file'} may not be read or written here ({cause}); change its permissions, or name another"
    return f"{where}: {cause}; put that right and run the same command again" if where else f"{cause}"


def explain(error: BaseException) -> str | None:
    """What a user is told of an error that is theirs to put right; None for all others, which are ours."""
    if isinstance(error, CumaError):
        return str(error)
    if isinstance(error, OSError):
        return os_error_text(error)
    if isinstance(error, (MemoryError, RuntimeError)):
        return out_of_memory(error)
    if isinstance(error, UnicodeDecodeError):
        return (
            f"a file or an argument is not {error.encoding} text ({error.reason}, byte {error.start}); save it as UTF-8"
        )
    if isinstance(error, UnicodeEncodeError):
        wrong = error.object[error.start : error.end]
        return f"a text has {wrong!r}, which {error.encoding} cannot write ({error.reason}); take it out"
    if isinstance(error, LookupError) and str(error).startswith("unknown encoding"):
        return f"{error}: Python's own files cannot be read; may this user read {os.path.dirname(os.__file__)}?"
    return None


@contextlib.contextmanager
def cleaned_up(clean: Callable[[], object]) -> Iterator[None]:
    """Calls `clean` at the end of the block, however it comes: where the process ends at once, too (`clean_up`).

    It may be called twice, from two threads.
    """
    _cleaning.append(clean)
    try:
        yield
    finally:
        clean()
        _cleaning.remove(clean)


def clean_up() -> None:
    """For who ends the process without leaving its blocks: half-written files and locks go."""
    for clean in reversed(tuple(_cleaning)):
        with contextlib.suppress(Exception):
            clean()


def run_main(main: "str | Callable[..., object]", *args: object) -> None:
    """Runs `main(*args)`, or `main()` of the module that `main` names.

    What the user can put right becomes one message on stderr and exit code 2, Ctrl-C exit code 130. A module is
    imported here, so that this holds while it is imported.
    """
    threading.excepthook, sys.unraisablehook = _one_line, _unraisable
    try:
        if isinstance(main, str):
            end_at_once_on_ctrl_c()
            import importlib

            main = importlib.import_module(main).main
        main(*args)  # type: ignore[operator]
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print(AGAIN, file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)


def end_at_once_on_ctrl_c() -> None:
    """The first Ctrl-C ends the process with one line and code 130.

    Not an exception: libraries swallow those, or answer with tracebacks of their own. Whatever is half written has no
    name yet, as after a kill.
    """
    import signal

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: _leave())


def _leave() -> None:
    try:
        os.write(2, f"{AGAIN}\n".encode())
        clean_up()
        sys.stdout.flush()
    finally:
        os._exit(130)


def _one_line(args: "threading.ExceptHookArgs") -> None:
    """A thread's end in one line: those of libraries (TensorBoard's, Orbax's) die of what the main thread reports."""
    if args.exc_value is not None and explain(args.exc_value) is None:
        threading.__excepthook__(args)
    elif args.exc_value is not None and args.thread is not None:
        print(f"note: {args.thread.name} stopped: {explain(args.exc_value)}", file=sys.stderr)


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    """TensorStore says so, from its own threads, that nobody waits any more for what has failed and was reported."""
    if not (isinstance(args.exc_value, RuntimeError) and str(args.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(args)
