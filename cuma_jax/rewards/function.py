"""A reward that the user wrote: a function named in the config."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cuma_jax.config.fields import shown
from cuma_jax.rewards.sample import Sample, Scores
from cuma_jax.runtime.errors import CumaError

_FIELD = "config field reward.function"
LARGEST = 1e15
"""A reward's largest size: their squares, and sums of these, are taken in float32."""


class Function:
    """Scores replies by `package.module:name`, which takes a list of `Sample` and returns a number for each.

    Modules of the working directory are found, too. A number that is not finite is an error, never a reward: a
    function that cannot score a reply must say so itself.

    Raises:
        CumaError: it cannot be imported, or is no function.
    """

    def __init__(self, name: str):
        self.name, self._call = name, _load(name)

    def score(self, samples: Sequence[Sample]) -> Scores:
        """Calls the function once; a `CumaError` where it raises or exits, or returns anything but a number a reply."""
        try:
            found: Any = self._call(list(samples))
        except (Exception, SystemExit) as error:  # the user's code may raise anything; it is reported, not hidden
            raise CumaError(f"{_FIELD}: {self.name} raised {_told(error, self._call)}") from error
        try:
            values_N = _numbers(found)
        except Exception:  # an object of the user's may do anything when it is read
            raise CumaError(
                f"{_FIELD}: {self.name} returned {shown(found)}; it must return a list of numbers"
            ) from None
        if values_N.shape != (len(samples),):
            what = f"{values_N.size} numbers" if values_N.ndim == 1 else f"an array of shape {values_N.shape}"
            raise CumaError(
                f"{_FIELD}: {self.name} returned {what} for {len(samples)} replies; it must return one each"
            )
        wrong = np.flatnonzero(~(np.abs(values_N) <= LARGEST))
        if len(wrong):
            n = int(wrong[0])
            raise CumaError(
                f"{_FIELD}: {self.name} returned {values_N[n]:g} for reply {n} of {len(samples)} "
                f"({shown(samples[n].reply)}); a reward must be a finite number (of at most {LARGEST:g})"
            )
        return Scores(values_N)


def _numbers(found: Any) -> np.ndarray:
    """What a function returned, as float64; a `ValueError` for what numpy would make numbers of: texts, dates, None."""
    array = np.asarray(found)
    texts = array.dtype == object and any(isinstance(one, str | bytes | None) for one in array.ravel().tolist())
    if array.dtype.kind in "USMmc" or texts:
        raise ValueError
    return array.astype(np.float64)


def _load(name: str) -> Callable[[list[Sample]], Any]:
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise CumaError(f"{_FIELD} is {name!r}; it must be package.module:name")
    here = os.getcwd()
    sys.path.insert(0, here)  # an installed command, unlike python -m, does not look there
    try:
        function = getattr(importlib.import_module(module_name), function_name, None)
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise CumaError(
            f"{_FIELD}: {module_name} cannot be imported ({_told(error)}); modules are looked for in "
            f"the working directory ({here}) and among installed packages"
        ) from error
    finally:
        if here in sys.path:  # the user's code may change it
            sys.path.remove(here)
    if not callable(function):
        where = getattr(sys.modules[module_name], "__file__", None) or module_name
        raise CumaError(f"{_FIELD}: {where} has no function {function_name!r}")
    return function


def _told(error: BaseException, call: object = None) -> str:
    """An error of the user's code in one line, with the last line of that code that it passed through."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # so may the error's own text
        text = "(an error without words)"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    own = [frame for frame in frames if frame.filename == getattr(getattr(call, "__code__", None), "co_filename", "")]
    at = next(reversed(own or frames), None)
    told = f"{type(error).__name__}: {text[:500]}"
    return f"{told} ({at.filename}, line {at.lineno})" if at and not isinstance(error, SyntaxError) else told
