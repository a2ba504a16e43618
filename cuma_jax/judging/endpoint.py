"""One OpenAI-compatible /v1/chat/completions endpoint: requests, retries, limits, and a key that is never shown.

What may pass is tried again: time-outs, broken connections, 429, 5xx, an answer that is not what was asked for. What
will not (401, 403, 404, a redirect) ends the run at once with the server's reason. Other 4xx are about one request
and are not tried again; they end the run if the endpoint has answered nothing yet: then all requests would fail alike.
"""

import asyncio
import dataclasses
import email.utils
import ipaddress
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from cuma_jax.config.checks import check_judge_url
from cuma_jax.config.preferences import JudgeConfig
from cuma_jax.runtime.errors import CumaError

Message = Mapping[str, str]
_LONGEST_WAIT_S = 120.0
"""A server that asks for a longer pause than this is taken to be out of order."""
_MOST_BYTES = 1 << 22
_SHOWN = 200


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


class Pace:
    """Spaces requests evenly to at most `per_minute` (0: no limit), and holds all of them while a server asks so."""

    def __init__(self, per_minute: float):
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = self._paused = 0.0

    async def turn(self) -> None:
        """Waits until one more request may be sent."""
        now = time.monotonic()
        mine = max(now, self._next)
        self._next = mine + self._gap
        while (wait := max(mine, self._paused) - time.monotonic()) > 0:
            await asyncio.sleep(wait)

    def pause(self, seconds: float) -> None:
        """Nothing is sent for so long."""
        self._paused = max(self._paused, time.monotonic() + seconds)


