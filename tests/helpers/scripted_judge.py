"""A real HTTP server that answers as a judge does, or misbehaves as a script says; it also measures its clients."""

import contextlib
import http.server
import json
import re
import threading
import time

from cuma_jax.config.preferences import JudgeConfig
from cuma_jax.judging import Judge, ReplyPair

KEY = "sk-not-to-be-seen-7f3a91"
TALK = [{"role": "user", "content": "What is right?"}]
_MARKER = re.compile(r"\[([0-9a-f]{16}) ([^\]\n]*)\]\n(.*?)\n\[\1 end of \2\]", re.DOTALL)


def config(url, **changes):
    """A judge there; its key is in the variable TEST_JUDGE_KEY."""
    known = {"url": url, "model": "scripted", "key_env": "TEST_JUDGE_KEY", "timeout": 5.0, "retries": 2}
    return JudgeConfig(**(known | changes))


def judge_at(url, folder, **changes):
    """That judge, impatient."""
    return Judge(config(url, **changes), folder, backoff=0.01)


def reply_pairs(count):
    """As many comparisons, of `one N` and `two N`."""
    return [ReplyPair("A person.", TALK, f"one {n}", f"two {n}") for n in range(count)]


def shown(request):
    """The texts between the markers of a request: {"reply A": ..., "the person who is asking": ...}."""
    return {name: text for _, name, text in _MARKER.findall(request["messages"][1]["content"])}


def says(verdict, tokens=3):
    """The body of a good answer that ends in `verdict`."""
    message = {"role": "assistant", "content": f"I thought about it.\nVerdict: {verdict}"}
    return json.dumps({"choices": [{"message": message}], "usage": {"prompt_tokens": 10, "completion_tokens": tokens}})


class ScriptedJudge:
    """What the server saw: `requests` (parsed bodies), `times`, `keys` (Authorization headers), `most` at once."""

    def __init__(self, script):
        self.script, self.requests, self.times, self.keys = script, [], [], []
        self.most = self._now = 0
        self._lock = threading.Lock()

    def answer(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self._lock:
            number = len(self.requests)
            self.requests.append(json.loads(body))
            self.times.append(time.monotonic())
            self.keys.append(handler.headers.get("Authorization"))
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            try:
                found = self.script(number, self.requests[number])
            finally:  # before the client can read the answer and send its next request
                with self._lock:
                    self._now -= 1
            status, text, given = (*found, {})[:3] if isinstance(found, tuple) else (200, found, {})
            headers = dict(given)
            if status == "hang":
                time.sleep(text)
                return
            if status == "drip":  # a byte now and then, for ever
                handler.send_response(200)
                handler.end_headers()
                for _ in range(int(text / 0.05)):
                    handler.wfile.write(b" ")
                    handler.wfile.flush()
                    time.sleep(0.05)
                return
            content = text if isinstance(text, bytes) else text.encode()
            handler.send_response(status)
            # "cut": fewer bytes than promised.
            handler.send_header("Content-Length", str(headers.pop("cut", len(content))))
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client gave up, as it should


@contextlib.contextmanager
def serving(script):
    """Runs a server for the time of the block; yields (base URL, ScriptedJudge).

    `script(number, request)` returns the body of a 200, or (status, body) or (status, body, headers).
    """
    judge = ScriptedJudge(script)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            if not self.path.endswith("/v1/chat/completions"):
                self.send_error(404, "no such path")
                return
            judge.answer(self)

        def log_message(self, *args):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", judge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
