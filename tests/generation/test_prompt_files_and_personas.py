"""Prompts from files and profiles written by hand: what is understood, and what is refused in one message."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cuma_jax.generation.personas import known_fields, parse_persona, persona_of
from cuma_jax.generation.prompt_files import prompt_request, read_prompts, text_lines
from cuma_jax.profile_encoders.profile_embedders import CategoricalEmbedder
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles


def test_a_file_of_prompts_holds_strings_prompts_turns_and_questions(tmp_path):
    path = tmp_path / "prompts.jsonl"
    turns = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user")]
    lines = ["one", {"prompt": "two"}, {"messages": turns}, {"question": "q1", "profile": "age: 30"}]
    path.write_text("\n\n".join(map(json.dumps, lines)))
    one, two, three, four = read_prompts(path)
    assert (one.messages[0]["content"], two.messages[0]["content"]) == ("one", "two")
    assert [turn["role"] for turn in three.messages] == ["user", "assistant", "user"]
    assert (four.question, four.messages, four.profile) == ("q1", (), "age: 30")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("3", "line 2 must be a string or an object with one of prompt, messages, question"),
        ('{"prompt": "a", "question": "b"}', "with one of"),
        ('{"prompt": ["a"]}', "'prompt' must be a string"),
        ('{"messages": [{"role": "user", "content": "a"}], "profile": 3}', "'profile' must be a string"),
        ('{"prompt": "  "}', "line 2 is empty"),
        ('{"messages": []}', "must be a list of turns"),
        ('{"messages": [{"role": "system", "content": "x"}]}', "the system message is the run's"),
        ('{"messages": ["hello"]}', "a turn is"),
        ('{"messages": [{"role": "user", "content": " "}]}', "line 2: a turn of the user is empty"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
         "line 2: the last turn must be the user's"),
        ('{"question": ""}', "line 2: the id of the question is empty"),
        ('{"prompt": "half \\ud83d"}', r"line 2: its character 6 is none \('\\ud83d'"),
        ('{"messages": [{"role": "user", "content": "\\udc00"}]}', "line 2: its character 1 is none"),
        ("[" * 100_000, r"line 2 is not JSON \(maximum recursion"),
        ("9" * 5000, r"line 2 is not JSON \(Exceeds the limit"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'"good"\n{line}\n')
    with pytest.raises(CumaError, match=message):
        read_prompts(path)


def test_lines_are_those_that_an_editor_shows(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("\ufeffone\r\ntwo\u2028half\x0b\x85\rthree".encode())
    assert text_lines(path, "--file") == ["one", "two\u2028half\x0b\x85", "three"]
    path.write_bytes("one\nPerú".encode("latin-1"))
    with pytest.raises(CumaError, match=r"--file .*lines\.txt is not UTF-8 text \(line 2\); save it as UTF-8"):
        text_lines(path, "--file")
    with pytest.raises(CumaError, match=r"--file /dev/zero is larger than 64 MiB"):
        text_lines(Path("/dev/zero"), "--file")


def test_bad_files_and_empty_prompts_are_one_message(tmp_path):
    path = tmp_path / "prompts.jsonl"
    with pytest.raises(CumaError, match="cannot be read: No such file"):
        read_prompts(path)
    path.write_text("\n")
    with pytest.raises(CumaError, match="holds no prompt"):
        read_prompts(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CumaError, match="not UTF-8"):
        read_prompts(path)
    with pytest.raises(CumaError, match="--prompt '' is empty"):
        prompt_request(" ", "--prompt ''")
    with pytest.raises(CumaError, match="--prompt 'x': its character 5 is none"):
        prompt_request("caf\u00e9\udce9", "--prompt 'x'")


PROFILES = Profiles(
    ("country", "sex"),
    {"country": ("Chile", "Japan"), "sex": ("female", "male")},
    np.array([[0, 0], [1, 1]], np.int32),
    np.array([0, 1], np.int32),
)


@dataclasses.dataclass
class TableOf:
    embedder: object


def test_a_person_has_the_fields_in_order_and_values_as_the_data_write_them():
    who = parse_persona("sex: MALE; country: japan", PROFILES, None)
    assert who.values == {"country": "Japan", "sex": "male"}
    assert (who.text, who.notes) == ("A person from Japan; sex: male.", ())
    assert known_fields(PROFILES) == "  country: Chile, Japan\n  sex: female, male"


def test_a_value_that_nobody_has_is_noted_or_refused_where_it_would_mean_nothing():
    who = parse_persona("country: Peru", PROFILES, None)
    assert who.text == "A person from Peru."
    assert "nobody in the data has country 'Peru'" in who.notes[0]
    assert "Chile, Japan" in who.notes[0]
    categorical = TableOf(CategoricalEmbedder(PROFILES.fields, PROFILES.vocab))
    with pytest.raises(CumaError, match=r"of country they are Japan, Chile$"):
        parse_persona("country: Japn", PROFILES, categorical)
    with pytest.raises(CumaError, match=r"^line 1: unknown profile field 'sexx'; known here: sex, country$"):
        persona_of({"country": "Japn", "sexx": "male"}, "line 1", PROFILES, categorical)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("country: \udcff", "its character 10 is none"),
        ("country: x;" + " " * 200_000, "has 200,011 characters; it may have 10,000"),
        ("country", r'write it as "country=\.\.\., sex=\.\.\."$'),
    ],
)
def test_what_is_no_profile_is_one_message_at_once(text, message):
    with pytest.raises(CumaError, match=message):
        parse_persona(text, PROFILES, None)
    parse_persona("country=Chile, sex=male", PROFILES, None)  # as the hint says
