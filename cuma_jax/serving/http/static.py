"""The page with its data as plain files, for any web host: `python -m cuma_jax.serve --run RUN --static FOLDER`."""

import pathlib
import shutil

from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import atomic_write
from cuma_jax.serving import Model
from cuma_jax.serving.http import page_data
from cuma_jax.serving.http.answers import csv_lines
from cuma_jax.serving.http.cells import Cells
from cuma_jax.serving.http.files import json_bytes


def check_static(out: pathlib.Path) -> None:
    """Raises a `CumaError` where the export cannot be written; before anything is predicted."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CumaError(f"--static {out} is there already, and not an empty folder; name a new one, or delete it")
    if not (page_data.FOLDER / "index.html").is_file():
        raise CumaError(f"{page_data.FOLDER} has no index.html: this installation lacks the page; install it again")


def write_static(model: Model, cells: Cells, out: pathlib.Path) -> int:
    """Writes page and data whole or not at all; how many bytes. The cells must be complete."""
    check_static(out)

    def write(part: pathlib.Path) -> None:
        shutil.copytree(page_data.FOLDER, part, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        data = part / "data"
        data.mkdir(exist_ok=True)
        for name, value in page_data.documents(model, static=True).items():
            (data / name).write_bytes(json_bytes(value))
        (data / "cells.json").write_bytes(cells.json())
        with (data / "cells.csv").open("wb") as file:
            file.writelines(csv_lines(cells.table()))
        if (culture := page_data.culture_map(model.folder)) is not None:
            (data / page_data.CULTURE_MAP).write_bytes(json_bytes(culture))

    if out.is_dir():
        out.rmdir()  # it is empty
    atomic_write(out, write)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
