"""The page as plain files: all that it reads is there, and says what the server says."""

import json
import shutil

import pytest

pytest.importorskip("fastapi", reason="needs pip install -e '.[serve]'")
pytest.importorskip("sse_starlette", reason="needs pip install -e '.[serve]'")

from made_up_model import QUESTIONS, MadeUpModel
from served import run, serving, write_maps

from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.http import page_data
from cuma_jax.serving.http.cells import Cells
from cuma_jax.serving.http.static import write_static


def test_the_export_is_the_page_with_the_servers_data(tmp_path):
    runs = tmp_path / "run"
    runs.mkdir()
    places = write_maps(runs)
    model = MadeUpModel(runs)
    model.start()
    cells, out = Cells(model), tmp_path / "site"
    for _ in cells.steps(model):
        pass
    assert not cells.missing
    assert write_static(model, cells, out) > 1000
    assert {path.name for path in page_data.FOLDER.glob("*")} - {"__pycache__"} <= {path.name for path in out.glob("*")}
    read = {path.name: path.read_text() for path in (out / "data").iterdir()}
    assert set(read) == {"run.json", "fields.json", "questions.json", "countries.json", "cells.json", "cells.csv",
                         "culture_map.json"}  # fmt: skip
    assert json.loads(read["culture_map.json"]) == places
    facts = json.loads(read["run.json"])
    assert facts["static"]
    assert json.loads(read["cells.json"])["questions"] == list(QUESTIONS)

    async def steps():
        async with serving(runs, keep=True) as (client, _):
            return {name: (await client.get(f"/data/{name}")).text for name in read if name != "cells.csv"}

    served = run(steps())
    for name in ("fields.json", "questions.json", "countries.json", "cells.json"):
        assert served[name] == read[name], name
    assert json.loads(served["run.json"]) == facts | {"static": False}
    with pytest.raises(CumaError, match="not an empty folder"):
        write_static(model, cells, out)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_kept_tables_of_another_run_are_not_read(tmp_path):
    model = MadeUpModel(tmp_path)
    model.start()
    cells = Cells(model)
    steps = cells.steps(model)
    for _ in range(3):
        next(steps)
    steps.close()
    again = Cells(model)
    assert again.missing == cells.missing < len(cells.groups) * 2, "what was there when the server ended is kept"
    (tmp_path / "checkpoints" / "7" / "state").mkdir(parents=True)
    assert Cells(model).missing == len(cells.groups) * 2, "training went on"
    shutil.rmtree(tmp_path / "checkpoints")
    assert Cells(model).missing == cells.missing
    model.about = model.about | {"checkpoint": "best"}
    assert Cells(model).missing == len(cells.groups) * 2
    (tmp_path / "cells.parquet").write_bytes(b"PAR1 damaged")
    assert Cells(model).missing == len(cells.groups) * 2
