"""The judge against real servers that misbehave."""

import asyncio
import concurrent.futures
import dataclasses
import email.utils
import json
import socket
import threading
import time

import pytest
from scripted_judge import KEY, TALK, config, judge_at, reply_pairs, says, serving, shown

from cuma_jax.judging import FIRST, SECOND, TIE, Judge, Judged, ReplyPair
from cuma_jax.judging.transport import retry_after
from cuma_jax.runtime.errors import CumaError

pytestmark = pytest.mark.usefixtures("judge_key")


def prefers(word):
    """A judge without position bias: it prefers the reply that holds `word`."""
    return lambda number, request: says("A" if word in shown(request)["reply A"] else "B")


def test_both_orders_are_asked_and_a_winner_must_win_both(tmp_path):
    with serving(prefers("one")) as (url, server):
        assert [j.score for j in judge_at(url, tmp_path).compare(reply_pairs(3))] == [1.0] * 3
        assert len(server.requests) == 6
        assert {r["temperature"] for r in server.requests} == {0}
        replies = {(shown(r)["reply A"], shown(r)["reply B"]) for r in server.requests}
        assert {("one 0", "two 0"), ("two 0", "one 0")} <= replies
        losing = [ReplyPair("A person.", TALK, "two", "one")]
        assert judge_at(url, tmp_path).compare(losing)[0].score == 0.0


def test_scores_of_every_pair_of_verdicts():
    table = {
        (FIRST, FIRST): 1.0, (SECOND, SECOND): 0.0, (TIE, TIE): 0.5, (FIRST, SECOND): 0.5, (FIRST, TIE): 0.5,
        (TIE, SECOND): 0.5, (None, FIRST): None, (SECOND, None): None, (None, None): None,
    }  # fmt: skip
    assert {verdicts: Judged(verdicts).score for verdicts in table} == table
    # The second call shows them the other way round: two answers for the first shown are one for each reply.
    assert Judged((FIRST, SECOND)).positions == (FIRST, FIRST)
    assert Judged((SECOND, None)).positions == (SECOND, None)


def test_equal_replies_tie_without_a_call_and_equal_comparisons_share_theirs(tmp_path):
    same = ReplyPair("A person.", TALK, "same", "same")
    with serving(prefers("one")) as (url, server):
        judge = judge_at(url, tmp_path)
        assert judge.requests_needed([same, *reply_pairs(1) * 5]) == 2
        tie, *others = judge.compare([same, *reply_pairs(1) * 5])
        assert len(server.requests) == 2
    assert (tie, [j.score for j in others]) == (Judged((TIE, TIE), asked=False), [1.0] * 5)


def test_a_cached_verdict_needs_no_server(tmp_path):
    with serving(prefers("one")) as (url, _):
        first = judge_at(url, tmp_path).compare(reply_pairs(3))
    again = judge_at(url, tmp_path)
    assert again.requests_needed(reply_pairs(3)) == 0
    assert again.compare(reply_pairs(3)) == first
    assert again.about()["spent"]["requests"] == 0
    # Whatever is part of the request makes another one.
    other = [dataclasses.replace(c, profile="Somebody else.") for c in reply_pairs(3)]
    assert again.requests_needed(other) == 6
    assert judge_at(url, tmp_path, model="another").requests_needed(reply_pairs(3)) == 6
    assert judge_at(url, tmp_path, max_tokens=99).requests_needed(reply_pairs(3)) == 6
    damaged = sorted(tmp_path.rglob("*.json"))[0]
    damaged.write_text('{"verdict": "A", "ans')
    assert again.requests_needed(reply_pairs(3)) == 1


