"""Steps of a container that runs: its cables and routes, changed from outside through netlink sockets in its namespace.

A cable of a container that goes on must be taken back by name; a start's goes with the namespace. The others are done
behind the commit of a change (container/amending.py): each may be done twice, and leaves nothing that outlives the
namespace.
"""

from __future__ import annotations

from ..plan.step import Step, World
from .bridge import ConnectVeth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Residue, Side


class TurnBack(Step):
    """Frames of a container may come back to it: it can call a port that it has published itself."""

    side: ClassVar[Side] = "host"

    name: str = "eth0"

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        with world.kernel.links(world["netns"]) as inside:
            link = inside.link(self.name)
        if link is not None and link.peer:
            with world.kernel.links() as host:
                host.set_port(link.peer, hairpin=True)

    def explain(self) -> str:
        return (
            f"Let the bridge send a frame back to the port of {self.name} that it came in by: so the container can "
            "call a port that it has published itself, where bridged packets pass the firewall too (bridge(8), "
            "hairpin)."
        )

    def shell(self) -> str:
        return (
            f'link=$(nsenter --net="$netns" ip -o link show {self.name} | sed "s/.*@if\\([0-9]*\\):.*/\\1/")\n'
            'bridge link set dev "$(ip -o link | sed -n "s/^$link: \\([^@:]*\\)[@:].*/\\1/p")" hairpin on'
        )


class PlugCable(ConnectVeth):
    """One more cable for a container that runs: as ConnectVeth, and it can be pulled out again."""

    residue: ClassVar[Residue] = "kernel"

    def explain(self) -> str:
        return super().explain().replace("both ends vanish with the namespace", "both ends vanish together")

    def undone(self) -> str:
        return f"ip link delete {self.link}"

    def undo(self, world: World) -> None:
        """The host's end is deleted, and with it the container's, its addresses and its routes."""
        with world.kernel.links() as links:
            links.delete_link(self.link)


class SetDefaultRoute(Step):
    """The way out leads by another gateway, or there is none any more."""

    side: ClassVar[Side] = "host"

    gateway: str  # empty: no way out of this family
    gateway6: str = ""

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        with world.kernel.links(world["netns"]) as links:
            routes = links.routes()
            for six, wanted in ((False, self.gateway), (True, self.gateway6)):
                found = [
                    route.gateway
                    for route in routes
                    if not route.prefix and route.gateway and (":" in route.gateway) is six
                ]
                for gateway in found:
                    if gateway != wanted:
                        links.delete_route(gateway=gateway)
                if wanted and wanted not in found:
                    links.add_route(gateway=wanted)

    def explain(self) -> str:
        said = " and ".join(gateway for gateway in (self.gateway, self.gateway6) if gateway)
        if not said:
            return "Take the default route away: none of its networks leads out any more (rtnetlink(7))."
        return (
            f"Let the default route lead to {said}, as of all its networks the one with the highest priority has it, "
            "and among equals the first in the alphabet (rtnetlink(7))."
        )

    def shell(self) -> str:
        lines = []
        for family, gateway in (("-4", self.gateway), ("-6", self.gateway6)):
            word = f"replace default via {gateway}" if gateway else "delete default 2>/dev/null || :"
            lines.append(f'nsenter --net="$netns" ip {family} route {word}')
        return "\n".join(lines)
