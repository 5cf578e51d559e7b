"""The engine in a chroot: the mount namespace's root is then not the engine's, and nothing may lead there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .nano import COMMAND, Nano

ENTER = """\
set -e
mount --make-rprivate /
mount --bind / "$1"
mount --rbind /dev "$1/dev"
mount --rbind /sys "$1/sys"
mount -t proc proc "$1/proc"
mount -t tmpfs run "$1/run"
mount -t tmpfs state "$1/mnt"
exec chroot "$1" sh -c "$2"
"""
# A file that the whole machine has and the image does not.
LOOK = 'if [ -e "$0" ]; then echo outside; else echo inside; fi'


def test_exec_stays_inside_where_the_engine_runs_in_a_chroot(clean: Nano, tmp_path: Path) -> None:
    place = tmp_path / "chroot"
    place.mkdir()
    script = f"""\
set -e
export NANOCONTAINER_ROOT=/mnt/state NANOCONTAINER_RUNROOT=/run/nano
cd /
{COMMAND} run -d --name one --network none tiny sleep 60
trap '{COMMAND} rm -f one' EXIT
{COMMAND} exec one sh -c '{LOOK}' {COMMAND} </dev/null
{COMMAND} exec one ls -d /mnt/state </dev/null || echo no state
"""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", ENTER, "sh", str(place), script],
        env={**clean.env, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:3] == ["inside", "no state"], done
