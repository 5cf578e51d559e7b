"""Steps of a container that runs: its cables and routes, changed from outside through netlink sockets in its namespace.

They are done behind the commit of a change (container/amending.py): each may be done twice, and leaves nothing that
outlives the namespace.
"""

from __future__ import annotations

from ..plan.step import Step, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Side


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
