"""What each capability allows, in one line (capabilities(7), linux/capability.h). Words only, for people."""

from __future__ import annotations

from .caps import NAMES

# name without CAP_: what it allows
_TEXT = """
CHOWN change the owner of any file
DAC_OVERRIDE read, write and execute any file, whatever its permissions say
DAC_READ_SEARCH read any file and directory; with open_by_handle_at(2) also files outside the container
FOWNER act as the owner of any file: chmod, utime, delete in sticky directories
FSETID keep set-user-ID and set-group-ID bits when a file is changed
KILL send signals to processes of any user
SETGID become any group, and set the list of groups
SETUID become any user
SETPCAP drop capabilities from the bounding set, change secure bits
LINUX_IMMUTABLE set the append-only and immutable flags of files
NET_BIND_SERVICE listen on ports below 1024
NET_BROADCAST send broadcasts, listen to multicast (not used by the kernel)
NET_ADMIN configure the network: interfaces, routes, firewall
NET_RAW send and receive raw packets: ping, and forged ones on the same network
IPC_LOCK lock memory so that it is never swapped
IPC_OWNER use any System V shared memory, semaphore and queue
SYS_MODULE load and unload kernel modules: the whole host
SYS_RAWIO talk to hardware directly: I/O ports, /dev/mem
SYS_CHROOT use chroot(2), and join mount namespaces
SYS_PTRACE trace and read the memory of any process it sees
SYS_PACCT switch process accounting on and off
SYS_ADMIN mount, namespaces, quotas and a hundred other things: close to root on the host
SYS_BOOT reboot the host, load another kernel
SYS_NICE raise priorities, choose schedulers and processors of any process
SYS_RESOURCE go beyond limits: rlimits, quotas, reserved disk space
SYS_TIME set the host's clock
SYS_TTY_CONFIG configure terminals, hang them up
MKNOD make device nodes (using them is up to the device rules)
LEASE hold leases on any file
AUDIT_WRITE write records to the kernel's audit log
AUDIT_CONTROL configure the kernel's auditing
SETFCAP give capabilities to program files
MAC_OVERRIDE ignore the rules of a mandatory access control (Smack)
MAC_ADMIN change the rules of a mandatory access control
SYSLOG read the kernel's log and kernel addresses
WAKE_ALARM wake the machine up by a timer
BLOCK_SUSPEND keep the machine from going to sleep
AUDIT_READ read the audit log
PERFMON measure and trace the kernel's performance
BPF load BPF programs into the kernel
CHECKPOINT_RESTORE choose process ids, read what checkpoints need
"""
ALLOWS = {f"CAP_{name}": text for name, _, text in (line.partition(" ") for line in _TEXT.strip().split("\n"))}

# Those with which root inside is, by known ways, root outside, or can harm all: what --cap-add should be asked twice
# about. The worst first.
DANGEROUS = tuple(
    f"CAP_{name}"
    for name in (
        "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE", "DAC_READ_SEARCH", "BPF", "SYS_BOOT", "NET_ADMIN",
        "PERFMON", "MAC_ADMIN", "MAC_OVERRIDE", "SYSLOG", "SYS_TIME", "SYS_RESOURCE", "LINUX_IMMUTABLE",
    )
)  # fmt: skip

assert tuple(ALLOWS) == NAMES
