"""The explorer page in a headless browser, as plain files with invented data in the server's contract."""

import functools
import http.server
import json
import os
import pathlib
import shutil
import threading

import pytest
from headless import Browser, find_chromium

import cuma_jax

PAGE = pathlib.Path(cuma_jax.__file__).parent / "serving" / "page"
POLICY = "default-src 'self'"
VIEWS = ("compare", "map", "ask", "experts", "chat", "trust")
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
    "has_chat": True,
    "has_router": True,
    "min_cell": MIN_CELL,
    "cite": "Cite this.",
    "country_field": "country",
    "version": "0",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed ($CHROMIUM names one)"),
]


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


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files, with the policy that the server sends."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, *_) -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PAGE, folder / "sub")
    write_data(folder / "sub" / "data")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/sub/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(find_chromium(), tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def drawn(browser: Browser) -> None:
    browser.wait("document.querySelectorAll('.map .countries path').length > 100")
    browser.wait("document.querySelectorAll('.panel .chart svg').length === 2")


def test_the_first_view_shows_a_map_and_two_groups_without_a_complaint(browser, address):
    browser.open(address)
    drawn(browser)
    assert "Should there be more trade?" in browser.value("document.querySelector('h1').textContent")
    assert "not a poll" in browser.value("document.getElementById('strip').innerText")
    assert "4.1 points" in browser.value("document.getElementById('strip').innerText")
    assert browser.value("document.querySelectorAll('.panel .chart svg[role=img]').length") == 2
    assert browser.errors == []
    assert all(url.startswith((address, "about:")) for url in browser.requested), "nothing comes from elsewhere"
    assert browser.value("document.querySelectorAll('style, [onclick]').length") == 0


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_390_pixels_and_says_what_needs_the_server(browser, address, view):
    browser.open(f"{address}#/{view}", width=390, scheme="dark")
    browser.wait(f"document.querySelector('.view.{view} h1')")
    if view in ("ask", "experts", "chat"):
        browser.wait("document.getElementById('main').innerText.includes('python -m cuma_jax.serve')")
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors == []


def test_a_link_gives_the_same_picture(browser, address):
    browser.open(f"{address}#/compare?q=trade&a.country=Peru&a.sex=female&b.country=Kenya&opt=0")
    drawn(browser)
    names = browser.value("[...document.querySelectorAll('.panel h2')].map((node) => node.textContent)")
    assert names == ["Peru, female", "Kenya"]
    assert "Less of it" in browser.value("document.querySelector('.sub').textContent")
    assert browser.value("document.querySelector('.panel.a .badge').textContent").endswith("in training")


def test_small_cells_show_no_real_share_whatever_the_data_hold(browser, address):
    browser.open(f"{address}#/compare?q=trade&a.country={SMALL[0]}&b.country=Japan")
    drawn(browser)
    small, large = browser.value("[...document.querySelectorAll('.panel .chart svg')].map((node) => node.textContent)")
    assert "real" not in small
    assert "real" in large
    assert f"fewer than {MIN_CELL}" in browser.value("document.querySelector('.panel.a .facts').textContent")


def test_the_keyboard_reaches_content_views_and_the_list_that_equals_the_map(browser, address):
    browser.open(address)
    drawn(browser)
    browser.press("Tab")
    assert browser.value("document.activeElement.id") == "skip"
    browser.press("Enter")
    assert browser.value("document.activeElement.id") == "main"
    browser.value("document.querySelector('#nav li:nth-child(2) a').focus()")
    browser.press("Enter")
    browser.wait("document.querySelector('.view.map tbody tr')")
    assert browser.value("document.activeElement.tagName") == "H1"
    rows = browser.value("[...document.querySelectorAll('.view.map tbody th')].map((node) => node.textContent)")
    assert sorted(rows) == sorted(COUNTRIES)
    browser.value("document.querySelector('button[aria-label=\"Compare Kenya as B\"]').focus()")
    browser.press("Enter")
    browser.wait("location.hash.includes('b.country=Kenya')")
    assert browser.value("document.activeElement.getAttribute('aria-label')") == "Compare Kenya as B"
    browser.wait("document.getElementById('live').textContent.includes('Kenya')")
    assert browser.errors == []


def test_hostile_texts_are_inert_in_page_picture_and_csv(browser, address):
    browser.open(f"{address}#/compare?q=hostile")
    drawn(browser)
    shown = browser.value("document.getElementById('main').textContent")
    assert all(text in shown for text in HOSTILE)
    browser.open(f"{address}#/map?q=hostile")
    browser.wait("document.querySelector('.view.map tbody tr')")
    assert browser.value("document.querySelectorAll('main img, main script').length") == 0
    svg = browser.value(
        "import('./lib/picture.js').then(({ pictureAsSvg }) =>"
        " pictureAsSvg({ title: document.querySelector('h1').textContent,"
        " charts: [{ chart: document.querySelector('.map svg') }], footer: ['a < b'] }))"
    )
    assert "<img" not in svg
    assert "<script" not in svg
    assert "a &#60; b" in svg
    cells = browser.value(
        "import('./lib/export.js').then(({ csvCell }) =>"
        " ['=1+1', ' @x', '-2', '\\tx', 'a\"b,c', -2, null].map(csvCell))"
    )
    assert cells == ["'=1+1", "' @x", "'-2", "'\tx", '"a""b,c"', "-2", ""]
    assert browser.value("window.hacked") is None
    assert browser.errors == []


def test_a_picture_carries_the_warnings_and_is_drawn_under_the_policy(browser, address):
    browser.open(address)
    drawn(browser)
    browser.wait("document.querySelector('.exports')")
    size = browser.value(
        "import('./lib/picture.js').then(async ({ pictureAsPng }) => (await pictureAsPng({ title: 'T', charts: ["
        "{ chart: document.querySelector('.map > svg') }], footer: ['F'] })).size)"
    )
    assert size > 10_000
    lines = browser.value(
        "Promise.all([import('./lib/export.js'), import('./lib/data.js')]).then(async ([{ footer }, { loadRun }]) =>"
        " footer((await loadRun()).run, { n: 5 }).join(' '))"
    )
    for part in ("not a poll", "not observed answers", "invented", "n = 5", "4.1 points", "Cite this."):
        assert part in lines
    assert browser.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, address, scheme):
    axe = pathlib.Path(os.environ.get("CUMA_JAX_AXE", "node_modules/axe-core/axe.min.js"))
    if not axe.is_file():
        pytest.skip("axe-core is not here: npm pack axe-core, and $CUMA_JAX_AXE names its axe.min.js")
    for view in VIEWS:
        browser.open(f"{address}#/{view}", scheme=scheme)
        browser.wait(f"document.querySelector('.view.{view} h1')")
        browser.wait("!document.querySelector('[aria-busy]')")
        browser.value(axe.read_text() + ";0")
        faults = browser.value(
            "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations"
            ".filter(({ impact }) => ['serious', 'critical'].includes(impact))"
            ".map(({ id, nodes }) => [id, nodes[0].html]))"
        )
        assert faults == [], view
