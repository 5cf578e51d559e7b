"""The steps that leave something behind, all of them: whoever recovers must know each kind that a journal can name.

Kinds of which most containers have none are loaded when a journal names them."""

from __future__ import annotations

from ..network import bridge
from ..plan.step import Step
from ..rootfs import files, mounts
from ..runtime import cgroup, cgroup1

__all__ = ["bridge", "cgroup", "cgroup1", "files", "mounts"]

Step.elsewhere |= {
    "EnforceEgress": "nanocontainer.network.enforce",
    "EnsureResolver": "nanocontainer.network.resolver_steps",
    "ExtendEgress": "nanocontainer.network.enforce",
    "MakeNetwork": "nanocontainer.network.making",
    "PublishPorts": "nanocontainer.network.publish",
    "RegisterNames": "nanocontainer.network.resolver_steps",
    "ReservePort": "nanocontainer.network.publish",
    # of a change that was left half done
    "ForgetNames": "nanocontainer.network.enforce",
    "TurnBack": "nanocontainer.network.live",
    "PlugCable": "nanocontainer.network.live",
    "SetDefaultRoute": "nanocontainer.network.live",
}