FINE = says("A")
BAD = {
    "html": ("<!doctype html><html><body>Welcome</body></html>", "not JSON: '<!doctype html>"),
    "half JSON": (FINE[: len(FINE) // 2], "not JSON"),
    "cut": ((200, FINE, {"cut": len(FINE) + 50}), "no connection"),
    "no choices": (json.dumps({"choices": []}), "without choices"),
    "not an object": ("[]", "without choices"),
    "no text": (json.dumps({"choices": [{"message": {"content": None}}]}), "without a verdict"),
    "outside the set": (says("C"), "without a verdict: 'I thought about it. Verdict: C'"),
    "429": ((429, json.dumps({"error": {"message": "slow down"}})), "429: 'slow down'"),
    "500": ((500, "oh no"), "500: 'oh no'"),
    "hang": (("hang", 0.4), "no answer within judge.timeout"),
    "drip": (("drip", 0.4), "no answer within judge.timeout"),
}


SLOW = ("hang", "drip")


def test_what_may_pass_is_tried_again(tmp_path):
    passing = [bad for what, (bad, _) in BAD.items() if what not in SLOW]
    script = [*passing, *[says("A")] * 2]
    with serving(lambda n, r: script[n]) as (url, server):
        (judged,) = judge_at(url, tmp_path, retries=len(passing), concurrency=1).compare(reply_pairs(1))
        assert judged.score == 0.5
        assert len(server.requests) == len(script)


@pytest.mark.parametrize("what", BAD)
def test_a_call_that_fails_for_good_is_no_score(tmp_path, what):
    bad, reason = BAD[what]
    with serving(lambda n, r: bad if "one" in shown(r)["reply A"] else says("B")) as (url, server):
        judge = judge_at(url, tmp_path, timeout=0.25 if what in SLOW else 5.0)
        (judged,) = judge.compare(reply_pairs(1))
        assert len(server.requests) == 4 or what in SLOW  # a busy machine may need a try more
    assert judged.score is None
    assert judged.verdicts == (None, FIRST)
    assert reason in judged.reason
    assert "(tried 3 times)" in judged.reason
    assert judge.requests_needed(reply_pairs(1)) == 1, "a failure is never cached"


def test_a_server_that_refuses_connections(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        judge = judge_at(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", tmp_path)
        (judged,) = judge.compare(reply_pairs(1))
        assert judged.verdicts == (None, None)
        assert "no connection" in judged.reason
        with pytest.raises(CumaError, match="gave no verdict on a trial question: no connection"):
            judge.check()


def test_after_an_answer_without_a_verdict_the_judge_is_reminded(tmp_path):
    with serving(lambda n, r: says("maybe A") if n == 0 else says("A")) as (url, server):
        judge_at(url, tmp_path, concurrency=1).compare(reply_pairs(1))
    first, second, _ = server.requests
    assert second["messages"][:2] == first["messages"]
    assert [m["role"] for m in second["messages"][2:]] == ["assistant", "user"]
    assert "maybe A" in second["messages"][2]["content"]


def test_retry_after_is_honoured_in_seconds_or_as_a_date(tmp_path):
    wait = 429, "wait", {"Retry-After": "0.3"}
    with serving(lambda n, r: says("A") if n else wait) as (url, server):
        judge_at(url, tmp_path, concurrency=1).compare(reply_pairs(1))
    assert server.times[1] - server.times[0] >= 0.3
    at = email.utils.formatdate(time.time() + 90, usegmt=True)
    assert 80 < retry_after(at) <= 90
    assert retry_after(email.utils.formatdate(time.time() - 90, usegmt=True)) == 0
    assert [retry_after(text) for text in ("7", "0.5", "-3", "", "soon")] == [7.0, 0.5, 0.0, 0.0, 0.0]


def test_a_server_that_asks_to_wait_for_an_hour_has_failed(tmp_path):
    with serving(lambda n, r: (429, "quota", {"Retry-After": "3600"})) as (url, server):
        (judged,) = judge_at(url, tmp_path).compare(reply_pairs(1))
        assert len(server.requests) == 2
    assert "asks to wait for 3600 s" in judged.reason


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "TEST_JUDGE_KEY right"), (403, "TEST_JUDGE_KEY use"), (404, "often ends in /v1"),
                         (400, "see judge.url"), (302, "302")]
)  # fmt: skip
def test_what_will_not_pass_ends_the_run_at_once(tmp_path, status, hint):
    error = json.dumps({"error": {"message": f"Incorrect key {KEY}. " + "x" * 5000}})
    with serving(lambda n, r: (status, error, {"Location": "http://127.0.0.1:1/"})) as (url, server):
        with pytest.raises(CumaError, match=hint) as caught:
            judge_at(url, tmp_path, concurrency=2).compare(reply_pairs(20))
        assert len(server.requests) <= 2
    words = f"answered {status}: 'Incorrect key [key]." if status not in (401, 403) else f"answered {status} (its words"
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


def test_one_request_that_is_refused_is_no_reason_to_stop(tmp_path):
    """A reply that is too long for the judge, or that its filter will not see: 400 for that one, after good ones."""

    def script(number, request):
        return (400, "too long") if "one 1" in str(request["messages"]) else says("tie")

    with serving(script) as (url, _):
        judge = judge_at(url, tmp_path)
        judge.check()
        judged = judge.compare(reply_pairs(3))
    assert [j.score for j in judged] == [0.5, None, 0.5]
    assert judged[1].reason == "the server answered 400: 'too long'"


def test_parameters_that_a_model_does_not_take_are_left_out(tmp_path):
    """As newer models of OpenAI say it; without a further try, for all requests under way."""

    def script(number, request):
        time.sleep(0.02)
        if "max_tokens" in request:
            error = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        elif "temperature" in request:
            error = "Unsupported value: 'temperature' does not support 0 with this model."
        else:
            return prefers("one")(number, request)
        return 400, json.dumps({"error": {"message": error, "code": "unsupported"}})

    with serving(script) as (url, server):
        judge = judge_at(url, tmp_path, retries=0, concurrency=3)
        assert [j.score for j in judge.compare(reply_pairs(4))] == [1.0] * 4
    assert server.requests[-1]["max_completion_tokens"] == 256
    assert judge.about()["temperature"] is None
    assert len(server.requests) <= 8 + 2 * 3
    assert judge_at(url, tmp_path).requests_needed(reply_pairs(4)) == 0


def together(count):
    """A script that answers when `count` requests are under way, so that the server's load decides nothing."""
    meeting = threading.Barrier(count)
    return lambda number, request: says("A" if meeting.wait(timeout=60) >= 0 else "")


def test_concurrency_and_pace_as_the_server_measures_them(tmp_path):
    with serving(together(3)) as (url, server):
        judge_at(url, tmp_path / "a", concurrency=3).compare(reply_pairs(6))
        assert server.most == 3
    with serving(lambda n, r: says("A")) as (url, server):
        judge_at(url, tmp_path / "b", requests_per_minute=600).compare(reply_pairs(5))
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert sum(gaps) > 0.6 * 9 * 0.1  # the first one may have come late, and the last one not
    assert sorted(gaps)[len(gaps) // 2] > 0.05


def test_the_budget_is_checked_before_and_kept_during_the_work(tmp_path):
    with serving(lambda n, r: says("A")) as (url, server):
        judge = judge_at(url, tmp_path, max_requests=5)
        with pytest.raises(CumaError, match=r"asked 6 times more, but judge.max_requests leaves 5"):
            judge.compare(reply_pairs(3))
        assert not server.requests
        judge.compare(reply_pairs(2))
        judge.compare(reply_pairs(2))
        assert len(server.requests) == 4
    with serving(lambda n, r: (500, "") if n < 2 else says("A")) as (url, server):
        with pytest.raises(CumaError, match=r"all that judge.max_requests allows.*cached"):
            judge_at(url, tmp_path, max_requests=4, concurrency=1).compare(reply_pairs(2))
        assert len(server.requests) == 4


def test_processes_of_one_run_share_the_limits(tmp_path):
    with serving(together(2)) as (url, server):
        limits = config(url, max_requests=21, concurrency=4)
        with pytest.raises(CumaError, match=r"asked 12 times more, but judge.max_requests leaves 10"):
            Judge(limits, tmp_path / "a", processes=2).compare(reply_pairs(6))
        Judge(limits, tmp_path / "a", processes=2).compare(reply_pairs(5))
        assert server.most == 2
        with pytest.raises(CumaError, match="less than one for each of the 30 processes"):
            Judge(limits, tmp_path / "a", processes=30)
    with serving(lambda n, r: says("A")) as (url, server):
        Judge(config(url, requests_per_minute=300), tmp_path / "b", processes=2).compare(reply_pairs(2))
    assert server.times[-1] - server.times[0] > 0.75 * 3 * 0.4  # one process alone: 3 * 0.2


def test_an_outage_stops_with_the_reason(tmp_path):
    with serving(lambda n, r: says("A") if n < 10 else (503, "maintenance")) as (url, server):
        with pytest.raises(CumaError, match=r"share of 0.1 that may \(judge.max_failed.*503: 'maintenance'.*cached"):
            judge_at(url, tmp_path, concurrency=2, retries=0).compare(reply_pairs(10), max_failed=0.1)
        assert len(server.requests) < 20
    # Far below the share, but nothing is answered any more.
    nothing = pytest.raises(CumaError, match=r"last 4 calls.*503: 'maintenance'")
    with serving(lambda n, r: (503, "maintenance")) as (url, server), nothing:
        judge_at(url, tmp_path / "b", concurrency=2, retries=0).compare(reply_pairs(100), max_failed=0.5)
    with serving(lambda n, r: (503, "maintenance")) as (url, _):
        judged = judge_at(url, tmp_path / "c", retries=0).compare(reply_pairs(3))
    assert [j.score for j in judged] == [None] * 3


def test_the_check_costs_one_request_and_says_what_is_wrong(tmp_path):
    with serving(lambda n, r: says("A")) as (url, server):
        judge_at(url, tmp_path).check()
        assert len(server.requests) == 1
        with pytest.raises(CumaError, match="404"):
            judge_at(url.removesuffix("/v1"), tmp_path).check()
    with serving(lambda n, r: "<html>") as (url, _), pytest.raises(CumaError, match="trial question: an answer that"):
        judge_at(url, tmp_path).check()


def test_several_processes_may_share_the_cache(tmp_path):
    """Two judges in two threads on one folder: both get the verdicts, and every file is whole."""
    with serving(prefers("one")) as (url, _), concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = [pool.submit(lambda: judge_at(url, tmp_path).compare(reply_pairs(20))) for _ in range(2)]
        assert [j.score for done in both for j in done.result()] == [1.0] * 40
    for path in tmp_path.rglob("*.json"):
        assert json.loads(path.read_text())["verdict"] in ("A", "B")
    assert len(list(tmp_path.rglob("*.json"))) == 40


def test_a_judge_works_inside_a_running_loop(tmp_path):
    async def notebook(url):
        return judge_at(url, tmp_path).compare(reply_pairs(1))

    with serving(prefers("one")) as (url, _):
        assert asyncio.run(notebook(url))[0].score == 1.0
