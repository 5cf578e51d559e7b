"""The html pages: hostile text stays text, whatever it is put into; a page loads nothing and links only to itself."""

from __future__ import annotations

import pytest

from nanocontainer.cmd import page

from .pages import HOSTILE, Seen


def test_hostile_text_stays_text_in_every_helper() -> None:
    body = page.join(
        [
            HOSTILE,
            page.tag("p", HOSTILE, title=HOSTILE),
            page.tag("pre", HOSTILE + "\nsecond\tline"),
            page.chip(HOSTILE, "bad"),
            page.pairs([(HOSTILE, HOSTILE)]),
            page.table([HOSTILE], [[HOSTILE]]),
            page.section(HOSTILE, HOSTILE, id=HOSTILE),
            page.contents([(HOSTILE, HOSTILE)]),
            page.svg(10, 10, page.words(0, 0, HOSTILE, most=50), page.words(0, 0, HOSTILE), label=HOSTILE),
        ],
        HOSTILE,
    )
    whole = page.page(HOSTILE, body, lead=HOSTILE, foot=HOSTILE)
    seen = Seen(whole)
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(seen.tags)
    names = {name for name, _ in seen.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "action", "style")}
    assert "\x1b" not in whole and "\x00" not in whole and "\u202e" not in whole
    whole.encode()  # no lone surrogate is left
    assert "<script>alert(1)</script>" in seen.text and "\\x1b[31m\\u202egnp.exe\\xff\\x00&amp;" in seen.text
    assert "\nsecond\tline" in seen.text


def test_a_page_forbids_what_it_does_not_need_and_names_no_other_place() -> None:
    whole = page.page("a", page.tag("p", "b"))
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in Seen(whole).attributes
    assert "url(" not in whole and "@import" not in whole and "//" not in whole
    assert "prefers-color-scheme:dark" in whole and "@media print" in whole and "max-width:640px" in whole


@pytest.mark.parametrize("where", ["javascript:alert(1)", "data:text/html,x", "/etc/passwd", " #x", ""])
def test_a_link_to_another_place_is_refused(where: str) -> None:
    with pytest.raises(ValueError, match="links only to itself"):
        page.tag("a", "x", href=where)


def test_visible_leaves_what_can_be_read() -> None:
    assert page.visible("usr/bin/naïve 容器 — ok") == "usr/bin/naïve 容器 — ok"
    assert page.visible("x\u00a0=\u00a0-1\u3000") == "x\u00a0=\u00a0-1\u3000"
    assert page.visible("a\nb\tc\rd\x7f\x9b") == "a\\nb\\tc\\rd\\x7f\\x9b"
    assert page.visible(b"\xff\xfe".decode("utf-8", "surrogateescape")) == "\\xff\\xfe"


def test_every_cell_has_the_name_of_its_column_for_narrow_screens() -> None:
    shown = page.table(["Name", "Size"], [["a", 1]], numbers=[1])
    assert '<td data-label="Name">a</td>' in shown and '<td class="number" data-label="Size">1</td>' in shown
    with pytest.raises(ValueError):
        page.table(["Name"], [["a", "b"]])


def test_fit_cuts_to_the_width() -> None:
    assert page.fit("short", 100) == "short"
    cut = page.fit("a" * 100, 100)
    assert cut.endswith("…") and page.text_width(cut) <= 100
    assert page.fit("容器" * 50, 100).count("容") < page.fit("a" * 100, 100).count("a")
