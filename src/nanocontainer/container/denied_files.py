"""Refusals that are about files: masked and read-only paths, devices, noexec and nosuid mounts, permissions.

Which mount a file lies on the tracer has read from the process's own mount table (proc_pid_mountinfo(5)); which flag
made that mount so stands in the container's specification.
"""

from __future__ import annotations

from ..kernel.caps import NUMBERS
from .denials import MASKED, NOT_RAISED, finding, mount_of, with_capability, without_option
from .denied_calls import CALLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.bpf import DeviceRule
    from .denials import About, Finding, Seen

_OPEN = "--security-opt systempaths=unconfined"
_COST_OPEN = (
    "shows and opens all of /proc and /sys: settings and data of the host's kernel, among them /proc/sysrq-trigger and "
    "/proc/kcore"
)


def masked(seen: Seen, about: About) -> Finding | None:
    """A path of /proc or /sys that is hidden."""
    hidden = next((path for path in about.masked if seen.path == path or seen.path.startswith(f"{path}/")), "")
    if not hidden or seen.error not in (MASKED, "EACCES", "EPERM", "EROFS", "ENOENT"):
        return None
    why = f"{hidden} is masked: inside it is empty, because it shows or changes the host's kernel"
    return finding(seen, "masked", why, (_OPEN,), _COST_OPEN, "read it on the host")


def not_raised(seen: Seen, about: About) -> Finding | None:
    """A set-user-ID program that gave no rights."""
    if seen.error != NOT_RAISED:
        return None
    what = f"{seen.path} is set-user-ID of user {seen.owner}, and ran as user {seen.uid} all the same"
    if "nosuid" in seen.mount_options:
        why = f"{what}: it lies on the mount {seen.mount}, which is nosuid"
        return finding(seen, "no-new-privileges", why, without_option(seen, about, "suid"),
                        "programs that lie there can make anybody root inside")  # fmt: skip
    why = f"{what}: no_new_privs is set, nothing gains rights by execve(2)"
    flags = ("--security-opt no-new-privileges=false",)
    return finding(seen, "no-new-privileges", why, flags, "set-user-ID programs such as su make users root inside",
                    "run the command as the user that it needs: -u")  # fmt: skip


def read_only(seen: Seen, about: About) -> Finding | None:
    """EROFS: which mount, and which flag made it so."""
    if seen.error != "EROFS":
        return None
    where = seen.mount or "the file system"
    mount = mount_of(seen, about.spec.mounts)
    if mount is not None and mount.read_only:
        source = mount.source or "it"
        cost = f"the container can change {source}, on the host too" if mount.kind == "bind" else "it can be changed"
        said = f"-v {source}:{mount.target}" if mount.kind != "tmpfs" else f"--tmpfs {mount.target}"
        return finding(seen, "read-only", f"{where} is mounted read-only: :ro or readonly was said",
                        (said,), cost, "a volume of its own for what it writes: -v NAME:DIR")  # fmt: skip
    if seen.mount == "/" and about.spec.read_only:
        why, below = "the root file system is read-only: --read-only was said", seen.path.rpartition("/")[0]
        if not below:
            cost = "an intruder can change the container's programs and settings, until it is removed"
            return finding(seen, "read-only", why, ("--read-only=false",), cost, "write below a directory of its own, "
                           "and mount something there: --tmpfs DIR, -v NAME:DIR")  # fmt: skip
        return finding(seen, "read-only", why,
                        (f"--tmpfs {below}",), f"what lies in {below} of the image is hidden, and what is written "
                        "there is in memory and gone at the end", f"a volume keeps it: -v NAME:{below}")  # fmt: skip
    if setting := _setting(seen.path):
        why = "/proc/sys is read-only: settings of the kernel are not the container's"
        if setting.startswith("net.") and about.spec.network != "host":
            return finding(seen, "read-only", why, (f"--sysctl {setting}=VALUE",),
                            "little: it is a setting of the container's own network namespace")  # fmt: skip
        return finding(seen, "read-only", why, (_OPEN,), _COST_OPEN, f"set it on the host: sysctl {setting}=VALUE")
    if any(seen.path == path or seen.path.startswith(f"{path}/") for path in about.protected):
        return finding(seen, "read-only", f"{where} is read-only: it changes the host's kernel", (_OPEN,), _COST_OPEN,
                        "do it on the host")  # fmt: skip
    if seen.path.startswith("/sys"):
        what = "do it on the host"
        if seen.path.startswith("/sys/fs/cgroup"):
            what = "cgroups are set from outside: the flags under Resources"
        return finding(seen, "read-only", f"{where} is read-only: it is the host's kernel and hardware",
                        ("--privileged",), "no wall is left but the namespaces: root inside is root outside",
                        what)  # fmt: skip
    why = f"{where} is mounted read-only"
    return finding(seen, "read-only", why, instead="a volume for what it writes: -v NAME:DIR")


