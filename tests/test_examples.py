"""The notebook runs, cell after cell, in a process of its own."""

import json
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT
from processes import environment

NOTEBOOK = ROOT / "examples" / "predict.ipynb"
# As a notebook does: the value of a cell's last line is shown, as HTML where it can be.
RUN = """
import ast, json, sys

def show(value):
    if value is not None:
        print("shown:", value._repr_html_() if hasattr(value, "_repr_html_") else value)

sys.displayhook, names = show, {"__name__": "__main__"}
for source in json.loads(sys.argv[1]):
    for line in ast.parse(source).body:
        exec(compile(ast.Interactive([line]), "cell", "single"), names)
"""


def test_the_notebook_is_stored_without_what_it_printed():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not [cell for cell in codes if cell["outputs"] or cell["execution_count"]]
    for cell in codes:
        compile("".join(cell["source"]), "cell", "exec")


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, cache_folder):
    """With the debug preset and few steps: what the cells do is the same."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert '"quickstart", 60,' in codes[0]
    codes[0] = codes[0].replace('"quickstart", 60,', '"debug", 4,')
    env = environment(CUMA_JAX_CACHE=cache_folder)
    done = subprocess.run([sys.executable, "-c", RUN, json.dumps(codes)], cwd=tmp_path, env=env, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert pathlib.Path(tmp_path, "runs", "notebook", "report.html").exists()
    shown = done.stdout.split("shown:")
    assert "in training" in shown[2]
    assert "country" in shown[3]
    assert shown[-3].count("linear-gradient") > 8  # the bars
    assert "pooled" in shown[-2]
    assert "Sometimes" in shown[-1]
