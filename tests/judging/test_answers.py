"""What bodies of all kinds of endpoints say, and that none of them costs much or ends in a traceback."""

import json
import time

import pytest

from cuma_jax.judging.answers import Answer, read_answer, refused_parameters, server_reason


def body(content, why="stop", **message):
    choice = {"finish_reason": why, "message": {"role": "assistant", "content": content, **message}}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).encode()


def part(text, kind="text"):
    return {"type": kind, "text": text}


THOUGHT = {"type": "thinking", "thinking": [part("hm. Verdict: tie")]}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Verdict: A", "Verdict: A"),
        ([part("So.\nVerdict: A")], "So.\nVerdict: A"),
        ([THOUGHT, part("Verdict: A")], "Verdict: A"),
        ([part("hm", "reasoning"), part("Verdict: A", "output_text")], "Verdict: A"),
        ([part("I think so."), part("Verdict: A")], "I think so.\nVerdict: A"),
        (["Verdict: A"], "Verdict: A"),
        (part("Verdict: A"), "Verdict: A"),
        ([part(None), {"type": ["text"], "text": "x"}, 7, None, {}], ""),
        (7, ""),
    ],
)
def test_the_text_parts_are_the_answer_and_thoughts_are_not(content, text):
    assert read_answer(body(content), 256).text == text


CUT = "the answer was cut at judge.max_tokens (256) {} (finish_reason length; a model that thinks needs more)"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (body("Verdict: A"), ""),
        (body("no"), ""),
        (body(None, "length", reasoning_content="so many thoughts"), CUT.format("before it began")),
        (body([THOUGHT], "length"), CUT.format("before it began")),
        (body("Verdict: A", "length"), CUT.format("before its verdict")),  # in a thought that the template opened
        (body("", "content_filter"), "stopped by the endpoint's content filter (finish_reason content_filter)"),
        (body(None, refusal="I can't help with that."), "the judge refused"),
        (body([{"type": "refusal", "refusal": "No."}]), "the judge refused"),
        (body(None, reasoning="hm"), "an answer without text, only reasoning"),
        (body([THOUGHT]), "an answer without text, only thinking"),
        (body(None, "tool_calls"), "an answer without text (finish_reason tool_calls)"),
        (body(None, ["length"], refusal=["x"]), ""),
        (body([part("")]), ""),
    ],
)
def test_why_an_answer_is_no_verdict(content, fault):
    assert read_answer(content, 256).fault == fault


def test_a_refusal_is_shown_and_tokens_are_counted_within_reason():
    assert read_answer(body(None, refusal="No."), 256) == Answer("No.", "the judge refused", 10, 5)
    usage = {"prompt_tokens": 10**4000, "completion_tokens": -5}
    odd = read_answer(json.dumps({"choices": [{}], "usage": usage}).encode(), 256)
    assert odd == Answer("", "", 1 << 40, 0)


DEEP = 100_000


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[" * DEEP + b"]" * DEEP, "nested too deep"),
        (b'{"choices": [{"message": {"content": ' + b"[" * DEEP + b"]" * DEEP + b"}}]}", "nested too deep"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deep"),
        (b'{"usage": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
        (b"null", "without choices"),
        (b'{"choices": {}}', "without choices"),
        (b'{"choices": [[]]}', "without choices"),
    ],
)
def test_what_is_no_answer_says_so(content, what):
    began = time.monotonic()
    with pytest.raises(ValueError, match=what):
        read_answer(content, 256)
    assert server_reason(content) == content.decode("utf-8", "replace")
    assert refused_parameters(content) == frozenset()
    assert time.monotonic() - began < 5


def error(message, **fields):
    return {"error": {"message": message, **fields}}


SYSTEM = "messages[0].role"


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (error("temperature is deprecated for this model.", param="temperature"), "temperature"),
        (error("temperature is deprecated for this model."), "temperature"),
        (error("Model incompatible request argument supplied: temperature", param="temperature"), "temperature"),
        (error("Unsupported value: 'temperature' does not support 0 with this model."), "temperature"),
        (error("Only the default (1) value is supported.", param="temperature"), "temperature"),
        (error("`temperature` must be strictly positive"), "temperature"),
        (error("gpt-5 models don't support temperature=0. Only temperature=1 is supported"), "temperature"),
        (error("temperature is not a valid argument"), "temperature"),
        (error("temperature has to be a strictly positive float"), "temperature"),
        ({"message": "temperature: Extra inputs are not permitted"}, "temperature"),
        ({"detail": [{"loc": ["body", "temperature"], "msg": "Input should be greater than 0"}]}, "temperature"),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra"}]}, "max_tokens"),
        (error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."), "max_tokens"),
        (error("Unrecognized request argument supplied: max_tokens"), "max_tokens"),
        (error("System role not supported"), "system"),
        (error(f"Unsupported value: '{SYSTEM}' does not support 'system' with this model.", param=SYSTEM), "system"),
        (error("Developer instruction is not enabled for models/x"), "system"),
        (error("Conversation roles must alternate user/assistant/user/assistant/..."), "system"),
        ({"object": "error", "message": "Only user and assistant roles are supported!"}, "system"),
        (error("Only user, assistant and tool roles are supported, got system."), "system"),
        (error('messages: Unexpected role "system".'), "system"),
        ({"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Input should be 'user'"}]}, "system"),
        # About something else.
        (error("max_tokens is too large: 256. This model supports at most 128.", param="max_tokens"), ""),
        (error("The prompt 'is the temperature not supported' is too long", param="messages"), ""),
        (error("too many tokens at this temperature"), ""),
        (error("Unknown model 'system-3'"), ""),
        (error("no", param={"temperature": 0}), ""),
        (error(["temperature"]), ""),
        ([], ""),
    ],
)
def test_what_an_error_says_is_not_taken(values, refused):
    assert refused_parameters(json.dumps(values).encode()) == frozenset([refused] if refused else [])


def test_reasons_as_servers_word_them():
    fastapi = [{"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]
    assert server_reason(json.dumps({"detail": fastapi}).encode()) == "Extra inputs are not permitted (max_tokens)"
    assert server_reason(b'{"detail": "Not Found"}') == "Not Found"
    assert server_reason(b'{"error": "busy"}') == "busy"
    assert server_reason(b'{"message": "busy", "object": "error"}') == "busy"
    assert server_reason(b'{"error": {"message": 3}}') == '{"error": {"message": 3}}'
