"""`trace` on real starts: every step is there, the parts add up to the whole, and it says why it cannot."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

from nanocontainer.container.spec import Spec
from nanocontainer.engine import Engine

from .nano import Nano


def names(nano: Nano) -> list[str]:
    spec = Spec(image="tiny", command=("true",), network="none")
    return [type(step).__name__ for step in Engine(nano.root, nano.runroot).explain(spec)]


def test_the_parts_add_up_to_what_the_user_waits(clean: Nano) -> None:
    data = json.loads(clean("trace", "-n", "3", "--format", "json", "--network", "none", "tiny", "true").out)
    rows = data["rows"]
    assert [row["label"] for row in rows if row["step"] and row["who"] != "between"] == names(clean)
    for run in range(3):
        assert sum(row["times"][run] for row in rows) == data["total"]["times"][run]
    assert all(time >= 0 for row in rows for time in row["times"])
    assert next(row["label"] for row in rows if not row["step"]) == "start Python"
    assert len(data["unwatched"]["times"]) == 3
    assert clean("ps", "-aq").out == ""


def test_the_table_and_the_picture(clean: Nano, tmp_path: Path) -> None:
    done = clean("trace", "-n", "2", "--network", "none", "-e", "A=b", "tiny", "sh", "-c", "exit 3")
    assert "what the user waits" in done.out
    assert "PivotRoot" in done.out
    picture = tmp_path / "start.svg"
    assert clean("trace", "-n1", "--format=svg", "-o", str(picture), "--network", "none", "tiny", "true").out == ""
    ElementTree.parse(picture)


def test_ctrl_c_ends_a_command_that_does_not_mind_it(clean: Nano) -> None:
    with clean.pty("trace", "-n", "5", "--network", "none", "tiny", "sleep", "600") as terminal:
        for _ in range(500):
            if clean("ps", "-q").out:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("no run was started")
        terminal.send("\x03")
        assert terminal.wait() == 130
    assert clean("ps", "-aq").out == ""


def test_what_cannot_be_traced(clean: Nano, tmp_path: Path) -> None:
    for args, said in (
        (("--format", "gif", "tiny", "true"), "table, svg, chrome, json"),
        (("-n", "0", "tiny", "true"), "at least one run"),
        (("nothing/here:at-all", "true"), "nothing/here"),
        (("-n", "1", "--network", "none", "tiny", "nothing"), "cannot run nothing"),
        (("-n", "1", "-o", f"{tmp_path}/no/such", "--network", "none", "tiny", "true"), "cannot write"),
    ):
        done = clean("trace", *args, check=False)
        assert done.code in (1, 125), done
        assert said in done.err, done
        assert "Traceback" not in done.err
