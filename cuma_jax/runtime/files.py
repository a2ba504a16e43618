"""Where downloads, encoded profiles and compiled programs are kept, and how a file is written whole or not at all."""

import hashlib
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable

import numpy as np

from cuma_jax.runtime.errors import CumaError


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


def cached_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file of the cache, by name (no pickle); a `CumaError` where the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CumaError(f"{path} cannot be read ({error}); delete it, and it is made again") from None


def cached_array(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array of an .npy file of the cache; None where it is missing, damaged or of another shape."""
    if not path.is_file():
        return None
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape else None


def atomic_write(path: pathlib.Path, writer: Callable[[pathlib.Path], None]) -> None:
    """Calls `writer` with a temporary path beside `path` (a file or a folder), then moves it into place.

    A reader sees the old contents or the new, never a half. A folder that another process has meanwhile put in
    place is kept: the caches hold the same bytes for the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        part = scratch / path.name
        writer(part)
        try:
            os.replace(part, path)
        except OSError:  # a folder with files in it is never replaced
            if not (part.is_dir() and path.is_dir()):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a UTF-8 file whole or not at all; on the disk when this returns."""

    def write(part: pathlib.Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    atomic_write(path, write)
