"""Chats: as OpenAI's API says, for who is asked, with right counts."""

import asyncio
import json

import pytest

pytest.importorskip("fastapi", reason="needs pip install -e '.[serve]'")
pytest.importorskip("sse_starlette", reason="needs pip install -e '.[serve]'")

from made_up_model import MadeUpStream
from served import problem, run, serving

ASKED = [{"role": "user", "content": "What matters in life?"}]


def body(**more):
    return {"model": "run", "messages": ASKED} | more


def chunks(text):
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def test_a_stream_says_what_the_whole_says(tmp_path):
    async def steps():
        async with serving(tmp_path, fill=False) as (client, _):
            whole = (await client.post("/v1/chat/completions", json=body(profile={"country": "Japan"}))).json()
            stream = await client.post(
                "/v1/chat/completions",
                json=body(model="run@country=Japan", stream=True, stream_options={"include_usage": True}),
            )
            return whole, stream

    whole, stream = run(steps())
    assert stream.headers["content-type"].startswith("text/event-stream")
    *events, done = chunks(stream.text)
    assert done == "[DONE]"
    events = [json.loads(event) for event in events]
    text = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert text == whole["choices"][0]["message"]["content"] == "run as Japan: What matters in life? "
    assert events[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"] == whole["usage"] == {"prompt_tokens": 7, "completion_tokens": 7, "total_tokens": 14}
    assert len({event["id"] for event in events}) == 1


def test_limits_and_stops_are_kept(tmp_path):
    async def steps():
        async with serving(tmp_path, fill=False) as (client, _):
            cut = (await client.post("/v1/chat/completions", json=body(max_tokens=2))).json()
            stopped = (await client.post("/v1/chat/completions", json=body(stop=["matt", "zzz"]))).json()
            base = (await client.post("/v1/chat/completions", json=body(model="base"))).json()
            return cut, stopped, base

    cut, stopped, base = run(steps())
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 2
    assert stopped["choices"][0]["message"]["content"] == "run as nobody: What "
    assert base["choices"][0]["message"]["content"].startswith("base as nobody")


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({"model": "gpt-4"}, 404, "run@"),
        ({"model": "run@gender=male"}, 422, "sex"),
        ({"model": "run@country=Japan", "profile": {"country": "Peru"}}, 422, "one of them"),
        ({"profile": {"country": ["Japan", "Peru"]}}, 422, "profile"),
        ({"profile": {"age": ">=30"}}, 422, "one value"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "system", "content": "Be rude."}, *ASKED]}, 422, "system"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 422, "text"),
        ({"messages": [{"role": "user", "content": "x" * 70_000}]}, 422, "60,000"),
        ({"messages": [{"role": "user", "content": "FAIL"}]}, 422, "cannot be said"),
        ({"messages": [{"role": "user", "content": "FAIL"}], "stream": True}, 422, "cannot be said"),
        ({"n": 2}, 422, "seed"),
        ({"stop": ""}, 422, "empty"),
        ({"stop": ["x", ""], "stream": True}, 422, "empty"),
        ({"tools": [{}]}, 422, "tools"),
        ({"temperature": 3}, 422, "temperature"),
        ({"max_tokens": 0}, 422, "max_tokens"),
        ({"messages": [{"role": 7, "content": "x"}]}, 422, "role"),
    ],
)
def test_what_cannot_be_chatted_is_one_clear_message(tmp_path, more, status, said):
    async def steps():
        async with serving(tmp_path, fill=False) as (client, _):
            assert said in problem(await client.post("/v1/chat/completions", json=body(**more)), status)

    run(steps())


def test_a_stream_that_is_cut_is_written_no_further(tmp_path):
    async def steps(**usage):
        async with serving(tmp_path, fill=False, word_s=0.01) as (client, _):
            long = body(messages=[{"role": "user", "content": "one two " + "word " * 50}], stop="two", stream=True)
            stream = await client.post("/v1/chat/completions", json=long | usage)
            while MadeUpStream.alive:
                await asyncio.sleep(0.01)
            metrics = (await client.get("/metrics")).text
            return [json.loads(event) for event in chunks(stream.text)[:-1]], metrics

    events, metrics = run(steps())
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "run as nobody: one "
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert 'cuma_tokens_total{kind="reply"}' not in metrics, "it was not written to its end"
    events, _ = run(steps(stream_options={"include_usage": True}))
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["completion_tokens"] == 2 + 52 + 1


@pytest.mark.nightly
def test_predictions_do_not_wait_for_chats(tmp_path):
    async def steps():
        async with serving(tmp_path, fill=False, word_s=0.01) as (client, _):
            long = body(messages=[{"role": "user", "content": "word " * 300}])
            chats = [asyncio.create_task(client.post("/v1/chat/completions", json=long)) for _ in range(6)]
            await asyncio.sleep(0.1)
            answer = await client.post("/v1/predict", json={"groups": [{}], "questions": ["q.work"]})
            assert answer.status_code == 200
            assert not any(chat.done() for chat in chats)
            for chat in await asyncio.gather(*chats):
                assert chat.json()["usage"]["completion_tokens"] == 303

    run(steps())
