"""What a run is known by: its data, its split, where it was started, and the files that it goes on to use."""

import dataclasses
import json

import pandas as pd
import pytest
from conftest import changed
from small_survey import SURVEY

from cuma_jax.config import Config, load_config
from cuma_jax.config.data import DataConfig
from cuma_jax.config.saved import located, read_config, read_identity
from cuma_jax.data.load import contents, load_source
from cuma_jax.evaluation.results import is_scored
from cuma_jax.run.folder import (
    check_contents,
    check_data_path,
    open_run,
    read_metrics,
    write_config,
    write_identity,
)
from cuma_jax.runtime.errors import CumaError

PEOPLE = [f"person{i},{('Chile', 'Japan')[i % 2]},{1 + i % 2}" for i in range(8)]


def survey(folder, people=PEOPLE, cache="cache"):
    (folder / "small.yaml").write_text(SURVEY)
    (folder / "people.csv").write_text("\n".join(["id,country,tea", *people, ""]))
    return load_source(DataConfig(source="csv", path=str(folder / "small.yaml")), False, str(folder / cache))


@pytest.fixture
def trained(tmp_path):
    """A folder that has a checkpoint, its config, and the config of the run."""
    folder, config = tmp_path / "run", changed(Config(), data={"source": "csv", "path": "small.yaml"})
    (folder / "checkpoints" / "4" / "state").mkdir(parents=True)
    config = changed(config, run={"dir": str(folder)})
    write_config(folder, config)
    return folder, config


def test_data_are_known_by_their_values_wherever_they_are_read_from(tmp_path):
    known = contents(survey(tmp_path))
    assert contents(survey(tmp_path)) == known  # from the cache
    assert contents(survey(tmp_path, [f"{row} " for row in PEOPLE], "other")) == known
    assert {part: many for part, (many, _) in known.items()} == {"respondents": 8, "questions": 1, "answers": 8}
    others = {
        "respondents": [row.replace("person1,Japan", "person1,Chile") for row in PEOPLE],
        "answers": [row.replace("person1,Japan,2", "person1,Japan,1") for row in PEOPLE],
    }
    for part, people in others.items():
        found = contents(survey(tmp_path, people))
        assert [name for name in known if found[name] != known[name]] == [part]
    assert contents(survey(tmp_path, PEOPLE[::-1])) != known  # rows are drawn by number


def test_other_data_are_refused_with_what_differs_once_something_was_learned(trained, tmp_path):
    folder, config = trained
    known = contents(survey(tmp_path)) | {"split": [8, "key"]}
    check_contents(folder, config, known)  # of a version that remembered nothing
    write_identity(folder, known, ())
    check_contents(folder, config, known)
    other = contents(survey(tmp_path, PEOPLE[:6]))
    with pytest.raises(CumaError, match=r"other data than csv small.yaml.*respondents \(8 then, 6 now\); answers \(8"):
        check_contents(folder, config, other)
    with pytest.raises(CumaError, match=r"now: split \(as many, 8, but with other contents"):
        check_contents(folder, config, {"split": [8, "other"]})
    (folder / "checkpoints" / "4" / "state").rmdir()
    check_contents(folder, config, other)


def test_another_chat_template_is_the_tokenizers_not_the_datas(trained):
    folder, config = trained
    write_identity(folder, {"answers": [8, "key"], "chat template": [49152, "key"]}, ())
    with pytest.raises(CumaError, match=r"another tokenizer or chat template than pypi.*tokenizer files") as raised:
        check_contents(folder, config, {"answers": [8, "key"], "chat template": [49152, "other"]})
    assert not any(word in str(raised.value) for word in ("data", "49152", "as many"))
    with pytest.raises(CumaError, match=r"now: answers \(8 then, 6 now\); chat template differ"):
        check_contents(folder, config, {"answers": [6, "other"], "chat template": [49152, "other"]})


def test_words_of_a_field_are_no_paths_even_where_a_folder_is_called_so(tmp_path):
    for name in ("official", "backbone", "encoder", "runs"):
        (tmp_path / name).mkdir()
    config = changed(Config(), data={"split": "official"}, profile={"encoder": "backbone"}, run={"dir": "runs"})
    assert located(config, str(tmp_path)) == config
    other = located(changed(config, profile={"encoder": "encoder"}), str(tmp_path))
    assert other.profile.encoder == str(tmp_path / "encoder")


def test_a_run_begun_in_vain_is_started_where_it_is_begun_again(trained, tmp_path, monkeypatch):
    folder, _ = trained
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "first")
    write_identity(folder, {}, ())
    monkeypatch.chdir(tmp_path / "second")
    write_identity(folder, {}, ())
    assert read_identity(folder)["started_in"] == str(tmp_path / "first")
    (folder / "checkpoints" / "4" / "state").rmdir()
    write_identity(folder, {}, ())
    assert read_identity(folder)["started_in"] == str(tmp_path / "second")


