"""The kernel, as Python sees it: system calls, namespaces, mounts, cgroups' files, netlink, nftables, eBPF, seccomp.

Only this package imports ctypes. All of it is behind one class, `Kernel` (calls.py): steps act through `world.kernel`
and through nothing else, so that a recording kernel can take its place (tests, fault injection).

makebelieve.py and netbelieve.py stand where even that class would reach the kernel, so that a plan can be rehearsed
(plan/rehearsal.py); notation.py writes down the calls.
"""
