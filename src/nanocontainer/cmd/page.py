"""Pages of html that are whole in one file: no script, nothing loaded from anywhere, readable on paper and on a phone.

What is shown comes from containers, so every name and path is hostile. Text is of two types here: `str` is escaped
wherever it is put in, `Html` was made by these functions and is put in as it is. A page forbids by its own policy
(Content-Security-Policy, W3C CSP3) what it does not need: should an escape ever be forgotten, no script runs.

Colours are CSS variables, light and dark by the reader's setting. `host` and `inside` are the two sides of a container
everywhere; `good`, `warn`, `bad` are verdicts. Use them as classes: on cards, chips, cells, and shapes of a drawing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_SPECIAL = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
_SPACES = frozenset("\u00a0\u2002\u2003\u2009\u202f\u3000")  # wide, narrow, not to be broken at: they do nothing
_VOID = frozenset(("br", "hr", "meta", "line", "rect", "path", "circle", "polyline", "polygon"))

_STYLE = """
:root{color-scheme:light dark;--paper:#f7f6f3;--card:#fff;--ink:#1c2430;--soft:#566072;--edge:#dddad2;--code:#f0eee9;
--host:#9a5a00;--host-fill:#fdf2dd;--host-edge:#e4bf7f;--inside:#0b6472;--inside-fill:#e1f2f4;--inside-edge:#8cc5cd;
--good:#1f6f3a;--good-fill:#e2f3e6;--good-edge:#9fd0ac;--warn:#8a5800;--warn-fill:#fdf0d3;--warn-edge:#e3c27c;
--bad:#a3241f;--bad-fill:#fce5e2;--bad-edge:#e6a49d;--link:#1d5fa8}
@media(prefers-color-scheme:dark){:root{--paper:#14181f;--card:#1c222c;--ink:#e6e9ee;--soft:#a3adbb;--edge:#343d4a;
--code:#262d39;--host:#f0b866;--host-fill:#33281a;--host-edge:#7a5c2b;--inside:#6fd0dd;--inside-fill:#162f35;
--inside-edge:#2f6b75;--good:#7fd197;--good-fill:#183023;--good-edge:#35694a;--warn:#efc069;--warn-fill:#332a17;
--warn-edge:#76602c;--bad:#ff9c92;--bad-fill:#3a1f1e;--bad-edge:#83403b;--link:#83b9f5}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);line-height:1.5;overflow-wrap:anywhere;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
code,pre,kbd,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Noto Sans Mono",monospace}
code,kbd,.mono{font-size:.88em}
code{background:var(--code);border-radius:4px;padding:.08em .3em}
pre{background:var(--code);border-radius:8px;padding:.8em 1em;overflow-x:auto;font-size:.85em;line-height:1.45;
margin:.6em 0;overflow-wrap:normal}
pre code{background:none;padding:0;font-size:1em}
main{max-width:1160px;margin:0 auto;padding:28px 24px 56px}
h1{font-size:1.75em;line-height:1.2;margin:0 0 .2em;letter-spacing:-.01em}
h2{font-size:1.2em;line-height:1.3;margin:0 0 .5em}
h3{font-size:1em;margin:1.1em 0 .3em}
p{margin:.4em 0}
a{color:var(--link)}
ul,ol{margin:.4em 0;padding-left:1.4em}
.lead{color:var(--soft);font-size:1.06em;max-width:52em;margin:0 0 1em}
.soft,small,figcaption{color:var(--soft)}
small{font-size:.86em}
nav{display:flex;flex-wrap:wrap;gap:6px;margin:14px 0 20px}
nav a{padding:3px 11px;border:1px solid var(--edge);border-radius:99px;background:var(--card);text-decoration:none;
font-size:.9em;color:var(--ink)}
nav a:hover{border-color:var(--link);color:var(--link)}
section,.card{background:var(--card);border:1px solid var(--edge);border-radius:12px;padding:18px 20px;margin:0 0 16px}
.card.host,section.host{border-left:4px solid var(--host-edge)}
.card.inside,section.inside{border-left:4px solid var(--inside-edge)}
.card.good{border-color:var(--good-edge);background:var(--good-fill)}
.card.warn{border-color:var(--warn-edge);background:var(--warn-fill)}
.card.bad{border-color:var(--bad-edge);background:var(--bad-fill)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:16px;margin:0 0 16px}
.grid>*{margin:0}
.chip{display:inline-block;border:1px solid var(--edge);border-radius:99px;padding:0 .6em;font-size:.84em;
background:var(--code);color:var(--ink);margin:1px 0}
.chip.host{background:var(--host-fill);border-color:var(--host-edge);color:var(--host)}
.chip.inside{background:var(--inside-fill);border-color:var(--inside-edge);color:var(--inside)}
.chip.good{background:var(--good-fill);border-color:var(--good-edge);color:var(--good)}
.chip.warn{background:var(--warn-fill);border-color:var(--warn-edge);color:var(--warn)}
.chip.bad{background:var(--bad-fill);border-color:var(--bad-edge);color:var(--bad)}
dl{display:grid;grid-template-columns:minmax(7em,max-content) 1fr;gap:.3em 1.2em;margin:.3em 0}
dt{color:var(--soft)}
dd{margin:0;min-width:0}
table{border-collapse:collapse;width:100%;font-size:.94em}
th{text-align:left;font-weight:600;color:var(--soft);font-size:.88em;white-space:nowrap}
th,td{padding:6px 14px 6px 0;vertical-align:top;border-bottom:1px solid var(--edge)}
tr:last-child>td{border-bottom:0}
th:last-child,td:last-child{padding-right:0}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
details{margin:.4em 0}
summary{cursor:pointer}
summary:hover{color:var(--link)}
td.short{white-space:nowrap}table.stack td:first-child{min-width:10em}
.bar{display:block;height:8px;border-radius:4px;background:var(--code);overflow:hidden;min-width:60px;margin-top:5px}
.bar>i{display:block;height:100%;background:var(--inside);border-radius:4px}
.bar.warn>i{background:var(--warn)}.bar.bad>i{background:var(--bad)}
figure{margin:0 0 16px;overflow-x:auto}
figcaption{font-size:.9em;margin-top:.4em}
svg{display:block;max-width:100%;height:auto;margin:0 auto;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
svg text{fill:var(--ink);font-size:13px}
svg text.soft{fill:var(--soft)}svg text.small{font-size:11.5px}svg text.big{font-size:16px;font-weight:600}
svg text.strong{font-weight:600}
svg text.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Noto Sans Mono",monospace;
font-size:12px}svg text.mono.small{font-size:11px}
svg rect,svg circle{fill:var(--card);stroke:var(--edge);stroke-width:1.2}
svg path,svg line,svg polyline{fill:none;stroke:var(--soft);stroke-width:1.5}
svg .host{fill:var(--host-fill);stroke:var(--host-edge)}svg text.host{fill:var(--host);stroke:none}
svg .inside{fill:var(--inside-fill);stroke:var(--inside-edge)}svg text.inside{fill:var(--inside);stroke:none}
svg .good{fill:var(--good-fill);stroke:var(--good-edge)}svg text.good{fill:var(--good);stroke:none}
svg .warn{fill:var(--warn-fill);stroke:var(--warn-edge)}svg text.warn{fill:var(--warn);stroke:none}
svg .bad{fill:var(--bad-fill);stroke:var(--bad-edge)}svg text.bad{fill:var(--bad);stroke:none}
svg path.host,svg line.host,svg path.inside,svg line.inside,svg path.bad{fill:none}
svg path.host,svg line.host{stroke:var(--host)}svg path.inside,svg line.inside{stroke:var(--inside)}
svg .dash{stroke-dasharray:5 4}
svg .plain{fill:none;stroke:none}
.narrow{display:none}
footer{color:var(--soft);font-size:.86em;margin-top:24px}
@media(max-width:640px){body{font-size:15px}main{padding:18px 12px 36px}
section,.card{padding:14px 14px;border-radius:10px}
.wide{display:none}.narrow{display:block}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5em}
table.stack,table.stack tbody,table.stack tr,table.stack td{display:block;width:100%}
table.stack thead{display:none}
table.stack tr{border-bottom:1px solid var(--edge);padding:8px 0}table.stack tr:last-child{border-bottom:0}
table.stack td{border:0;padding:1px 0;text-align:left;white-space:normal;min-width:0}
table.stack td:empty{display:none}
table.stack td[data-label]:not([data-label=""])::before{content:attr(data-label) ":";margin-right:.5em;
color:var(--soft);font-size:.86em;font-weight:400}
table.stack td:first-child{font-weight:600}table.stack td:first-child::before{display:none!important}}
@media print{:root{--paper:#fff;--card:#fff}body{font-size:11pt}main{max-width:none;padding:0}nav{display:none}
section,.card,figure,tr{break-inside:avoid}section,.card{border-radius:0;padding:8pt 10pt}details>*{display:block}
a{color:inherit;text-decoration:none}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


class Html(str):
    """Text that is html already: made by the functions here, and put in as it is."""

    __slots__ = ()


def visible(text: str) -> str:
    """Hostile text with nothing in it that acts: control characters, direction marks, lone bytes shown as \\x1b.

    Line ends are shown too: \\n. For a terminal as for a page; an escape sequence in a process's name, or a mark that
    turns the reading direction (CVE-2021-42574), is seen and does nothing.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _shown(char) for char in text)


def _shown(char: str) -> str:
    code = ord(char)
    if char in _SPACES:
        return char
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape has it
        return f"\\x{code - 0xDC00:02x}"
    if char in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[char]
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def escape(text: object, *, lines: bool = False) -> Html:
    """Anything as html. Html passes through; text is escaped, its control characters are shown (see visible).

    lines: keep line ends and tabs, for text in a <pre>.
    """
    if isinstance(text, Html):
        return text
    plain = str(text)
    if lines:
        shown = "\n".join("\t".join(map(visible, line.split("\t"))) for line in plain.split("\n"))
    else:
        shown = visible(plain)
    return Html("".join(_SPECIAL.get(char, char) for char in shown))


def tag(name: str, /, *inner: object, **attributes: object) -> Html:
    """An element: tag("td", "a < b", cls="number"). inner: Html as it is, all else escaped.

    attributes: `cls` is class, an underscore is a hyphen (data_label, stroke_width), None leaves one out. Their names
    and the element's are ours; only values may come from outside, and no value may become an address (href is only
    for "#..." here), so that no javascript: can get in.
    """
    shown = []
    for key, value in attributes.items():
        if value is None or (value == "" and key == "cls"):
            continue
        if key == "href" and not str(value).startswith("#"):
            raise ValueError(f"a page links only to itself, not to {value!r}")
        key = "class" if key == "cls" else key.replace("_", "-")
        shown.append(f' {key}="{escape(value)}"')
    head = f"<{name}{''.join(shown)}>"
    if name in _VOID:
        return Html(head[:-1] + "/>")
    return Html(f"{head}{join(inner, lines=name == 'pre')}</{name}>")


def join(parts: Iterable[object], between: str = "", *, lines: bool = False) -> Html:
    """Parts in a row, each escaped unless it is Html; between (plain text) stands between them."""
    return Html(escape(between).join(escape(part, lines=lines) for part in parts))


def chip(words: object, kind: str = "") -> Html:
    """A small rounded mark. kind: host, inside, good, warn, bad, or none."""
    return tag("span", words, cls=f"chip {kind}".rstrip())


def pairs(rows: Iterable[tuple[object, object]]) -> Html:
    """Names and values, side by side; one below the other on a phone."""
    return tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in rows))


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = (), short: Sequence[int] = ()
) -> Html:
    """A table that becomes one block a row on a phone. numbers: which columns are right-aligned figures; short: which
    have only few letters, that shall stay on one line."""
    kinds = ["number" if at in numbers else "short" if at in short else "" for at in range(len(head))]
    top = tag("thead", tag("tr", *(tag("th", word, cls=kind) for word, kind in zip(head, kinds, strict=True))))
    body = [
        tag("tr", *(tag("td", c, cls=k, data_label=w) for c, k, w in zip(row, kinds, head, strict=True)))
        for row in rows
    ]
    return tag("table", top, tag("tbody", *body), cls="stack")


def section(title: object, *inner: object, id: str = "", kind: str = "") -> Html:
    """A card with a heading. id: what a link of contents() points to."""
    return tag("section", tag("h2", title), *inner, id=id or None, cls=kind)


def contents(entries: Iterable[tuple[str, object]]) -> Html:
    """Links to the sections of the page: (id, words)."""
    return tag("nav", *(tag("a", words, href=f"#{id}") for id, words in entries))


def page(title: str, body: Html, *, lead: object = "", style: str = "", foot: object = "") -> str:
    """A whole html file. title: plain text; lead: a sentence or two below it; style: CSS of this kind of page alone."""
    top = join((tag("h1", title), tag("p", lead, cls="lead") if lead else Html("")))
    head = join(
        (
            Html('<meta charset="utf-8">'),
            tag("meta", **{"http-equiv": "Content-Security-Policy"}, content=_POLICY),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", title),
            Html(f"<style>{_STYLE}{style}</style>"),
        ),
    )
    bottom = tag("footer", foot) if foot else ""
    content = tag("main", top, body, bottom)
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{content}\n</body>\n</html>\n'


# --- drawings -------------------------------------------------------------------------------------------------------


def svg(width: float, height: float, *shapes: Html, label: str, cls: str = "") -> Html:
    """A drawing of that size in px; it shrinks with the page. label: what it shows, for who cannot see it."""
    size = {"width": f"{width:g}", "height": f"{height:g}", "viewBox": f"0 0 {width:g} {height:g}"}
    return tag("svg", tag("title", label), *shapes, **size, role="img", xmlns="http://www.w3.org/2000/svg", cls=cls)


def box(x: float, y: float, width: float, height: float, kind: str = "", *, radius: float = 8) -> Html:
    """A rectangle; kind: classes (host, inside, good, warn, bad, dash, plain)."""
    place = {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:g}", "height": f"{height:g}", "rx": f"{radius:g}"}
    return tag("rect", **place, cls=kind)


def words(x: float, y: float, text: object, kind: str = "", *, anchor: str = "", most: float = 0) -> Html:
    """Text with its baseline at y; anchor: middle or end; most: px it may take, cut with an ellipsis beyond."""
    shown = visible(str(text))
    if most:
        size = 11.5 if "small" in kind else 16 if "big" in kind else 13
        shown = fit(shown, most, size, mono="mono" in kind)
    full = tag("title", text) if shown != visible(str(text)) else ""
    return tag("text", shown, full, x=f"{x:g}", y=f"{y:g}", cls=kind, text_anchor=anchor or None)


def line(points: Sequence[tuple[float, float]], kind: str = "") -> Html:
    """Straight lines from point to point."""
    path = " ".join(f"{'L' if at else 'M'}{x:g} {y:g}" for at, (x, y) in enumerate(points))
    return tag("path", d=path, cls=kind)


def fit(text: str, most: float, size: float = 13, *, mono: bool = False) -> str:
    """Text cut to about that many px at that font size, by the width that letters have in common fonts."""
    if text_width(text, size, mono=mono) <= most:
        return text
    while text and text_width(text + "…", size, mono=mono) > most:
        text = text[:-1]
    return text + "…"


def text_width(text: str, size: float = 13, *, mono: bool = False) -> float:
    """About how many px a text takes: letters of Asian scripts are square, those of others 0.6 of the size."""
    return sum(size if ord(char) >= 0x2E80 else size * (0.61 if mono else 0.58) for char in text)