class Endpoint:
    """Sends chat requests; safe to use from several calls of one event loop.

    A `CumaError` for no URL, a URL with a secret in it, no key where one is needed, or a budget that leaves a process
    without any request.

    Args:
        backoff: seconds before the first further try; doubled with each, up to a minute.
        processes: how many ask at the same time, each with an endpoint of its own: each has its share of the limits.
    """

    def __init__(self, config: JudgeConfig, backoff: float = 1.0, processes: int = 1):
        if not config.url:
            raise CumaError("no judge: set config field judge.url (and judge.model) to an OpenAI-compatible endpoint")
        check_judge_url(config.url)
        self.url = config.url.rstrip("/") + ("" if config.url.endswith("/chat/completions") else "/chat/completions")
        self.spent = Spent()
        self._config, self._backoff = config, backoff
        self._key = _read_key(config.key_env)
        self._pace = Pace(config.requests_per_minute / processes)
        self._most = config.max_requests // processes
        self.concurrency = max(config.concurrency // processes, 1)
        """How many requests may be under way at once."""
        if config.max_requests and not self._most:
            raise CumaError(
                f"config field judge.max_requests is {config.max_requests}, less than one for each of the {processes} "
                "processes; raise it (0: no limit)"
            )
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
        return json.dumps(body, ensure_ascii=True).encode()

    @property
    def budget_left(self) -> int | None:
        """How many more requests may be sent; None: any number."""
        return self._most - self.spent.requests if self._most else None

    def client(self) -> httpx.AsyncClient:
        """A connection pool for one event loop; close it."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        here = _is_loopback(self.url)
        return httpx.AsyncClient(
            headers=headers,
            verify=not (here and self.url.startswith("http:")),  # no certificates to read where there is no TLS
            timeout=self._config.timeout,
            limits=httpx.Limits(max_connections=self.concurrency),
            trust_env=not here,  # a proxy for the world outside does not know this machine's servers
            follow_redirects=False,  # the key goes nowhere else
        )

    async def ask(
        self, client: httpx.AsyncClient, messages: Sequence[Message], parse: Callable[[str], str | None], reminder: str
    ) -> dict[str, Any]:
        """Asks until there is a verdict.

        Args:
            parse: reads a verdict from an answer; None: there is none.
            reminder: what is said after an answer without one.

        Returns:
            `verdict`, `answer` (the text it was read from) and `tries`.

        Raises:
            CallFailed: it failed for good; the text is the reason.
            CumaError: the endpoint will not answer anything (401, 403, 404), or the budget is spent.
        """
        asked, failure, tries = list(messages), _MayPass(""), self._config.retries + 1
        for number in range(tries):
            if number and not failure.paused:
                # Jitter: calls that failed together do not come back together.
                await asyncio.sleep(min(60.0, self._backoff * 2 ** (number - 1)) * random.uniform(0.5, 1.0))
            try:
                answer = await self._once(client, asked)
                if verdict := parse(answer):
                    return {"verdict": verdict, "answer": self.redact(answer), "tries": number + 1}
                # The same request at temperature 0 would mostly bring the same answer.
                shown = {"role": "assistant", "content": answer[-2000:] or "(nothing)"}
                asked = [*messages, shown, {"role": "user", "content": reminder}]
                raise _MayPass(f"an answer without a verdict: {self._short(answer, tail=True)!r}")
            except _MayPass as error:
                failure = error
        raise CallFailed(f"{failure} (tried {tries} time{'s' * (tries != 1)})")

    async def _once(self, client: httpx.AsyncClient, messages: Sequence[Message]) -> str:
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
                status, headers, content = await _post(client, self.url, self._sent(messages, refuses))
        except (TimeoutError, httpx.TimeoutException):
            raise _MayPass(f"no answer within judge.timeout, {self._config.timeout:g} s") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _MayPass(f"no connection ({self._short(str(error) or type(error).__name__)})") from None
        except httpx.InvalidURL as error:
            raise CumaError(f"config field judge.url is no address ({self._short(str(error))})") from None
        if status == 400 and (new := _refused_parameters(content) - refuses):
            self._refuses |= new  # left out from now on
            return await self._once(client, messages)
        if status != 200:
            self._refused(status, headers, content)
        return self._content(content)

    def _refused(self, status: int, headers: httpx.Headers, content: bytes) -> None:
        reason = f"the server answered {status}: {self._short(_server_reason(content))!r}"
        if status == 429 or status >= 500 or status == 408:
            wait = retry_after(headers.get("Retry-After", ""))
            if wait > _LONGEST_WAIT_S:
                raise CallFailed(f"{reason}; it asks to wait for {wait:.0f} s")
            self._pace.pause(wait)
            raise _MayPass(reason, paused=wait > 0)
        hint = {
            401: f"is the key in {self._config.key_env or '(judge.key_env is empty)'} right?",
            403: f"may the key in {self._config.key_env or '(judge.key_env is empty)'} use this model?",
            404: f"is judge.url complete (it often ends in /v1), and does it have the model {self._config.model!r}?",
        }.get(status, "see judge.url and judge.model")
        if status in (401, 403, 404, 405) or status < 400 or not self._answered:
            raise CumaError(f"the judge at {self.url} cannot be used: {reason}; {hint}")
        raise CallFailed(reason)

    def _content(self, content: bytes) -> str:
        """The text of the first choice; anything that is no such answer may pass."""
        try:
            values = json.loads(content)
        except ValueError:
            raise _MayPass(f"an answer that is not JSON: {self._short(content.decode('utf-8', 'replace'))!r}"
                           ) from None  # fmt: skip
        choices = values.get("choices") if isinstance(values, dict) else None
        if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
            raise _MayPass(f"an answer without choices: {self._short(json.dumps(values))!r}")
        self._answered = True
        message, usage = choices[0].get("message"), values.get("usage")
        if isinstance(usage, dict):
            self.spent.tokens_in += _count(usage.get("prompt_tokens"))
            self.spent.tokens_out += _count(usage.get("completion_tokens"))
        text = message.get("content") if isinstance(message, dict) else None
        return text if isinstance(text, str) else ""

    def redact(self, text: str) -> str:
        """`text` without the key: a server may repeat it."""
        if not self._key:
            return text
        return text.replace(self._key, "[key]").replace(json.dumps(self._key)[1:-1], "[key]")

    def _short(self, text: str, tail: bool = False) -> str:
        """One line of a server's text, without the key, cut at its end (or at its start, for `tail`)."""
        flat = " ".join(self.redact(text).split())
        if len(flat) <= _SHOWN:
            return flat
        return f"... {flat[-_SHOWN:]}" if tail else f"{flat[:_SHOWN]} ..."


def _read_key(name: str) -> str:
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise CumaError(
            f"the judge needs a key: put it into the environment variable {name} (judge.key_env names the variable; "
            "empty: the endpoint needs none)"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CumaError(
            f"the environment variable {name} (judge.key_env) holds no key: it has spaces or odd characters"
        )
    return key


async def _post(client: httpx.AsyncClient, url: str, body: bytes) -> tuple[int, httpx.Headers, bytes]:
    content = bytearray()
    async with client.stream("POST", url, content=body) as response:
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > _MOST_BYTES:
                break
    return response.status_code, response.headers, bytes(content)


def _refused_parameters(content: bytes) -> frozenset[str]:
    """Which of our parameters an error says are not taken: newer models of OpenAI know neither."""
    text = _server_reason(content).lower()
    unsupported = "support" in text or "not allowed" in text
    refused = {"max_tokens": "max_completion_tokens" in text, "temperature": unsupported and "temperature" in text}
    return frozenset(name for name, is_refused in refused.items() if is_refused)


def _server_reason(content: bytes) -> str:
    """The message of an OpenAI-style error, or the body as it is."""
    text = content.decode("utf-8", "replace")
    try:
        error = json.loads(content)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return text


def retry_after(value: str) -> float:
    """Seconds of a Retry-After header (a number or a date; RFC 9110, 10.2.3); 0 where there is none."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def in_parallel(count: int, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `count` workers to their end; when one raises, the others are stopped and its exception goes on."""
    tasks = [asyncio.ensure_future(work()) for _ in range(count)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
