"""Tables from the Hugging Face hub, as Arrow."""

import functools
import sys
from typing import Any

import pyarrow as pa

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.jsonl import decode_json


def hub_table(
    name: str, config: str | None, revision: str, split: str = "train", cache_dir: str | None = None, **options: Any
) -> pa.Table:
    """A split of a data set on the Hugging Face hub (or of a local folder laid out like one), through `datasets`. Where
    it cannot be fetched or read, the `CumaError` says how to do without the hub.

    Args:
        name: `owner/name`, or a folder.
        config: None: its only one.
        revision: commit hash or tag; empty: the newest.
        cache_dir: where `datasets` keeps what it fetched; None: its own place.
        options: passed on to the reader of `datasets`, e.g. `keep_default_na` for csv.
    """
    import datasets  # costs a second, and most runs need none of it

    try:
        loaded = datasets.load_dataset(
            name, config, revision=revision or None, split=split, cache_dir=cache_dir, **options
        )
    except Exception as error:  # the hub's clients raise errors of a dozen unrelated types
        raise _hub_error(name, config, revision, split, error) from None
    try:
        return decode_json(loaded.data.table)
    except pa.ArrowException as error:
        raise CumaError(
            f"{name} at {revision or 'its newest commit'}: {error}; download its files and name them: --data.path"
        ) from None


@functools.cache
def newest_revision(name: str) -> str:
    """The hash of the newest commit of a data set on the hub, asked for once; says on stderr which it is.

    A `CumaError` where the hub does not answer.
    """
    import huggingface_hub

    try:
        revision = huggingface_hub.HfApi().dataset_info(name).sha or "main"
    except Exception as error:  # as above
        raise _hub_error(name, None, "", None, error) from None
    print(f"{name}: reading its newest commit; --data.revision {revision} pins it", file=sys.stderr, flush=True)
    return revision


def _hub_error(name: str, config: str | None, revision: str, split: str | None, error: Exception) -> CumaError:
    what = " ".join([name, *(f"{k} {v}" for k, v in [("config", config), ("split", split)] if v)])
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return CumaError(
        f"cannot read the data set {what} at {revision or 'its newest commit'} from the Hugging Face hub "
        f"({type(error).__name__}: {reason}); check the network, or download its files and name the file or folder: "
        "--data.path"
    )
