"""The bytes of a file, whatever it is packed with: gzip, or a zip of one csv."""

import contextlib
import csv
import gzip
import hashlib
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, cast

from cuma_jax.tables.problems import Problems

_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
_SAVE = "save the table as csv (UTF-8), or unpack it, and name that file"
_PIECE = 1 << 20


class _NotOneTableError(Exception):  # a zip of which it is not clear what to read
    pass


@contextlib.contextmanager
def unpacked(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """The file's bytes; what it is packed with is seen from its first bytes, not from its name.

    To be used inside `reported`, which turns what goes wrong into a problem.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic[:2] == b"\x1f\x8b":
            with gzip.open(file, "rb") as stream:
                yield cast(IO[bytes], stream)
        elif magic == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive, archive.open(_only_csv(archive)) as member:
                yield member
        else:
            yield file


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
    except _NotOneTableError as error:
        problems.error(path, None, None, str(error), _SAVE)
    except zipfile.BadZipFile as error:
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
    with reported(path, problems), path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
    return b""
