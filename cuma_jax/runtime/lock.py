"""Who writes into a folder: one process, and the others are told which.

The lock is the operating system's (`flock`): it ends with its process, however that ends. Beside it stands, in the
locked file, who holds it. Where a disk knows no such locks, or not those of other hosts, the last who comes has the
folder, and the one before finds that out at its next write: `check_owner`.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import time
import uuid
from collections.abc import Iterator

from cuma_jax.runtime.errors import CumaError, cleaned_up, os_error_text

LOCK_FILE = ".lock"
_held: dict[pathlib.Path, str] = {}


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds `folder` for the time of the block; makes it, and removes it again where nothing was put into it.

    Raises:
        CumaError: another process holds it, or nothing may be written there.
    """
    path = folder / LOCK_FILE
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _acquire(path)
        try:
            token = uuid.uuid4().hex
            about = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(about | {"token": token}).encode(), 0)
            os.fsync(file)  # other hosts see it
        except OSError:
            os.close(file)
            raise
    except OSError as error:
        _remove(made)
        raise CumaError(os_error_text(error, path)) from None
    where = folder.resolve()
    _held[where] = token

    def release() -> None:
        _held.pop(where, None)
        with contextlib.suppress(OSError):
            if _read(path).get("token") == token:
                path.unlink()
        _remove(made)

    try:
        with cleaned_up(release):
            yield
    finally:
        os.close(file)


def check_owner(folder: pathlib.Path) -> None:
    """Before something is written into a folder: that this process has it still, where it ever had it.

    Raises:
        CumaError: it was stopped for long, and another has come in the meantime.
    """
    token = _held.get(folder.resolve()) if _held else None
    if token is None or (found := _read(folder / LOCK_FILE)).get("token") == token:
        return
    who = f"{_named(found)} has taken it over" if found else f"its {LOCK_FILE} is gone, another may have worked in it"
    raise CumaError(
        f"{folder} is no more this process's: {who}. Nothing was written since; run the same command again when no "
        "other process trains there: it goes on from what is saved"
    )


def _acquire(path: pathlib.Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise CumaError(
                f"{_named(_read(path))} is training in {path.parent}; wait for its end, or choose another --run.dir"
            ) from None
        except OSError:
            return file  # a disk without locks
        with contextlib.suppress(OSError):  # who held it before may have removed the file that was just locked
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        os.close(file)


def _read(path: pathlib.Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _named(who: dict[str, str]) -> str:
    if not who:
        return "another process"
    return f"another process (host {who.get('host')}, pid {who.get('pid')}, since {who.get('since')})"


def _remove(folders: list[pathlib.Path]) -> None:
    with contextlib.suppress(OSError):  # something was put into it
        for folder in folders:
            folder.rmdir()
