"""How requests are sent: spaced, through the proxies that the environment names, and read up to a limit."""

import asyncio
import dataclasses
import email.utils
import ipaddress
import math
import time
import urllib.request
import zlib
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx

from cuma_jax.config.checks import address_fault
from cuma_jax.runtime.errors import CumaError

_MOST_BYTES = 1 << 22
"""Of an answer, unpacked."""
_PROXIES = ("http", "https", "socks5", "socks5h")


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


@dataclasses.dataclass(frozen=True)
class Response:
    """What a server sent. `fault`: why `content` is not all of it; empty where it is."""

    status: int
    retry_after: float
    content: bytes
    fault: str


def open_client(url: str, key: str, timeout: float, connections: int) -> httpx.AsyncClient:
    """A connection pool for one event loop; close it.

    Raises:
        CumaError: an address, a proxy or a certificate of the environment that cannot be used.
    """
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    here = _is_loopback(url)
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        raise CumaError(
            "config field judge.url has a host that can't be read; it must be an address like https://api.example.com/v1"
        ) from None
    if not here:
        _check_proxies()
    try:
        return httpx.AsyncClient(
            headers=headers,
            verify=not (here and url.startswith("http:")),  # no certificates to read where there is no TLS
            timeout=timeout,
            limits=httpx.Limits(max_connections=connections),
            trust_env=not here,  # a proxy for the world outside does not know this machine's servers
            follow_redirects=False,  # the key goes nowhere else
        )
    except ImportError:
        raise CumaError(
            f"the environment names a SOCKS proxy ({', '.join(_named_proxies())}), which needs one more package: "
            "pip install 'httpx[socks]'; or unset the variable"
        ) from None
    except (ValueError, OSError, httpx.InvalidURL) as error:
        raise CumaError(
            "no connection to a judge can be made with this environment's proxies and certificates (HTTPS_PROXY, "
            f"NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR and the like): {type(error).__name__}; put them right or unset them"
        ) from None


def _named_proxies() -> dict[str, str]:
    """The variables of the environment, in capitals, that httpx reads a proxy from, and what they hold."""
    known = urllib.request.getproxies()
    return {f"{scheme.upper()}_PROXY": known[scheme] for scheme in ("http", "https", "all") if known.get(scheme)}


def _check_proxies() -> None:
    for name, address in _named_proxies().items():
        if fault := address_fault(address if "://" in address else f"http://{address}", _PROXIES):
            raise CumaError(
                f"the environment variable {name} (or in small letters) {fault}; give a proxy's address, like "
                "http://proxy.example.com:3128, or unset it"
            )


async def post(client: httpx.AsyncClient, url: str, body: bytes) -> Response:
    """Sends a request and reads the answer, at most 4 MB of it, however small it was packed."""
    content, fault = bytearray(), ""
    async with client.stream("POST", url, content=body) as response:
        packing = response.headers.get("Content-Encoding", "").strip().lower()
        unpack = zlib.decompressobj(47).decompress if packing in ("gzip", "x-gzip", "deflate") else None
        if packing not in ("", "identity") and unpack is None:
            fault = "an answer that is packed in another way than gzip"
        elif response.status_code not in (401, 403, 407):  # may repeat the key, and is shown nowhere
            try:
                async for piece in response.aiter_raw():
                    content += unpack(piece, _MOST_BYTES + 1 - len(content)) if unpack else piece
                    if len(content) > _MOST_BYTES:
                        fault = f"an answer of more than {_MOST_BYTES >> 20} MB"
                        break
            except zlib.error:
                fault = "an answer that is no gzip, though it says so"
    wait = retry_after(response.headers.get("Retry-After", ""))
    return Response(response.status_code, wait, bytes(content[:_MOST_BYTES]), fault)


def retry_after(value: str) -> float:
    """Seconds of a Retry-After header (a number or a date; RFC 9110, 10.2.3); 0 where it says none."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError, OSError):
            return 0.0
    return 0.0 if math.isnan(seconds) else max(0.0, seconds)


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
