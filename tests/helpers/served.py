"""The server in this process, without a socket, before a made-up model. Needs the extra `serve`."""

import asyncio
import contextlib

import httpx
import pandas as pd
from made_up_model import MadeUpModel

from cuma_jax.config.saved import ANALYSIS_TABLES, MAPS
from cuma_jax.serving.http.app import Service, make_app
from cuma_jax.serving.http.limits import Limits

JAPAN = {"where": {"country": ["Japan"]}}
NEW = {"text": "Should people work from home?", "options": ["Never", "Sometimes", "Always"], "ordered": True}


@contextlib.asynccontextmanager
async def serving(folder="", key="", limits=None, keep=False, fill=True, model=None, **how):
    """(a client of the server, its service): in this process, without a socket."""
    service = Service(model or MadeUpModel(folder, **how), limits or Limits(), keep=keep, fill=fill)
    app = make_app(service, key)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with service.running(None), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client, service
    service.worker.join(5)


def run(steps, seconds=60):
    return asyncio.run(asyncio.wait_for(steps, seconds))


def write_maps(folder):
    """The table of `analyze` with where three groups stand, and what the page reads of it."""
    path = folder / ANALYSIS_TABLES / MAPS
    path.parent.mkdir()
    names = ("true", "predicted")
    rows = [(name, group, float(i), float(len(name))) for name in names for i, group in enumerate("abc")]
    pd.DataFrame(rows, columns=["map", "group", "x", "y"]).to_parquet(path)
    return {"points": [{"group": g, "real": [i, 4], "predicted": [i, 9]} for i, g in enumerate("abc")]}


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) - {"error"} == {"type", "title", "status", "detail"}
    assert body.get("error", {"message": body["detail"]})["message"] == body["detail"]
    assert body["status"] == status
    return body["detail"]
