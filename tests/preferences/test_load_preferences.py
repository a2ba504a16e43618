"""What is loaded is what was read, kept by content; and a `Preferences` that cannot be right is refused."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from preference_files import write_community_alignment, write_prism
from same import same_preferences

from cuma_jax.config.data import DataConfig
from cuma_jax.data.load import contents
from cuma_jax.preferences import store
from cuma_jax.preferences.load import load_preferences
from cuma_jax.preferences.sources import community_alignment, prism
from cuma_jax.preferences.sources.prism import read_prism
from cuma_jax.runtime.errors import CumaError


@pytest.fixture(scope="module")
def prefs(tmp_path_factory):
    return read_prism(str(write_prism(tmp_path_factory.mktemp("prism"), 20, 5)))


@pytest.mark.parametrize("source", ["community_alignment", "prism"])
def test_a_second_load_reads_the_cache_and_a_changed_file_does_not(tmp_path, monkeypatch, source):
    path = tmp_path / "data"
    write = (lambda seed: write_prism(path, 20, 5, seed)) if source == "prism" else (
        lambda seed: write_community_alignment(path / "ca.csv", 20, 5, seed)
    )  # fmt: skip
    write(0)
    data = DataConfig(source=source, path=str(path))
    first = load_preferences(data, str(tmp_path / "cache"))
    module, name = {"prism": (prism, "read_prism")}.get(source, (community_alignment, "read_community_alignment"))
    with monkeypatch.context() as patch:
        patch.setattr(module, name, None)
        same_preferences(load_preferences(data, str(tmp_path / "cache")), first)
    write(1)
    assert not load_preferences(data, str(tmp_path / "cache")).turns.equals(first.turns)


def test_bad_rows_left_out_are_not_taken_for_a_reading_without_them(tmp_path):
    path = write_community_alignment(tmp_path / "ca.csv", 20, 5)
    with path.open("a", encoding="utf-8") as stream:
        stream.write('"too","few"\n')
    data = DataConfig(source="community_alignment", path=str(path), bad_rows="skip")
    assert load_preferences(data, str(tmp_path / "cache")).skipped == {"lines that cannot be read": 1}
    with pytest.raises(CumaError, match="2 columns, but the header has 41"):
        load_preferences(dataclasses.replace(data, bad_rows="error"), str(tmp_path / "cache"))


def test_other_sources_and_subsets_are_refused(tmp_path):
    with pytest.raises(CumaError, match="community_alignment, prism"):
        load_preferences(DataConfig(source="open_values"), str(tmp_path))
    with pytest.raises(CumaError, match="leave it empty"):
        load_preferences(DataConfig(source="prism", path=str(tmp_path), subset="x"), str(tmp_path))
    with pytest.raises(CumaError, match="is none of community_alignment's"):
        load_preferences(DataConfig(source="community_alignment", path=str(tmp_path), subset="x"), str(tmp_path))


def test_a_damaged_cache_says_to_delete_it(prefs, tmp_path):
    store.save_preferences(prefs, tmp_path / "p")
    saved = store.load_saved_preferences(tmp_path / "p")
    same_preferences(saved, prefs)
    assert contents(saved) == contents(prefs)
    pathlib.Path(tmp_path / "p" / "turns.parquet").write_bytes(b"PAR1")
    with pytest.raises(CumaError, match="delete the folder"):
        store.load_saved_preferences(tmp_path / "p")


def column(prefs, name, values):
    at = prefs.turns.schema.get_field_index(name)
    return prefs.turns.set_column(
        at, prefs.turns.schema.field(name), pa.array(values, prefs.turns.schema.field(at).type)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"respondents": p.respondents.drop(columns="weight")}, "respondents table lacks columns"),
        (lambda p: {"conversations": pd.concat([p.conversations] * 2)}, "conversation_id .* more than once"),
        (lambda p: {"conversations": p.conversations.assign(person=np.int32(99))}, "name a person outside"),
        (lambda p: {"prompt_ids": ()}, "name a prompt outside"),
        (lambda p: {"turns": p.turns.slice(0, 3)}, "every conversation needs a turn"),
        (lambda p: {"turns": p.turns.drop_columns("scores")}, "the turns table has columns"),
        (lambda p: {"turns": column(p, "turn", p.turns["turn"].to_numpy() * 2)}, "one is missing in the middle"),
        (lambda p: {"turns": column(p, "chosen", np.full(p.turns.num_rows, 9))}, "chooses one that it does not have"),
        (lambda p: {"turns": column(p, "chosen", np.full(p.turns.num_rows, -1))}, "goes on after a turn"),
        (lambda p: {"turns": column(p, "scores", [[1.0]] * p.turns.num_rows)}, "as many scores as candidates"),
        (lambda p: {"turns": column(p, "prompt", [None] * p.turns.num_rows)}, "empty values"),
    ],
)
def test_preferences_that_cannot_be_right_are_refused(prefs, change, message):
    with pytest.raises(CumaError, match=message):
        dataclasses.replace(prefs, **change(prefs))
