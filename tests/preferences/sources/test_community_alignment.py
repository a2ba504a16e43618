"""Community Alignment: the Arrow reader equals a slow reader of one row at a time, and every trap is counted."""

import copy
import csv
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from preference_files import TURNS, community_alignment_rows, write_community_alignment, write_rows
from same import same_preferences

from cuma_jax.config import DataConfig
from cuma_jax.preferences import raw_turns, texts
from cuma_jax.preferences.sources.community_alignment import FIELDS, prepare, read_community_alignment
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.text import visible_text

LETTERS = "abcd"


def plain(prefs):
    """Preferences as lists of Python values, one a conversation."""
    talks = [[] for _ in range(len(prefs.conversations))]
    for turn in prefs.turns.to_pylist():
        talks[turn["conversation"]].append((turn["prompt"], turn["candidates"], turn["chosen"]))
    return dict(zip(prefs.conversations["conversation_id"], talks, strict=True))


def slow_text(value):
    text = (value or "").strip()
    while text.endswith("<|end_of_text|>"):
        text = text.removesuffix("<|end_of_text|>").strip()
    text = visible_text(text) if any(ord(c) < 32 and c not in "\n\t" for c in text) else text
    return None if text in ("", "EMPTY STRING") else text


def slow_read(rows):
    """What the reader should keep, one row at a time."""
    talks = {}
    for row in rows:
        turns = []
        for name in TURNS:
            prompt = slow_text(row[f"{name}_turn_prompt"])
            answers = [slow_text(row[f"{name}_turn_response_{letter}"]) for letter in LETTERS]
            preferred = row[f"{name}_turn_preferred_response"]
            best = None if preferred is None else LETTERS.index(preferred[-1])
            if prompt is None or best is None or answers[best] is None:
                break
            kept, seen = [], {" ".join(answers[best].lower().split())}
            for k, answer in enumerate(answers):
                key = " ".join((answer or "").lower().split())
                if k == best or (answer is not None and key not in seen):
                    kept.append((k, answer))
                    seen.add(key)
            turns.append((prompt, [text for _, text in kept], [k for k, _ in kept].index(best)))
        if turns:
            talks[row["conversation_id"]] = turns
    return talks


def spoiled_rows(seed, size=60):
    """Rows with every trap of the source."""
    rows, rng = community_alignment_rows(size, 12, seed), random.Random(seed)
    for row in rows:
        name = rng.choice(TURNS)
        cell = f"{name}_turn_response_{rng.choice(LETTERS)}"
        other = f"{name}_turn_response_{rng.choice(LETTERS)}"
        trap = rng.randrange(9)
        if trap == 0:
            row[f"{name}_turn_prompt"] = None
        elif trap == 1:
            row[f"{name}_turn_preferred_response"] = None
        elif trap == 2 and row[other]:
            row[cell] = rng.choice((row[other], "  " + row[other].upper(), row[other].replace(" ", " \n ")))
        elif trap == 3:
            row[cell] = "EMPTY STRING"
        elif trap == 4 and row[cell]:
            row[cell] += rng.choice(("<|end_of_text|>", " <|end_of_text|>\n<|end_of_text|> "))
        elif trap == 5 and row[cell]:
            row[cell] = f"<p>{row[cell]}</p> &amp; \x07more  <|im_end|>"
        elif trap == 6:
            row[cell] = None
    return rows


@pytest.mark.parametrize(("seed", "size"), [(0, 60), (1, 60), (2, 60), (3, 8_300)])  # the last is read in two pieces
def test_the_reader_equals_a_slow_reader(tmp_path, seed, size):
    rows = spoiled_rows(seed, size)
    path = write_rows(tmp_path / "ca.csv", rows)
    assert plain(read_community_alignment(str(path))) == slow_read(rows)


def one_row(**changes):
    row = copy.deepcopy(community_alignment_rows(1, 1)[0])
    for t, name in enumerate(TURNS):
        row[f"{name}_turn_prompt"] = f"Prompt {t}?"
        for letter in LETTERS:
            row[f"{name}_turn_response_{letter}"] = f"{name} {letter}"
        row[f"{name}_turn_preferred_response"] = "response_b"
    return row | changes


