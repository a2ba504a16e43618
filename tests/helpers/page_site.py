"""The explorer page with invented data: as plain files, or before a small server that wants a key."""

import contextlib
import functools
import http.server
import json
import pathlib
import shutil
import threading
from collections.abc import Iterator
from typing import ClassVar

import cuma_jax

PAGE = pathlib.Path(cuma_jax.__file__).parent / "serving" / "page"
POLICY = "default-src 'self'"
COUNTRIES = {"Japan": "392", "Peru": "604", "Kenya": "404", "Norway": "578", "Singapore": "702", "Chile": "152"}
HOSTILE = (
    "<img src=x onerror='window.hacked=1'>",
    '=HYPERLINK("http://x")</script><script>window.hacked=1</script>',
    "{{constructor.constructor('window.hacked=1')()}}",
)
SMALL = ("Chile", 3)
"""A country with fewer held-out answers than min_cell, whose real shares lie in the data all the same."""
MIN_CELL = 20
ERROR = {"emd": 0.04, "low": 0.03, "high": 0.05, "pooled": 0.09, "own_average": 0.05, "logistic": None, "points": 4.1}
RUN = {
    "name": "invented",
    "base": "tiny",
    "data": {"name": "invented", "citation": "Nobody, 2020", "licence": "CC0", "waves": "1"},
    "created": "2026-01-01",
    "warnings": ["An approximation by a model, not observed answers."],
    "errors": {"unseen_respondent": ERROR},
    "static": True,
    "has_router": True,
    "min_cell": MIN_CELL,
    "cite": "Cite this.",
    "country_field": "country",
    "version": "0",
}


def write_data(folder: pathlib.Path) -> None:
    """Every file of the contract, for six countries and two questions; the second has hostile texts."""
    fields = {"country": list(COUNTRIES), "sex": ["female", "male"]}
    wheres = [{field: [value]} for field, values in fields.items() for value in values]
    wheres += [{"country": [country], "sex": [sex]} for country in fields["country"] for sex in fields["sex"]]
    options = {"trade": ["Less of it", "As it is", "More of it"], "hostile": list(HOSTILE)}
    folder.mkdir()
    for name, content in {
        "run": RUN,
        "fields": [
            {"name": name, "label": name, "numeric": False, "values": [{"value": v, "n": 300} for v in values]}
            for name, values in fields.items()
        ],
        "questions": [
            question("trade", "Should there be more trade?", options["trade"], "Invented"),
            question("hostile", HOSTILE[0], options["hostile"], HOSTILE[0]),
        ],
        "cells": {"groups": [group(where) for where in wheres], "questions": list(options), **shares(options, wheres)},
        "countries": COUNTRIES,
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def question(name: str, text: str, options: list[str], source: str) -> dict:
    ordered = name == "trade"
    return dict(id=name, text=text, options=options, ordered=ordered, status="in training", source=source)


def group(where: dict) -> dict:
    label = ", ".join(value for values in where.values() for value in values)
    return {"where": where, "label": label, "n": 300, "status": "held out" if label == "Peru" else "in training"}


def shares(options: dict, wheres: list[dict]) -> dict:
    """Predicted shares that differ from group to group, and real ones beside them, even for the small cell."""

    def by_group(slope: float, shift: float = 0.0) -> list[list[float]]:
        rise = [(number + 1) * slope for number in range(len(wheres))]
        return [[max(0.0, share + shift) for share in (up, 0.3, 0.7 - up)] for up in rise]

    real_n = [SMALL[1] if where == {"country": [SMALL[0]]} else 120 for where in wheres]
    one = {
        "predicted": by_group(1 / 40),
        "real": by_group(1 / 45),
        "low": by_group(1 / 45, -0.05),
        "high": by_group(1 / 45, 0.05),
        "real_n": real_n,
        "own_average": by_group(1 / 50),
        "pooled": [0.3, 0.3, 0.4],
    }
    return {name: dict.fromkeys(options, value) for name, value in one.items()}


KEY = "the-key-of-a-test"


class Asked(http.server.SimpleHTTPRequestHandler):
    """Files as a server with a key has them; chats fail once, and two equal groups have one entry of gates."""

    chats: ClassVar[list[dict]] = []

    def do_GET(self) -> None:
        """A file of the page to anybody, data to those with the key."""
        kept = "/data/" in self.path or self.path.endswith("/v1/cells.csv")
        if kept and self.headers["Authorization"] != f"Bearer {KEY}":
            self.answer(401, b"{}")
        elif self.path.endswith("/v1/cells.csv"):
            self.answer(200, b"group,share\n", "text/csv")
        else:
            super().do_GET()

    def do_POST(self) -> None:
        """Gates, or a reply; the first one of a talk ends before it begins."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/v1/gates"):
            gates = [{"group": "g", "question": "trade", "gate": [[0.25, 0.75]]}]
            return self.answer(200, json.dumps({"layers": [3], "experts": 2, "gates": gates}).encode())
        self.chats.append(body)
        piece = {"choices": [{"delta": {"content": "Well."}}]}
        said = "" if body["messages"][-1]["content"] == "first" else f"data: {json.dumps(piece)}\n\n"
        return self.answer(200, f"{said}data: [DONE]\n\n".encode(), "text/event-stream")

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        """One whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing: a test's output is its own."""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files, with the policy that the server sends."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, *_) -> None:
        """Nothing: a test's output is its own."""


@contextlib.contextmanager
def site(folder: pathlib.Path, handler: type, static: bool) -> Iterator[str]:
    """The page's address, with data beside it."""
    shutil.copytree(PAGE, folder / "sub")
    write_data(folder / "sub" / "data")
    (folder / "sub" / "data" / "run.json").write_text(json.dumps(RUN | {"static": static}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/sub/"
    server.shutdown()
    server.server_close()
