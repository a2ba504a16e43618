"""Runs the application: uvicorn, how it is bound, how it ends, and what its log says."""

import asyncio
import os
import pathlib
import signal
import socket
import sys
from collections.abc import Callable

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cuma_jax.config.checks import names_a_variable
from cuma_jax.config.saved import RESULTS_FILE
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving import Model
from cuma_jax.serving.http.app import Service, make_app
from cuma_jax.serving.http.limits import LOCAL_HOSTS, Limits

_IDLE_S, _HEAD_S = 60, 15.0
"""Seconds that a connection may stay without a request, longer than clients keep one (they would send the next as it is
closed), and that a request's head may take to arrive.
"""


class _Protocol(H11Protocol):
    """Hangs up on a client whose request does not come; uvicorn itself would wait for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Something came of it."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._late is not None:
            self._late.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Waits for a head no longer than it may take, from when the wait began."""
        if self.conn.their_state is not h11.IDLE and self._late is not None:
            self._late.cancel()
            self._late = None
        elif self.conn.their_state is h11.IDLE and self._late is None:
            self._late = self.loop.call_later(_HEAD_S, self._hang_up)

    def _hang_up(self) -> None:
        self._late = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Tells the worker that the end has come before it waits for answers to end."""

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self._service = service

    async def on_tick(self, counter: int) -> bool:
        """Ends, too, where the model could not be started."""
        return await super().on_tick(counter) or self._service.worker.failed is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests that are there are answered, or told that the server stops."""
        self._service.worker.stop(asyncio.get_running_loop())
        await super().shutdown(sockets)


def read_key(variable: str) -> str:
    """The key in an environment variable; empty where none is named. A `CumaError` where it is not set, or weak."""
    if not variable:
        return ""
    if not names_a_variable(variable):
        raise CumaError(
            "--api_key_env must be the name of an environment variable, like CUMA_KEY, and is something else (it may "
            "be a key, and is not shown). Put the key into such a variable, and give its name"
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        raise CumaError(f"--api_key_env {variable}: that variable is not set, or empty; put the key in it")
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise CumaError(f"the key in {variable} must have 16 characters or more, ASCII and without spaces")
    return key


def check_host(host: str, key: str) -> None:
    """Raises a `CumaError` for an address that others reach, without a key."""
    if host not in LOCAL_HOSTS and not key:
        raise CumaError(
            f"--host {host} can be reached by others: set a key, e.g. `export CUMA_KEY=$(openssl rand -hex 24)` and "
            "--api_key_env CUMA_KEY; without one the server stays at 127.0.0.1"
        )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; a `CumaError` where the address is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that was killed left its address behind
    try:
        found.bind((host, port))
        found.listen(1024)
    except (OSError, OverflowError) as error:
        found.close()
        raise CumaError(f"--host {host} --port {port} cannot be listened at ({error}); try another port") from None
    found.set_inheritable(True)
    return found


def serve(
    model: Model,
    host: str = LOCAL_HOSTS[0],
    port: int = 8000,
    key: str = "",
    limits: Limits | None = None,
    joined: bool = True,
    fill: bool = True,
    said: Callable[[str], None] = print,
) -> None:
    """Serves until SIGTERM or Ctrl-C; see `Service`.

    Raises:
        CumaError: the address cannot be had, or the model cannot be started.
    """
    check_host(host, key)
    limits = limits or Limits()
    listener = bind(host, port)
    service = Service(model, limits, joined, fill=fill)
    app = make_app(service, key, local=host in LOCAL_HOSTS and not key)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # addresses may hold what nobody should read later; /metrics counts
        server_header=False,
        proxy_headers=False,
        http=_Protocol,
        ws="none",
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=int(limits.stop_s) + 2,
    )
    server = _Server(config, service)
    shown = f"[{host}]" if ":" in host else host
    said(f"http://{shown}:{listener.getsockname()[1]}/   (Ctrl-C ends)")
    # uvicorn sends itself the signal again when it is done; by then the end is as it should be.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
    ended = service.worker.join(3.0)
    if (failed := service.worker.failed) is not None:
        raise failed if isinstance(failed, CumaError) else CumaError(f"the model failed: {failed!r}") from failed
    if not ended:  # in the middle of a computation that nobody waits for any more
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def newest_run(folder: pathlib.Path = pathlib.Path("runs")) -> str:
    """The run under `folder` that was scored last; a `CumaError` where there is none."""
    found = sorted(folder.glob(f"**/{RESULTS_FILE}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CumaError("--run is required: the folder of a run or a bundle, e.g. --run runs/quickstart")
    return str(found[-1].parent)
