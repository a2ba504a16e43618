"""Reads a written page as a browser would: its tags, and that they are closed in order."""

import html.parser


class Page(html.parser.HTMLParser):
    """`tags`: (name, attributes) in order; raises where an element is closed that is not the innermost open one."""

    VOID = {"meta", "link", "br", "hr", "img", "input"}

    def __init__(self, text):
        super().__init__()
        self._open, self.tags = [], []
        self.feed(text)
        assert not self._open, f"never closed: {self._open}"

    @property
    def names(self):
        return [name for name, _ in self.tags]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert not [name for name, _ in attrs if name.startswith("on")], "an attribute that runs code"
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> closes another element"
