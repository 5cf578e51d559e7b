"""How an anatomy is drawn: as text that fits, and as a page; whatever hostile names stand in it."""

from __future__ import annotations

import json

import pytest

from nanocontainer.cmd import anatomy_words, complete
from nanocontainer.cmd.anatomy import SECTIONS
from nanocontainer.cmd.anatomy_html import html
from nanocontainer.cmd.anatomy_text import file_text, text
from nanocontainer.cmd.paint import Paint, columns
from nanocontainer.container import anatomy_network
from nanocontainer.container.anatomy import Anatomy, Layer, NamespaceShown, ProcessShown, WhichLayer
from nanocontainer.container.anatomy_cgroup import Cgroup, Meter
from nanocontainer.container.anatomy_mounts import MountShown
from nanocontainer.container.anatomy_network import Interface, NetworkShown, PortFlow, RouteShown
from nanocontainer.container.anatomy_security import Security, call_groups, capabilities
from nanocontainer.rootfs.strata import Changes, Finding, Trace

from .pages import HOSTILE, Seen


def sample(word: str) -> Anatomy:
    """A container in which every name that comes from outside is that word."""
    blocked, calls = call_groups("default", "x86_64", 0xA80425FB, "6.18")
    return Anatomy(
        id="ab" * 32,
        name="web",
        image=word,
        status="running",
        running=True,
        pid=100,
        keeper=90,
        started="2026-01-01T00:00:00Z",
        created="2026-01-01T00:00:00Z",
        command=(word, "-c", word),
        cwd=word,
        hostname=word,
        env=(f"A={word}",),
        kernel=word,
        directory="/var/lib/nanocontainer/containers/" + "ab" * 32,
        log="/x/log.json",
        namespaces=(
            NamespaceShown("mnt", 1, "mounts", True),
            NamespaceShown("net", 2, "network", True, 1, (word,), 3),
            NamespaceShown("user", 4026531837, "ids", False),
        ),
        cgroup=Cgroup(
            "/sys/fs/cgroup/x",
            ("/sys/fs/cgroup/memory/x",),
            2,
            False,
            (
                Meter("memory", "bytes", 60 << 20, 64 << 20, 64 << 20, "/f"),
                Meter("processor time", "seconds", 1.5, 0.5),
                Meter("processes", "processes", 2, -1, -1, "/p"),
            ),
            {"memory oom_kill": 2},
        ),
        layers=(Layer(1, "sha256:" + "1" * 64, "/l/1", 1000, word), Layer(2, "sha256:" + "2" * 64, "/l/2", 0)),
        changes=Changes(10, 1, 1, 1, (f"A /{word}",)),
        mounts=(
            MountShown("/", "root", "image", "overlay", "overlay", True, ("rw",), "private", "AttachRootfs", "IMAGE"),
            MountShown(
                f"/{word}",
                "user",
                "a part of the host",
                f"/{word}",
                "ext4",
                True,
                ("rw",),
                "slave (from the host)",
                "MountBind",
                f"-v {word}:/x",
            ),
            MountShown("/proc/keys", "mask", "hidden", "tmpfs", "tmpfs", True, ("rw",), "private", "MaskPaths"),
        ),
        network=NetworkShown(
            "bridge",
            True,
            "bridge",
            "nano0",
            "10.0.0.0/16",
            "10.0.0.1",
            (Interface("eth0", 2, "veth", True, "02:42:00:00:00:00", 1500, ("10.0.0.2/16",), "veth1", True, "nano0"),),
            (RouteShown("default", "10.0.0.1", "eth0"),),
            (PortFlow("0.0.0.0", 8080, "tcp", "10.0.0.2", 80, "ports { x }", True, False),),
            "nanocontainer",
            ("forward: drop",),
            ("ens1",),
            ("1.1.1.1",),
        ),
        processes=(
            ProcessShown(100, 1, 0, word, word, word, "S", 1, 1000),
            ProcessShown(101, 2, 100, "0", "a", f"sh {word}", "S", 3, 0),
            ProcessShown(103, 4, 101, "0", "a", "deep", "S", 1, 0),
            ProcessShown(102, 9, 0, "0", "a", "late", "S", 1, 0, True),
        ),
        security=Security(
            capabilities=capabilities(0xA80425FB | 1 << 21, (1 << 41) - 1, 40),
            seccomp="filter",
            filters=1,
            profile=word,
            blocked=blocked,
            calls=calls,
            label=word,
            masked=("/proc/keys",),
            open=("/proc/kcore",),
            uid_map=("0 0 4294967295",),
        ),
    )


@pytest.mark.parametrize("width", [40, 80, 132])
@pytest.mark.parametrize("word", ["sh", HOSTILE, "容器" * 30, "x" * 300], ids=["plain", "hostile", "wide", "long"])
def test_text_fits_the_terminal_and_nothing_in_it_acts(word: str, width: int) -> None:
    shown = text(sample(word), Paint(False), width, SECTIONS)
    assert all(columns(line) <= width for line in shown.split("\n"))
    assert shown.replace("\n", "").isprintable()
    painted = text(sample(word), Paint(True), width, SECTIONS)
    assert all(columns(line) <= width for line in painted.split("\n")) and "\x1b[1" in painted


