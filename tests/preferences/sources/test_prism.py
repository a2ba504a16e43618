"""PRISM: the Arrow reader equals a slow reader of one message at a time; what cannot be right stops or is counted."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from preference_files import prism_rows, write_prism, write_rows
from same import same_preferences

from cuma_jax.preferences import raw_turns
from cuma_jax.preferences.sources import prism
from cuma_jax.preferences.sources.prism import FIELDS, read_prism
from cuma_jax.runtime.errors import CumaError


def plain(prefs):
    talks = [[] for _ in range(len(prefs.conversations))]
    for turn in prefs.turns.to_pylist():
        talks[turn["conversation"]].append((turn["prompt"], turn["candidates"], turn["scores"], turn["chosen"]))
    return dict(zip(prefs.conversations["conversation_id"], talks, strict=True))


def slow_read(talks):
    found = {}
    for row in talks:
        turns = {}
        for message in row["conversation_history"]:
            turns.setdefault(message["turn"], []).append(message)
        found[row["conversation_id"]] = [
            (
                user["content"],
                [m["content"] for m in models],
                [float(m["score"]) for m in models],
                [m["if_chosen"] for m in models].index(True),
            )
            for _, (user, *models) in sorted(turns.items())
        ]
    return found


def write(folder, survey, talks):
    write_rows(folder / "survey.jsonl", survey)
    write_rows(folder / "conversations.jsonl", talks)
    return str(folder)


def test_the_reader_equals_a_slow_reader(tmp_path):
    _, talks = prism_rows(80, 12, seed=3)
    prefs = read_prism(str(write_prism(tmp_path, 80, 12, seed=3)))
    assert plain(prefs) == slow_read(talks)
    assert prefs.skipped == {}
    persons = prefs.respondents["respondent_id"].to_numpy()[prefs.conversations["person"]]
    assert persons.tolist() == [row["user_id"] for row in talks]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".parquet"])
def test_every_format_gives_the_same_conversations(tmp_path, ending):
    first = read_prism(str(write_prism(tmp_path / "a", 30, 8)))
    second = read_prism(str(write_prism(tmp_path / "b", 30, 8, suffix=ending)))
    same_preferences(first, second)


def test_profiles_come_from_nested_columns_and_prefer_not_to_say_is_missing(tmp_path):
    survey, talks = prism_rows(6, 1)
    survey[0] |= {"age": "Prefer not to say", "gender": "Female"}
    survey[0]["religion"]["simplified"] = "Prefer not to say"
    prefs = read_prism(write(tmp_path, survey, talks))
    person = prefs.respondents.iloc[0]
    assert prefs.profile_fields == tuple(FIELDS.values())
    assert (person["country"], person["gender"]) == ("United States", "Female")
    assert prefs.respondents[["age", "religion"]].isna().all(axis=None)


def test_flags_of_the_source_are_kept(tmp_path):
    survey, talks = prism_rows(40, 6)
    prefs = read_prism(write(tmp_path, survey, talks))
    balanced = prefs.conversations["included_in_balanced_subset"].tolist()
    assert balanced == [row["included_in_balanced_subset"] for row in talks]
    american = {row["user_id"]: row["included_in_US_REP"] for row in survey}
    assert prefs.conversations["included_in_US_REP"].tolist() == [american[row["user_id"]] for row in talks]


def message(turn, role, content, score=None, chosen=None):
    return {"turn": turn, "role": role, "content": content, "model_provider": None, "model_name": None,
            "score": score, "if_chosen": chosen, "within_turn_id": None}  # fmt: skip


def history():
    return [
        message(0, "user", "Hello?"),
        message(0, "model", "One.", 80, True),
        message(0, "model", "Two.", 20, False),
        message(1, "user", "And then?"),
        message(1, "model", "Three.", 70, False),
        message(1, "model", "Four.", 71, True),
    ]


def read(tmp_path, *histories, bad_rows="error", **changes):
    survey, talks = prism_rows(len(histories) + 1, 1)
    for row, messages in zip(talks, [history(), *histories], strict=True):
        row["conversation_history"] = messages
    talks[-1] |= changes
    return read_prism(write(tmp_path, survey, talks), bad_rows=bad_rows)


def edited(**edits):
    """The history with messages replaced: `edited(m1={"score": 0})` changes message 1."""
    messages = history()
    for name, change in edits.items():
        messages[int(name[1:])] |= change
    return messages


BAD = [
    (edited(m1={"score": 0}), prism.BAD_SCORE),
    (edited(m1={"score": 101}), prism.BAD_SCORE),
    (edited(m2={"score": None}), prism.BAD_SCORE),
    (edited(m2={"if_chosen": True}), prism.TWO_CHOSEN),
    (edited(m0={"role": "model", "score": 5, "if_chosen": False}), prism.BAD_ROLES),
    (edited(m0={"role": "system"}), prism.BAD_ROLES),
    (edited(m1={"role": None}), prism.BAD_ROLES),
    (edited(m3={"turn": 0}), prism.BAD_ROLES),
    (edited(m4={"turn": 2}), prism.BAD_ROLES),
    (edited(m0={"turn": None}), prism.BAD_ROLES),
    ([history()[1], history()[0], *history()[2:]], prism.BAD_ROLES),
    ([*history()[3:], *history()[:3]], prism.BAD_ROLES),
    ([], prism.NO_ID),
    (None, prism.NO_ID),
]
OF_NOBODY = [({"user_id": "nobody"}, prism.NO_PERSON), ({"user_id": None}, prism.NO_ID),
             ({"conversation_id": "c0"}, prism.REPEATED)]  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "changes", "reason"),
    [*((messages, {}, reason) for messages, reason in BAD), *((history(), *case) for case in OF_NOBODY)],
)
def test_conversations_that_cannot_be_right_or_are_nobodys_stop_or_are_counted(tmp_path, messages, changes, reason):
    with pytest.raises(CumaError, match=r"conversation c[01]: .*bad_rows skip") as caught:
        read(tmp_path, messages, **changes)
    assert reason in str(caught.value)
    prefs = read(tmp_path, messages, bad_rows="skip", **changes)
    assert prefs.conversations["conversation_id"].tolist() == ["c0"]
    assert prefs.skipped == {reason: 1}


def test_two_responses_of_one_text_may_both_be_chosen(tmp_path):
    """The source marks what equals the chosen text, so that a response given twice is chosen twice."""
    prefs = read(tmp_path, edited(m4={"content": "four.", "if_chosen": True}))
    assert plain(prefs)["c1"][1] == ("And then?", ["four."], [70.0], 0)
    assert prefs.skipped == {raw_turns.LIKE_CHOSEN: 1}


@pytest.mark.parametrize(
    ("messages", "turns", "skipped"),
    [
        (edited(m1={"if_chosen": False}), 0, {raw_turns.NONE_CHOSEN: 1, raw_turns.NO_START: 1, raw_turns.AFTER_GAP: 1}),
        (edited(m5={"if_chosen": False}), 1, {raw_turns.NONE_CHOSEN: 1}),
        (edited(m5={"content": "EMPTY STRING"}), 1, {raw_turns.CHOSEN_EMPTY: 1, raw_turns.EMPTY_CANDIDATES: 1}),
        (edited(m4={"content": "EMPTY STRING"}), 2, {raw_turns.EMPTY_CANDIDATES: 1}),
        (edited(m3={"content": None}), 1, {}),
        (edited(m3={"turn": 2}, m4={"turn": 2}, m5={"turn": 2}), 1, {raw_turns.GAPS: 1, raw_turns.AFTER_GAP: 1}),
        (history()[:4], 1, {}),
    ],
)
def test_a_conversation_is_kept_up_to_what_is_missing(tmp_path, messages, turns, skipped):
    prefs = read(tmp_path, messages)
    assert len(plain(prefs).get("c1", [])) == turns
    assert prefs.skipped == skipped


def test_missing_files_and_columns_are_named(tmp_path):
    survey, talks = prism_rows(5, 2)
    with pytest.raises(CumaError, match="is no folder"):
        read_prism(str(tmp_path / "none"))
    write_rows(tmp_path / "survey.jsonl", survey)
    with pytest.raises(CumaError, match=r"holds no conversations\.jsonl"):
        read_prism(str(tmp_path))
    path = write(tmp_path, [{"user_id": "a", "ages": "x"}], talks)
    with pytest.raises(CumaError, match=r"lacks columns location, age, gender.*did you mean 'ages'\?"):
        read_prism(path)
    path = write(tmp_path, [row | {"location": "{'reside_country': 'x'}"} for row in survey], talks)
    with pytest.raises(CumaError, match="column location is of type string, not nested"):
        read_prism(path)
    path = write(tmp_path, [row | {"location": {"country": "x"}} for row in survey], talks)
    with pytest.raises(CumaError, match=r"lacks location\.reside_country"):
        read_prism(path)
    with pytest.raises(CumaError, match="survey without a user_id, or with that of another"):
        read_prism(write(tmp_path, [*survey, survey[0]], talks))


def test_a_hub_folder_is_read_as_local_files_are(tmp_path, monkeypatch):
    folder = write_prism(tmp_path / "hub", 20, 5)
    configs = "".join(f"- config_name: {n}\n  data_files: {n}.jsonl\n" for n in ("survey", "conversations"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    monkeypatch.setattr(prism, "HUB_NAME", str(folder))
    hub = read_prism("", cache_dir=str(tmp_path / "cache"))
    same_preferences(hub, read_prism(str(folder)))


VALUES = st.none() | st.integers(-1, 102) | st.booleans() | st.sampled_from(
    ["user", "model", "", "EMPTY STRING", "Four.", "<br>", {"a": 1}, [1], 1.5, 10**30]
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["turn", "role", "content", "score", "if_chosen"]), VALUES),
        max_size=4,
    ),
    order=st.permutations(range(6)) | st.just(list(range(6))),
    bad_rows=st.sampled_from(["error", "skip"]),
)
def test_changed_messages_give_preferences_or_one_error(tmp_path, edits, order, bad_rows):
    messages = copy.deepcopy(history())
    for n, key, value in edits:
        messages[n][key] = value
    messages = [messages[i] for i in order]
    try:
        kept, told = len(read(tmp_path, messages, bad_rows=bad_rows).conversations), ""
    except CumaError as error:
        kept, told = 0, str(error)
    assert "\n" not in told
    # The first conversation is sound, so there is always something to read where bad ones may be left out.
    assert kept in ((0, 1, 2) if bad_rows == "error" else (1, 2)), told
