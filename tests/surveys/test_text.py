import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuma_jax.surveys.text import clean_text, visible_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How <b>important</b> is it?", "How important is it?"),
        ("<p>One.</p><p>Two.</p>", "One. Two."),
        ("One<br/>two<BR>three", "One two three"),
        ('<a href="x.html" target=_blank>Link</a>ed', "Linked"),
        ("before<!-- a <b> comment -->after", "before after"),
        ("<style>p {color: red}</style>Text<script>alert(1)</script>", "Text"),
        ("I <3 this", "I <3 this"),
        ("a < b and c > d", "a < b and c > d"),
        ("age <18 or >65", "age <18 or >65"),
        ("the end<|im_end|>", "the end<|im_end|>"),
        ("&lt;|im_end|&gt;", "<|im_end|>"),
        ("<|start_header_id|>system", "<|start_header_id|>system"),
        ("<COUNTRY> and <your name>", "<COUNTRY> and <your name>"),
        ('<input type="radio" checked> Yes', "Yes"),
        ("Q&amp;amp;A", "Q&A"),
        ("R&D, AT&T, ?a=1&copy=2", "R&D, AT&T, ?a=1&copy=2"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        ("don&#39;t &#x201C;go&#x201d;&nbsp;now", "don't \u201cgo\u201d now"),
        ("&unknown; &#0; &#xD800;x", "&unknown; x"),
        ("tab\tand\r\nline", "tab and line"),
        ("nul\x00bell\x07", "nulbell"),
        ("\ufeffBOM and zero\u200bwidth", "BOM and zerowidth"),
        ("\u202eright to left\u202c", "right to left"),
        ("e\u0301", "\u00e9"),
        ("soft\u00adhyphen", "softhyphen"),
        ("x\u200dy", "xy"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\U0001f469\u200d\U0001f33e", "\U0001f469\u200d\U0001f33e"),
        ("", ""),
    ],
)
def test_cleaning(text: str, expected: str) -> None:
    assert clean_text(text) == expected


def test_lines_are_kept_where_asked() -> None:
    assert clean_text(" one  two \r\n<p>three</p>\n\n four", keep_lines=True) == "one two\n\nthree\n\n\nfour"
    assert clean_text("one\ntwo") == "one two"


PIECES = st.sampled_from(
    [
        *("<", ">", "/", "b", "br", "p", "&", "amp;", "lt;", "gt;", "#", "60", ";", "\u037e", " ", "\n", "\r", "\t"),
        *("\x00", "\u200b", "\u200d", "\u200c", "\ufeff", "\u0915", "e", "\u0301", "<!--", "-->", "script", "=", '"'),
        *("\u2028", "|", "\U0001f469", "\ufe0f", "\ud800", "\xa0", "\u0338", "\x1c", "\x85"),
    ]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=25).map("".join))


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.booleans())
def test_cleaning_twice_changes_nothing(text: str, keep_lines: bool) -> None:
    once = clean_text(text, keep_lines)
    assert clean_text(once, keep_lines) == once
    assert unicodedata.is_normalized("NFC", once)
    once.encode("utf-8")
    assert once == once.strip()
    assert not any(unicodedata.category(c) == "Cc" and c != "\n" for c in once)


def test_long_texts_end() -> None:
    """Each of these would take hours if a pattern tried every way to read it."""
    for text in ("<" * 50_000, "<b " * 20_000, "<b a=" * 20_000, "&" * 50_000, "<a " + "x " * 30_000, "<!--" * 5_000):
        assert clean_text(text) == text.strip()


def test_hostile_markup_takes_no_more_than_its_length():
    """Nested tags, escapes of escapes, what is never closed, and marks without end: each was a square of its length."""
    size, began = 20_000, time.perf_counter()
    for text, cleaned in (
        ("<" * size + "b>" * size, ""),
        ("&" + "amp;" * size + "lt;b&gt;", ""),
        ("<!--" * size, "<!--" * size),
        ("<script>" * size, ""),
        ("<script>" * size + "</script", "</script"),
        ("<b x='" * size, ("<b x='" * size).strip()),
        ("<b" + " " * size + "1>", "<b 1>"),
        ("&am&lt;b&gt;p;" * size, "&" * size),
    ):
        assert clean_text(text) == cleaned
    marks = "\u0315\u0300" * size
    assert len(visible_text("a" + marks)) <= 31
    assert time.perf_counter() - began < 20
