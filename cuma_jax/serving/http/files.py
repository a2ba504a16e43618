"""Answers that are made once and sent often, a piece at a time; and the page's own files."""

import gzip
import hashlib
import json
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

PIECE = 1 << 16
"""Bytes sent at a time: a client that does not read holds no more of an answer than that."""
_WORTH = 1400
"""Bytes from which an answer is compressed."""


def json_bytes(value: Any) -> bytes:
    """JSON without NaN, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


class Kept:
    """The bytes of an answer, also compressed, with their tag."""

    def __init__(self, body: bytes, media_type: str = "application/json"):
        self.body, self.media_type = body, media_type
        self.packed = gzip.compress(body, 6) if len(body) > _WORTH else b""
        self.tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'


class KeptResponse(Response):
    """`Kept` as it goes to a client: compressed where that is understood, nothing where the client has it."""

    def __init__(self, kept: Kept, request_headers: Headers):
        headers = {"ETag": kept.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        packed = bool(kept.packed) and "gzip" in request_headers.get("accept-encoding", "")
        known = kept.tag in request_headers.get("if-none-match", "")
        if packed:
            headers["Content-Encoding"] = "gzip"
        self._whole = b"" if known else kept.packed if packed else kept.body
        if not known:
            headers["Content-Length"] = str(len(self._whole))
        super().__init__(None, 304 if known else 200, headers, kept.media_type)
        if known:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        view = memoryview(b"" if scope["method"] == "HEAD" else self._whole)
        for start in range(0, max(len(view), 1), PIECE):
            part = bytes(view[start : start + PIECE])
            await send({"type": "http.response.body", "body": part, "more_body": start + PIECE < len(view)})


class PageFiles(StaticFiles):
    """The page's folder. Browsers ask whether a file is still the same: another version may be installed meanwhile."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """As it is, with `Cache-Control`."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response
