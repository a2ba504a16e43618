"""The key is in no file and no message, wherever it was typed and however a server repeats it."""

import base64
import html
import json
from urllib.parse import quote

import pytest
from scripted_judge import KEY, config, judge_at, reply_pairs, serving

from cuma_jax.config import Config
from cuma_jax.config.checks import check_judge
from cuma_jax.judging.key import HIDDEN, Key
from cuma_jax.runtime.errors import CumaError

pytestmark = pytest.mark.usefixtures("judge_key")


def no_piece(text):
    small = "".join(char for char in text.casefold() if char.isalnum())
    plain = "".join(char for char in KEY if char.isalnum())
    return not any(plain[i : i + 6] in small or plain[::-1][i : i + 6] in small for i in range(len(plain) - 5))


@pytest.mark.parametrize(
    "name", ["", "OPENAI_API_KEY", "GPT4O_KEY", "KEY_2", "my_judge_key", "OpenAIKey", "_X", "A" * 20]
)
def test_a_name_of_a_variable_is_taken(name):
    check_judge(config("", key_env=name))


@pytest.mark.parametrize(
    "key",
    [KEY, "sk-proj-abc", "gsk_4eC39HqLyjWDarjtT1zdp7dc", "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",
     "AIzaSyD4eC39HqLyjWDarjtT1zdp7dc0000000", "0123456789abcdef0123456789abcdef", "a3f09b7c21de4480", "hunter22",
     "AKIAIOSFODNN7EXAMPLE", "Bearer abc", "OPENAI_API_KEY=sk", "$OPENAI_API_KEY", "OPENAI_API_KEY\n", "KEY\0"],
)  # fmt: skip
def test_what_may_be_a_key_is_no_name_and_is_not_shown(key):
    with pytest.raises(CumaError, match=r"judge\.key_env must be the name of an environment variable") as caught:
        Config(judge=config("", key_env=key))
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["", "api.example.com/v1", "ftp://example.com", "http://", "http://[::1", "http://a..b/v1",
                                 "http://a b/v1", " http://a/v1", "http://a/v1\n", "http://a:99999/v1", "http://a:0/v1",
                                 f"http://a:{KEY}/v1", "http:/a/v1", f"{KEY}", "http://a\\v1", "http://☃.net",
                                 "http://a/" + "v" * 3000, f"https://user:{KEY}@api.example.com/v1",
                                 f"https://api.example.com/v1?key={KEY}", f"https://api.example.com/v1;key={KEY}",
                                 f"https://api.example.com/v1%3Fkey={KEY}", f"https://api.example.com/v1#{KEY}",
                                 f"https://{KEY}@api.example.com/v1", f"https://api.example.com/{KEY}/v1",
                                 f"https://{KEY.upper()}.example.com/v1"])  # fmt: skip
def test_what_is_no_address_or_holds_a_secret_is_refused_and_the_secret_unseen(tmp_path, url):
    with pytest.raises(CumaError, match=r"judge\.url") as caught:
        judge_at(url, tmp_path)
    assert KEY.casefold() not in str(caught.value).casefold()


def test_a_key_as_the_models_name_is_refused(tmp_path):
    with pytest.raises(CumaError, match=r"judge\.model holds the key in TEST_JUDGE_KEY") as caught:
        judge_at("http://127.0.0.1:1/v1", tmp_path, model=KEY)
    assert KEY not in str(caught.value)


DISGUISES = {
    "as it is": KEY,
    "reversed": KEY[::-1],
    "upper-case": KEY.upper(),
    "spaced": " ".join(KEY),
    "dotted": ".".join(KEY),
    "split": f"first half {KEY[:12]}, second half {KEY[12:]}",
    "in lines": "\n".join(KEY[i : i + 3] for i in range(0, len(KEY), 3)),
    "url-encoded": "".join(f"%{ord(char):02x}" for char in KEY),
    "twice url-encoded": quote("".join(f"%{ord(char):02x}" for char in KEY)),
    "html": "".join(f"&#{ord(char)};" for char in KEY),
    "tags": "<b>".join(KEY),
    "json": "".join(f"\\u{ord(char):04x}" for char in KEY),
    "json now and then": "".join(f"\\u{ord(c):04X}" if n % 3 else c for n, c in enumerate(KEY)),
    "bytes": "".join(f"\\x{ord(char):02x}" for char in KEY),
    "wide": "".join(chr(ord(char) + 0xFEE0) for char in KEY),
    "base64": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
    "html of html": html.escape("".join(f"&#{ord(char)};" for char in KEY)),
}


