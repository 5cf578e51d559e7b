"""What of this host info shows in a word; doctor asks for more, and says more (container/offers.py).

Each question is answered "yes", or "no" with what is missing; some can only be put by root.
"""

from __future__ import annotations

from ..container.offers import QUESTIONS
from ..kernel.host import Host

_SHOWN = {
    "overlayfs": "overlayfs",
    "nftables": "nftables",
    "clone into cgroup": "clone-into-cgroup",
    "seccomp": "seccomp",
    "eBPF device rules": "device-rules",
    "EROFS from a file": "erofs-files",
}


def features(state: str) -> dict[str, str]:
    """Feature → "yes", "no: what is missing", or "unknown: ...". state: the state directory."""
    host = Host(state)
    asked = {question.name: question for question in QUESTIONS}
    found = {title: asked[name].put(host) for title, name in _SHOWN.items()}
    words = {"ok": "yes", "limited": "no: ", "missing": "no: ", "unknown": "unknown: "}
    return {title: words[one.status] + (one.detail if one.status != "ok" else "") for title, one in found.items()}
