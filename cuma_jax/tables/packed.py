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
_HEAD = 512  # bytes of a file that tell what it is
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_BINARY = (
    (b"$FL2", "an SPSS file", (".sav", ".zsav")),
    (b"$FL3", "an SPSS file", (".sav", ".zsav")),
    (b"<stata_dta>", "a Stata file", (".dta",)),
    (b"\0" * 12 + b"\xc2\xea\x81\x60", "a SAS file", (".sas7bdat",)),
    (b"HEADER RECORD*******LIB", "a SAS transport file", (".xpt",)),
    (b"PAR1\x15", "a Parquet file", (".parquet", ".pq")),
    (b"ARROW1\0\0", "an Arrow file", (".arrow", ".feather")),
)
_FOREIGN = (
    (b"%PDF-", "a PDF document", "ask where the table itself is"),
    (b"RDX3\n", "an R file", "save the table in R as csv: write.csv(table, 'table.csv', row.names=FALSE)"),
    (b"SQLite format 3\0", "an SQLite database", "save the table as csv (UTF-8), and name that file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and name the file in it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it, and name the file in it"),
)


class _NotOneTableError(Exception):
    """What a file is in truth, or why it is not clear what to read of it; and what to do."""

    def __init__(self, message: str, hint: str = _SAVE) -> None:
        super().__init__(message)
        self.hint = hint


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
        magic = file.read(_HEAD) if size else b""
        file.seek(0)
        _report_foreign(magic, "")
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


def check_kind(path: pathlib.Path, ending: str) -> None:
    """Holds a file's first bytes against what its name ends in, of a format that is not text.

    To be used inside `reported`, which turns what is found into a problem.
    """
    with opened(path) as file:
        head = file.read(_HEAD)
    _report_foreign(head, ending)
    zipped = ending in (".xlsx", ".xlsm", ".ods")
    if any(head.startswith(start) for start in _UNPACKERS):
        raise _NotOneTableError("is packed (gzip, bzip2, xz or zstd), and no name says so", "unpack it, and name that")
    if head.startswith(b"PK\x03\x04") and not zipped:
        raise _NotOneTableError("is a zip archive", f"unpack it, and name the {ending} file in it")
    expected = next((what for _, what, endings in _BINARY if ending in endings), "a spreadsheet" if zipped else "")
    if ending in (".arrow", ".feather"):  # a stream of Arrow has no such bytes
        return
    is_old_stata = ending == ".dta" and 104 <= head[0] <= 115 and head[1:2] in (b"\1", b"\2")
    known = any(ending in endings and head.startswith(start[:4]) for start, _, endings in _BINARY)
    if head and expected and not (known or is_old_stata or (zipped and head.startswith(b"PK"))):
        start = repr(head[:24])[1:]
        raise _NotOneTableError(f"is not {expected}: it begins with {start}", "fetch or export it again")


def _report_foreign(head: bytes, ending: str) -> None:
    """An error for the first bytes of a file that no name of a table has, or another name than `ending` ("": text)."""
    text = head.lstrip(b"\xef\xbb\xbf\r\n\t ").lower()
    if text.startswith(b"version https://git-lfs"):
        raise _NotOneTableError(
            "is a pointer of Git LFS, not the file itself", "run `git lfs pull` there, or download the file"
        )
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<script")):
        raise _NotOneTableError(
            "is a web page (HTML): was the page saved in place of the file, or a login page?",
            "sign in, and download the file again",
        )
    if head[8:20] == b"ENCRYPTEDSAV":
        raise _NotOneTableError(
            "is an SPSS file that asks for a password", "open it in SPSS, and save it without a password"
        )
    if head.startswith(_OLD_OFFICE):
        raise _NotOneTableError(
            "is an old Excel file (.xls), or a workbook that asks for a password",
            "open it, and save it as .xlsx without a password, or as csv (UTF-8)",
        )
    for start, what, hint in _FOREIGN:
        if head.startswith(start):
            raise _NotOneTableError(f"is {what}, not a table", hint)
    for start, what, endings in _BINARY:
        if head.startswith(start) and ending not in endings:
            raise _NotOneTableError(f"is {what}, whatever its name says", f"rename it so that it ends in {endings[0]}")


def _only_csv(archive: zipfile.ZipFile) -> str:
    inside = archive.namelist()
    if "xl/workbook.xml" in inside:
        raise _NotOneTableError("is an Excel workbook, whatever its name says", "rename it so that it ends in .xlsx")
    if "mimetype" in inside and archive.read("mimetype").endswith(b"opendocument.spreadsheet"):
        raise _NotOneTableError("is an OpenDocument sheet, whatever its name says", "rename it so that it ends in .ods")
    names = [n for n in inside if n.lower().endswith(".csv") and "__MACOSX" not in n]
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
    except _NotOneTableError as error:
        problems.error(path, None, None, str(error), error.hint)
    except _TooLargeError as error:
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