def _setting(path: str) -> str:
    """The sysctl that a path of /proc/sys is."""
    return path.removeprefix("/proc/sys/").replace("/", ".") if path.startswith("/proc/sys/") else ""


def device(seen: Seen, about: About) -> Finding | None:
    """A device that the rules do not allow, or on a nodev mount."""
    if not seen.device or seen.error not in ("EPERM", "EACCES") or seen.call not in ("open", "openat", "openat2"):
        return None
    if seen.error == "EACCES" and "nodev" in seen.mount_options:
        return finding(seen, "device", f"{seen.path} lies on the mount {seen.mount}, which is nodev: devices do not "
                        "work there", without_option(seen, about, "dev"), "devices that are made there can be used, "
                        "as far as the device rules allow")  # fmt: skip
    if seen.error != "EPERM" or _allowed(seen.device, about.rules):
        return None
    name = about.device_name(seen.device)
    flag = f"--device {name}" if name else f"--device-cgroup-rule '{seen.device} rwm'"
    cost = f"the container uses the host's {name or seen.device} directly"
    if seen.device.startswith("b "):
        cost += ": whoever reads and writes a disk reads and writes all files on it, past all permissions"
    return finding(seen, "device", f"no device rule allows {seen.device}", (flag,), cost,
                    "mount what is on it, on the host, and give that: -v" if seen.device[0] == "b" else "")  # fmt: skip


def _allowed(device: str, rules: Sequence[DeviceRule]) -> bool:
    kind, _, numbers = device.partition(" ")
    major, _, minor = numbers.partition(":")
    return any(
        rule.kind in (kind, "a") and rule.major in (-1, int(major)) and rule.minor in (-1, int(minor))
        and "r" in rule.access and rule.allow
        for rule in rules
    )  # fmt: skip


def noexec(seen: Seen, about: About) -> Finding | None:
    """A program on a noexec mount."""
    if seen.error not in ("EACCES", "EPERM") or "noexec" not in seen.mount_options:
        return None
    if seen.call not in ("execve", "execveat", "mmap"):
        return None
    why = f"{seen.path} lies on the mount {seen.mount}, which is noexec: no program there can be run"
    cost = "whatever can be written there can be run, also what an intruder has brought"
    return finding(seen, "noexec", why, without_option(seen, about, "exec"), cost, "put programs into the image")


def unreadable(seen: Seen) -> bool:
    """Whether the file's mode alone refuses reading to this user."""
    bits = seen.mode >> (6 if seen.owner == seen.uid else 0)
    return bool(seen.kind) and not bits & 4


def permissions(seen: Seen, about: About) -> Finding | None:
    """The file's mode and owner."""
    if seen.error not in ("EACCES", "EPERM") or not seen.path or seen.call not in CALLS:
        return None
    if seen.error == "EPERM" and not (seen.call.startswith(("unlink", "rmdir", "rename")) and seen.uid):
        return None
    whose = f"has mode {seen.mode:04o} and owner {seen.owner}:{seen.group}"
    file = f"{seen.path} {whose}"
    if not seen.kind:
        file = f"{seen.path} is not there, and the directory {seen.directory} {whose}"
    if seen.call.startswith("exec"):
        if seen.kind == "directory":
            return finding(seen, "permissions", f"{seen.path} is a directory")
        if seen.kind == "file" and not seen.mode & 0o111:
            return finding(seen, "permissions", f"{seen.path} is not executable: mode {seen.mode:04o}",
                            instead=f"chmod +x {seen.path} in the image")  # fmt: skip
    override = "CAP_DAC_OVERRIDE"
    if seen.uid == 0:
        if seen.effective >> NUMBERS[override] & 1:
            return None
        why = f"{file}; root without {override} is asked like anybody else"
        return with_capability(seen, about, override, "permissions", why)
    return finding(seen, "permissions", f"{file}; it runs as user {seen.uid}", ("-u 0",),
                    "the command runs as root inside, with all the container's capabilities",
                    f"chown or chmod it in the image or volume, or run as its owner: -u {seen.owner}")  # fmt: skip
