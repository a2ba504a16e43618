"""Presets: a name, a .py file or a saved config.json becomes a Config, a Chain or a Comparison."""

import importlib.util
import json
import pathlib
from typing import Any

from cuma_jax.config.chain import Chain
from cuma_jax.config.comparison import Comparison
from cuma_jax.config.schema import Config, from_dict
from cuma_jax.runtime.errors import CumaError

DEFAULT_PRESET = "quickstart"
COMPARISON = "compare_"
"""How the name of a comparison's preset starts."""
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
        try:
            return from_dict(json.loads(path.read_text(encoding="utf-8")))
        except json.JSONDecodeError as error:
            raise CumaError(f"--config {source}: not valid JSON ({error})") from None
    found = load_preset(source)
    if not isinstance(found, Config | Chain):
        hint = ""
        if path.stem.startswith(COMPARISON):
            hint = f"; to compare several runs: python -m cuma_jax.compare --config {source}"
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
    spec = importlib.util.spec_from_file_location(f"cuma_jax_preset_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CumaError(f"--config {source}: not a .py or .json file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise CumaError(f"--config {source} cannot be imported: {error}") from None
    function = getattr(module, path.stem, None)
    return function() if callable(function) else None


def _find(source: str) -> pathlib.Path:
    path = pathlib.Path(source).expanduser()
    if path.is_file():
        return path
    for folder in _FOLDERS:
        if (named := folder / f"{path.stem}.py").is_file() and path.suffix in ("", ".py"):
            return named
    known = f"{', '.join(presets())}; of comparisons: {', '.join(comparisons())}"
    raise CumaError(f"--config {source}: no such file, nor a preset; presets are {known}")
