"""Any bad command line, preset or config.json: exit code 2, one message, no traceback, nothing written.

The lines are made from the fields of the config and of the commands' options, so that a new field is tried too. Nothing
that is tried reads data or a model: what is wrong with a line is found before.
"""

import contextlib
import dataclasses
import io
import json
import math
import sys
import typing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_imports import MAINS

from cuma_jax.commands import analyze, compare, evaluate, export, generate, plan, predict, serve, train
from cuma_jax.commands.data import command_line as data
from cuma_jax.config import Config, load_config, to_dict
from cuma_jax.config.data import DataConfig
from cuma_jax.config.fields import Line, Name, Place, Range, declared
from cuma_jax.runtime.errors import run_main

RUN = ["--run", "a_run"]
# The options of every command, and a line of it that is right but for what a case adds.
COMMANDS = {
    "train": (train.main, (train.Options, Config), ["--config", "debug"]),
    "plan": (plan.main, (plan.Options, Config), ["--config", "debug", "--gpu", "h100"]),
    "evaluate": (evaluate.main, (evaluate.UsedRun, evaluate.EvaluationSections), RUN),
    "evaluate --preferences": (
        evaluate.main,
        (evaluate.PreferenceOptions, evaluate.PreferenceSections),
        [*RUN, "--preferences"],
    ),
    "evaluate --paper_metrics": (
        evaluate.main,
        (evaluate.PaperOptions,),
        ["--paper_metrics", "a_file", "--wvb", "a_folder"],
    ),
    "predict": (predict.main, (predict.Options,), RUN),
    "serve": (serve.main, (serve.Options,), RUN),
    "generate": (generate.main, (generate.Options, generate.Sections), [*RUN, "--prompt", "x"]),
    "analyze": (analyze.main, (analyze.Options, analyze.EvaluationSections), RUN),
    "export": (export.main, (export.Options,), [*RUN, "--format", "peft", "--out", "new"]),
    "compare": (compare.main, (compare.Options,), ["--config", "compare_debug"]),
    "data build": (data.main, (data.Options, DataConfig), ["build", "--source", "invented"]),
    "data show": (data.main, (data.ShowOptions, DataConfig), ["show", "--source", "invented"]),
    "data check": (data.main, (data.Options, DataConfig), ["check", "--source", "invented"]),
    "data export": (data.main, (data.ExportOptions, DataConfig), ["export", "--source", "invented", "--out", "new"]),
}
# What begins to work once a line is right.
WORK = (
    *("commands.train_runs.run_all", "commands.score_run.build_saved", "commands.score_run.compare_with"),
    *("planning.run.plan_run", "comparison.runner.run_trials", "interop.export.peft.export_peft"),
    *("interop.export.official.export_reference", "evaluation.surveys.wvb_emd.read_score_file"),
    *("serving.load", "commands.serve.serve_run", "commands.serve.write_page"),
    *(f"commands.data.commands.{name}" for name in ("build", "show", "check", "export_tables")),
)
DEEP = "[" * 100_000
BROKEN_TEXT = ["a\0b", "a\x1bb", "\udc80", "\ud800", "x" * 1_000_001]
BROKEN_LINES = [*BROKEN_TEXT, "a\nb", "a\u2028b", "x" * 5000]
BROKEN_PATHS = [*BROKEN_LINES, "~nobody-of-that-name/x", "x" * 256, "é" * 128, "x/" * 2500]
WRONG_KIND = {
    "file": ["a_folder", "nowhere", "a_file/x"],
    "folder": ["a_file", "nowhere", "a_file/x"],
    "file or folder": ["nowhere", "a_file/x"],
    "new folder": ["a_file", "a_file/x", "a_file/x/y"],
    "new file": ["a_folder", "a_file/x"],
    "run": ["a_file", "a_file/x"],
    "any": [],
}


class AcceptedError(AssertionError):
    """A bad line has come to where the work begins."""


def accept(*_, **__):
    raise AcceptedError


