"""--change of commit and import: lines of a Dockerfile, as docker reads them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from nanocontainer.errors import InvalidInput
from nanocontainer.image.changes import apply_changes

BASE: dict[str, Any] = {"Env": ["PATH=/bin", "A=1"], "Labels": {"x": "y"}, "WorkingDir": "/srv", "Cmd": ["old"]}


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ('CMD ["a", "b c"]', "Cmd", ["a", "b c"]),
        ("cmd echo $HOME", "Cmd", ["/bin/sh", "-c", "echo $HOME"]),
        ("CMD [broken", "Cmd", ["/bin/sh", "-c", "[broken"]),
        ('ENTRYPOINT ["/x"]', "Entrypoint", ["/x"]),
        ("ENV A=2 B='c d'", "Env", ["PATH=/bin", "A=2", "B=c d"]),
        ("ENV B the rest = all", "Env", ["PATH=/bin", "A=1", "B=the rest = all"]),
        ("LABEL a=b \"c d\"='e f'", "Labels", {"x": "y", "a": "b", "c d": "e f"}),
        ("EXPOSE 80 53/udp 8000-8002", "ExposedPorts",
         {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}),
        ("USER web:web", "User", "web:web"),
        ("WORKDIR sub/../other", "WorkingDir", "/srv/other"),
        ("WORKDIR /abs", "WorkingDir", "/abs"),
        ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/with space"]', "Volumes", {"/with space": {}}),
        ("ONBUILD RUN make", "OnBuild", ["RUN make"]),
        ("STOPSIGNAL SIGUSR1", "StopSignal", "SIGUSR1"),
        ("HEALTHCHECK --interval=30s --retries=3 CMD curl -f x", "Healthcheck",
         {"Interval": 30_000_000_000, "Retries": 3, "Test": ["CMD-SHELL", "curl -f x"]}),
        ('HEALTHCHECK CMD ["a"]', "Healthcheck", {"Test": ["CMD", "a"]}),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
    ],
)  # fmt: skip
def test_changes(change: str, field: str, value: object) -> None:
    before = {**BASE}
    changed = apply_changes(BASE, [change])
    assert changed[field] == value
    assert {**changed, field: None} == {**BASE, field: None}
    assert before == BASE  # a copy is changed


@pytest.mark.parametrize(
    "change",
    ["", "RUN make", "CMD", "ENV A", "ENV =x", "ENV A=1 B", "EXPOSE 0", "EXPOSE 70000", "EXPOSE 80/icmp", "EXPOSE a-b",
     "USER a b", "VOLUME []", "VOLUME [1]", "VOLUME " + "[" * 20_000, "ONBUILD FROM x", "HEALTHCHECK maybe",
     "HEALTHCHECK --often CMD x", "HEALTHCHECK --retries=x CMD y", "CMD a\nUSER b", "STOPSIGNAL a b", "ENV A='open"],
)  # fmt: skip
def test_what_is_no_change(change: str) -> None:
    with pytest.raises(InvalidInput):
        apply_changes(BASE, [change])


@given(some.text(max_size=60), some.sampled_from("CMD ENV LABEL EXPOSE VOLUME WORKDIR ONBUILD HEALTHCHECK".split()))
def test_any_text(text: str, word: str) -> None:
    try:
        apply_changes(BASE, [f"{word} {text}"])
    except InvalidInput:
        pass
