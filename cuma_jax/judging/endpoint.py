"""One OpenAI-compatible /v1/chat/completions endpoint: requests, retries, limits, and a key that is never shown.

What may pass is tried again: time-outs, broken connections, 429, 5xx, an answer that is not what was asked for. What
will not (401, 403, 404, a redirect) ends the run at once with the server's reason. Other 4xx are about one request
and are not tried again; they end the run if the endpoint has answered nothing yet: then all requests would fail alike.
"""

import asyncio
import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from cuma_jax.config.checks import check_judge
from cuma_jax.config.preferences import JudgeConfig
from cuma_jax.judging.answers import Answer, read_answer, refused_parameters, server_reason
from cuma_jax.judging.key import Key
from cuma_jax.judging.transport import Pace, Response, open_client, post
from cuma_jax.runtime.errors import CumaError

Message = Mapping[str, str]
_LONGEST_WAIT_S = 120.0
"""A server that asks for a longer pause than this is taken to be out of order."""
_CALLED = {
    "max_tokens": "max_tokens (it was sent max_completion_tokens)",
    "system": "a system message (its text was put before the user's)",
    "temperature": "temperature",
}
_KEPT = 2000
"""Characters of an answer, its last ones, that are kept."""


class CallFailed(Exception):  # noqa: N818  (not an error: an outcome that is counted)
    """A call that failed for good; its text is the reason."""


class _MayPass(Exception):  # noqa: N818
    """A try that failed in a way that may pass; `paused`: the server said for how long, and all requests wait."""

    def __init__(self, reason: str, paused: bool = False):
        super().__init__(reason)
        self.paused = paused


