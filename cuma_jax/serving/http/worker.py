"""The one thread that owns the model. Requests wait in a bounded queue; predictions that wait together are joined.

While the model works on one batch, others come to wait; the next batch is all of them. So nobody waits for a batch to
fill, and the more clients there are, the larger the batches. Replies to chats are written a piece in turn, between
batches. What nobody waits for, tables of the page, is done where there is nothing else to do.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, TypeVar

import pandas as pd

from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving import ChatReply, ChatStream, Model, Request
from cuma_jax.serving.http.limits import Limits
from cuma_jax.serving.http.measures import Measures
from cuma_jax.serving.http.problems import Problem, busy, stopping

T = TypeVar("T")
MOST_JOINED, JOINED_S = 64, 2.0
"""Requests that one call of the model answers, and about how long such a call may take: others wait meanwhile."""
_PEOPLE, _FILLED = 100, 8
"""What a group of people costs beside one profile, about; and how many profiles cost as much as one: batches are
filled up.
"""
MOST_CHATS = 4
"""Replies that are written at a time: each has a cache of its own."""
_log = logging.getLogger("cuma_jax.serve")


@dataclasses.dataclass(eq=False)
class _Job:
    """A request that waits: a prediction to be joined with others, or anything else that wants the model."""

    future: "concurrent.futures.Future[Any]"
    asked: Request | None = None
    call: Callable[[Model], Any] | None = None

    @property
    def cost(self) -> int:
        """About how many rows the model reads for it."""
        if self.asked is None:
            return _PEOPLE
        return self.asked.rows * (1 if self.asked.average_over == "profile" else _PEOPLE)


@dataclasses.dataclass(eq=False)
class _Chat:
    """A reply that is being written."""

    begin: Callable[[Model], ChatStream]
    events: "asyncio.Queue[str | ChatReply | Exception]"
    loop: asyncio.AbstractEventLoop
    until: float
    gone: bool = False  # whoever asked
    stream: ChatStream | None = None

    def tell(self, event: "str | ChatReply | Exception") -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nobody left
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Worker:
    """See the top of the file.

    Args:
        joined: whether predictions that wait together are joined (a benchmark says False).

    Attributes:
        failed: why the model could not be started, or its thread has ended; None while all is well.
    """

    failed: BaseException | None = None

    def __init__(self, model: Model, limits: Limits, measures: Measures, joined: bool = True):
        self._model, self._limits, self._measures, self._joined = model, limits, measures, joined
        self._ready = threading.Condition()
        self._waiting: collections.deque[_Job | _Chat] = collections.deque()
        self._chats: list[_Chat] = []
        self._running: list[_Job] = []
        self._background: collections.deque[Generator[None, None, None]] = collections.deque()
        self._stopping = self._over = False
        self._cost_s = 0.001  # seconds a row, a moving average
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Starts the thread; the model is loaded in it."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests are taken and will be answered."""
        return self._thread.is_alive() and not self._stopping

    def in_background(self, steps: Generator[None, None, None]) -> None:
        """Takes a step of `steps` whenever nobody waits."""
        with self._ready:
            self._background.append(steps)
            self._ready.notify()

    async def predict(self, asked: Request) -> pd.DataFrame:
        """`Model.predict` of a checked request, joined with others.

        Raises:
            Problem: the queue is full, the server is stopping, or it took too long.
            CumaError: what the model says.
        """
        return await self._answer(_Job(concurrent.futures.Future(), asked=asked))

    async def call(self, function: Callable[[Model], T]) -> T:
        """`function` of the model, in its turn; raises as `predict` does."""
        return await self._answer(_Job(concurrent.futures.Future(), call=function))

    async def chat(self, begin: Callable[[Model], ChatStream]) -> AsyncIterator[str | ChatReply]:
        """The pieces of a reply, then the reply. Closing the iterator ends the writing. Raises as `predict` does."""
        loop = asyncio.get_running_loop()
        chat = _Chat(begin, asyncio.Queue(), loop, time.monotonic() + self._limits.chat_s)
        self._put(chat)
        try:
            while True:
                event = await chat.events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
                if isinstance(event, ChatReply):
                    return
        finally:
            chat.gone = True

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes no more requests; those that are there have `stop_s` seconds to end in."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        loop.call_later(self._limits.stop_s, self._abandon)

    def join(self, seconds: float) -> bool:
        """Waits for the thread's end; False where it is still at work then."""
        with self._ready:
            self._stopping = self._over = True
            self._ready.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    async def _answer(self, job: _Job) -> Any:
        self._put(job)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.future), self._limits.deadline_s)
        except TimeoutError:
            raise Problem(504, f"no answer within {self._limits.deadline_s:.0f} s; ask for less at once") from None

    def _put(self, job: "_Job | _Chat") -> None:
        with self._ready:
            if self._stopping:
                raise stopping()
            # Those whose clients are gone make room.
            if len(self._waiting) >= self._limits.waiting:
                self._drop_gone()
            wait_s = self._cost_s * sum(other.cost for other in self._waiting if isinstance(other, _Job))
            # What would be given up before its turn is better refused now.
            if len(self._waiting) >= self._limits.waiting or wait_s > self._limits.deadline_s:
                self._measures.refused.inc()
                raise busy(min(max(math.ceil(wait_s), 1), 60))
            self._waiting.append(job)
            self._measures.waiting.set(len(self._waiting))
            self._ready.notify()

    def _drop_gone(self) -> None:
        kept = [job for job in self._waiting if not (job.gone if isinstance(job, _Chat) else job.future.cancelled())]
        self._measures.given_up.inc(len(self._waiting) - len(kept))
        self._waiting = collections.deque(kept)

    def _abandon(self) -> None:
        """The time is up: whoever still waits is told."""
        with self._ready:
            jobs = [*self._waiting, *self._chats, *self._running]
            self._waiting.clear()
            self._over = True
        for job in jobs:
            _tell(job, stopping())

    def _work(self) -> None:
        """The thread's life."""
        try:
            self._live()
        except BaseException as error:  # a server without its thread must end
            self.failed = error
            with self._ready:
                self._stopping = True
            self._abandon()
        finally:
            for steps in self._background:
                steps.close()  # keeps what it has

    def _live(self) -> None:
        self._model.start()
        while not self._over:
            with self._ready:
                while not (self._waiting or self._chats or self._background or self._stopping):
                    self._ready.wait()
                if self._stopping and not (self._waiting or self._chats):
                    return
                jobs = self._take()
                self._running = jobs
                self._measures.waiting.set(len(self._waiting))
            began = time.perf_counter()
            if jobs:
                self._do(jobs)
                spent = (time.perf_counter() - began) / max(sum(job.cost for job in jobs), _FILLED)
                self._cost_s += 0.2 * (spent - self._cost_s)
            self._running = []
            self._chats = [chat for chat in self._chats if self._advance(chat)]
            self._measures.streams.set(len(self._chats))
            if not (jobs or self._chats or self._stopping) and self._background:
                self._step_background()
            self._measures.busy_s.inc(time.perf_counter() - began)

    def _take(self) -> list[_Job]:
        """What is done next: the first that waits, and with a prediction the others; chats begin beside them."""
        taken: list[_Job] = []
        later: collections.deque[_Job | _Chat] = collections.deque()
        cost, starting = 0, len(self._chats)
        for job in self._waiting:
            if isinstance(job, _Chat):
                if starting < MOST_CHATS:
                    self._chats.append(job)
                    starting += 1
                else:
                    later.append(job)
            elif not taken:
                taken.append(job)
                cost = job.cost
            elif (
                self._joined
                and job.asked is not None
                and taken[0].asked is not None
                and len(taken) < MOST_JOINED
                and (cost + job.cost) * self._cost_s <= JOINED_S
            ):
                taken.append(job)
                cost += job.cost
            else:
                later.append(job)
        self._waiting = later
        wanted = [job for job in taken if job.future.set_running_or_notify_cancel()]
        self._measures.given_up.inc(len(taken) - len(wanted))
        return wanted

    def _do(self, jobs: list[_Job]) -> None:
        self._measures.joined.observe(len(jobs))
        try:
            if jobs[0].call is not None:
                results = [jobs[0].call(self._model)]
            else:
                results = list(self._model.predict_many([job.asked for job in jobs if job.asked is not None]))
        except Exception as error:
            if len(jobs) == 1:
                _tell(jobs[0], error)
            else:  # the mistake is one's, and the others have their answers
                for job in jobs:
                    self._do([job])
            return
        for job, result in zip(jobs, results, strict=True):
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # it was told that the server stops
                job.future.set_result(result)

    def _advance(self, chat: _Chat) -> bool:
        """Writes a piece of a reply; whether there is more to come."""
        late = time.monotonic() > chat.until
        if chat.gone or late or self._over:
            if chat.stream is not None:
                chat.stream.close()
            self._measures.given_up.inc()
            chat.tell(Problem(504, f"the reply was not written within {self._limits.chat_s:.0f} s"))
            return False
        try:
            if chat.stream is None:
                chat.stream = chat.begin(self._model)
            chat.tell(next(chat.stream))
            return True
        except StopIteration:
            reply = chat.stream.reply if chat.stream is not None else None
            if reply is None:
                chat.tell(CumaError("the reply ended early"))
            else:
                self._measures.tokens.labels("prompt").inc(reply.prompt_tokens)
                self._measures.tokens.labels("reply").inc(reply.tokens)
                chat.tell(reply)
        except Exception as error:
            chat.tell(error)
        return False

    def _step_background(self) -> None:
        try:
            next(self._background[0])
        except StopIteration:
            self._background.popleft()
        except Exception as error:
            _log.error("tables for the page could not be made: %s", error, exc_info=not isinstance(error, CumaError))
            self._background.popleft()


def _tell(job: "_Job | _Chat", error: Exception) -> None:
    if isinstance(job, _Chat):
        job.tell(error)
    else:
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            job.future.set_exception(error)