@pytest.mark.parametrize("how", DISGUISES)
def test_a_disguised_key_is_not_shown(how):
    key = Key("TEST_JUDGE_KEY")
    for text in (DISGUISES[how], f"Incorrect API key provided: {DISGUISES[how]}. Try another."):
        shown = key.line(text)
        assert shown == HIDDEN or how == "as it is"
        assert no_piece(shown)
    assert key.line("This model's maximum context length is 4096 tokens.").startswith("This model's maximum")


def test_a_word_that_is_no_secret_hides_nothing(monkeypatch, tmp_path):
    for word in ("x", "llama", "local-llama-server"):
        monkeypatch.setenv("TEST_JUDGE_KEY", word)
        judge_at("http://localhost:1/llama-server/v1", tmp_path, model="llama-4-maverick-x")
    monkeypatch.setenv("TEST_JUDGE_KEY", "ab-cd-ef-gh")
    assert Key("TEST_JUDGE_KEY").line("it is H.G.F.E.D.C.B.A") == HIDDEN
    assert Key("TEST_JUDGE_KEY").line("it is abcdef") == "it is abcdef"
    monkeypatch.setenv("TEST_JUDGE_KEY", "ollama")
    assert Key("TEST_JUDGE_KEY").line("try pulling it with Ollama") == "try pulling it with Ollama"
    assert Key("").line("x" * 300 + "\nend", tail=True) == "... " + "x" * 196 + " end"


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500])
def test_a_server_that_repeats_the_key_in_disguise(tmp_path, status, capfd):
    def script(number, request):
        echo = list(DISGUISES.values())[number % len(DISGUISES)]
        if status == 200:
            typed = [{"type": echo}, {"type": "text", "text": "" if number % 2 else f"{echo}\nVerdict: A"}]
            return json.dumps({"choices": [{"finish_reason": echo, "message": {"content": typed}}]})
        return status, json.dumps({"error": {"message": f"wrong: {echo}", "param": echo, "code": echo}})

    reasons = []
    with serving(script) as (url, _):
        for _ in DISGUISES:
            try:
                reasons += judge_at(url, tmp_path, retries=0, concurrency=1).compare(reply_pairs(4))
            except CumaError as error:
                reasons.append(error)
    reasons += [path.read_text() for path in tmp_path.rglob("*.json")]
    assert all(no_piece(str(reason)) for reason in reasons)
    assert no_piece(capfd.readouterr().err)
    assert any("key in TEST_JUDGE_KEY" in str(reason) for reason in reasons) or status not in (401, 403)


def test_a_missing_key_is_one_message_that_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("TEST_JUDGE_KEY")
    with pytest.raises(CumaError, match=r"environment variable TEST_JUDGE_KEY"):
        judge_at("http://127.0.0.1:1/v1", tmp_path)
    monkeypatch.setenv("TEST_JUDGE_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(CumaError, match=r"TEST_JUDGE_KEY .* spaces or odd") as caught:
        judge_at("http://127.0.0.1:1/v1", tmp_path)
    assert KEY not in str(caught.value)
    judge_at("http://127.0.0.1:1/v1", tmp_path, key_env="")


def test_the_key_is_sent_and_never_kept(tmp_path, caplog, capfd):
    """Servers that repeat the key: in an answer, in an error, in HTML, cut in the middle by our shortening."""
    caplog.set_level(0)
    echoes = [
        json.dumps({"choices": [{"message": {"content": f"Your key is {KEY}.\nVerdict: A"}}]}),
        json.dumps({"choices": [{"message": {"content": "x" * (500 - len(KEY)) + KEY + "\n" + "y" * 195}}]}),
        (500, "z" * 190 + KEY),
        f"<html>{KEY}",
        json.dumps({"choices": [KEY]}),
    ]
    reasons = []
    for i, echo in enumerate(echoes):
        with serving(lambda n, r, echo=echo: echo) as (url, server):
            judge = judge_at(url, tmp_path, retries=0)
            judged = judge.compare(reply_pairs(2), progress="judging")
            assert set(server.keys) == {f"Bearer {KEY}"}, i
            reasons += [str(judge.about()), repr(judge), *map(repr, judged)]
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 4
    assert "[key]" in written[0]
    captured = capfd.readouterr()
    for text in (*written, *reasons, caplog.text, captured.out, captured.err):
        assert KEY not in text
        assert KEY[:12] not in text
        assert KEY[-12:] not in text
