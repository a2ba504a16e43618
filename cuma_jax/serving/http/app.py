"""The server's addresses. `make_app` puts them together; `server.py` runs them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from sse_starlette import EventSourceResponse
from starlette.types import ASGIApp

from cuma_jax import __version__
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving import ChatReply, Model
from cuma_jax.serving.http import page_data
from cuma_jax.serving.http.answers import answers, csv_lines, gates_json
from cuma_jax.serving.http.bodies import ChatBody, PredictBody
from cuma_jax.serving.http.cells import Cells
from cuma_jax.serving.http.chat import ChatRequest, model_names, pieces, whole
from cuma_jax.serving.http.files import Kept, KeptResponse, PageFiles, json_bytes
from cuma_jax.serving.http.limits import Guard, Limits
from cuma_jax.serving.http.measures import CONTENT_TYPE, Measures
from cuma_jax.serving.http.problems import Problem, answer_problems
from cuma_jax.serving.http.worker import Worker

T = TypeVar("T")
_PROBLEM = {"content": {"application/problem+json": {"schema": {"type": "object"}}}, "description": "RFC 9457"}
_PROBLEMS: dict[int | str, dict[str, Any]] = {code: _PROBLEM for code in (400, 401, 413, 415, 422, 429, 503, 504)}
_DOCUMENTS = {"run": "The run: base, data, errors by split.", "fields": "The fields of people with their values.",
              "questions": "The questions with their options."}  # fmt: skip


class Service:
    """What the addresses share.

    Args:
        joined: whether predictions that wait together are joined.
        keep: whether the page's tables are read from the run's folder, and written there.
        fill: whether those that are missing are predicted while nobody asks.
    """

    def __init__(self, model: Model, limits: Limits, joined: bool = True, keep: bool = True, fill: bool = True):
        self.model, self.limits, self.measures = model, limits, Measures()
        self.worker = Worker(model, limits, self.measures, joined)
        self.cells = Cells(model, keep)
        self.documents = {name: Kept(json_bytes(value)) for name, value in page_data.documents(model).items()}
        self._fills = fill
        self._cells: Kept | None = None
        self._grown = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextlib.asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """The worker's life."""
        self._loop = asyncio.get_running_loop()
        self.worker.start()
        if self._fills:
            self.worker.in_background(self._fill())
        yield
        self.worker.stop(self._loop)

    async def kept_cells(self) -> Kept:
        """The page's table, when there is something in it."""
        while self.cells.empty:
            if not self.worker.alive:
                raise Problem(503, "the server is stopping; ask again when it is back", {"Retry-After": "15"})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._grown.wait(), 0.5)
        body = await asyncio.to_thread(self.cells.json)
        if self._cells is None or self._cells.body is not body:
            self._cells = await asyncio.to_thread(Kept, body)
        return self._cells

    def _fill(self) -> Generator[None, None, None]:
        with contextlib.closing(self.cells.steps(self.model)) as steps:
            for _ in steps:
                if self._loop is not None:
                    with contextlib.suppress(RuntimeError):  # the loop is closed
                        self._loop.call_soon_threadsafe(self._grown.set)
                yield


def make_app(service: Service, key: str = "", local: bool = True) -> ASGIApp:
    """The server as an ASGI application.

    Args:
        key: that requests must carry; empty: none.
        local: whether only requests to this machine's own names are answered.
    """
    app = FastAPI(
        title="cuma_jax",
        version=__version__,
        summary="How groups of people would answer: estimates of a model, not a poll.",
        # Both pages fetch their scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=service.running,
    )
    answer_problems(app)
    _add_documents(app, service)
    _add_questions(app, service)
    _add_chat(app, service)
    _refuse_methods(app)
    if page_data.FOLDER.is_dir():
        app.mount("/", PageFiles(directory=page_data.FOLDER, html=True), name="page")
    return Guard(app, service.limits, service.measures, key, local)


