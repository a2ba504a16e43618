"""What `python -m cuma_jax.serve` does: a run over HTTP, and its page; or the page as plain files."""

import dataclasses
import importlib.util
import pathlib
import sys
from typing import Annotated, Literal

from cuma_jax.commands.command_line import parse
from cuma_jax.config.fields import Line, Place, Range
from cuma_jax.runtime.errors import CumaError

_HELP = """Serves a trained run: the explorer page, predictions (POST /v1/predict), a chat for OpenAI's clients (POST
/v1/chat/completions), and what /openapi.json lists. Needs pip install 'cuma_jax[serve]'. See docs/serve.md."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is served, and where."""

    run: Annotated[str, Line()] = ""
    """Folder of a run, a bundle, or the hub name of one (default: the run under runs/ that was scored last)."""
    checkpoint: Literal["", "last", "best"] = ""
    """last or best; empty: what the run's evaluation.checkpoint says."""
    host: Annotated[str, Line()] = "127.0.0.1"
    """Address to listen at; any other than this machine's own needs a key."""
    port: Annotated[int, Range(0, 65535)] = 8000
    """Port to listen at; 0: any that is free."""
    api_key_env: Annotated[str, Line(secret=True)] = ""
    """Environment variable with the key that requests must carry: Authorization: Bearer KEY. The page asks for it."""
    queue: Annotated[int, Range(1, 100_000)] = 128
    """Requests that may wait for the model; further ones are refused with 429."""
    deadline: Annotated[float, Range(1, 86_400)] = 120.0
    """Seconds until a request is given up; a chat is given 1.5 times as many."""
    static: Annotated[str, Place("new folder")] = ""
    """Write the page with its data as plain files into this new folder, and serve nothing."""


def main() -> None:
    """Reads the command line and the run, and serves."""
    (options,) = parse("serve", _HELP, sys.argv[1:], Options)
    missing = [name for name in ("fastapi", "uvicorn", "sse_starlette", "prometheus_client")
               if importlib.util.find_spec(name) is None]  # fmt: skip
    if missing:
        raise CumaError(f"the server needs {', '.join(missing)}: pip install 'cuma_jax[serve]'")
    from cuma_jax.serving.http.server import check_host, newest_run, read_key

    key = read_key(options.api_key_env)
    check_host(options.host, key)
    source = options.run or newest_run()
    if options.static:
        write_page(source, options)
    else:
        serve_run(source, options, key)


def serve_run(source: str, options: Options, key: str) -> None:
    """Serves until the end."""
    from cuma_jax.serving import load
    from cuma_jax.serving.http.limits import Limits
    from cuma_jax.serving.http.server import serve

    model = load(source, options.checkpoint, start=False)
    limits = Limits(waiting=options.queue, deadline_s=options.deadline, chat_s=1.5 * options.deadline)
    serve(model, options.host, options.port, key, limits, said=lambda where: print(f"{source}: {where}", flush=True))


def write_page(source: str, options: Options) -> None:
    """Writes the page as plain files."""
    from tqdm import tqdm

    from cuma_jax.serving import load
    from cuma_jax.serving.http.cells import Cells
    from cuma_jax.serving.http.static import check_static, write_static

    out = pathlib.Path(options.static).expanduser()
    check_static(out)
    model = load(source, options.checkpoint, start=False)
    cells = Cells(model)
    if count := cells.missing:
        model.start()
        with tqdm(total=count, desc="predicting", unit="cell", mininterval=1.0) as bar:
            for _ in cells.steps(model):
                bar.update(count - cells.missing - bar.n)
    size = write_static(model, cells, out)
    print(f"{out}: {size / 1e6:.1f} MB; any web server can serve it, e.g. python -m http.server -d {out}")
