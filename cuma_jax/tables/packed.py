"""The bytes of a file, whatever it is packed with: gzip, bzip2, xz, zstd, or a zip of one csv."""

import bz2
import contextlib
import csv
import errno
import gzip
import hashlib
import io
import lzma
import pathlib
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import pyarrow as pa

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.problems import Problems

PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of files that are unpacked as they are read."""

_RATIO, _FREE = 100, 64 << 20  # a survey's codes pack 30 times at most; small files may more

_UNPACKERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda file: pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"),
}
_WHOLE = 4 << 30  # what is read into the memory as a whole
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)
_SAVE = "save the table as csv (UTF-8) or parquet, and name that file"
_PIECE = 1 << 20


class _NotOneTableError(Exception):  # a zip of which it is not clear what to read
    pass


class _TooLargeError(Exception):  # what unpacks to so much is no table, and would fill the memory
    pass


class Unpacked(io.BufferedReader):
    """The bytes of a packed file; a problem where they are many more than a table of its size unpacks to."""


class _Limited(io.RawIOBase):
    def __init__(self, stream: Any, packed: int) -> None:
        self._stream, self._packed, self._most = stream, packed, _FREE + _RATIO * packed
        self._left = self._most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read1(len(buffer))
        except OSError as error:  # of bzip2 and zstd; a disk's own have a number
            raise EOFError(str(error)) if error.errno is None else error from None
        self._left -= len(data)
        if self._left < 0:
            raise _TooLargeError(
                f"unpacks to more than {self._most / 1e6:.3g} MB, {_RATIO} times its size, which no table does"
            )
        buffer[: len(data)] = data
        return len(data)


def given_path(name: pathlib.Path | str) -> pathlib.Path:
    """The path that somebody has typed, `~` filled in, whether there is anything or not.

    Raises:
        CumaError: there can be nothing (no such home folder, a name that is too long), or it must not be looked at.
    """
    shown = f"{str(name)[:200]!r}"
    try:
        path = pathlib.Path(name).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except RuntimeError:
        raise CumaError(f"{shown}: there is no such home folder; write the path out") from None
    except (OSError, ValueError) as error:
        raise CumaError(
            f"{shown} cannot be read ({getattr(error, 'strerror', None) or error}); check the path"
        ) from None
    return path


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """What goes wrong inside with files of the system's, and was told by nobody, is one CumaError."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        where = getattr(error, "filename", None) or what
        reason = getattr(error, "strerror", None) or error
        raise CumaError(f"{where} cannot be read ({reason}); check the path and who may read it") from None


def opened(path: pathlib.Path) -> IO[bytes]:
    """The file, to be read; an OSError for a folder, and for what never ends (a pipe, a device)."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    return path.open("rb")


@contextlib.contextmanager
def unpacked(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """The file's bytes; what it is packed with is seen from its first bytes, not from its name.

    To be used inside `reported`, which turns what goes wrong into a problem.
    """
    with opened(path) as file:
        size = path.stat().st_size
        magic = file.read(6) if size else b""
        file.seek(0)
        unpack = next((found for start, found in _UNPACKERS.items() if magic.startswith(start)), None)
        if unpack is not None:
            with unpack(file) as stream:
                yield Unpacked(_Limited(stream, size), _PIECE)
        elif magic.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(file) as archive, archive.open(_only_csv(archive)) as member:
                yield Unpacked(_Limited(member, size), _PIECE)
        else:
            # A file of the system (/proc) says that it is empty, and some of them never end.
            yield file if size else io.BytesIO()


def _only_csv(archive: zipfile.ZipFile) -> str:
    names = [n for n in archive.namelist() if n.lower().endswith(".csv") and "__MACOSX" not in n]
    if len(names) != 1:
        raise _NotOneTableError(f"is a zip or a spreadsheet, and holds {len(names)} csv files, not one")
    if archive.getinfo(names[0]).flag_bits & 1:
        raise _NotOneTableError("asks for a password")
    return names[0]


@contextlib.contextmanager
def reported(path: pathlib.Path, problems: Problems) -> Iterator[None]:
    """A file that is not there, or is damaged: what goes wrong inside becomes a problem."""
    try:
        yield
    except (_NotOneTableError, _TooLargeError) as error:
        problems.error(path, None, None, str(error), _SAVE)
    except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter: a packing that Python does not know
        problems.error(path, None, None, f"is a damaged zip or spreadsheet ({error})", _SAVE)
    except _DAMAGED as error:
        problems.error(path, None, None, f"is cut short or damaged ({error})", problems.advice.damaged)
    except csv.Error as error:
        problems.error(path, None, None, f"cannot be read as a table ({error})", problems.advice.again)
    except (OSError, ValueError) as error:  # the latter: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        what = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({reason})"
        problems.error(path, None, None, what, problems.advice.path)


def read_unpacked(path: pathlib.Path, problems: Problems) -> bytes | None:
    """All bytes of the file; of a packed file that is cut short what there is up to its last whole line, and a problem.

    None (and a problem) where nothing can be read.
    """
    parts: list[bytes] = []
    with reported(path, problems):
        try:
            with unpacked(path) as stream:
                if not isinstance(stream, Unpacked) and path.stat().st_size > _WHOLE:
                    raise _TooLargeError(f"is larger than {_WHOLE >> 30} GB")
                parts.extend(iter(lambda: stream.read1(_PIECE), b""))  # type: ignore[attr-defined]
            return b"".join(parts)
        except _DAMAGED as error:
            whole = b"".join(parts)
            # The last line may be half of one.
            whole = whole[: whole.rfind(b"\n") + 1]
            place = whole.count(b"\n")
            message = f"is cut short or damaged after line {place} ({error})"
            problems.error(path, None, None, message, problems.advice.damaged)
            return whole or None
    return None


def digest(path: pathlib.Path, problems: Problems) -> bytes:
    """A hash of the file's bytes (as they are, packed or not), read in pieces; empty where it cannot be read."""
    with reported(path, problems), opened(path) as file:
        return hashlib.file_digest(file, "blake2b").digest()  # type: ignore[arg-type]
    return b""
