"""What system calls are for, which of their arguments are paths, and which capability they need: one table, for `why`.

Capabilities as in capabilities(7). A call that needs one only sometimes (bind(2) of a low port, socket(2) of a raw
kind) has its condition in `capability`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# call · its paths: a number is the argument of one, @ stands behind the argument of the directory it is relative to ·
# the file that it is about, as an argument · capability · in words: {path}, {other} (the second path)
_TABLE = """
open 0 - - open {path}
openat 0@1 - - open {path}
openat2 0@1 - - open {path}
creat 0 - - create {path}
mknod 0 - MKNOD make the node {path}
mknodat 0@1 - MKNOD make the node {path}
mkdir 0 - - make the directory {path}
mkdirat 0@1 - - make the directory {path}
rmdir 0 - - remove the directory {path}
unlink 0 - - remove {path}
unlinkat 0@1 - - remove {path}
rename 0,1 - - rename {path} to {other}
renameat 0@1,2@3 - - rename {path} to {other}
renameat2 0@1,2@3 - - rename {path} to {other}
link 0,1 - - link {path} to {other}
linkat 0@1,2@3 - - link {path} to {other}
symlink 1 - - make the link {path}
symlinkat 1@2 - - make the link {path}
truncate 0 - - truncate {path}
access 0 - - ask for access to {path}
chmod 0 - FOWNER change the mode of {path}
fchmod - 0 FOWNER change the mode of {path}
fchmodat 0@1 - FOWNER change the mode of {path}
fchmodat2 0@1 - FOWNER change the mode of {path}
chown 0 - CHOWN change the owner of {path}
lchown 0 - CHOWN change the owner of {path}
fchown - 0 CHOWN change the owner of {path}
fchownat 0@1 - CHOWN change the owner of {path}
utime 0 - FOWNER set the times of {path}
utimes 0 - FOWNER set the times of {path}
utimensat 0@1 - FOWNER set the times of {path}
futimesat 0@1 - FOWNER set the times of {path}
setxattr 0 - SYS_ADMIN set an attribute of {path}
lsetxattr 0 - SYS_ADMIN set an attribute of {path}
fsetxattr - 0 SYS_ADMIN set an attribute of {path}
execve 0 - - execute {path}
execveat 0@1 - - execute {path}
chdir 0 - - go to {path}
chroot 0 - SYS_CHROOT make {path} its root
getdents64 - 0 - list {path}
write - 0 - write to {path}
pwrite64 - 0 - write to {path}
writev - 0 - write to {path}
ftruncate - 0 - set the size of {path}
fallocate - 0 - take space for {path}
read - 0 - read {path}
mount 1,0 - SYS_ADMIN mount {other} at {path}
umount2 0 - SYS_ADMIN unmount {path}
pivot_root 0 - SYS_ADMIN change its root to {path}
fsopen - - SYS_ADMIN make a mount
fsmount - - SYS_ADMIN make a mount
move_mount 2@3 - SYS_ADMIN put a mount at {path}
open_tree 0@1 - SYS_ADMIN take a mount of {path}
mount_setattr 0@1 - SYS_ADMIN change the mount {path}
swapon 0 - SYS_ADMIN swap to {path}
swapoff 0 - SYS_ADMIN stop swapping to {path}
quotactl - - SYS_ADMIN set disk quotas
setns - - SYS_ADMIN join a namespace
unshare - - SYS_ADMIN make new namespaces
clone - - SYS_ADMIN start a process
clone3 - - SYS_ADMIN start a process
fork - - - start a process
vfork - - - start a process
sethostname - - SYS_ADMIN set the host name
setdomainname - - SYS_ADMIN set the domain name
reboot - - SYS_BOOT reboot
kexec_load - - SYS_BOOT load another kernel
kexec_file_load - - SYS_BOOT load another kernel
init_module - - SYS_MODULE load a kernel module
finit_module - - SYS_MODULE load a kernel module
delete_module - - SYS_MODULE unload a kernel module
settimeofday - - SYS_TIME set the clock
clock_settime - - SYS_TIME set the clock
adjtimex - - SYS_TIME adjust the clock
clock_adjtime - - SYS_TIME adjust the clock
iopl - - SYS_RAWIO use I/O ports
ioperm - - SYS_RAWIO use I/O ports
acct 0 - SYS_PACCT switch accounting on
vhangup - - SYS_TTY_CONFIG hang up its terminal
syslog - - SYSLOG read the kernel's log
ptrace - - SYS_PTRACE trace another process
process_vm_readv - - SYS_PTRACE read another process's memory
process_vm_writev - - SYS_PTRACE write another process's memory
pidfd_getfd - - SYS_PTRACE take an open file of another process
kcmp - - SYS_PTRACE compare processes
userfaultfd - - SYS_PTRACE handle page faults
bpf - - BPF load a BPF program
perf_event_open - - PERFMON measure the kernel's performance
open_by_handle_at - - DAC_READ_SEARCH open a file by its handle
name_to_handle_at 0@1 - DAC_READ_SEARCH get a handle of {path}
fanotify_init - - SYS_ADMIN watch a whole file system
lookup_dcookie - - SYS_ADMIN look up a profile's path
setuid - - SETUID become another user
setreuid - - SETUID become another user
setresuid - - SETUID become another user
setfsuid - - SETUID become another user
setgid - - SETGID become another group
setregid - - SETGID become another group
setresgid - - SETGID become another group
setfsgid - - SETGID become another group
setgroups - - SETGID set its list of groups
capset - - SETPCAP set its capabilities
kill - - KILL signal another process
tkill - - KILL signal another thread
tgkill - - KILL signal another thread
setpriority - - SYS_NICE raise its priority
sched_setscheduler - - SYS_NICE choose a scheduler
sched_setparam - - SYS_NICE choose a priority
sched_setattr - - SYS_NICE choose a scheduler
sched_setaffinity - - SYS_NICE choose processors
ioprio_set - - SYS_NICE raise its disk priority
mbind - - SYS_NICE place memory
set_mempolicy - - SYS_NICE place memory
move_pages - - SYS_NICE move memory
setrlimit - - SYS_RESOURCE raise a limit
prlimit64 - - SYS_RESOURCE raise a limit
mlock - - IPC_LOCK lock memory
mlock2 - - IPC_LOCK lock memory
mlockall - - IPC_LOCK lock all its memory
mmap - - - get memory
brk - - - get memory
mremap - - - get memory
socket - - NET_RAW make a raw socket
bind - - NET_BIND_SERVICE listen at {detail}
connect - - - connect to {detail}
sendto - - - send to {detail}
setsockopt - - NET_ADMIN configure a socket
ioctl - 0 - configure {path}
keyctl - - - use the kernel's keyrings
add_key - - - use the kernel's keyrings
request_key - - - use the kernel's keyrings
personality - - - change its personality
io_uring_setup - - - use io_uring
modify_ldt - - - change its segments
pipe2 - - - make a pipe
dup - - - copy an open file
epoll_create1 - - - make an epoll file
accept4 - - - take a connection
"""


class Known:
    """A call. paths: (argument of the directory or -1, argument of the path); file: the argument that is an open file,
    or -1; capability: with CAP_, or empty; words: what it is for."""

    __slots__ = ("capability", "file", "paths", "words")

    def __init__(self, line: str) -> None:
        paths, file, capability, self.words = line.split(" ", 3)
        self.paths = tuple(map(_place, paths.split(","))) if paths != "-" else ()
        self.file = -1 if file == "-" else int(file)
        self.capability = "" if capability == "-" else f"CAP_{capability}"


def _place(text: str) -> tuple[int, int]:
    left, at, right = text.partition("@")
    return (int(left), int(right)) if at else (-1, int(left))


CALLS = {name: Known(rest) for name, _, rest in (line.partition(" ") for line in _TABLE.strip().split("\n"))}

_NEW = 0x7E020080  # CLONE_NEW* of sched.h, together
_AF_INET, _AF_INET6, _AF_NETLINK, _AF_PACKET, _SOCK_RAW = 2, 10, 16, 17, 3
_FS_SETFLAGS = (0x40086602, 0x40046602)  # linux/fs.h
_TIOCSTI = 0x5412
OPEN_FLAGS = {"open": 1, "openat": 2}  # the argument that has O_*


def capability(call: str, args: Sequence[int], path: str = "") -> str:
    """The capability whose lack refuses this call with EPERM or EACCES, with CAP_; empty where it needs none."""
    if call in ("clone", "clone3"):
        return "CAP_SYS_ADMIN" if call == "clone" and args[0] & _NEW else ""
    if call == "socket":
        return "CAP_NET_RAW" if args[0] == _AF_PACKET or args[1] & 0xF == _SOCK_RAW else ""
    if call == "ioctl":
        request = args[1] & 0xFFFFFFFF
        if 0x8900 <= request < 0x8A00:  # linux/sockios.h
            return "CAP_NET_ADMIN"
        return "CAP_LINUX_IMMUTABLE" if request in _FS_SETFLAGS else "CAP_SYS_ADMIN" if request == _TIOCSTI else ""
    parts = path.split("/")
    of_process = len(parts) > 3 and parts[1] == "proc" and (parts[2].isdecimal() or parts[2] == "self")
    if of_process and call in ("open", "openat", "openat2", "readlink", "readlinkat", "chdir", "access"):
        return "CAP_SYS_PTRACE"
    known = CALLS.get(call)
    return known.capability if known else ""


def words(call: str, path: str = "", other: str = "", detail: str = "") -> str:
    """What a call wanted to do, for people: "mount proc at /mnt"."""
    known = CALLS.get(call)
    if known is None:
        return f"call {call}"
    text = known.words
    for name, value in (("{path}", path), ("{other}", other), ("{detail}", detail)):
        if name in text:
            text = text.replace(name, value or ("something" if name != "{other}" else "a file system"))
    return text
