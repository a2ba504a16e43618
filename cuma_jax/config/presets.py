"""Presets: a name, a .py file or a saved config.json becomes a Config, a Chain or a Comparison."""

import pathlib
import shlex
import traceback
import types
from typing import Any

from cuma_jax.config.comparison import Comparison
from cuma_jax.config.fields import Place, shown
from cuma_jax.config.saved import CONFIG_FILE, IDENTITY_FILE, read_config
from cuma_jax.config.schema import Chain, Config, from_dict
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.json_files import read_json
from cuma_jax.runtime.near_matches import near_hint

DEFAULT_PRESET = "quickstart"
OWN_SURVEY = "my_survey"
"""The preset that a survey of the user's own is trained with, unless another is named."""
COMPARISON = "compare_"
"""How the name of a comparison's preset starts."""
_LONGEST = 1 << 20
_PACKAGE = pathlib.Path(__file__).parent.parent
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def presets() -> list[str]:
    """Names of the presets of runs that ship with the package."""
    return [name for name in _shipped() if not name.startswith(COMPARISON)]


def comparisons() -> list[str]:
    """Names of the presets of comparisons that ship with the package."""
    return [name for name in _shipped() if name.startswith(COMPARISON)]


def _shipped() -> list[str]:
    return sorted({path.stem for folder in _FOLDERS if folder.is_dir() for path in folder.glob("*.py")})


def load_config(source: str) -> Config:
    """The config of a preset's name, a .py file or a .json file; a `CumaError` where it yields none."""
    found = load_runs(source)
    if isinstance(found, Chain):
        raise CumaError(
            f"--config {source} is a chain of runs ({', '.join(stage.name for stage in found.stages)}), which "
            "python -m cuma_jax.train takes; here give the config.json of one of its runs"
        )
    return found


def load_runs(source: str) -> Config | Chain:
    """As `load_config`, and the chain of a preset that trains in stages."""
    path = _find(source)
    if path.suffix == ".json":
        saved = path.name == CONFIG_FILE and (path.parent / IDENTITY_FILE).is_file()
        return read_config(path.parent) if saved else from_dict(read_json(path))
    found = load_preset(source)
    if not isinstance(found, Config | Chain):
        hint = ""
        if path.stem.startswith(COMPARISON):
            hint = f"; to compare several runs: python -m cuma_jax.compare --config {shlex.quote(source)}"
        raise CumaError(f"--config {source}: the file needs a function {path.stem}() that returns a Config{hint}")
    return found


def load_comparison(source: str) -> Comparison:
    """The comparison of a preset's name or of a .py file; a `CumaError` where it yields none."""
    known = f"presets are {', '.join(comparisons())}"
    if not source:
        raise CumaError(f"--config is required: a comparison's preset; {known}")
    found = load_preset(source)
    if not isinstance(found, Comparison):
        raise CumaError(f"--config {source}: the file needs a function of its name that returns a Comparison; {known}")
    return found


def load_preset(source: str) -> Any:
    """What the function of a .py file's name returns, None where it has none; a `CumaError` if it cannot be read."""
    path = _find(source)
    if path.suffix != ".py":
        raise CumaError(f"--config {source}: not a .py or .json file")
    try:
        with path.open("rb") as file:
            code = file.read(_LONGEST + 1)
    except OSError as error:
        raise CumaError(f"--config {source} cannot be read: {error.strerror}") from None
    if len(code) > _LONGEST:
        raise CumaError(f"--config {source} has more than {_LONGEST >> 20} MB; a preset is a short Python file")
    module = types.ModuleType(f"cuma_jax_preset_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(code, str(path), "exec"), vars(module))
        function = getattr(module, path.stem, None)
        return function() if callable(function) else None
    except (Exception, SystemExit) as error:  # the file is a program of the user's, and may raise anything
        raise CumaError(f"--config {source}{_of_the_user(error, path)}") from None


def _of_the_user(error: BaseException, path: pathlib.Path) -> str:
    """Where in the user's own file it went wrong, and what was said: none of our own lines."""
    said = str(error).strip() if isinstance(error, CumaError) else f"{type(error).__name__}: {error}".strip()
    if isinstance(error, ImportError):
        return f" cannot be imported: {error}"
    if isinstance(error, SyntaxError) and error.filename == str(path) and error.lineno:
        return f", line {error.lineno}: {error.msg}" + (f"\n  {error.text.strip()}" if error.text else "")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    if not frames:
        return f": {said}"
    return f", line {frames[-1].lineno}: {said}" + (f"\n  {frames[-1].line}" if frames[-1].line else "")


def _find(source: str) -> pathlib.Path:
    known = f"presets are {', '.join(presets())}; of comparisons: {', '.join(comparisons())}"
    if allowed := Place("file").problem(source):
        raise CumaError(f"--config is {shown(source)}; it must be {allowed}")
    if not source.strip():
        raise CumaError(f"--config is empty; give a preset's name, a .py file, or a run's config.json; {known}")
    if source in _shipped():
        return next(file for folder in _FOLDERS if (file := folder / f"{source}.py").is_file())
    path = pathlib.Path(source).expanduser()
    try:
        if path.is_file():
            return path
        if path.is_dir():
            raise CumaError(f"--config {source} is a folder; give a .py file, or the config.json of a run")
        if path.exists():
            raise CumaError(f"--config {source} is no ordinary file; give a .py file, or the config.json of a run")
    except OSError as error:
        raise CumaError(f"--config {source} cannot be read: {error.strerror}") from None
    if hint := near_hint(path.stem, _shipped(), 0):
        hint += " A preset is given by its name alone; "
    raise CumaError(f"--config {source}: no such file, nor a preset; {hint}{known}")
