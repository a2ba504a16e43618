"""The explorer page in a headless browser, as plain files with invented data in the server's contract."""

import os
import pathlib

import pytest
from headless import Browser, find_chromium
from page_site import COUNTRIES, HOSTILE, KEY, MIN_CELL, SMALL, Asked, Handler, site

VIEWS = ("compare", "map", "ask", "experts", "chat", "trust")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed ($CHROMIUM names one)"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with site(tmp_path_factory.mktemp("site"), Handler, static=True) as found:
        yield found


@pytest.fixture(scope="module")
def asked(tmp_path_factory, browser):
    """A server's page, opened with its key: a function that shows a view."""
    with site(tmp_path_factory.mktemp("asked"), Asked, static=False) as found:

        def show(view: str, state: str = "") -> None:
            browser.open(f"{found}#/{view}?q=trade{state}")
            browser.wait("document.querySelector('#key input')")
            browser.value(f"document.querySelector('#key input').value = '{KEY}'")
            browser.value("document.querySelector('#key').requestSubmit()")
            browser.wait(f"document.querySelector('.view.{view} h1')")
            browser.errors.clear()  # the answer that wanted the key is one

        yield show


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


def test_a_message_without_a_reply_is_not_sent_again(browser, asked):
    asked("chat")
    for number, text in enumerate(("first", "second", "third"), 1):
        browser.value(f"document.querySelector('textarea').value = '{text}'")
        browser.value("document.querySelector('form.say').requestSubmit()")
        browser.wait(f"document.querySelectorAll('.bubble.assistant').length === {3 * number}")
        browser.wait("!document.querySelector('form.say button[type=submit]').disabled")
    base = [body["messages"] for body in Asked.chats if body["model"] == "base"]
    assert [[turn["content"] for turn in turns] for turns in base] == [
        ["first"],
        ["second"],
        ["second", "Well.", "third"],
    ]
    assert browser.errors == []


def test_two_equal_groups_have_equal_gates(browser, asked):
    asked("experts", "&a.country=Peru&b.country=Peru")
    browser.wait("document.querySelectorAll('.heats svg').length === 3")
    assert "0.250 and 0.250" in browser.value("document.querySelector('.said').textContent")
    assert browser.errors == []


def test_files_come_with_the_key_and_lie_beside_plain_pages(browser, asked, address):
    asked("trust")
    browser.value("URL.createObjectURL = (blob) => { window.saved = blob; return ''; }; 0")
    browser.value("HTMLAnchorElement.prototype.click = () => {}; 0")
    browser.value("[...document.querySelectorAll('button')].find((b) => b.textContent.includes('as CSV')).click()")
    browser.wait("window.saved")
    assert browser.value("window.saved.text()") == "group,share\n"
    assert browser.errors == []
    browser.open(f"{address}#/trust")
    browser.wait("document.querySelector('.view.trust a[download]')")
    assert browser.value("document.querySelector('.view.trust a[download]').getAttribute('href')") == "data/cells.csv"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, address, scheme):
    axe = pathlib.Path(os.environ.get("CUMA_JAX_AXE", "node_modules/axe-core/axe.min.js"))
    if not axe.is_file():
        pytest.skip("no axe-core: .ci/fetch_page_libraries.py --axe fetches it, $CUMA_JAX_AXE names axe.min.js")
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
