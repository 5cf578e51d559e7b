"""A network's bridge, and a container's cable to it.

The bridge is a switch in the kernel; the host's end of it has the gateway's address. A container hangs on it by a pair
of veth interfaces, made from inside its namespace with the other end here: when the namespace dies, both ends die.

The bridge belongs to the network and not to a container, and it is removed when the last container has left. The test
for that is "no lease of this network is left", under the lock of all networks. A container has its lease before its
plan is made, and HoldAddress releases it before EnsureBridge is undone (undo goes backwards): so a bridge that somebody
is about to use is never removed, and the last one always finds that it is the last.

Removing a bridge waits for a grace period of the kernel (35-60 ms, rcu_barrier in netdev_run_todo), far more than a
whole container start takes. So it is not removed at once: one process lingers for some seconds, looks again, and
removes it then. In a row of containers the bridge stays; after the last, nothing is left.
"""

from __future__ import annotations

import errno
import fcntl
import os

from ..errors import Conflict
from ..paths import FileLock, is_claimed, release
from ..plan.step import Step, World
from . import rules
from .leases import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..kernel.netlink import Links
    from ..plan.step import Residue, Side


class EnsureBridge(Step):
    """The network's bridge with its address, forwarding and the firewall's base rules, unless they are there.

    net.ipv4.ip_forward is a setting of the whole host. It stays on when all else is undone: who else relies on it by
    then cannot be known.
    """

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "kernel"

    interface: str
    gateway: str
    subnet: str
    table: str
    directory: str  # of the network: leases/
    lock: str
    mac: str
    mtu: int = 1500
    internal: bool = False
    linger: int = 0  # seconds to stay after the last container; 0: remove at once; -1: stay

    @property
    def prefix(self) -> int:
        return int(self.subnet.partition("/")[2])

    @property
    def script(self) -> str:
        return rules.base(self.table, self.interface, self.subnet, self.internal)

    def do(self, world: World) -> None:
        kernel = world.kernel
        with kernel.links() as links:
            with FileLock(self.lock, shared=True):
                if self._stands(links):
                    return
            with FileLock(self.lock):
                if not self._stands(links):
                    self._make(kernel, links)

    def _stands(self, links: Links) -> bool:
        """Being up is the last thing that _make does: who is up is complete. Somebody may have flushed our table."""
        link = links.link(self.interface)
        return link is not None and link.up and links.has_table(self.table)

    def _make(self, kernel: Kernel, links: Links) -> None:
        link = links.link(self.interface)
        if link is None:
            route = links.route_to(self.gateway)
            if route is not None and route.prefix >= self.prefix:
                raise Conflict(
                    f"subnet {self.subnet} of the network is in use on this host",
                    f"there is a route to {route.destination or 'all'}/{route.prefix}",
                    f"remove that route; or, with no container running, remove {self.directory}",
                )
            links.add_bridge(self.interface, mac=self.mac, mtu=self.mtu)
        elif link.kind not in ("bridge", ""):
            raise Conflict(f"interface {self.interface} exists and is no bridge", f"it is a {link.kind}", "rename it")
        try:
            links.add_address(self.interface, self.gateway, self.prefix)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
        kernel.nft(self.script)
        if kernel.read_file("/proc/sys/net/ipv4/ip_forward").strip() != b"1":
            kernel.write_file("/proc/sys/net/ipv4/ip_forward", b"1")
        # lets 127.0.0.1:PORT of the host be sent out to a container; the guard chain keeps others from using it
        kernel.write_file(f"/proc/sys/net/ipv4/conf/{self.interface}/route_localnet", b"1")
        # or a container could send router advertisements, and the host would route its IPv6 to it (CVE-2020-13401)
        advertisements = f"/proc/sys/net/ipv6/conf/{self.interface}/accept_ra"
        if kernel.exists(advertisements):  # not where the host has no IPv6
            kernel.write_file(advertisements, b"0")
        links.set_link(self.interface, up=True)

    def explain(self) -> str:
        return (
            f"Make the bridge {self.interface} unless it is there, a switch in the kernel with the address "
            f"{self.gateway}/{self.prefix}, and the rules that let its containers out and nobody in (NAT, published "
            f"ports, a guard); net.ipv4.ip_forward, which is turned on for that, stays on, as others may rely on it by "
            "then (rtnetlink(7), nft(8))."
        )

    def asked(self) -> str:
        name = self.interface
        return (
            f'if [ -e /sys/class/net/{name} ] || [ -n "$(ip -4 route show root {self.subnet})" ]; then\n'
            f'    die "bridge {name} or subnet {self.subnet} is in use on this host"\n'
            "fi"
        )

    def shell(self) -> str:
        name = self.interface
        return (
            f"ip link add {name} address {self.mac} mtu {self.mtu} type bridge\n"
            f"ip address add {self.gateway}/{self.prefix} dev {name}\n"
            f"nft -f - <<'END'\n{self.script}END\n"
            f"echo 1 >/proc/sys/net/ipv4/ip_forward\n"
            f"echo 1 >/proc/sys/net/ipv4/conf/{name}/route_localnet\n"
            f"[ ! -e /proc/sys/net/ipv6 ] || echo 0 >/proc/sys/net/ipv6/conf/{name}/accept_ra\n"
            f"ip link set {name} up"
        )

    def undone(self) -> str:
        return f"nft delete table inet {self.table}\nip link delete {self.interface}"

    def undo(self, world: World) -> None:
        """If no address of the network is in use any more, one process waits a while, looks again, and then removes
        the bridge and its rules."""
        kernel = world.kernel
        try:
            lock = FileLock(self.lock).__enter__()
        except FileNotFoundError:  # the state directory is gone, and with it all claims
            self._remove(kernel)
            return
        try:
            if self.linger < 0 or is_claimed(f"{self.directory}/leases"):
                return
            if not self.linger:
                self._remove(kernel)
                return
            fd = os.open(f"{self.directory}/linger", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._leave_somebody(kernel, fd)
            except BlockingIOError:
                pass  # somebody lingers already, and will see what we see
            finally:
                os.close(fd)
        finally:
            lock.__exit__()

    def _remove(self, kernel: Kernel) -> None:
        """Under the lock: this bridge goes, and the table when it was the last one in it."""
        with kernel.links() as links:
            if links.has_table(self.table):
                kernel.nft(rules.forget(self.table, self.interface, self.subnet))
                if "elements" not in kernel.nft(f"list set inet {self.table} bridges"):
                    kernel.nft(f"delete table inet {self.table}")
            links.delete_link(self.interface)

    def _leave_somebody(self, kernel: Kernel, fd: int) -> None:
        """A process that waits and holds fd, the lock of who lingers. A grandchild: nobody has to wait for it."""
        child = kernel.fork()
        if child:
            kernel.waitpid(child)
            return
        try:
            if kernel.fork() == 0:
                self._linger(kernel, fd)
        finally:
            kernel.exit(0)

    def _linger(self, kernel: Kernel, fd: int) -> None:
        """Looks again after a while. The lock of who lingers is dropped under the lock of all networks: a container
        that leaves later either finds nobody lingering, or is seen here."""
        import time

        kernel.setsid()
        kernel.chdir("/")
        kernel.set_name("nanoc:linger")
        if fd:
            kernel.close_range(0, fd - 1, 0)
        kernel.close_range(fd + 1, 0xFFFFFFFF, 0)
        while kernel.open("/dev/null", os.O_RDWR) < 2:
            pass
        time.sleep(self.linger)
        with FileLock(self.lock):
            if not is_claimed(f"{self.directory}/leases"):
                self._remove(kernel)
            fcntl.flock(fd, fcntl.LOCK_UN)


class HoldAddress(Step):
    """The container's address: its lease was claimed before the plan was made, and is released when it is undone."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "disk"

    path: str  # of the lease
    id: str
    names: str = ""  # the directory of container names, for an error message

    @property
    def address(self) -> str:
        return self.path.rpartition("/")[2]

    def do(self, world: World) -> None:
        holder = world.kernel.readlink(self.path)
        if holder != self.id:
            why = f"container {name_of(self.names, holder)} has it now"
            raise Conflict(f"the lease of address {self.address} is lost", why, "start the container again")

    def explain(self) -> str:
        return (
            f"Make sure that the address {self.address} is still this container's: a symlink named after it "
            "points at the container's id, and there can be only one of that name (symlink(2), readlink(2))."
        )

    def shell(self) -> str:
        return f"# No lease is needed for {self.address}: the bridge is this script's alone."

    def undo(self, world: World) -> None:
        """The claim on the address is given back."""
        release(self.path, self.id)


class ConnectVeth(Step):
    """A cable: one end is the container's eth0, the other is plugged into the bridge.

    hairpin: frames may leave by the port they came in by. A container that calls a port it has published itself needs
    it where bridged packets pass the firewall too (br_netfilter): there the bridge, not the host, turns them round.
    """

    side: ClassVar[Side] = "host"

    bridge: str
    link: str
    mac: str
    mtu: int = 1500
    name: str = "eth0"
    hairpin: bool = False

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        kernel = world.kernel
        with kernel.links(world["netns"]) as inside:
            inside.add_veth(self.name, self.link, mac=self.mac, mtu=self.mtu)
        with kernel.links() as host:
            host.set_link(self.link, master=host.index(self.bridge), up=True)
            # The last container of this address had the same MAC, and its port dies only now: the bridge must neither
            # send to that port what is for us, nor learn again from its last words. Nor may others take our MAC.
            port = host.index(self.link)
            host.pin_mac(port, self.mac)
            if self.hairpin:
                host.set_port(port, hairpin=True)

    def explain(self) -> str:
        back = ", from where it gets back what it sends to a port that it has published itself" * self.hairpin
        return (
            f"Lay a cable from {self.name} in the namespace to {self.link} on the host, plugged into {self.bridge}"
            f"{back}: it is a pair of interfaces, and both ends vanish with the namespace (veth(4), rtnetlink(7))."
        )

    def shell(self) -> str:
        lines = [
            f'nsenter --net="$netns" ip link add {self.name} address {self.mac} mtu {self.mtu} up type veth \\',
            f"    peer name {self.link} netns $$ mtu {self.mtu}",
            f"ip link set {self.link} master {self.bridge} up",
            f"bridge fdb replace {self.mac} dev {self.link} master static sticky",
        ]
        if self.hairpin:
            lines.append(f"bridge link set dev {self.link} hairpin on")
        return "\n".join(lines)


class AddAddress(Step):
    """The container's address on its interface."""

    side: ClassVar[Side] = "host"

    address: str
    prefix: int
    name: str = "eth0"

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        with world.kernel.links(world["netns"]) as links:
            links.add_address(self.name, self.address, self.prefix)

    def explain(self) -> str:
        return (
            f"Give {self.name} the address {self.address}/{self.prefix}, by which the container is reached "
            "(rtnetlink(7))."
        )

    def shell(self) -> str:
        return f'nsenter --net="$netns" ip address add {self.address}/{self.prefix} broadcast + dev {self.name}'


class AddDefaultRoute(Step):
    """The way out: whatever is not on the bridge is sent to the gateway."""

    side: ClassVar[Side] = "host"

    gateway: str

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        with world.kernel.links(world["netns"]) as links:
            links.add_route(gateway=self.gateway)

    def explain(self) -> str:
        return (
            f"Send everything that is not for a neighbour to the gateway {self.gateway}, the bridge's own "
            "address, which is the way out (rtnetlink(7))."
        )

    def shell(self) -> str:
        return f'nsenter --net="$netns" ip route add default via {self.gateway}'
