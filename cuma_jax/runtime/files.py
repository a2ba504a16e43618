"""Where downloads, encoded profiles and compiled programs are kept, and how a file is written whole or not at all."""

import contextlib
import errno
import functools
import hashlib
import os
import pathlib
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from cuma_jax.runtime.errors import CumaError, cleaned_up, os_error_text
from cuma_jax.runtime.lock import check_owner

_SCRATCH, _HOST = ".cuma-part-", re.sub(r"[^A-Za-z0-9.]", "", socket.gethostname())[:40]
_TOO_LITTLE_SPACE, _LONGEST = 1 << 16, 24 * 3600.0
"""Free bytes below which a disk is as good as full; seconds after which nobody writes any more, on whatever host."""


def cache_dir(configured: str = "") -> pathlib.Path:
    """The cache folder: `configured`, else $CUMA_JAX_CACHE, else ~/.cache/cuma_jax. Made if it is not there."""
    path = pathlib.Path(configured or os.environ.get("CUMA_JAX_CACHE", "") or "~/.cache/cuma_jax").expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def content_key(*parts: bytes | str | np.ndarray) -> str:
    """A hex key (32 digits) of the contents of `parts`, in order; never of names or file times."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            head, body = f"{part.dtype.str}{part.shape}".encode(), np.ascontiguousarray(part).tobytes()
        else:
            head, body = b"", part.encode() if isinstance(part, str) else part
        digest.update(len(head + body).to_bytes(8, "little") + head + body)
    return digest.hexdigest()[:32]


def read_arrays(path: pathlib.Path, advice: str = "delete it, and it is made again") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name (no pickle); `advice` says what to do where it is damaged.

    Raises:
        FileNotFoundError: there is none.
        CumaError: it cannot be read, or is damaged.
    """
    with undamaged(path, advice), np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@contextlib.contextmanager
def undamaged(path: pathlib.Path, advice: str) -> Iterator[None]:
    """For the reading of a file that this package has written: whatever a library raises there, it is damaged.

    Raises:
        FileNotFoundError: there is none.
        CumaError: it cannot be read, or is damaged; with `advice`.
    """
    try:
        yield
    except (CumaError, FileNotFoundError):
        raise
    except OSError as error:
        if error.errno is None:
            raise CumaError(f"{path} is damaged and cannot be read ({_first_line(error)}); {advice}") from None
        raise CumaError(os_error_text(error, path)) from None
    except Exception as error:  # zip, zlib, Arrow, JSON and numpy have dozens, and a flipped byte meets all of them
        raise CumaError(f"{path} is damaged and cannot be read ({_first_line(error)}); {advice}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:200]


def cached_array(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array of an .npy file of the cache; None where it is missing, damaged, of another shape or not finite."""
    if not path.is_file():
        return None
    try:
        array = np.load(path, allow_pickle=False)
    except Exception:  # as in `undamaged`
        return None
    whole = array.shape == shape and (array.dtype.kind != "f" or bool(np.isfinite(array).all()))
    return array if whole else None


def atomic_write(path: pathlib.Path, writer: Callable[[pathlib.Path], None]) -> None:
    """Calls `writer` with a temporary path beside `path` (a file or a folder), then moves it into place.

    A reader sees the old contents or the new, never a half. A folder that another process has meanwhile put in
    place is kept: the caches hold the same bytes for the same name. What killed processes left beside it is removed.

    Raises:
        OSError: it names `path`.
        CumaError: the folder was this process's to write into (`runtime.lock`), and is no more.
    """
    with scratch_folder(path.parent, path) as scratch:
        part = scratch / path.name
        writer(part)
        try:
            os.replace(part, path)
        except OSError:  # a folder with files in it is never replaced
            if not (part.is_dir() and path.is_dir()):
                raise


@contextlib.contextmanager
def scratch_folder(beside: pathlib.Path, path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder in `beside` for files that are not whole yet, for the time of the block; see `atomic_write`.

    `path` is what an `OSError` of the block is about.
    """
    try:
        check_owner(beside)
        beside.mkdir(parents=True, exist_ok=True)
        sweep(beside)
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{_HOST}-{os.getpid()}-", dir=beside))
        with cleaned_up(functools.partial(shutil.rmtree, scratch, ignore_errors=True)):
            yield scratch
    except OSError as error:
        if error.filename and _SCRATCH not in str(error.filename):
            raise  # of another file, which it names
        # Some libraries say nothing of the cause when the disk is full.
        number = error.errno or (errno.ENOSPC if shutil.disk_usage(beside).free < _TOO_LITTLE_SPACE else 0)
        if not number:
            raise OSError(f"{path}: {error}") from error
        raise OSError(number, os.strerror(number), str(path)) from error


@functools.cache
def sweep(folder: pathlib.Path) -> None:
    """Removes what processes that were killed have left in `folder` half written; once a process."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"{_SCRATCH}*"):
            host, pid, _ = left.name.removeprefix(_SCRATCH).split("-", 2)
            gone = host == _HOST and not is_running(int(pid))
            if gone or time.time() - left.stat().st_mtime > _LONGEST:
                shutil.rmtree(left, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Whether a process of this host is there, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a UTF-8 file whole or not at all; on the disk when this returns."""

    def write(part: pathlib.Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    atomic_write(path, write)
