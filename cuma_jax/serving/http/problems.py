"""What goes wrong, as problem details (RFC 9457): one media type, one message that says what to do."""

import http
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from cuma_jax.runtime.errors import CumaError

MEDIA_TYPE = "application/problem+json"
_OPENAI = ("/v1/chat/", "/v1/models")
_NAMED = 3
_LONGEST = 2000
"""Characters of a message: what a client sent may be part of it."""
_log = logging.getLogger("cuma_jax.serve")


class Problem(Exception):  # noqa: N818 - the name RFC 9457 has for it
    """A request that is not answered.

    Args:
        status: of HTTP.
        detail: what is wrong and what to do.
        headers: beside the usual ones.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail[:_LONGEST], dict(headers or {})


def busy(seconds: int) -> Problem:
    """The queue is full; `seconds` until it is worth asking again."""
    detail = f"the server has as many requests waiting as it takes; ask again in {seconds} s"
    return Problem(429, detail, {"Retry-After": str(seconds)})


def stopping() -> Problem:
    """The server is going down."""
    return Problem(503, "the server is stopping; ask again when it is back", {"Retry-After": "15"})


def problem_body(problem: Problem) -> dict[str, Any]:
    """The members of RFC 9457."""
    title = http.HTTPStatus(problem.status).phrase
    return {"type": "about:blank", "title": title, "status": problem.status, "detail": problem.detail}


def openai_error(problem: Problem) -> dict[str, Any]:
    """A problem as OpenAI's clients read it."""
    return {
        "error": {"message": problem.detail, "type": http.HTTPStatus(problem.status).phrase, "code": problem.status}
    }


def problem_response(problem: Problem, path: str = "") -> JSONResponse:
    """A problem as a response; at the addresses of OpenAI's API its clients find the message, too."""
    body = problem_body(problem) | (openai_error(problem) if path.startswith(_OPENAI) else {})
    return JSONResponse(body, problem.status, problem.headers, MEDIA_TYPE)


def as_problem(error: BaseException) -> Problem:
    """Any exception as a problem; what is nobody's mistake but ours is logged, and not told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error.__cause__, Problem):  # a limit that was met while the body was read
        return error.__cause__
    if isinstance(error, CumaError):
        return Problem(422, str(error))
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        return Problem(error.status_code, _said(error), error.headers)
    _log.error("a request failed", exc_info=error)
    return Problem(500, "the server made a mistake; its log has the details")


def answer_problems(app: FastAPI) -> None:
    """Every exception of `app` becomes a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        return problem_response(as_problem(error), request.url.path)

    for kind in (Problem, CumaError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _said(error: HTTPException) -> str:
    told = {
        404: "there is nothing at this address; /openapi.json lists what there is",
        405: "this address does not take this method; /openapi.json lists what there is",
        413: "the body is larger than this server takes; ask for less at once",
    }
    return told.get(error.status_code, str(error.detail))


def _invalid(error: RequestValidationError) -> Problem:
    """What the body should have been, without what it was."""
    found = error.errors()
    if any(one["type"] == "json_invalid" for one in found):
        reason = next(one.get("ctx", {}).get("error", "") for one in found if one["type"] == "json_invalid")
        return Problem(400, f"the body is not JSON: {reason}")
    parts = [f"{_place(one['loc'])}: {one['msg'].removeprefix('Value error, ')}" for one in found[:_NAMED]]
    more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return Problem(422, "; ".join(parts) + more)


def _place(path: tuple[Any, ...]) -> str:
    """`groups[0].where` of ("body", "groups", 0, "where", "dict[...]"): tags of a union's kinds are left out."""
    text = ""
    for part in path[1:] if path[:1] in (("body",), ("query",)) else path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif str(part).replace("_", "").isalnum() and str(part)[:1].islower():
            text += f".{part}" if text else str(part)
    return text or "the body"
