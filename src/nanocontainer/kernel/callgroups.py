"""System calls in groups that a person has a word for: what a seccomp filter takes away, and what it leaves.

A profile lists hundreds of calls. What matters is which powers of the kernel can be reached: these are the groups in
which docker's profile denies something, and some that people ask about. Calls in no group are everyday ones.
"""

from __future__ import annotations

# group: calls
_TEXT = """
mounting: mount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr mount_setattr
namespaces: unshare setns clone clone3
new root directory: chroot
kernel modules: init_module finit_module delete_module create_module query_module get_kernel_syms
reboot and new kernels: reboot kexec_load kexec_file_load
the clock: settimeofday clock_settime clock_adjtime adjtimex stime
host and domain name: sethostname setdomainname
swap, quotas, accounting: swapon swapoff quotactl quotactl_fd acct
BPF and performance events: bpf perf_event_open
tracing other processes: ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise
kernel keyrings: add_key request_key keyctl
files by handle: open_by_handle_at name_to_handle_at
input and output ports: iopl ioperm
memory of other nodes: mbind set_mempolicy get_mempolicy move_pages migrate_pages set_mempolicy_home_node
asynchronous rings: io_uring_setup io_uring_enter io_uring_register
page faults by a program: userfaultfd
the kernel's log: syslog
other personalities: personality
hanging up terminals: vhangup
looking at mounts: statmount listmount lookup_dcookie listns
making device nodes: mknod mknodat
sockets: socket socketpair bind listen accept connect
starting programs: execve execveat fork vfork
"""
GROUPS: dict[str, tuple[str, ...]] = {
    name: tuple(calls.split()) for name, _, calls in (line.partition(":") for line in _TEXT.strip().split("\n"))
}