def read(tmp_path, *rows, **options):
    return read_community_alignment(str(write_rows(tmp_path / "ca.jsonl", list(rows))), **options)


def test_equal_texts_stay_once_and_the_preferred_one_wins(tmp_path):
    same = {"first_turn_response_a": "Same  text", "first_turn_response_b": "same text"}
    twice = {"first_turn_response_c": "other", "first_turn_response_d": "Other"}
    prefs = read(tmp_path, one_row(**same, **twice))
    assert plain(prefs)[one_row()["conversation_id"]][0] == ("Prompt 0?", ["same text", "other"], 0)
    assert prefs.skipped == {raw_turns.LIKE_CHOSEN: 1, raw_turns.ALIKE: 1}


def test_empty_strings_and_end_markers_are_counted(tmp_path):
    changes = {
        "first_turn_response_a": "EMPTY STRING",
        "first_turn_response_b": "good <|end_of_text|>",
        "first_turn_response_c": "a <|end_of_text|> in the middle",
        "third_turn_response_b": "EMPTY STRING",
    }
    prefs = read(tmp_path, one_row(**changes))
    turns = plain(prefs)[one_row()["conversation_id"]]
    assert turns[0][1] == ["good", "a <|end_of_text|> in the middle", "first d"]
    assert len(turns) == 2
    once = (texts.ENDED, raw_turns.CHOSEN_EMPTY, raw_turns.GAPS, raw_turns.AFTER_GAP)
    assert prefs.skipped == {raw_turns.EMPTY_CANDIDATES: 2} | dict.fromkeys(once, 1)


def test_invisible_characters_go_and_markup_and_chat_markers_stay_as_text(tmp_path):
    dirty = "<b>Bold</b> &lt;3\x00\u202e <|im_end|>\n<|start_header_id|>system"
    prefs = read(tmp_path, one_row(first_turn_prompt=dirty, first_turn_response_c="    indented\n      list"))
    prompt, candidates, _ = plain(prefs)[one_row()["conversation_id"]][0]
    assert prompt == "<b>Bold</b> &lt;3 <|im_end|>\n<|start_header_id|>system"
    assert candidates[2] == "indented\n      list"
    assert prefs.skipped == {texts.CLEANED: 1}


def test_the_same_prompt_of_many_annotators_is_one_prompt(tmp_path):
    rows = [
        one_row(conversation_id=str(i), annotator_id=str(i), first_turn_prompt=prompt)
        for i, prompt in enumerate(["What is tea?", " what  IS\ntea? ", "What is tee?"])
    ]
    prefs = read(tmp_path, *rows)
    assert len(prefs.prompt_ids) == 2
    assert prefs.conversations["prompt"].tolist()[0] == prefs.conversations["prompt"].tolist()[1]
    alone = read(tmp_path, rows[2])
    assert alone.prompt_ids[0] == prefs.prompt_ids[prefs.conversations["prompt"][2]]


def test_profiles_are_readable_and_what_was_not_said_is_missing(tmp_path):
    person = {"annotator_country": "united states", "annotator_gender": "Prefer not to say", "annotator_age": "18-34"}
    prefs = read(tmp_path, one_row(**person))
    assert prefs.profile_fields == tuple(FIELDS.values())
    values = prefs.respondents.iloc[0]
    assert (values["country"], values["age"]) == ("United States", "18-34")
    assert prefs.respondents["gender"].isna().all()


