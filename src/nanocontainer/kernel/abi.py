"""The kernel's numbers: system calls, flags, struct sizes. Facts only, from the kernel's uapi headers.

System calls from 424 on have one number on all architectures; the older ones are in a table per machine.
"""

from __future__ import annotations

import os

MACHINE = os.uname().machine

_OLD = {  # x86_64: asm/unistd_64.h, aarch64: asm-generic/unistd.h
    "x86_64": {
        "ptrace": 101, "capget": 125, "capset": 126, "pivot_root": 155, "mount": 165, "umount2": 166,
        "sethostname": 170, "setdomainname": 171, "unshare": 272, "setns": 308, "keyctl": 250, "seccomp": 317,
        "bpf": 321, "mknodat": 259, "setxattr": 188, "lsetxattr": 189, "syslog": 103, "memfd_create": 319,
        "setresuid": 117, "setresgid": 119, "setgroups": 116, "execveat": 322, "prlimit64": 302, "syncfs": 306,
    },
    "aarch64": {
        "ptrace": 117, "capget": 90, "capset": 91, "pivot_root": 41, "mount": 40, "umount2": 39,
        "sethostname": 161, "setdomainname": 162, "unshare": 97, "setns": 268, "keyctl": 219, "seccomp": 277,
        "bpf": 280, "mknodat": 33, "setxattr": 5, "lsetxattr": 6, "syslog": 116, "memfd_create": 279,
        "setresuid": 147, "setresgid": 149, "setgroups": 159, "execveat": 281, "prlimit64": 261, "syncfs": 267,
    },
}  # fmt: skip
NR = {
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438,
    "mount_setattr": 442, **_OLD.get(MACHINE, {}),
}  # fmt: skip

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

# sched.h: namespaces and clone3(2)
CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWCGROUP = 0x80, 0x20000, 0x2000000
CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER = 0x4000000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
CLONE_PIDFD, CLONE_INTO_CGROUP = 0x1000, 0x200000000

# mount(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_MOVE, MS_REC, MS_UNBINDABLE, MS_PRIVATE = 4096, 8192, 16384, 1 << 17, 1 << 18
MS_SLAVE, MS_SHARED, MS_RELATIME, MS_STRICTATIME, MS_NOATIME = 1 << 19, 1 << 20, 1 << 21, 1 << 24, 1024
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

# the mount API of 5.2: linux/mount.h
FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC = 1, 1
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_SET_FD, FSCONFIG_CMD_CREATE = 0, 1, 5, 6
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_IDMAP = 0, 0x10, 0x20, 0x100000

# openat2(2)
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 1, 2, 4
RESOLVE_BENEATH, RESOLVE_IN_ROOT = 8, 16
O_PATH = 0x200000

# prctl(2)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_CAPBSET_DROP = 1, 4, 8, 15, 24
PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_SET_CHILD_SUBREAPER = 28, 38, 47, 36
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
PR_SET_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 22, 1, 4

CLOSE_RANGE_CLOEXEC = 4
MFD_EXEC = 0x10
KEYCTL_JOIN_SESSION_KEYRING = 1

# ioctl_tty(2)
TIOCSPTLCK, TIOCGPTPEER, TIOCSCTTY, TIOCSWINSZ = 0x40045431, 0x5441, 0x540E, 0x5414
