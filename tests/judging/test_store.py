"""The verdicts' store: damage is asked again, and what cannot be read or written is one message with its path."""

import errno
import json
import re

import pytest
from scripted_judge import judge_at, reply_pairs, says, serving

from cuma_jax.judging import judge as judge_module
from cuma_jax.judging.judge import AnswerStore
from cuma_jax.runtime.errors import CumaError

pytestmark = pytest.mark.usefixtures("judge_key")


@pytest.mark.parametrize(
    "damage",
    [b"", b'{"verdict": "A", "ans', b"\xff\xfe", b"[]", b"7", b'{"verdict": ["A"]}', b'{"verdict": "C"}', b"\0" * 50,
     b"[" * 100_000, b'{"verdict": "A", "x": "' + b"x" * (2 << 20) + b'"}'],
)  # fmt: skip
def test_a_damaged_verdict_is_asked_again_and_written_anew(tmp_path, damage):
    with serving(lambda n, r: says("tie")) as (url, server):
        judge_at(url, tmp_path).compare(reply_pairs(1))
        path = sorted(tmp_path.rglob("*.json"))[0]
        path.write_bytes(damage)
        again = judge_at(url, tmp_path)
        assert again.requests_needed(reply_pairs(1)) == 1
        assert again.compare(reply_pairs(1))[0].score == 0.5
        assert len(server.requests) == 3
    assert json.loads(path.read_text())["verdict"] == "tie"


def test_a_file_where_a_folder_belongs_and_the_reverse(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "judge").write_text("")
    store = AnswerStore(tmp_path / "b")
    store.put("kk0", {"verdict": "A"})
    (tmp_path / "b" / "kk" / "kk1.json").mkdir()
    assert store.get("kk0") == {"verdict": "A"}
    with pytest.raises(CumaError, match=re.escape(f"{tmp_path / 'b' / 'kk' / 'kk1.json'} cannot be read (Is a dir")):
        store.get("kk1")
    with serving(lambda n, r: says("tie")) as (url, server):
        for work in ("check", "compare"):
            with pytest.raises(CumaError, match=re.escape(str(tmp_path / "a" / "judge"))):
                getattr(judge_at(url, tmp_path / "a"), work)(*[reply_pairs(1)] * (work == "compare"))
        assert not server.requests, "nothing is paid for that cannot be kept"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_fills_keeps_what_it_has_and_the_same_command_goes_on(tmp_path, monkeypatch, code):
    write, written = judge_module.write_text, []

    def fills(path, text):
        if len(written) == 4:  # the trial, and three verdicts
            raise OSError(code, "No space left on device")
        written.append(path)
        write(path, text)

    with serving(lambda n, r: says("tie")) as (url, server):
        monkeypatch.setattr(judge_module, "write_text", fills)
        with pytest.raises(CumaError, match=r"cannot be kept in .*judge \(No space left.*make room") as caught:
            judge_at(url, tmp_path, concurrency=1).compare(reply_pairs(3))
        assert str(tmp_path / "judge") in str(caught.value)
        assert len(server.requests) == 4
        monkeypatch.setattr(judge_module, "write_text", write)
        again = judge_at(url, tmp_path, concurrency=1)
        assert again.requests_needed(reply_pairs(3)) == 3
        assert [judged.score for judged in again.compare(reply_pairs(3))] == [0.5] * 3
    assert not list((tmp_path / "judge").glob(".trial*"))


def test_verdicts_that_vanish_meanwhile_are_still_counted(tmp_path, monkeypatch):
    with serving(lambda n, r: says("tie")) as (url, _):
        judge = judge_at(url, tmp_path)
        monkeypatch.setattr(
            judge_module, "write_text", lambda path, text: path.parent.mkdir(parents=True, exist_ok=True)
        )
        assert judge.compare(reply_pairs(2))[1].score == 0.5
