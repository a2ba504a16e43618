"""Files of SPSS (sav, zsav, por), Stata (dta) and SAS (sas7bdat, xpt): codes, and what the file says that they mean.

Read by pyreadstat (the extra `survey`), some columns of some rows at a time.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from cuma_jax.runtime.errors import CumaError
from cuma_jax.tables.encoding import spelled, visible
from cuma_jax.tables.problems import Problems

READ_BY = {
    ".sav": "read_sav",
    ".zsav": "read_sav",
    ".por": "read_por",
    ".dta": "read_dta",
    ".sas7bdat": "read_sas7bdat",
    ".xpt": "read_xport",
}
"""What a name ends in, and pyreadstat's function for it."""

_KEY = b"cuma_jax.variable"
_CELLS = 4_000_000  # values read at a time: 32 bytes each, as Python holds them
_EXACT = 2**53  # above it a float64 does not hold every whole number
_DATES = (
    "date",
    "adate",
    "edate",
    "sdate",
    "jdate",
    "time",
    "dtime",
    "moyr",
    "qyr",
    "wkyr",
    "month",
    "wkday",
    "%t",
    "%d",
    "mmddyy",
    "ddmmyy",
    "yymmdd",
)


@dataclasses.dataclass(frozen=True)
class Variable:
    """What a file says of a column.

    Attributes:
        label: the wording, or what the column is.
        values: the text of each code, in the order of the codes.
        missing: pairs (lowest, highest) of codes that it declares to be no answer.
        kind: `date` for dates and times, which are numbers there; else empty.
        block: the multiple response set that the column is of, as SPSS defines it: its label or name.
    """

    label: str = ""
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    missing: tuple[tuple[str, str], ...] = ()
    kind: Literal["", "date"] = ""
    block: str = ""

    def declares_missing(self, code: str) -> bool:
        """Whether the file says that a code means no answer."""
        return any(_within(code, lowest, highest) for lowest, highest in self.missing)


NOTHING_SAID = Variable()
"""Of a format that says nothing of its columns."""


def variable_of(field: pa.Field) -> Variable:
    """What the file says of a column of a table that `read_statistical` has read."""
    said = (field.metadata or {}).get(_KEY)
    if said is None:
        return NOTHING_SAID
    found = json.loads(said)
    return Variable(**found | {"missing": tuple(map(tuple, found["missing"]))})


