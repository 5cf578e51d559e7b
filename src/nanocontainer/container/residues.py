"""The steps that leave something behind, all of them: whoever recovers must know each kind that a journal can name."""

from __future__ import annotations

from ..network import bridge, publish
from ..rootfs import files, mounts
from ..runtime import cgroup, cgroup1

__all__ = ["bridge", "cgroup", "cgroup1", "files", "mounts", "publish"]
