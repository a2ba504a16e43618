"""The one reader of JSON files that a user may have edited. No numpy: `config` reads presets with it."""

import hashlib
import json
import pathlib
from typing import Any

from cuma_jax.runtime.errors import CumaError

LONGEST_JSON = 100 << 20
"""Bytes of a JSON file that is read whole; the largest tokenizer.json are a third of it."""


def read_json(path: pathlib.Path, advice: str = "") -> Any:
    """The value of a JSON file; each name of an object once. `advice` says what to do where it is none.

    Raises:
        FileNotFoundError: nothing is there.
        CumaError: what is there cannot be read, or is no JSON.
    """
    advice = advice and f"; {advice}"
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST_JSON + 1)
        if len(text) > LONGEST_JSON:
            raise ValueError(f"it has more than {LONGEST_JSON >> 20} MB")
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_each_once)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CumaError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise CumaError(f"{path} is not valid JSON: byte {error.start + 1} is no UTF-8 text{advice}") from None
    except RecursionError:
        raise CumaError(f"{path} is not valid JSON: it is nested too deeply{advice}") from None
    except ValueError as error:
        raise CumaError(f"{path} is not valid JSON ({str(error)[:200]}){advice}") from None


def read_object(path: pathlib.Path, advice: str = "fetch it again") -> dict[str, Any]:
    """As `read_json`, of a file that holds an object; a `CumaError` where it holds something else, too."""
    values = read_json(path, advice)
    if not isinstance(values, dict):
        raise CumaError(
            f"{path} holds a {type(values).__name__}, and must hold an object with names{advice and f'; {advice}'}"
        )
    return values


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """JSON values with a checksum of them all."""
    return values | {"checksum": _seal(values)}


def is_sealed(values: dict[str, Any]) -> bool:
    """Whether the checksum of `sealed` is there, and right."""
    return values.get("checksum") == _seal({name: value for name, value in values.items() if name != "checksum"})


def _seal(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:80]!r} is there twice")
        found[name] = value
    return found
