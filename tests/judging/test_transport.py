"""Addresses and proxies that cannot be used are found first; what servers send costs little, whatever it is."""

import email.utils
import gzip
import sys
import time
import tracemalloc
import zlib

import pytest
from scripted_judge import judge_at, reply_pairs, says, serving

from cuma_jax.judging.transport import retry_after
from cuma_jax.runtime.errors import CumaError

pytestmark = pytest.mark.usefixtures("judge_key")


def packed(content, how):
    return 200, content, {"Content-Encoding": how}


BOMB = gzip.compress(bytes(64 << 20))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (packed(gzip.compress(BOMB), "gzip, gzip"), "packed in another way than gzip"),
        (packed(BOMB, "br"), "packed in another way than gzip"),
        (packed(BOMB, "gzip"), "an answer of more than 4 MB"),
        (packed(gzip.compress(BOMB), "gzip"), "not JSON"),
        (packed(b"no gzip", "gzip"), "no gzip, though it says so"),
        (packed(BOMB[:200], "gzip"), "not JSON"),
        ((200, bytes(5 << 20)), "an answer of more than 4 MB"),
        ((503, BOMB, {"Content-Encoding": "gzip"}), "answered 503"),
        ((200, b"[" * 100_000), "nested too deep"),
    ],
)
def test_a_body_is_read_up_to_a_limit_of_what_it_unpacks_to(tmp_path, answer, reason):
    with serving(lambda n, r: answer) as (url, _):
        judge = judge_at(url, tmp_path, retries=0, concurrency=1)
        tracemalloc.start()
        (judged,) = judge.compare(reply_pairs(1))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert judged.verdicts == (None, None)
    assert reason in judged.reason
    assert most < 40 << 20


@pytest.mark.parametrize(("how", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)])
def test_an_honestly_packed_answer_is_read(tmp_path, how, pack):
    with serving(lambda n, r: packed(pack(says("tie").encode()), how)) as (url, _):
        assert judge_at(url, tmp_path).compare(reply_pairs(1))[0].score == 0.5


def test_waits_that_servers_ask_for():
    at = email.utils.formatdate(time.time() + 90, usegmt=True)
    assert 80 < retry_after(at) <= 90
    assert retry_after(email.utils.formatdate(time.time() - 90, usegmt=True)) == 0
    assert [retry_after(text) for text in ("7", "0.5", "-3", "", "soon")] == [7.0, 0.5, 0.0, 0.0, 0.0]
    assert [retry_after(text) for text in ("nan", "inf", "-inf", "1e300")] == [0.0, float("inf"), 0.0, 1e300]
    for year in ("1000000000", "99999", "0", "-5", "9" * 5000):
        assert retry_after(f"Fri, 01 Jan {year} 00:00:00 GMT") >= 0


@pytest.mark.parametrize("wait", ["Fri, 01 Jan 1000000000 00:00:00 GMT", "nan", "-1", "inf", "1e300"])
def test_no_wait_ends_in_anything_but_a_reason(tmp_path, wait):
    with serving(lambda n, r: (429, "quota", {"Retry-After": wait})) as (url, _):
        (judged,) = judge_at(url, tmp_path, retries=1).compare(reply_pairs(1))
    assert "429: 'quota'" in judged.reason
    assert len(judged.reason) < 100


@pytest.mark.parametrize(
    ("name", "proxy", "message"),
    [
        ("HTTPS_PROXY", "ftp://me:secret@proxy:21", "does not begin with http://"),
        ("https_proxy", "http://me:secret@proxy:99999", "port that is not a number from 1 to 65535"),
        ("ALL_PROXY", "http://me:secret@pro xy", "spaces or odd characters"),
        ("HTTP_PROXY", "http://[secret", "no host that can be read"),
        ("ALL_PROXY", "socks5://me:secret@proxy:1080", r"pip install 'httpx\[socks\]'"),
        ("SSL_CERT_FILE", "/nowhere/secret.pem", "proxies and certificates"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_message_before_anything_is_asked(
    tmp_path, monkeypatch, name, proxy, message
):
    if "socks" in proxy:
        monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(name, proxy)
    with pytest.raises(CumaError, match=message) as caught:
        judge_at("https://api.example.com/v1", tmp_path)
    assert name.upper() in str(caught.value)
    assert "secret" not in str(caught.value)
    judge_at("http://127.0.0.1:1/v1", tmp_path)  # this machine needs no proxy
    monkeypatch.setenv(name, "http://proxy.example.com:3128" if name.upper()[-6:] == "_PROXY" else "")  # as it says
    judge_at("https://api.example.com/v1", tmp_path)
