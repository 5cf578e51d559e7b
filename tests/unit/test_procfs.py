"""/proc of one process, read from recorded files: whatever a kernel or a hostile process writes there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nanocontainer.container import procfs
from nanocontainer.errors import NotFound

STATUS = """\
Name:	evil\\nName\\\\
State:	S (sleeping)
Pid:	4242
PPid:	4200
Uid:	100000	100001	0	0
Gid:	5	6	7	8
Groups:	5 27 
NSpid:	4242	17	1
VmRSS:	    1764 kB
Threads:	3
CapInh:	0000000000000000
CapPrm:	00000000a80425fb
CapEff:	00000000a80425fb
CapBnd:	000001ffffffffff
CapAmb:	0000000000000400
NoNewPrivs:	1
Seccomp:	2
Seccomp_filters:	2
"""  # noqa: W291 (as the kernel writes it)
MOUNTINFO = """\
127 125 0:85 / / rw,relatime shared:1 master:2 - overlay nanocontainer rw,lowerdir+=/a,upperdir=/b
124 127 254:0 /srv/a\\040b\\134c /da\\011ta rw,nosuid - ext4 /dev/vda rw,discard
125 127 0:7 / /over rw - tmpfs tmpfs rw
126 127 0:8 / /over ro - tmpfs tmpfs ro,size=0k
broken line
"""
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            1024                 524288               files     
"""  # noqa: W291


@pytest.fixture
def proc(tmp_path: Path) -> str:
    base = tmp_path / "4242"
    (base / "ns").mkdir(parents=True)
    (base / "status").write_text(STATUS)
    (base / "cmdline").write_bytes(b"sh\0-c\0echo \x1b[31m\xff\0")
    (base / "mountinfo").write_text(MOUNTINFO)
    (base / "limits").write_text(LIMITS)
    (base / "uid_map").write_text("         0     100000      65536\n")
    (base / "cgroup").write_text("4:memory:/x\n2:cpu,cpuacct:/y:z\n0::/nano\n")
    for kind, inode in (("mnt", 1), ("net", 4026531840)):
        os.symlink(f"{kind}:[{inode}]", base / "ns" / kind)
    (tmp_path / "self").mkdir()
    return str(tmp_path)


def test_all_of_a_process(proc: str) -> None:
    found = procfs.read_process(4242, proc)
    assert found.name == "evil\nName\\"
    assert found.command == ("sh", "-c", "echo \x1b[31m\udcff")
    assert (found.pid, found.parent, found.inside, found.threads, found.memory) == (4242, 4200, 1, 3, 1764 << 10)
    assert (found.uids, found.groups) == ((100000, 100001, 0, 0), (5, 27))
    assert found.capabilities["bounding"] == (1 << 41) - 1 and found.capabilities["ambient"] == 0x400
    assert (found.no_new_privs, found.seccomp, found.filters) == (True, 2, 2)
    assert found.namespaces == {"mnt": 1, "net": 4026531840}
    assert found.uid_map == ("0 100000 65536",) and found.gid_map == ()
    assert found.limits["open files"] == ("1024", "524288")
    assert found.cgroups == {"memory": "/x", "cpu": "/y:z", "cpuacct": "/y:z", "": "/nano"}


def test_a_process_that_is_gone_is_an_error_in_words(proc: str) -> None:
    with pytest.raises(NotFound, match="no process 1"):
        procfs.read_process(1, proc)


def test_a_kernel_thread_has_no_command(proc: str) -> None:
    Path(proc, "4242", "cmdline").write_bytes(b"")
    assert procfs.read_process(4242, proc, brief=True).shown == "[evil\nName\\]"


def test_mounts_with_blanks_and_tags(proc: str) -> None:
    root, data, below, over = procfs.mounts(4242, proc)
    assert root.propagation == "shared:1 master:2" and root.kind == "overlay"
    assert (data.root, data.point, data.device) == ("/srv/a b\\c", "/da\tta", "254:0")
    assert not data.read_only and over.read_only
    assert procfs.visible((root, data, below, over)) == (root, data, over)


def test_where_a_bind_mount_is_on_the_host(proc: str) -> None:
    _, data, *_ = procfs.mounts(4242, proc)
    host = procfs.MountEntry(1, 0, "254:0", "/", "/mnt/disk", ("rw",), "private", "ext4", "/dev/vda", ("rw",))
    nearer = host.replace(root="/srv", point="/srv")
    other = host.replace(device="254:9", point="/other")
    sibling = host.replace(root="/sr", point="/wrong")
    assert procfs.host_source(data, (host,)) == "/mnt/disk/srv/a b\\c"
    assert procfs.host_source(data, (host, nearer, other, sibling)) == "/srv/a b\\c"
    assert procfs.host_source(data, (other, sibling)) == ""
    assert procfs.host_source(data.replace(root="/"), (host.replace(point="/"),)) == "/"


def test_this_very_process_is_as_the_kernel_says() -> None:
    found = procfs.read_process(os.getpid())
    assert found.uids[0] == os.getuid() and found.command and found.namespaces == procfs.namespaces("self")
    assert {entry.point for entry in procfs.mounts("self")} >= {"/", "/proc"}
    assert os.getpid() in procfs.processes()