def _add_documents(app: FastAPI, service: Service) -> None:
    """What is known without asking the model."""

    def add(path: str, kept: Kept, summary: str, shown: bool) -> None:
        async def document(request: Request) -> Response:
            return KeptResponse(kept, request.headers)

        app.add_api_route(path, document, summary=summary, include_in_schema=shown, response_class=JSONResponse)

    for name, kept in service.documents.items():
        add(f"/data/{name}", kept, "For the page.", False)
    for name, summary in _DOCUMENTS.items():
        add(f"/v1/{name}", service.documents[f"{name}.json"], summary, True)

    @app.get("/data/cells.json", include_in_schema=False)
    async def cells_json(request: Request) -> Response:
        return KeptResponse(await service.kept_cells(), request.headers)

    @app.get("/data/culture_map.json", include_in_schema=False)
    async def culture_map() -> Response:
        if (found := page_data.culture_map(service.model.folder)) is None:
            raise Problem(404, f"this run has no culture map; {page_data.NO_CULTURE_MAP}")
        return Response(json_bytes(found), media_type="application/json")

    @app.get("/v1/cells.csv", summary="Every question of the run by group, as far as it is predicted.")
    async def cells_csv() -> Response:
        if not service.model.can_predict:
            raise CumaError("this run was trained on conversations; it has no questions with options")
        await service.kept_cells()
        table = service.cells.table()
        headers = {"Content-Disposition": 'attachment; filename="cells.csv"'}
        return StreamingResponse(csv_lines(table), headers=headers, media_type="text/csv; charset=utf-8")

    @app.get("/v1/models", summary="Names for chats.")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": model_names(service.model)}

    @app.get("/healthz", summary="Whether requests are taken; ready: whether the model is loaded.")
    async def health() -> Response:
        alive = service.worker.alive
        values = {"status": "ok" if alive else "stopping", "ready": service.model.started,
                  "cells_missing": service.cells.missing}  # fmt: skip
        return JSONResponse(values, 200 if alive else 503)

    @app.get("/metrics", summary="Prometheus.", response_class=Response)
    async def metrics() -> Response:
        return Response(service.measures.text(), media_type=CONTENT_TYPE)


def _add_questions(app: FastAPI, service: Service) -> None:
    """What is asked of groups."""

    @app.post("/v1/predict", summary="Predicted answers of groups, beside what is known.", responses=_PROBLEMS)
    async def predict(body: PredictBody, request: Request) -> Response:
        asked = body.asked(service.model)
        table = service.cells.find(asked)
        if table is None:
            table = await unless_gone(request, service.worker.predict(asked))
        return JSONResponse({"answers": answers(table)})

    @app.post("/v1/gates", summary="Mean gates of the experts, by group.", responses=_PROBLEMS)
    async def gates(body: PredictBody, request: Request) -> Response:
        asked = body.asked(service.model)
        return JSONResponse(await unless_gone(request, service.worker.call(lambda model: gates_json(model, asked))))


def _add_chat(app: FastAPI, service: Service) -> None:
    @app.post("/v1/chat/completions", summary="As OpenAI's; profile: who is asked.", responses=_PROBLEMS)
    async def chat(body: ChatBody, request: Request) -> Response:
        asked = ChatRequest(body, service.model)
        events = service.worker.chat(asked.begin)
        if not body.stream:
            return JSONResponse(await unless_gone(request, whole(asked, events)))
        # What is wrong with the request shows with the first piece: until then it is an answer of its own.
        first: str | ChatReply = await unless_gone(request, anext(events))
        return EventSourceResponse(
            pieces(asked, first, events),
            sep="\n",
            send_timeout=service.limits.send_s,
            shutdown_grace_period=service.limits.stop_s,
        )


def _refuse_methods(app: FastAPI) -> None:
    """Says 405 of addresses that are posted to; else the page's files would be looked through for them."""

    async def refuse() -> Response:
        raise Problem(405, "this address takes POST", {"Allow": "POST"})

    for path in ("/v1/predict", "/v1/gates", "/v1/chat/completions"):
        app.add_api_route(path, refuse, methods=["GET", "PUT", "PATCH", "DELETE"], include_in_schema=False)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What `work` returns; where the client hangs up, `work` is cancelled."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Problem(408, "the client is gone")
    finally:
        for one in (task, gone):
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