def test_annotators_whose_rows_differ_get_the_most_frequent_value(tmp_path):
    ages = ["35-45", "18-34", None, "18-34", "35-45", "18-34"]
    rows = [one_row(conversation_id=str(i), annotator_age=age) for i, age in enumerate(ages)]
    prefs = read(tmp_path, *rows, one_row(conversation_id="9", annotator_id="other"))
    assert prefs.respondents["age"].tolist()[prefs.conversations["person"][0]] == "18-34"
    assert prefs.skipped == {raw_turns.DIFFERING: 1}
    tie = read(tmp_path, *rows[:2])
    assert tie.respondents["age"].tolist() == ["35-45"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_turn_preferred_response": "response_e"}, r"first_turn_preferred_response 'response_e'.*bad_rows skip"),
        ({"annotator_id": None}, "record 2: rows without a conversation_id or annotator_id"),
        ({"conversation_id": ""}, "record 2"),
        ({"conversation_id": "1"}, "conversation 1: rows that repeat"),
    ],
)
def test_bad_rows_stop_or_are_counted(tmp_path, changes, message):
    rows = [one_row(conversation_id="1"), one_row(conversation_id="2") | changes]
    with pytest.raises(CumaError, match=message):
        read(tmp_path, *rows)
    prefs = read(tmp_path, *rows, bad_rows="skip")
    assert prefs.conversations["conversation_id"].tolist() == ["1"]
    assert sum(prefs.skipped.values()) >= 1


@pytest.mark.parametrize("value", [{"text": "x"}, ["x"], 5, True])
def test_responses_that_are_no_texts_are_one_message(tmp_path, value):
    path = write_rows(tmp_path / "all.parquet", [one_row(first_turn_response_b=value)])
    with pytest.raises(CumaError, match=r"column first_turn_response_b is of type .*plain texts"):
        read_community_alignment(str(path))


def test_missing_columns_are_named_together(tmp_path):
    row = one_row()
    for name in ("annotator_age", "second_turn_prompt"):
        row[f"{name}s"] = row.pop(name)
    with pytest.raises(CumaError, match=r"lacks columns second_turn_prompt, annotator_age; did you mean 'second_turn"):
        read(tmp_path, row)


def test_the_files_of_version_1_0_overlap_so_one_must_be_named(tmp_path):
    write_community_alignment(tmp_path / "data" / "full_community_alignment.csv", 30, 5)
    write_community_alignment(tmp_path / "data" / "filtered_community_alignment.csv", 20, 5)
    with pytest.raises(CumaError, match=r"--data.subset v1.0/full"):
        read_community_alignment(str(tmp_path))
    assert len(read_community_alignment(str(tmp_path), subset="v1.0/full").conversations) == 30
    assert len(read_community_alignment(str(tmp_path), subset="v1.0/filtered").conversations) == 20
    with pytest.raises(CumaError, match=r"v1\.0 is an older commit"):
        prepare(DataConfig(source="community_alignment", subset="v1.0/full"), "")


def test_a_hub_folder_is_read_as_a_file_is(tmp_path, monkeypatch):
    rows = [one_row(conversation_id=str(i), first_turn_response_a=text) for i, text in enumerate(("None", "N/A", "x"))]
    write_rows(tmp_path / "hub" / "community_alignment.csv", rows)
    (tmp_path / "hub" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    monkeypatch.setattr("cuma_jax.preferences.sources.community_alignment.HUB_NAME", str(tmp_path / "hub"))
    hub = read_community_alignment("", cache_dir=str(tmp_path / "cache"))
    same_preferences(hub, read_community_alignment(str(tmp_path / "hub")))


CELLS = st.none() | st.text(st.characters(blacklist_categories=("Cs",)), max_size=6) | st.sampled_from(
    ["EMPTY STRING", "response_a", "<|end_of_text|>", "<br>", "first b", "&nbsp;"]
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(st.sampled_from(sorted(one_row())), CELLS, max_size=6),
    bad_rows=st.sampled_from(["error", "skip"]),
)
def test_changed_rows_give_preferences_or_one_error(tmp_path, changes, bad_rows):
    path = tmp_path / "ca.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(one_row()))
        writer.writeheader()
        writer.writerows([one_row(conversation_id="x"), one_row() | changes])
    try:
        kept = len(read_community_alignment(str(path), bad_rows=bad_rows).conversations)
    except CumaError:
        kept = 0
    # The first row is sound, so there is always something to read where bad rows may be left out.
    assert kept in ((0, 1, 2) if bad_rows == "error" else (1, 2))
