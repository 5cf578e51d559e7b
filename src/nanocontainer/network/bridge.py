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

IPv6 needs three words more. An address is usable only when nobody has objected to it for a second (duplicate address
detection, RFC 4862): ours are claimed, so they are given without it (nodad). A host forwards IPv6 only when told to,
and told so by net.ipv6.conf.all.forwarding it takes itself for a router and drops the routes that its own router has
advertised: since Linux 6.17 force_forwarding says it without that; on older kernels interfaces that listen to routers
are told to go on (accept_ra=2, ip-sysctl.rst). And neighbours could pose as routers: nobody on a bridge listens to
them.
"""

from __future__ import annotations

import errno
import fcntl
import os

from ..errors import Conflict
from ..paths import FileLock, Paths, claims, is_claimed, release
from ..plan.step import Step, World
from . import rules
from .leases import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..kernel.netlink import Links
    from ..plan.step import Residue, Side


_CONF4, _CONF6 = "/proc/sys/net/ipv4/conf", "/proc/sys/net/ipv6/conf"


_BRIDGED = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"


class EnsureBridge(Step):
    """The network's bridge with its addresses, forwarding and the firewall's base rules, unless they are there.

    Forwarding is a setting of the whole host. It stays on when all else is undone: who else relies on it by then cannot
    be known.
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
    gateway6: str = ""  # empty: no IPv6
    subnet6: str = ""
    icc: bool = True  # whether its containers reach each other
    masquerade: bool = True  # whether who leaves takes the host's address
    metadata: bool = True  # whether the metadata services of clouds may be asked

    @property
    def prefix(self) -> int:
        return int(self.subnet.partition("/")[2])

    @property
    def prefix6(self) -> int:
        return int(self.subnet6.partition("/")[2] or 0)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Of the bridge: the gateways."""
        return [(self.gateway, self.prefix), *([(self.gateway6, self.prefix6)] if self.gateway6 else [])]

    @property
    def script(self) -> str:
        return rules.base(
            self.table, self.interface, self.subnet, self.internal, self.subnet6,
            icc=self.icc, masquerade=self.masquerade, metadata=self.metadata,
        )  # fmt: skip

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
        return link is not None and link.up and links.has_element(self.table, "bridges", self.interface)

    def _make(self, kernel: Kernel, links: Links) -> None:
        link = links.link(self.interface)
        if link is None:
            self._check_free(links)
            links.add_bridge(self.interface, mac=self.mac, mtu=self.mtu)
        elif link.kind not in ("bridge", ""):
            raise Conflict(f"interface {self.interface} exists and is no bridge", f"it is a {link.kind}", "rename it")
        for address, prefix in self.addresses:
            try:
                links.add_address(self.interface, address, prefix)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
        self._set_rules(kernel, links, begun=link is not None)
        if kernel.read_file("/proc/sys/net/ipv4/ip_forward").strip() != b"1":
            kernel.write_file("/proc/sys/net/ipv4/ip_forward", b"1")
        # lets 127.0.0.1:PORT of the host be sent out to a container; the guard chain keeps others from using it
        kernel.write_file(f"{_CONF4}/{self.interface}/route_localnet", b"1")
        if kernel.exists(_CONF6):  # not where the host has no IPv6
            # or a container could send router advertisements, and the host would route its IPv6 to it (CVE-2020-13401)
            kernel.write_file(f"{_CONF6}/{self.interface}/accept_ra", b"0")
            if self.subnet6:
                self._forward6(kernel)
        links.set_link(self.interface, up=True)
        if self.subnet6:
            links.receive("::1", self.interface)
            kernel.nft(rules.loopback6(self.table, answers_lost(kernel)))

    def _set_rules(self, kernel: Kernel, links: Links, *, begun: bool) -> None:
        """This bridge's rules; and those of all who are there, if somebody has flushed them. begun: it is there."""
        script = self.script
        if (begun or self._has_neighbours()) and not links.has_table(self.table):
            from .restore import restoration

            script = restoration(self.paths, kernel) + script
        kernel.nft(script)

    def _has_neighbours(self) -> bool:
        """Whether a container is on another network."""
        own, networks = self.directory, os.path.dirname(self.directory)
        return any(is_claimed(f"{place}/leases") for name in claims(networks) if (place := f"{networks}/{name}") != own)

    @property
    def paths(self) -> Paths:
        return Paths(os.path.dirname(os.path.dirname(self.lock)))

    def _check_free(self, links: Links) -> None:
        for subnet, gateway, prefix in (
            (self.subnet, self.gateway, self.prefix), (self.subnet6, self.gateway6, self.prefix6)
        ):  # fmt: skip
            route = links.route_to(gateway) if gateway else None
            if route is not None and route.prefix >= prefix:
                raise Conflict(
                    f"subnet {subnet} of the network is in use on this host",
                    f"there is a route to {route.destination or 'all'}/{route.prefix}",
                    f"remove that route; or, with no container running, remove {self.directory}",
                )

    def _forward6(self, kernel: Kernel) -> None:
        """Forwarding of IPv6 without changing what the host takes from its own routers."""
        if kernel.exists(f"{_CONF6}/all/force_forwarding"):
            for place in ("default", "all"):  # those to come, and those that are there
                kernel.write_file(f"{_CONF6}/{place}/force_forwarding", b"1")
            return
        if kernel.read_file(f"{_CONF6}/all/forwarding").strip() == b"1":
            return
        for place in kernel.listdir(_CONF6):
            if place != "all" and kernel.read_file(f"{_CONF6}/{place}/accept_ra").strip() == b"1":
                kernel.write_file(f"{_CONF6}/{place}/accept_ra", b"2")
        kernel.write_file(f"{_CONF6}/all/forwarding", b"1")

    def explain(self) -> str:
        addresses = " and ".join(f"{address}/{prefix}" for address, prefix in self.addresses)
        return (
            f"Make the bridge {self.interface} unless it is there, a switch in the kernel with the "
            f"{'addresses' if self.gateway6 else 'address'} {addresses}, and the rules that let its containers out and "
            "nobody in (NAT, published ports, a guard); forwarding of the host, which is turned on for that, stays on, "
            "as others may rely on it by then (rtnetlink(7), nft(8))."
        )

    def asked(self) -> str:
        name = self.interface
        six = f' || [ -n "$(ip -6 route show root {self.subnet6})" ]' if self.subnet6 else ""
        return (
            f'if [ -e /sys/class/net/{name} ] || [ -n "$(ip -4 route show root {self.subnet})" ]{six}; then\n'
            f'    die "bridge {name} or its subnet {self.subnet} is in use on this host"\n'
            "fi"
        )

    def shell(self) -> str:
        name = self.interface
        lines = [f"ip link add {name} address {self.mac} mtu {self.mtu} type bridge"]
        lines += [
            f"ip address add {address}/{prefix} dev {name}{' nodad' * (':' in address)}"
            for address, prefix in self.addresses
        ]
        lines += [
            f"nft -f - <<'END'\n{self.script}END",
            "echo 1 >/proc/sys/net/ipv4/ip_forward",
            f"echo 1 >{_CONF4}/{name}/route_localnet",
            f"[ ! -e {_CONF6} ] || echo 0 >{_CONF6}/{name}/accept_ra",
        ]
        if self.subnet6:
            lines.append(
                f"if [ -e {_CONF6}/all/force_forwarding ]; then\n"
                f"    echo 1 >{_CONF6}/default/force_forwarding; echo 1 >{_CONF6}/all/force_forwarding\n"
                f'elif [ "$(cat {_CONF6}/all/forwarding)" != 1 ]; then\n'
                f"    for conf in {_CONF6}/*/accept_ra; do\n"
                '        [ "$(cat "$conf")" != 1 ] || echo 2 >"$conf"\n'
                "    done\n"
                f"    echo 1 >{_CONF6}/all/forwarding\n"
                "fi"
            )
        lines.append(f"ip link set {name} up")
        if self.subnet6:
            lines.append(
                f"ip -6 route append local ::1 dev {name} table local metric 4096\n"
                f'if [ "$(cat {_BRIDGED} 2>/dev/null)" = 1 ]; then # answers to [::1] could not be received\n'
                f"    nft '{rules.loopback6(self.table, True).rstrip()}'\n"
                "fi"
            )
        return "\n".join(lines)

    def undone(self) -> str:
        return f"nft 'add table inet {self.table}; delete table inet {self.table}'\nip link delete {self.interface}"

    def undo(self, world: World) -> None:
        """If no address of the network is in use any more, one process waits a while, looks again, and then removes
        the bridge and its rules."""
        kernel = world.kernel
        try:
            lock = FileLock(self.lock).__enter__()
        except FileNotFoundError:  # the state directory is gone, and with it all claims
            self.remove(kernel)
            return
        try:
            if self.linger < 0 or is_claimed(f"{self.directory}/leases"):
                return
            if not self.linger:
                self.remove(kernel)
                return
            try:
                fd = os.open(f"{self.directory}/linger", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # the network has been removed while a container that was killed was on it
                self.remove(kernel)
                return
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._leave_somebody(kernel, fd)
            except BlockingIOError:
                pass  # somebody lingers already, and will see what we see
            finally:
                os.close(fd)
        finally:
            lock.__exit__()

    def remove(self, kernel: Kernel) -> None:
        """Under the lock of all networks: this bridge goes, and the table when it was the last one in it."""
        with kernel.links() as links:
            if links.has_table(self.table):
                kernel.nft(rules.forget(self.table, self.interface, self.subnet, self.subnet6))
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
                self.remove(kernel)
            fcntl.flock(fd, fcntl.LOCK_UN)


def answers_lost(kernel: Kernel) -> bool:
    """Whether the host's own [::1] cannot be an address of published ports: bridged packets pass the firewall."""
    return kernel.exists(_BRIDGED) and kernel.read_file(_BRIDGED).strip() == b"1"


class HoldAddress(Step):
    """The container's addresses: their leases were claimed before the plan was made, and are released when it is
    undone."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "disk"

    path: str  # of the lease
    id: str
    names: str = ""  # the directory of container names, for an error message
    path6: str = ""  # of the IPv6 address's lease, if it has one

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path, self.path6) if self.path6 else (self.path,)

    @property
    def addresses(self) -> str:
        return " and ".join(path.rpartition("/")[2] for path in self.paths)

    def do(self, world: World) -> None:
        for path in self.paths:
            holder = world.kernel.readlink(path)
            if holder != self.id:
                what = f"the lease of address {path.rpartition('/')[2]} is lost"
                why = f"container {name_of(self.names, holder)} has it now"
                raise Conflict(what, why, "start the container again")

    def explain(self) -> str:
        if self.path6:
            return (
                f"Make sure that the addresses {self.addresses} are still this container's: symlinks named after them "
                "point at the container's id, and there can be only one of each name (symlink(2), readlink(2))."
            )
        return (
            f"Make sure that the address {self.addresses} is still this container's: a symlink named after it "
            "points at the container's id, and there can be only one of that name (symlink(2), readlink(2))."
        )

    def shell(self) -> str:
        return f"# No lease is needed for {self.addresses}: the bridge is this script's alone."

    def undo(self, world: World) -> None:
        """The claims on the addresses are given back."""
        for path in self.paths:
            release(path, self.id)


class ConnectVeth(Step):
    """A cable: one end is the container's interface, the other is the host's, plugged in nowhere yet."""

    side: ClassVar[Side] = "host"

    link: str
    mac: str
    mtu: int = 1500
    name: str = "eth0"
    ipv6: bool = True  # False: the network has none, and the interface gets not even a link-local address

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        with world.kernel.links(world["netns"]) as inside:
            inside.add_veth(self.name, self.link, mac=self.mac, mtu=self.mtu)
            if not self.ipv6:
                inside.forgo_ipv6(self.name)

    def explain(self) -> str:
        return (
            f"Lay a cable from {self.name} in the namespace to {self.link} on the host: a pair of interfaces, and "
            "both ends vanish with the namespace (veth(4), rtnetlink(7))."
        )

    def shell(self) -> str:
        lines = [
            f'nsenter --net="$netns" ip link add {self.name} address {self.mac} mtu {self.mtu} up type veth \\',
            f"    peer name {self.link} netns $$ mtu {self.mtu}",
        ]
        if not self.ipv6:
            lines.append(f'nsenter --net="$netns" ip link set {self.name} addrgenmode none')
        return "\n".join(lines)


class JoinBridge(Step):
    """The host's end of the cable is plugged into the bridge, and set up.

    hairpin: frames may leave by the port they came in by. A container that calls a port it has published itself needs
    it where bridged packets pass the firewall too (br_netfilter): there the bridge, not the host, turns them round.
    """

    side: ClassVar[Side] = "host"

    bridge: str
    link: str
    mac: str
    hairpin: bool = False
    isolated: bool = False  # from the other isolated ports of the bridge

    def do(self, world: World) -> None:
        with world.kernel.links() as host:
            host.set_link(self.link, master=host.index(self.bridge), up=True)
            # The last container of this address had the same MAC, and its port dies only now: the bridge must neither
            # send to that port what is for us, nor learn again from its last words. Nor may others take our MAC.
            port = host.index(self.link)
            host.pin_mac(port, self.mac)
            if self.hairpin or self.isolated:
                host.set_port(port, hairpin=self.hairpin or None, isolated=self.isolated or None)

    def explain(self) -> str:
        back = ", from where it gets back what it sends to a port that it has published itself" * self.hairpin
        back += ", where its neighbours cannot reach it" * self.isolated
        return f"Plug {self.link} into the bridge {self.bridge}{back} (bridge(8), rtnetlink(7))."

    def shell(self) -> str:
        lines = [
            f"ip link set {self.link} master {self.bridge} up",
            f"bridge fdb replace {self.mac} dev {self.link} master static sticky",
        ]
        if self.hairpin:
            lines.append(f"bridge link set dev {self.link} hairpin on")
        if self.isolated:
            lines.append(f"bridge link set dev {self.link} isolated on")
        return "\n".join(lines)


class AddAddress(Step):
    """The container's addresses on an interface."""

    side: ClassVar[Side] = "host"

    address: str
    prefix: int
    name: str = "eth0"
    address6: str = ""  # an IPv6 address beside it
    prefix6: int = 0

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [(self.address, self.prefix), *([(self.address6, self.prefix6)] if self.address6 else [])]

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        with world.kernel.links(world["netns"]) as links:
            links.add_addresses(self.name, self.addresses)

    def explain(self) -> str:
        shown = " and ".join(f"{address}/{prefix}" for address, prefix in self.addresses)
        many = "es" * (len(self.addresses) > 1)
        return f"Give {self.name} the address{many} {shown}, by which the container is reached (rtnetlink(7))."

    def shell(self) -> str:
        return "\n".join(
            f'nsenter --net="$netns" ip address add {address}/{prefix} '
            f"{'nodad' if ':' in address else 'broadcast +'} dev {self.name}"
            for address, prefix in self.addresses
        )


class AddDefaultRoute(Step):
    """The way out: whatever is not on a bridge of the container's is sent to the gateway."""

    side: ClassVar[Side] = "host"

    gateway: str  # empty: of IPv6 only
    gateway6: str = ""

    @property
    def gateways(self) -> list[str]:
        return [gateway for gateway in (self.gateway, self.gateway6) if gateway]

    def reads(self) -> tuple[str, ...]:
        return ("netns",)

    def do(self, world: World) -> None:
        with world.kernel.links(world["netns"]) as links:
            for gateway in self.gateways:
                links.add_route(gateway=gateway)

    def explain(self) -> str:
        many = len(self.gateways) > 1
        return (
            f"Send everything that is not for a neighbour to the gateway{'s' * many} {' and '.join(self.gateways)}, "
            f"the bridge's own address{'es' * many}, which {'are' if many else 'is'} the way out (rtnetlink(7))."
        )

    def shell(self) -> str:
        return "\n".join(
            f'nsenter --net="$netns" ip {"-6 " * (":" in gateway)}route add default via {gateway}'
            for gateway in self.gateways
        )
