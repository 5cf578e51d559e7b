"""What tests of html pages share: a text that tries everything, and what a browser would see of a page."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = (
    "</title></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b[31m\u202egnp.exe\udcff\x00&amp;"
)


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data
