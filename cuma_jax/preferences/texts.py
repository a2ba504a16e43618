"""Cleaning and comparing texts in Arrow: a Python string is made only for the few that need more than Arrow can do.

Texts are large_string everywhere: one column of a big source is longer than 2 GB.
"""

import hashlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.text import visible_text
from cuma_jax.tables.problems import count_skipped

EMPTY = "EMPTY STRING"
"""What both sources write where a model returned nothing."""

# Characters that are not seen. Markup and indentation stay: people and models talk about code.
_SUSPECT = (
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\x{ad}\x{61c}\x{180e}\x{200b}-\x{200f}\x{2028}-\x{202e}\x{2060}-\x{206f}\x{feff}"
    r"\x{fff9}-\x{fffb}\x{fdd0}-\x{fdef}\x{fffe}\x{ffff}\x{e0000}-\x{e007f}]"
)
_END_OF_TEXT = r"(?:\s*<\|end_of_text\|>)+\s*$"

ENDED = "texts that ended in a literal <|end_of_text|> (it is cut off)"
CLEANED = "texts with invisible characters (they are taken out)"


def text_column(table: pa.Table, name: str, where: object, numbers: bool = False) -> pa.ChunkedArray:
    """A column as large_string; with `numbers`, one of whole numbers (ids) as well; a `CumaError` for another type.

    `where`: the file, for the message.
    """
    column, kind = table[name], table.schema.field(name).type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.large_string())
    if numbers and pa.types.is_floating(kind):
        whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
        if pc.all(whole).as_py() is not False:  # whole numbers with gaps, as some programs write them
            column, kind = column.cast(pa.int64()), pa.int64()
    if numbers and pa.types.is_integer(kind):
        return column.cast(pa.large_string())
    raise CumaError(f"{where}: column {name} is of type {kind}, not of texts; chosen and rejected must be plain texts")


def joined(column: pa.ChunkedArray) -> pa.Array:
    """A column of texts as one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.large_string())


def ids_of(table: pa.Table, column: str, where: object) -> pd.Series:
    """A column of ids as texts without blanks at their ends; an empty one is missing."""
    return text_column(table, column, where, numbers=True).to_pandas().str.strip().replace("", None)


def clean_column(texts: pa.ChunkedArray | pa.Array, skipped: dict[str, int]) -> pa.Array:
    """Texts without invisible characters, or white space at their ends; null where nothing is left.

    Markup and indentation stay, and markers of chat templates as text, except a literal <|end_of_text|> at the end,
    which is an artefact. What was changed is counted in `skipped`.
    """
    array = joined(texts) if isinstance(texts, pa.ChunkedArray) else texts
    ended = pc.fill_null(pc.match_substring_regex(array, _END_OF_TEXT), False)
    if count := pc.sum(ended).as_py():
        count_skipped(skipped, ENDED, count)
        array = pc.if_else(ended, pc.replace_substring_regex(array, _END_OF_TEXT, ""), array)
    array = pc.utf8_trim_whitespace(array)
    suspects = np.flatnonzero(pc.fill_null(pc.match_substring_regex(array, _SUSPECT), False))
    if len(suspects):
        before = array.take(suspects).to_pylist()
        known = {text: visible_text(text) for text in set(before)}
        count_skipped(skipped, CLEANED, sum(known[text] != text for text in before))
        mask = np.zeros(len(array), bool)
        mask[suspects] = True
        after = pa.array([known[text] for text in before], pa.large_string())
        array = pc.replace_with_mask(array, pa.array(mask), after)
    empty = pc.fill_null(pc.is_in(array, pa.array(["", EMPTY], pa.large_string())), True)
    return pc.if_else(empty, pa.scalar(None, pa.large_string()), array)


def normalised(texts: pa.Array) -> pa.Array:
    """Texts as they are compared: lower case, every run of white space one space (none at the ends).

    It costs 0.2 ms a kilobyte: `codes_within` asks for it only where two texts may be equal.
    """
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(texts), r"\s+", " "))


def codes_of(texts: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """A number for each text, the same for texts that are equal after `normalised` (-1: null); and those texts."""
    encoded = normalised(texts).dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary


def codes_within(texts: pa.Array, group: np.ndarray) -> np.ndarray:
    """Numbers that are the same for (cleaned) texts of one group that are equal after `normalised`; for no others.

    `group` ascends; a null is like other nulls of its group.
    """
    # Lower case keeps the number of characters, and white space is all that `normalised` joins: texts of one group
    # with different numbers of other characters differ. In a cleaned text only these three are white space.
    length = pc.utf8_length(texts)
    for space in (" ", "\n", "\t"):
        length = pc.subtract(length, pc.cast(pc.count_substring(texts, space), length.type))
    letters = length.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    order = np.lexsort((letters, group))
    same = (np.diff(group[order]) == 0) & (np.diff(letters[order]) == 0)
    maybe = np.zeros(len(order), bool)
    maybe[order] = np.append(same, False) | np.append(False, same) if len(order) else maybe
    rows = np.flatnonzero(maybe)
    codes = np.arange(len(order), dtype=np.int64)
    found, _ = codes_of(texts.take(pa.array(rows)))
    codes[rows] = np.where(found < 0, -1, found + len(order))
    return codes


def hash_texts(texts: pa.Array) -> list[str]:
    """The sha256 of each text (as it is), 64 hex digits."""
    return [hashlib.sha256(text.as_buffer()).hexdigest() for text in texts]


def number_prompts(prompts: pa.Array) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct ids of opening prompts, sorted, and the int32 position of each prompt's id among them.

    An id is 16 hex digits of the hash of the normalised text, so that "Hello  there" and "hello there" are one.
    """
    codes, distinct = codes_of(prompts)
    ids = np.array([digest[:16] for digest in hash_texts(distinct)], dtype="U16")
    names, position = np.unique(ids, return_inverse=True)
    return tuple(names.tolist()), position[codes].astype(np.int32) if len(codes) else np.zeros(0, np.int32)
