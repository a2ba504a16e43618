"""The one form of a message about a config field."""

from cuma_jax.runtime.errors import CumaError


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    """Raises a `CumaError` that names the field, its value and what it must be, unless `ok`."""
    if not ok:
        raise CumaError(f"config field {field} is {value!r}; it must be {allowed}")