def test_text_says_what_matters() -> None:
    shown = text(sample("sh"), Paint(False), 100, SECTIONS)
    for words in (
        "  └ sh sh (3 threads)\n", "    └ deep\n", "  late (by exec)\n", "3 processes from elsewhere",
        "shared with container sh",
        "62.91MB of 64MiB", "at most 0.5 processors", "memory oom_kill, 2 times", "A /sh",
        "0.0.0.0:8080/tcp → nftables dnat → nano0 → veth1 → eth0 → 10.0.0.2:80",
        "nothing inside listens on port 80", "SYS_ADMIN !", "a set-user-ID program could gain", "15 of 41",
        "reboot kexec_load",
        "/proc/kcore: docker would hide",
    ):  # fmt: skip
        assert words in shown, words


def test_completion_knows_the_sections() -> None:
    assert complete._VALUES["anatomy only"] == SECTIONS


@pytest.mark.parametrize("section", SECTIONS)
def test_only_one_section(section: str) -> None:
    shown = text(sample("sh"), Paint(False), 100, (section,))
    assert [line.partition("  ")[0] for line in shown.split("\n") if line[:1].isupper()] == [section.upper()]


def test_one_that_does_not_run_says_so() -> None:
    gone = sample("sh").replace(running=False, status="exited", exit_code=137, finished="2026-01-01T00:00:00Z")
    shown = text(gone, Paint(False), 100, SECTIONS)
    assert "exited (137)" in shown and "NOT RUNNING" in shown and "LAYERS" in shown and "MOUNTS" not in shown
    whole = html(gone)
    assert "has no processes" in whole and 'id="mounts"' not in whole and 'id="layers"' in whole


def test_the_page_shows_hostile_names_as_text() -> None:
    seen = Seen(html(sample(HOSTILE)))
    assert not {"script", "img", "link", "iframe"} & set(seen.tags) and seen.tags.count("svg") == 2
    assert "<script>alert(1)</script>" in seen.text
    assert {value for name, value in seen.attributes if name == "href"} == {f"#{name}" for name in SECTIONS}
    assert not {name for name, _ in seen.attributes if name.startswith("on")}


def test_json_has_every_field_and_goes_through_json() -> None:
    data = json.loads(json.dumps(sample(HOSTILE).as_dict()))
    assert set(data) == set(Anatomy._fields) and data["processes"][0]["command"] == HOSTILE


def test_which_layer_in_words() -> None:
    findings = (
        Finding(0, "deletes", "whiteout", path="/etc/x"),
        Finding(2, "hidden", "file", 5, "0644", path="/etc/x"),
    )
    names = ("the container's own files", "layer 2 of 2", "layer 1 of 2")
    shown = file_text(WhichLayer("/etc/x", names, Trace("/etc/x", "/etc/x", False, findings)), Paint(False), 80)
    assert "deletes it" in shown and "hidden by what is above" in shown and "sees nothing there" in shown
    nothing = file_text(WhichLayer("/x", names, Trace("/x", "/x", False)), Paint(False), 80)
    assert "No layer has it." in nothing
    mount = sample("sh").mounts[1]
    covered = file_text(WhichLayer("/sh/x", names, Trace("/sh/x", "/sh/x", False), mount), Paint(False), 80)
    assert "no layer's" in covered and "MountBind" in covered


def test_meters_in_words() -> None:
    assert anatomy_words.meter_words(Meter("memory", "bytes", 1000, note="summed")) == "1kB (summed)"
    assert anatomy_words.share(Meter("memory", "bytes", 50, 100)) == 0.5
    assert anatomy_words.share(Meter("memory", "bytes", 50)) == -1


LISTED = """\
table inet t {
	set bridges {
		type ifname
		elements = { "nano0" }
	}
	map ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 80 : 10.0.0.2 . 80,
		             udp . 53 : 10.0.0.3 . 53 }
	}
	map ports_at {
		type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
	}
	chain published {
		dnat ip to meta l4proto . th dport map @ports
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		oifname @bridges drop
	}
}
"""  # noqa: E101 (as nft writes it)


def test_what_nft_lists_is_read() -> None:
    assert anatomy_network.elements(LISTED, "ports") == ("tcp . 80 : 10.0.0.2 . 80", "udp . 53 : 10.0.0.3 . 53")
    assert anatomy_network.elements(LISTED, "ports_at") == () and anatomy_network.elements("", "ports") == ()
    assert anatomy_network.chains(LISTED) == (
        "published: dnat ip to meta l4proto . th dport map @ports",
        "forward: oifname @bridges drop",
    )
