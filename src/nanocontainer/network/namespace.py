"""The network namespace: an own set of interfaces, addresses, routes, ports and firewall rules (network_namespaces(7)).

It is made on the host before the container's first process is born, and kept by an open file of it. All that belongs
into it is put there from outside, through netlink sockets opened in it: no process has to run inside for that. Init
joins it as its first act. When the last process and the last open file are gone, the kernel takes all of it away.
"""

from __future__ import annotations

import os

from ..kernel import abi
from ..kernel.netlink import LOOPBACK
from ..plan.step import Step, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Side

OWN = "/proc/thread-self/ns/net"
ADVERTISEMENTS = "/proc/sys/net/ipv6/conf/default/accept_ra"  # /proc/sys/net shows the namespace of who looks


class MakeNetworkNamespace(Step):
    """A new network namespace: no interface but a loopback that is down, and nobody in it yet."""

    side: ClassVar[Side] = "host"

    deaf: bool = False  # interfaces to come believe no router advertisements: a neighbour could pose as the router

    def writes(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        home = kernel.open(OWN, os.O_RDONLY)
        try:
            kernel.unshare(abi.CLONE_NEWNET)
            try:
                world["netns"] = kernel.open(OWN, os.O_RDONLY)
                if self.deaf:
                    kernel.write_file(ADVERTISEMENTS, b"0")
            finally:
                kernel.setns(home, abi.CLONE_NEWNET)
        finally:
            kernel.close(home)

    def explain(self) -> str:
        deaf = "; its interfaces will believe no router that a neighbour claims to be" * self.deaf
        return (
            "Make a network namespace and keep it by an open file: a world of its own of interfaces, addresses, "
            f"routes and ports, which vanishes with its last user{deaf} (unshare(2), network_namespaces(7))."
        )

    def shell(self) -> str:
        write = f"sh -c 'echo 0 >{ADVERTISEMENTS}'" if self.deaf else "true"
        return f'netns="$dir/netns"\n: >"$netns"\nunshare --net="$netns" {write}'

    def undone(self) -> str:
        return 'umount "$dir/netns"'


class OpenNetworkNamespace(Step):
    """The network namespace of another container: both share interfaces, addresses and ports."""

    side: ClassVar[Side] = "host"

    pid: int

    def writes(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        world["netns"] = world.kernel.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)

    def explain(self) -> str:
        return (
            f"Open the network namespace of process {self.pid}, to share its interfaces, addresses and ports "
            "(namespaces(7), setns(2))."
        )

    def shell(self) -> str:
        return f'netns=/proc/{self.pid}/ns/net\n[ -e "$netns" ] || die "the container to join has ended: no $netns"'


class RaiseLoopback(Step):
    """The loopback interface, up: 127.0.0.1 works inside."""

    side: ClassVar[Side] = "host"

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        with world.kernel.links(world["netns"]) as links:
            links.set_link(LOOPBACK, up=True)

    def explain(self) -> str:
        return (
            "Set the loopback interface up, which is born down, so that 127.0.0.1 works inside (rtnetlink(7), "
            "netdevice(7))."
        )

    def shell(self) -> str:
        return 'nsenter --net="$netns" ip link set lo up'


class EnterNetworkNamespace(Step):
    """From here on the process sees the container's network only."""

    side: ClassVar[Side] = "inside"
    part: ClassVar[str] = "born"

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        world.kernel.setns(world["netns"], abi.CLONE_NEWNET)

    def explain(self) -> str:
        return (
            "Move into the prepared network namespace, before /sys is mounted, because /sys shows the interfaces "
            "of whoever mounts it (setns(2), network_namespaces(7))."
        )

    def shell(self) -> str:
        return 'nsenter --net="$netns"'