def test_a_damaged_identity_split_or_table_is_named_and_following_the_advice_helps(trained, tmp_path):
    folder, config = trained
    table = folder / "split.parquet"
    pd.DataFrame({"kind": ["country"]}).to_parquet(table)
    write_identity(folder, {}, ("split.parquet",))
    open_run(config)
    text = bytearray(table.read_bytes())
    text[9] ^= 1
    table.write_bytes(text)
    with pytest.raises(CumaError, match=rf"{table} is damaged.*delete it, and run the same command"):
        open_run(config)
    table.unlink()
    open_run(config)
    path = folder / "identity.json"
    path.write_text(path.read_text().replace('"cpu_cores": ', '"cpu_cores": 1'))
    with pytest.raises(CumaError, match=rf"{path} is damaged.*delete it"):
        open_run(config)
    path.unlink()
    open_run(config)


def test_a_run_is_found_again_from_another_folder(trained, tmp_path, monkeypatch):
    """Paths are kept as they were typed, and mean what they meant."""
    folder, config = trained
    survey(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_identity(folder, {}, ())
    assert read_config(folder) == config
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = read_config(folder)
    assert found.data.path == str(tmp_path / "small.yaml")
    assert dataclasses.replace(found, data=config.data) == config
    assert json.loads((folder / "config.json").read_text())["data"]["path"] == "small.yaml"
    open_run(found)  # the same file by its whole path
    write_identity(folder, {}, ())
    assert read_identity(folder)["started_in"] == str(tmp_path)
    (tmp_path / "small.yaml").unlink()
    with pytest.raises(CumaError, match=rf"'small.yaml', relative to the folder .* started \({tmp_path}\)"):
        check_data_path(folder, read_config(folder))


def test_a_run_that_moved_with_its_data_finds_them_beside_it(tmp_path, monkeypatch):
    project = tmp_path / "project"
    folder = project / "runs" / "mine"
    (folder / "checkpoints" / "4" / "state").mkdir(parents=True)
    survey(project)
    (project / "facts.csv").write_text("country,gdp\nChile,1\nJapan,2\n")
    config = changed(
        Config(), data={"source": "csv", "path": "small.yaml"}, profile={"context": "facts.csv"},
        run={"dir": "runs/mine"},
    )  # fmt: skip
    write_config(folder, config)
    monkeypatch.chdir(project)
    write_identity(folder, {}, ())
    elsewhere = tmp_path / "elsewhere"
    project.rename(elsewhere)
    monkeypatch.chdir("/")
    found = read_config(elsewhere / "runs" / "mine")
    assert found.data.path == str(elsewhere / "small.yaml")
    assert found.profile.context == str(elsewhere / "facts.csv")
    assert load_config(str(elsewhere / "runs" / "mine" / "config.json")) == found
    check_data_path(elsewhere / "runs" / "mine", found)
    (elsewhere / "facts.csv").unlink()
    with pytest.raises(CumaError, match=r"profile.context of .* is 'facts.csv', relative to the folder"):
        check_data_path(elsewhere / "runs" / "mine", read_config(elsewhere / "runs" / "mine"))


def test_other_settings_are_refused_unless_a_run_was_begun_in_vain(trained):
    folder, config = trained
    other = changed(config, train={"seed": 5})
    with pytest.raises(CumaError, match=r"train.seed was 0, now 5"):
        open_run(other)
    (folder / "metrics.jsonl").touch()
    with pytest.raises(CumaError, match="now 5"):
        open_run(other)
    (folder / "checkpoints" / "4" / "state").rmdir()  # training began, and stopped at a loss that is not finite
    assert open_run(other) == folder


@pytest.mark.parametrize("line", [b"{", b"3", b'{"loss": 1}', b'{"step": "x"}', b"\xff", b"[" * 100_000])
def test_a_damaged_line_of_metrics_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    with pytest.raises(CumaError, match=rf"{path} is damaged: line 2 .*delete that line"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("line", [b"{", b'{"step": 2, "loss": 0.', b"\0\0\0"])
def test_a_last_line_of_metrics_that_was_cut_short_is_left_out(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line)
    assert read_metrics(tmp_path) == [{"step": 1}]


@pytest.mark.parametrize("text", ["{", "[]", '{"about": 3}', "\0"])
def test_damaged_scores_are_named_before_they_are_written_over(tmp_path, text):
    assert not is_scored(tmp_path)
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(
        CumaError,
        match=rf"{tmp_path / 'results.json'} (is damaged|is not valid|holds a list).*; delete it, and",
    ):
        is_scored(tmp_path)
