"""A server of its own process, with a made-up model: sockets, signals, clients that hang up, and OpenAI's client."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from conftest import ROOT
from processes import environment, free_port, wait_for

pytest.importorskip("fastapi", reason="needs pip install -e '.[serve]'")
pytest.importorskip("uvicorn", reason="needs pip install -e '.[serve]'")

from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.http.server import bind, check_host, read_key

SERVE = """
import sys
from cuma_jax.serving.http import server
server._HEAD_S = 2.0
from made_up_model import MadeUpModel
from cuma_jax.serving.http.limits import Limits
from cuma_jax.serving.http.server import serve
model = MadeUpModel(sys.argv[1], call_s=float(sys.argv[3]), word_s=float(sys.argv[4]))
serve(model, port=int(sys.argv[2]), limits=Limits(waiting=64, stop_s=3, send_s=3, body_s=3))
"""
NEW = {"text": "Should people work from home?", "options": ["Never", "Always"]}
BODY = {"groups": [{"where": {"country": ["Japan"]}}], "questions": [NEW]}


class Server:
    """A process that serves."""

    def __init__(self, folder, call_s=0.0, word_s=0.0):
        self.port, self.log = free_port(), folder / "log.txt"
        command = [sys.executable, "-c", SERVE, str(folder), str(self.port), str(call_s), str(word_s)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log, cwd=ROOT)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)
        wait_for(self.answers, self.process, said=self.log.read_text)

    def answers(self):
        try:
            return self.client.get("/healthz").json()["ready"]
        except httpx.HTTPError:
            return False

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def server(folder, **how):
    started = Server(folder, **how)
    try:
        yield started
    finally:
        started.client.close()
        started.process.kill()
        started.process.wait()


def raw(port, *texts, wait=10.0):
    """What a server says to bytes as they are, sent half a second apart."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        for text in texts:
            connection.sendall(text)
            time.sleep(0.5)
        found = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while part := connection.recv(65536):
                found += part
        return found


