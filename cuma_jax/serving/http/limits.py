"""What every request passes first: who may ask, how much, how slowly; and the headers of every answer."""

import asyncio
import dataclasses
import hmac
import time
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cuma_jax.serving.http.measures import Measures
from cuma_jax.serving.http.problems import Problem, busy, problem_response

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    # Charts are drawn into images before they are saved: data: and blob:.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_GONE = 499
"""Status of a request whose client was gone before it had an answer, in /metrics."""
_KEPT = ("/v1/", "/data/", "/metrics", "/openapi.json")
"""What a key keeps."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much the server takes on.

    Attributes:
        body: bytes of a request.
        body_s: seconds that a client may take to send its body.
        send_s: seconds that a client may take to read one piece (64 kB) of an answer.
        open: requests at a time; further ones are refused at once.
        waiting: requests that wait for the model; see `Worker`.
        deadline_s: seconds until a request for predictions is given up.
        chat_s: seconds until a chat is given up.
        stop_s: seconds that requests have to end in when the server is stopped.
    """

    body: int = 1 << 20
    body_s: float = 20.0
    send_s: float = 30.0
    open: int = 512
    waiting: int = 128
    deadline_s: float = 120.0
    chat_s: float = 300.0
    stop_s: float = 20.0


class Guard:
    """The outermost layer: pure ASGI, so that streams pass through it as they are.

    Args:
        key: that requests must carry, as `Authorization: Bearer KEY`, but for /healthz and the page's own files, which
            ask the reader for it; empty: none.
        local: whether only requests to this machine's own names are taken. A page of another site whose name was made
            to point here (DNS rebinding) has another name.
    """

    def __init__(self, app: ASGIApp, limits: Limits, measures: Measures, key: str = "", local: bool = True):
        self._app, self._limits, self._measures = app, limits, measures
        self._key, self._local, self._open = key.encode(), local, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, from its first line to the end of its answer."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), _GONE

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            try:
                await asyncio.wait_for(send(message), self._limits.send_s)
            except TimeoutError:
                raise ConnectionError("the client does not read its answer") from None

        self._open += 1
        try:
            self._check(scope)
            await self._app(scope, self._timed(receive), answer)
        except Problem as problem:
            await problem_response(problem, scope["path"])(scope, receive, answer)
        except ConnectionError:
            pass  # there is nobody left to tell
        except Exception:  # it is in the log
            if status == _GONE:
                await problem_response(Problem(500, "the server made a mistake"), scope["path"])(scope, receive, answer)
        finally:
            self._open -= 1
            route = scope.get("route")
            path = getattr(route, "path", "") or "other"
            self._measures.answered(path, scope["method"], status, time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._open > self._limits.open:
            raise busy(2)
        if self._local and _host(headers.get("host", "")) not in LOCAL_HOSTS:
            raise Problem(421, "this server answers requests to 127.0.0.1 and localhost only; see --host")
        if self._key and scope["path"].startswith(_KEPT) and not self._known(headers.get("authorization", "")):
            raise Problem(401, "this server wants its key: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
        if scope["method"] == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Problem(415, "the body must be JSON, with Content-Type: application/json")
            length = headers.get("content-length", "0")
            if length.isdecimal() and int(length) > self._limits.body:
                raise Problem(413, f"the body has {int(length):,} bytes; this server takes {self._limits.body:,}")

    def _known(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._key)

    def _timed(self, receive: Receive) -> Callable[[], Awaitable[Message]]:
        """`receive` that ends where the body takes too long or too many bytes."""
        until, total, whole = time.monotonic() + self._limits.body_s, 0, False

        async def timed() -> Message:
            nonlocal total, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except TimeoutError:
                raise Problem(408, f"the body did not arrive within {self._limits.body_s:.0f} s") from None
            total += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if total > self._limits.body:
                raise Problem(413, f"the body is larger than the {self._limits.body:,} bytes that this server takes")
            return message

        return timed


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()