@pytest.fixture(scope="module")
def refuse(tmp_path_factory):
    """`refuse(command, argv, files={})`: the message that a bad line is refused with, in a folder of a few things."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CUMA_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("COLUMNS", "200")
        for name in WORK:
            patch.setattr(f"cuma_jax.{name}", accept)
        (folder / "a_folder").mkdir()
        (folder / "a_file").write_text("x")
        (folder / "a_run").mkdir()
        (folder / "a_run" / "config.json").write_text(json.dumps(to_dict(load_config("debug"))))
        before = contents(folder)

        def refuse(command, argv, files=None):
            for name, content in (files or {}).items():
                (folder / name).write_bytes(content)
            out, err = io.StringIO(), io.StringIO()
            patch.setattr(sys, "argv", [f"cuma_jax.{command.split()[0]}", *argv])
            with pytest.raises(SystemExit) as caught, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                run_main(COMMANDS[command][0])
            said = err.getvalue()
            assert caught.value.code == 2, said
            assert "Traceback" not in out.getvalue() + said
            assert said.count("error: ") == said.startswith("error: "), said  # ours, or tyro's box with its help
            assert said.strip()
            assert len(said) < 20_000
            for name in files or {}:
                (folder / name).unlink()
            assert contents(folder) == before
            return said

        yield refuse


def contents(folder):
    return {str(path): path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


def fields_of(*parts, above=""):
    """(flag, type, kind) of every field of some dataclasses and of the sections in them."""
    for part in parts:
        for name, (hint, kind) in declared(part).items():
            if dataclasses.is_dataclass(hint):
                yield from fields_of(hint, above=f"{above}{name}.")
            else:
                yield f"{above}{name}", hint, kind


def out_of(kind):
    """Numbers out of a range."""
    ends = [*[kind.low] * kind.above, *[kind.high] * kind.below, kind.low - 1, kind.high + 1]
    return [*ends, -1, -1e300, 10**30, math.nan, math.inf, -math.inf]


def wrong_texts(kind):
    """Texts that are not of a kind."""
    match kind:
        case Name():
            return [*BROKEN_PATHS, "", " ", "../../x", "/x", "a/../b", "..", "a//b", "~/x", "a\\b"]
        case Place():
            return BROKEN_PATHS
        case Line(lines=True):
            return BROKEN_TEXT
        case Line():
            return BROKEN_LINES
    return ["nothing-of-it"]


def wrong_words(hint, kind):
    """Words of a command line that are no value of a field."""
    if not isinstance(kind, Range):
        return wrong_texts(kind) + (WRONG_KIND[kind.what] if isinstance(kind, Place) else [])
    others = ["", "x", "1,5", "0x10", "9" * 400, "9" * 5000, "1e999"]
    return [*map(str, out_of(kind)), *others, *([] if hint is float else ["2.5", "1e3"])]


def wrong_json(hint, kind):
    """JSON values that are no value of a field."""
    if "tuple" in str(hint):
        inner = out_of(kind) if isinstance(kind, Range) else wrong_texts(kind)
        return [None, 3, "x", {}, [None], [["x"]], [{}], *([value] for value in inner)]
    if isinstance(kind, Range):
        return [None, True, "1", [1], {}, 10**400, *out_of(kind), *([] if hint is float else [1.5])]
    if hint is bool:
        return [None, 1, "true", [], {}]
    return [None, 3, True, ["x"], {}, *wrong_texts(kind)]


@st.composite
def bad_lines(draw):
    """A command, and a line of it with one mistake."""
    command = draw(st.sampled_from(sorted(COMMANDS)))
    _, parts, right = COMMANDS[command]
    fields = [field for field in fields_of(*parts) if not (field[0] == "file" and command.startswith("data"))]
    name, hint, kind = draw(st.sampled_from(fields))
    line, flag = list(right), f"--{name}"
    mistakes = ["=maybe", "twice"] if hint is bool else ["value"] * 6
    mistakes += ["missing"] if hint is not bool and "tuple" not in str(hint) else []  # of values there may be none
    mistakes += [] if name in ("prompt", "profile", "question", "file") else ["twice"]  # each of these counts
    mistake = draw(st.sampled_from([*mistakes, "unknown", "word"]))
    if flag in line and mistake in ("value", "twice", "missing"):
        line[line.index(flag) :] = line[line.index(flag) + 2 :]
    if mistake == "value":
        word = draw(st.sampled_from(wrong_words(hint, kind)))
        if source := {"path": "csv", "raw": "wvb", "wvb": "wvb"}.get(name.removeprefix("data.")):
            line = [source if word == "invented" else word for word in line]
            line += ["--data.source", source] if command == "train" else []
        return command, [*line, f"{flag}={word}"]
    added = {
        "missing": [flag],
        "twice": [flag, flag] if hint is bool else [f"{flag}=1", f"{flag}=1"],
        "unknown": [f"{flag}x", "1"],
        "word": [draw(st.sampled_from(["nonsense", "-x", "\udc80", "é" * 300, ""]))],
    }
    return command, [*line, *added.get(mistake, [f"{flag}{mistake}"])]


@st.composite
def bad_configs(draw):
    """A config.json with one mistake, as bytes."""
    values = to_dict(load_config("debug"))
    name, hint, kind = draw(st.sampled_from(list(fields_of(Config))))
    section, _, field = name.rpartition(".")
    inside = values[section] if section else values
    mistake = draw(st.sampled_from(["value"] * 4 + ["section", "unknown", "cut", "bytes"]))
    if mistake == "value":
        inside[field] = draw(st.sampled_from(wrong_json(hint, kind)))
    elif mistake == "section":
        values[section or "name"] = draw(st.sampled_from([None, 3, [], [1], True]))
    elif mistake == "unknown":
        inside[draw(st.sampled_from([f"{field}s", "", "\0", "\ud800", "x" * 100_000]))] = 1
    content = json.dumps(values).encode()
    at = draw(st.integers(0, len(content) - 1))
    if mistake == "cut":
        return content[:at]
    return content[:at] + draw(st.sampled_from([b"\xff", b"\0"])) + content[at:] if mistake == "bytes" else content


def function(body):
    """A preset of the name own."""
    return f"from cuma_jax.config import *\ndef own(): {body}"


NO_JSON = ["", "{}", "[]", "null", DEEP, '{"a":' * 100_000, "9" * 5000, '{"name": "a", "name": "b"}', "\0" * 99]
NO_PROGRAMS = [
    *("own = 3", "def own(:", "import nothing_of_that_name", "exit()", "raise SystemExit", "def own(x): pass"),
    *("(" * 300, "-" * 100_000 + "1", "\0"),
]
NO_PRESETS = [
    *("1 / 0", "return own()", "raise BaseExceptionGroup('x', [ValueError()])", "return Config(name='../x')"),
    *("return Config(adapter=3)", "return Config(adapter=AdapterConfig(rank=10**5000))", "return Chain('x', 3)"),
    *("return Chain('../x', (Config(),))", "return Chain('x', (Config(), 3))", "return Chain(3, (Config(),))"),
    "return Comparison('../x', Config(), by_method('cuma'))",
    "return Comparison('x', Config(), by_method('cuma', seeds=10**10))",
    "return Comparison('x', Config(), by_method('cuma', seeds='a'))",
    "return Comparison('x', Config(), (variant('cuma', adapter=3),))",
]
TEXTS = st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=100)
CONFIGS = bad_configs() | TEXTS | st.sampled_from(NO_JSON).map(str.encode)
PRESETS = TEXTS | st.sampled_from(
    [*NO_PROGRAMS, *(f"from cuma_jax.config import *\ndef own(): {body}" for body in NO_PRESETS)]
).map(str.encode)


@pytest.mark.slow
@given(bad_lines())
@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_bad_command_line_is_refused(refuse, case):
    command, line = case
    refuse(command, line)


@pytest.mark.slow
@given(st.sampled_from(["train", "plan", "evaluate", "data show"]), CONFIGS)
@settings(max_examples=180, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_bad_config_file_is_refused(refuse, command, content):
    line = {"evaluate": ["--run", "."], "data show": ["show", "--config", "config.json"]}
    refuse(command, line.get(command, ["--config", "config.json"]), {"config.json": content})


@given(st.sampled_from(["train", "plan", "compare", "data show"]), PRESETS)
@settings(max_examples=70, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_bad_preset_is_refused(refuse, command, content):
    line = ["--config", "own.py"]
    refuse(command, ["show", *line] if command == "data show" else line, {"own.py": content})


def test_every_command_and_every_option_is_tried():
    """A line that is right comes to where the work begins; numbers and texts have a range or a kind."""
    assert {command.split()[0] for command in COMMANDS} == MAINS | {"data"}
    for command, (_, parts, _) in COMMANDS.items():
        for name, hint, kind in fields_of(*parts):
            inner = {hint, *typing.get_args(hint)}
            assert kind or not {int, float, str} & inner, f"{command} --{name}: no range or kind is declared"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_right_line_comes_to_where_the_work_begins(refuse, command):
    with pytest.raises(AcceptedError):
        refuse(command, COMMANDS[command][2])