@pytest.mark.nightly  # it waits for slow clients, a minute in all
def test_bad_clients_do_no_harm(tmp_path):
    with server(tmp_path, word_s=0.005) as served:
        head = "POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        # A gigabyte, announced: refused before it is sent.
        assert b" 413 " in raw(served.port, f"{head}Content-Length: {1 << 30}\r\n\r\n".encode() + b" " * 100_000)
        # Endless chunks: refused when there are too many.
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        assert b" 413 " in raw(served.port, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 17)
        # A body that does not come.
        assert b" 408 " in raw(served.port, f"{head}Content-Length: 100\r\n\r\n{{".encode())
        # A head that does not come, of the first request and of a second.
        for first in (b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            began = time.monotonic()
            assert raw(served.port, first, b"GET /v1/run HTT").count(b"200 OK") == bool(first)
            assert 1 < time.monotonic() - began < 9
        assert b" 400 " in raw(served.port, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert b" 413 " in raw(served.port, f"{head}Content-Length: 2000000\r\n\r\n".encode())

        before = served.memory()
        long = {"model": "run", "stream": True, "messages": [{"role": "user", "content": "word " * 5000}]}
        # Clients that hang up in the middle of a stream.
        for _ in range(20):
            with served.client.stream("POST", "/v1/chat/completions", json=long) as stream:
                assert stream.status_code == 200
                next(stream.iter_lines())
        # Some that do not read what they asked for.
        body = json.dumps(long).encode()
        stuck = []
        for _ in range(3):
            connection = socket.create_connection(("127.0.0.1", served.port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            length = f"Content-Length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head.replace("predict", "chat/completions").encode() + length + body)
            stuck.append(connection)
        found = served.client.post("/v1/predict", json=BODY)
        assert found.status_code == 200
        for connection in stuck:
            connection.close()
        wait_for(lambda: "cuma_chats 0.0" in served.client.get("/metrics").text, served.process)
        assert served.memory() < before + (24 << 20)


@pytest.mark.slow
def test_two_hundred_clients_have_an_answer_each_or_are_told_to_wait(tmp_path):
    with server(tmp_path, call_s=0.05) as served:
        found = {}

        def ask(number):
            body = BODY | {"questions": [NEW | {"id": f"n{number}"}]}
            found[number] = httpx.post(f"http://127.0.0.1:{served.port}/v1/predict", json=body, timeout=60)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 200
        for number, response in found.items():
            assert response.status_code in (200, 429), response.text
            if response.status_code == 200:
                assert response.json()["answers"][0]["question"] == f"n{number}"
            else:
                assert int(response.headers["retry-after"]) >= 1
        assert sum(response.status_code == 200 for response in found.values()) >= 64


@pytest.mark.slow
def test_the_end_is_clean(tmp_path):
    with server(tmp_path, call_s=1.0, word_s=0.05) as served:
        found, pieces = [], []

        def ask():
            try:
                found.append(httpx.post(f"http://127.0.0.1:{served.port}/v1/predict", json=BODY, timeout=60))
            except httpx.HTTPError as error:
                found.append(error)

        def listen(words):
            body = {"model": "run", "stream": True, "messages": [{"role": "user", "content": "word " * words}]}
            with httpx.stream(
                "POST", f"http://127.0.0.1:{served.port}/v1/chat/completions", json=body, timeout=60
            ) as stream:
                pieces.append("".join(stream.iter_lines()))

        threads = [threading.Thread(target=ask) for _ in range(10)]
        threads += [threading.Thread(target=listen, args=(words,)) for words in (10, 1000)]
        for thread in threads:
            thread.start()
        time.sleep(1.5)
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert served.process.wait(20) == 0, served.log.read_text()
        assert time.monotonic() - began < 12
        # On a busy machine some are not there yet.
        there = [response for response in found if not isinstance(response, httpx.ConnectError)]
        assert there
        assert {response.status_code for response in there} == {200}
        assert sum("[DONE]" in text for text in pieces) == 1, "the short one came to its end"
        assert sum('"error"' in text and "stopping" in text for text in pieces) == 1, "the long one was told"
        assert "Traceback" not in served.log.read_text()

    # What was killed leaves the address free.
    with server(tmp_path) as served:
        served.process.kill()
        served.process.wait()
        bind("127.0.0.1", served.port).close()


@pytest.mark.slow
def test_openais_client_chats(tmp_path):
    openai = pytest.importorskip("openai", reason="needs pip install openai")
    with server(tmp_path) as served:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", max_retries=0)
        asked = [{"role": "user", "content": "What matters?"}]
        assert [model.id for model in client.models.list()] == ["run", "base"]
        whole = client.chat.completions.create(
            model="run", messages=asked, extra_body={"profile": {"country": "Japan"}}
        )
        assert whole.choices[0].message.content == "run as Japan: What matters? "
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens == 7 + 5
        stream = client.chat.completions.create(
            model="run@country=Japan", messages=asked, stream=True, stream_options={"include_usage": True}
        )
        events = list(stream)
        text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
        assert text == whole.choices[0].message.content
        assert events[-1].usage == whole.usage
        with pytest.raises(openai.UnprocessableEntityError, match="country"):
            client.chat.completions.create(model="run@contry=Japan", messages=asked)
        with pytest.raises(openai.NotFoundError, match="run@"):
            client.chat.completions.create(model="gpt-4", messages=asked)


def test_other_hosts_need_a_key(monkeypatch):
    with pytest.raises(CumaError, match="api_key_env"):
        check_host("0.0.0.0", "")
    check_host("127.0.0.1", "")
    check_host("0.0.0.0", "a-long-secret-key-of-tests")
    for key, said in (("", "not set"), ("short", "16 characters"), ("with spaces in its midst", "spaces")):
        monkeypatch.setenv("KEY_OF_TESTS", key)
        with pytest.raises(CumaError, match=said):
            read_key("KEY_OF_TESTS")
    with bind("127.0.0.1", 0) as taken, pytest.raises(CumaError, match="another port"):
        bind("127.0.0.1", taken.getsockname()[1])