@dataclasses.dataclass
class Spent:
    """What an endpoint was asked so far: requests sent (further tries included), and tokens as it counts them."""

    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Endpoint:
    """Sends chat requests; safe to use from several calls of one event loop.

    A `CumaError` for no URL, a secret in the config, no key where one is needed, proxies that cannot be used, or a
    budget that leaves a process without any request.

    Args:
        backoff: seconds before the first further try; doubled with each, up to a minute.
        processes: how many ask at the same time, each with an endpoint of its own: each has its share of the limits.
    """

    def __init__(self, config: JudgeConfig, backoff: float = 1.0, processes: int = 1):
        if not config.url:
            raise CumaError("no judge: set config field judge.url (and judge.model) to an OpenAI-compatible endpoint")
        check_judge(config)
        self.url = config.url.rstrip("/") + ("" if config.url.endswith("/chat/completions") else "/chat/completions")
        self.spent = Spent()
        self._config, self._backoff = config, backoff
        self._key = Key(config.key_env)
        for field in ("url", "model"):
            if self._key.is_in(getattr(config, field)):
                raise CumaError(
                    f"config field judge.{field} holds the key in {config.key_env}; leave it out there: the field is "
                    "written into the run's folder"
                )
        self._pace = Pace(config.requests_per_minute / processes)
        self._most = config.max_requests // processes
        self.concurrency = max(config.concurrency // processes, 1)
        """How many requests may be under way at once."""
        if config.max_requests and not self._most:
            raise CumaError(
                f"config field judge.max_requests is {config.max_requests}, less than one for each of the {processes} "
                "processes; raise it (0: no limit)"
            )
        self.client()  # proxies and certificates that cannot be used are found now
        self._answered = False
        self._refuses: frozenset[str] = frozenset()

    def body(self, messages: Sequence[Message]) -> dict[str, Any]:
        """The request for `messages`, as it keys the cache and as it is sent where the endpoint takes all of it."""
        return {
            "model": self._config.model,
            "messages": [dict(message) for message in messages],
            "temperature": 0,
            "max_tokens": self._config.max_tokens,
        }

    @property
    def temperature(self) -> int | None:
        """0; None where the endpoint does not take it, and its own is used."""
        return None if "temperature" in self._refuses else 0

    def _sent(self, messages: Sequence[Message], refuses: frozenset[str]) -> bytes:
        body = self.body(messages)
        if "temperature" in refuses:
            del body["temperature"]
        if "max_tokens" in refuses:
            body["max_completion_tokens"] = body.pop("max_tokens")
        if "system" in refuses:
            system, user, *others = body["messages"]
            body["messages"] = [user | {"content": f"{system['content']}\n\n{user['content']}"}, *others]
        return json.dumps(body, ensure_ascii=True).encode()

    @property
    def budget_left(self) -> int | None:
        """How many more requests may be sent; None: any number."""
        return self._most - self.spent.requests if self._most else None

    def client(self) -> httpx.AsyncClient:
        """A connection pool for one event loop; close it."""
        return open_client(self.url, self._key.value, self._config.timeout, self.concurrency)

    async def ask(
        self, client: httpx.AsyncClient, messages: Sequence[Message], parse: Callable[[str], str | None], reminder: str
    ) -> dict[str, Any]:
        """Asks until there is a verdict.

        Args:
            messages: the system's, the user's.
            parse: reads a verdict from an answer; None: there is none.
            reminder: what is said after an answer without one.

        Returns:
            `verdict`, `answer` (the end of the text it was read from, without the key) and `tries`.

        Raises:
            CallFailed: it failed for good; the text is the reason.
            CumaError: the endpoint will not answer anything (401, 403, 404), or the budget is spent.
        """
        asked, failure, tries = list(messages), _MayPass(""), self._config.retries + 1
        for number in range(tries):
            if number and not failure.paused:
                # Jitter: calls that failed together do not come back together.
                await asyncio.sleep(min(60.0, self._backoff * 2 ** min(number - 1, 9)) * random.uniform(0.5, 1.0))
            try:
                answer = await self._once(client, asked)
                if not answer.fault and (verdict := parse(answer.text)):
                    kept = self._key.hidden(self._key.replaced(answer.text)[-_KEPT:])
                    return {"verdict": verdict, "answer": kept, "tries": number + 1}
                # The same request at temperature 0 would mostly bring the same answer.
                shown = {"role": "assistant", "content": answer.text[-_KEPT:] or "(nothing)"}
                asked = [*messages, shown, {"role": "user", "content": reminder}]
                words = f": {self._key.line(answer.text, tail=True)!r}" if answer.text.strip() else ""
                without = "an answer without a verdict" if words else "an empty answer, without a verdict"
                raise _MayPass(self._key.line(answer.fault or without) + words)
            except _MayPass as error:
                failure = error
        without = ", ".join(_CALLED[name] for name in sorted(self._refuses)) if not self._answered else ""
        said = f", without what it refused: {without}" if without else ""
        raise CallFailed(f"{failure} (tried {tries} time{'s' * (tries != 1)}{said})")

    async def _once(self, client: httpx.AsyncClient, messages: Sequence[Message]) -> Answer:
        await self._pace.turn()
        if self.budget_left is not None and self.budget_left <= 0:
            raise CumaError(
                f"the judge was asked {self.spent.requests} times, all that judge.max_requests allows; verdicts so far "
                "are cached: raise it (0: no limit) and run the same command again"
            )
        self.spent.requests += 1
        refuses = self._refuses
        try:
            async with asyncio.timeout(self._config.timeout):  # httpx's own starts anew with every byte
                response = await post(client, self.url, self._sent(messages, refuses))
        except (TimeoutError, httpx.TimeoutException):
            raise _MayPass(f"no answer within judge.timeout, {self._config.timeout:g} s") from None
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, ValueError, OverflowError) as error:
            why = self._key.line(str(error) or type(error).__name__)
            raise _MayPass(f"no connection ({why})") from None
        if response.status in (400, 422, 500) and (new := refused_parameters(response.content) - refuses):
            self._refuses |= new  # left out from now on
            return await self._once(client, messages)
        if response.status != 200:
            self._refused(response)
        return self._read(response)

    def _refused(self, response: Response) -> None:
        status = response.status
        reason = f"the server answered {status} (its words are not shown: they may repeat the key)"
        if status not in (401, 403, 407):
            reason = f"the server answered {status}: {self._key.line(server_reason(response.content))!r}"
        if status == 429 or status >= 500 or status == 408:
            if response.retry_after > _LONGEST_WAIT_S:
                raise CallFailed(f"{reason}; it asks to wait for {response.retry_after:g} s")
            self._pace.pause(response.retry_after)
            raise _MayPass(reason, paused=response.retry_after > 0)
        hint = {
            401: f"is the key in {self._config.key_env or '(judge.key_env is empty)'} right?",
            403: f"may the key in {self._config.key_env or '(judge.key_env is empty)'} use this model?",
            404: f"is judge.url complete (it often ends in /v1), and does it have the model {self._config.model!r}?",
            407: "a proxy asks for a password: see HTTPS_PROXY and HTTP_PROXY",
        }.get(status, "see judge.url and judge.model")
        if status in (401, 403, 404, 405, 407) or status < 400 or not self._answered:
            raise CumaError(f"the judge at {self.url} cannot be used: {reason}; {hint}")
        raise CallFailed(reason)

    def _read(self, response: Response) -> Answer:
        """The first choice; anything that is no such answer may pass."""
        if response.fault:
            raise _MayPass(response.fault)
        try:
            answer = read_answer(response.content, self._config.max_tokens)
        except ValueError as error:
            body = response.content.decode("utf-8", "replace")
            raise _MayPass(f"{error}: {self._key.line(body)!r}") from None
        self._answered = True
        self.spent.tokens_in += answer.tokens_in
        self.spent.tokens_out += answer.tokens_out
        return answer