def read_statistical(
    path: pathlib.Path, columns: Sequence[str] | None, problems: Problems, skipped: object
) -> pa.Table | None:
    """A `formats.Reader`: numbers that are whole as int64, others as float64, texts without blanks at their ends.

    Codes stay codes, those that mean no answer too (a Stata or SAS `.a` is the text ".a"); what has no code is null.
    The schema's fields say what their `variable_of` is.
    """
    call = _caller(path, problems)
    meta = call(metadataonly=True, user_missing=True)
    if meta is None:
        return None
    about = _variables(meta[1], _catalog(path, meta[1]))
    names = [n for n in meta[1].column_names if columns is None or n in columns or spelled(n) in columns]
    if not names:
        return pa.table({name: pa.array([], pa.string()) for name in meta[1].column_names})
    pieces: list[list[pa.Array]] = [[] for _ in names]
    at, most = 0, max(1, _CELLS // len(names))
    while True:
        found = call(usecols=names, row_offset=at, row_limit=most, output_format="dict", user_missing=True)
        if found is None:
            return None
        count = 0
        for place, name in enumerate(names):
            values = found[0].get(name, [])
            count = max(count, len(values))
            pieces[place].append(_array(values, meta[1].readstat_variable_types.get(name) == "string"))
        at += count
        if count < most:
            break
    arrays = [_joined(piece) for piece in pieces]
    fields = [pa.field(n, a.type, metadata=_metadata(about[n])) for n, a in zip(names, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _caller(path: pathlib.Path, problems: Problems) -> Callable[..., Any]:
    """pyreadstat's function for the file: None, and a problem, where it fails."""
    try:
        import pyreadstat
    except ImportError:
        message = f"{path}: {path.suffix} files are read by pyreadstat: pip install 'cuma_jax[survey]'"
        raise CumaError(message) from None
    read = functools.partial(getattr(pyreadstat, READ_BY[path.suffix.lower()]), disable_datetime_conversion=True)
    options: dict[str, Any] = {}

    def call(**given: Any) -> Any:
        if path.suffix.lower() in (".por", ".xpt"):
            given.pop("user_missing", None)
        try:
            return read(path, **options, **given)
        except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError) as error:
            encoded = "encoding" in str(error) or isinstance(error, UnicodeError)
            if encoded and "encoding" not in options and path.suffix.lower() != ".por":
                options["encoding"] = "WINDOWS-1252"
                message = "its texts are not in the encoding that it states"
                problems.warning(path, None, None, message, "they are read as Windows-1252: look at accents")
                return call(**given)
            message = f"cannot be read ({str(error)[:200]})"
            problems.error(path, None, None, message, f"is it damaged or cut off? Then {problems.advice.damaged}")
            return None

    return call


def _catalog(path: pathlib.Path, meta: Any) -> dict[str, Mapping[Any, str]]:
    """The text of each code by variable, of the catalog of formats (.sas7bcat) that may stand beside a SAS file."""
    import pyreadstat

    catalog = path.with_suffix(".sas7bcat")
    if path.suffix.lower() != ".sas7bdat" or not catalog.is_file():
        return {}
    try:
        labels = pyreadstat.read_sas7bcat(catalog)[1].value_labels
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, ValueError) as error:
        raise CumaError(f"{catalog}: cannot be read ({error}); export it again, or move it away") from None
    return {name: labels[kind] for name, kind in meta.variable_to_label.items() if kind in labels}


def _variables(meta: Any, catalog: Mapping[str, Mapping[Any, str]]) -> dict[str, Variable]:
    blocks: dict[str, str] = {}
    for name, found in (getattr(meta, "mr_sets", None) or {}).items():
        if found.get("is_dichotomy"):
            blocks |= dict.fromkeys(found.get("variable_list", ()), visible(found.get("label") or name))
    labels = {**catalog, **meta.variable_value_labels}
    return {
        name: Variable(
            visible(meta.column_names_to_labels.get(name) or ""),
            _in_order(labels.get(name) or {}),
            _missing(meta, name, labels.get(name) or {}),
            "date" if _is_date(str(meta.original_variable_types.get(name) or "")) else "",
            blocks.get(name, ""),
        )
        for name in meta.column_names
    }


def _in_order(labels: Mapping[Any, str]) -> dict[str, str]:
    numbers = sorted((code, text) for code, text in labels.items() if not isinstance(code, str))
    texts = [(f".{code}" if numbers else code, text) for code, text in labels.items() if isinstance(code, str)]
    return {_code(code): visible(str(text)) for code, text in [*numbers, *sorted(texts)]}


def _missing(meta: Any, name: str, labels: Mapping[Any, str]) -> tuple[tuple[str, str], ...]:
    ranges = [(_code(r["lo"]), _code(r["hi"])) for r in (meta.missing_ranges or {}).get(name, ())]
    tagged = [code for code in _in_order(labels) if code.startswith(".")]
    return (*ranges, *((code, code) for code in tagged))


def _is_date(kind: str) -> bool:
    return kind.lower().startswith(_DATES)


def _code(value: object) -> str:
    """A code as text: whole numbers without a point."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    return visible(str(value))


def _within(code: str, lowest: str, highest: str) -> bool:
    try:
        return float(lowest) <= float(code) <= float(highest)
    except ValueError:
        return lowest <= code <= highest


def _array(values: Sequence[Any], text: bool) -> pa.Array:
    """The values of some rows of a column."""
    if text:
        return pc.utf8_trim_whitespace(pa.array(values, pa.large_string()))
    try:
        numbers = pa.array(values, pa.float64(), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # of Stata and SAS: missing with a letter
        letters = [None if v is None else f".{v}" if isinstance(v, str) else _code(float(v)) for v in values]
        return pa.array(letters, pa.large_string())
    exact = pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(pc.abs(numbers), _EXACT))
    return numbers.cast(pa.int64()) if pc.all(exact, min_count=0).as_py() else numbers


def _joined(pieces: Sequence[pa.Array]) -> pa.ChunkedArray:
    """The rows of a column, of one type."""
    kinds = {piece.type for piece in pieces}
    for kind in (pa.large_string(), pa.float64(), pa.int64()):
        if kind in kinds:
            return pa.chunked_array([piece if piece.type == kind else _cast(piece, kind) for piece in pieces], kind)
    raise AssertionError(f"a column is of none of the types that are read: {kinds}")


def _cast(piece: pa.Array, kind: pa.DataType) -> pa.Array:
    if kind != pa.large_string() or not pa.types.is_floating(piece.type):
        return piece.cast(kind)
    return pa.array([None if value is None else _code(value) for value in piece.to_pylist()], kind)


def _metadata(variable: Variable) -> dict[bytes, bytes]:
    return {_KEY: json.dumps(dataclasses.asdict(variable), ensure_ascii=False).encode()}
