"""Which tokens end what a model writes, by its own files."""

from typing import Any

from cuma_jax.hub.gguf import read_tokenizer
from cuma_jax.hub.model_files import ModelFiles
from cuma_jax.hub.schema import IDS
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.json_files import read_object

_GGUF = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def end_token_ids(files: ModelFiles) -> tuple[int, ...]:
    """The ids that generation_config.json and config.json name (or GGUF metadata); a chat's end of turn may be another.

    Raises:
        CumaError: a file that is damaged, or ids that are none.
    """
    said: list[tuple[str, Any]] = []
    if files.kind == "gguf" and files.path is not None:
        fields = read_tokenizer(files.path)
        said = [(key, fields[key]) for key in _GGUF if key in fields]
    elif files.path is not None:
        paths = [path for name in ("generation_config.json", "config.json") if (path := files.path / name).is_file()]
        said = [(f"{path.name}: eos_token_id", read_object(path).get("eos_token_id")) for path in paths]
    ids = list[int]()
    for name, value in said:
        if value is not None and not IDS.holds(value):
            raise CumaError(f"{files.source}: {name} is {value!r}; it must be {IDS.words}")
        ids += value if isinstance(value, list) else [] if value is None else [value]
    return tuple(dict.fromkeys(ids))
