"""A reward that the user wrote: a function named in the config."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cuma_jax.rewards.sample import Sample, Scores
from cuma_jax.runtime.errors import CumaError

_FIELD = "config field reward.function"


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
        """Calls the function once; a `CumaError` where it raises, or returns anything but a finite number a reply."""
        try:
            found: Any = self._call(list(samples))
        except Exception as error:  # the user's code may raise anything; it is reported, not hidden
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise CumaError(
                f"{_FIELD}: {self.name} raised {type(error).__name__}: {error} ({at.filename}, line {at.lineno})"
            ) from error
        try:
            values_N = np.asarray(found, np.float64)
        except (TypeError, ValueError):
            raise CumaError(
                f"{_FIELD}: {self.name} returned {_short(found)}; it must return a list of numbers"
            ) from None
        if values_N.shape != (len(samples),):
            what = f"{values_N.size} numbers" if values_N.ndim == 1 else f"an array of shape {values_N.shape}"
            raise CumaError(
                f"{_FIELD}: {self.name} returned {what} for {len(samples)} replies; it must return one each"
            )
        wrong = np.flatnonzero(~np.isfinite(values_N))
        if len(wrong):
            n = int(wrong[0])
            raise CumaError(
                f"{_FIELD}: {self.name} returned {values_N[n]} for reply {n} of {len(samples)} "
                f"({_short(samples[n].reply)}); a reward must be a finite number"
            )
        return Scores(values_N)


def _load(name: str) -> Callable[[list[Sample]], Any]:
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise CumaError(f"{_FIELD} is {name!r}; it must be package.module:name")
    sys.path.insert(0, os.getcwd())  # an installed command, unlike python -m, does not look there
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code
        raise CumaError(
            f"{_FIELD}: {module_name} cannot be imported ({type(error).__name__}: {error}); modules are looked for in "
            f"the working directory ({os.getcwd()}) and among installed packages"
        ) from error
    finally:
        sys.path.pop(0)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise CumaError(f"{_FIELD}: {module.__file__} has no function {function_name!r}")
    return function


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
