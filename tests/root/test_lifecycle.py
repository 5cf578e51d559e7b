"""create, start, stop, kill, restart, pause, wait, rm: states, exit codes, and what stands in the way."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from .nano import Nano


def state(nano: Nano, ref: str, field: str = "Status") -> str:
    return nano("inspect", "-f", f"{{{{.State.{field}}}}}", ref).out.strip()


def test_a_whole_life(clean: Nano) -> None:
    id = clean("create", "--name", "life", "--network", "none", "tiny", "sh", "-c", "echo hi; sleep 1000").out.strip()
    assert state(clean, "life") == "created"
    clean("start", "life")
    assert state(clean, "life") == "running"
    clean("pause", "life")
    assert state(clean, "life") == "paused"
    assert "paused" in clean("exec", "life", "true", check=False).err
    clean("unpause", "life")
    assert state(clean, "life") == "running"
    clean("stop", "-t", "0", id[:8])
    assert (state(clean, "life"), state(clean, "life", "ExitCode")) == ("exited", "137")
    clean("restart", "life")
    assert state(clean, "life") == "running"
    clean("kill", "life")
    assert state(clean, "life") == "exited"
    assert clean("logs", "life").out == "hi\nhi\n"
    clean("rm", "life")
    assert clean("inspect", "life", check=False).code == 1


ENDS = [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$; sleep 1", 143)]


@pytest.mark.parametrize(("script", "code"), ENDS)
def test_exit_codes(nano: Nano, script: str, code: int) -> None:
    done = nano("run", "--rm", "--init", "--network", "none", "tiny", "sh", "-c", f"sh -c '{script}'", check=False)
    assert done.code == code


@pytest.mark.parametrize(
    ("command", "code"), [("/nowhere", 127), ("nowhere", 127), ("/etc", 126), ("/etc/passwd", 126)]
)
def test_what_cannot_be_executed(nano: Nano, command: str, code: int) -> None:
    done = nano("run", "--rm", "--network", "none", "tiny", command, check=False)
    assert done.code == code
    assert done.err.startswith(f"Error: cannot run {command}")


def test_a_container_that_could_not_start_says_why_and_can_be_removed(clean: Nano) -> None:
    clean("create", "--name", "bad", "--network", "none", "tiny", "/nowhere")
    assert clean("start", "bad", check=False).code == 1 or clean("start", "bad", check=False).code == 127
    assert state(clean, "bad") == "created"
    assert "cannot run /nowhere" in state(clean, "bad", "Error")
    clean("rm", "bad")


def test_stop_asks_first_and_honours_the_signal(clean: Nano) -> None:
    script = "trap 'echo bye; exit 3' INT; echo up; while :; do sleep 0.05; done"
    clean("run", "-d", "--name", "st", "--stop-signal", "INT", "--network", "none", "tiny", "sh", "-c", script)
    deadline = time.monotonic() + 5
    while clean("logs", "st").out != "up\n":
        assert time.monotonic() < deadline
    clean("stop", "st")
    assert state(clean, "st", "ExitCode") == "3"
    assert clean("logs", "st").out == "up\nbye\n"


def test_a_paused_container_can_be_killed_and_stopped(clean: Nano) -> None:
    for verb in (("kill",), ("stop", "-t", "1"), ("rm", "-f")):
        clean("run", "-d", "--name", "pp", "--network", "none", "tiny", "sleep", "1000")
        clean("pause", "pp")
        clean(*verb, "pp")
        clean("rm", "-f", "pp", check=False)


def test_paused_is_what_the_kernel_says(clean: Nano) -> None:
    """Nobody but the keeper writes the state of what it keeps: its last word, exited, cannot be overwritten."""
    id = clean("run", "-d", "--name", "pp", "--network", "none", "tiny", "sleep", "1000").out.strip()
    path = Path(f"{clean.root}/containers/{id}/state.json")
    before = path.stat().st_ino
    clean("pause", "pp")
    assert state(clean, "pp") == "paused"
    assert "(Paused)" in clean("ps").out
    assert "is paused" in clean("exec", "pp", "true", check=False).err
    assert clean("pause", "pp", check=False).code == 1
    clean("unpause", "pp")
    assert state(clean, "pp") == "running"
    assert clean("unpause", "pp", check=False).code == 1
    assert path.stat().st_ino == before
    clean("pause", "pp")
    pid = int(state(clean, "pp", "Pid"))
    os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), 9)  # its keeper
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)
    assert state(clean, "pp") == "exited"


def test_names(clean: Nano) -> None:
    id = clean("create", "--name", "taken", "--network", "none", "tiny", "true").out.strip()
    done = clean("create", "--name", "taken", "--network", "none", "tiny", "true", check=False)
    assert done.code == 125
    assert "already in use" in done.err
    assert id[:12] in done.err
    assert clean("run", "--name", "bad/name", "tiny", "true", check=False).code == 125
    clean("rm", "taken")
    clean("run", "--name", "taken", "--network", "none", "tiny", "true")


def test_many_at_once_with_one_name(clean: Nano) -> None:
    runs = [clean.popen("run", "-d", "--name", "race", "--network", "none", "tiny", "sleep", "1000",
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]  # fmt: skip
    for run in runs:
        run.communicate(timeout=20)
    assert sorted(run.returncode for run in runs) == [0] + [125] * 7
    assert len(clean("ps", "-aq").out.split()) == 1


def test_running_containers_are_not_removed_unless_forced(clean: Nano) -> None:
    clean("run", "-d", "--name", "rr", "--network", "none", "tiny", "sleep", "1000")
    done = clean("rm", "rr", check=False)
    assert done.code == 1
    assert "running" in done.err
    clean("rm", "-f", "rr")


def test_two_removals_at_once(clean: Nano) -> None:
    clean("create", "--name", "rr", "--network", "none", "tiny", "true")
    both = [clean.popen("rm", "-f", "rr", stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for one in both:
        assert b"bug" not in one.communicate(timeout=10)[1]
    assert clean("ps", "-aq").out == ""


def test_broken_files_are_named_and_the_rest_goes_on(clean: Nano) -> None:
    good = clean("create", "--name", "good", "--network", "none", "tiny", "true").out.strip()
    bad = clean("create", "--name", "bad", "--network", "none", "tiny", "true").out.strip()
    Path(f"{clean.root}/containers/{bad}/spec.json").write_text("{")
    done = clean("ps", "-a", "--no-trunc", check=False)
    assert good in done.out
    assert bad[:12] in done.err
    assert "bug" not in clean("inspect", "bad", check=False).err
    clean("rm", "-f", bad)
    assert os.listdir(f"{clean.root}/containers") == [good]
    assert os.listdir(f"{clean.root}/names") == ["good"]


@pytest.mark.parametrize(("file", "change"), [("state", {"status": 5}), ("spec", {"id": "0" * 64})])
def test_strange_files_are_named_and_the_rest_goes_on(clean: Nano, file: str, change: dict[str, object]) -> None:
    good = clean("create", "--name", "good", "--network", "none", "tiny", "true").out.strip()
    bad = clean("create", "--name", "bad", "--network", "none", "tiny", "true").out.strip()
    path = Path(f"{clean.root}/containers/{bad}/{file}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    done = clean("ps", "-a", "--no-trunc", check=False)
    assert good in done.out
    assert str(path) in done.err
    clean("rm", bad)
    assert os.listdir(f"{clean.root}/containers") == [good]
    assert os.listdir(f"{clean.root}/names") == ["good"]


@pytest.mark.parametrize("file", ["state", "spec"])
def test_a_running_container_with_broken_files_can_be_removed(clean: Nano, file: str) -> None:
    id = clean("run", "-d", "--name", "bad", "--network", "none", "tiny", "sleep", "1000").out.strip()
    Path(f"{clean.root}/containers/{id}/{file}.json").write_text("{")
    assert clean("rm", "bad", check=False).code == 1
    clean("rm", "-f", "bad")
    assert os.listdir(f"{clean.root}/containers") == []
    assert os.listdir(f"{clean.root}/names") == []


def test_detached_and_removed_at_its_end(clean: Nano) -> None:
    id = clean("run", "-d", "--rm", "--network", "none", "tiny", "sleep", "0.2").out.strip()
    clean("wait", id, check=False)
    assert clean("ps", "-aq").out == ""


def test_a_start_of_what_runs_already(clean: Nano) -> None:
    clean("run", "-d", "--name", "rr", "--network", "none", "tiny", "sleep", "1000")
    pid = state(clean, "rr", "Pid")
    clean("start", "rr")
    assert state(clean, "rr", "Pid") == pid
