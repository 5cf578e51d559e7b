"""What is the same in every exported script: its frame, and the functions that its lines use. See shell.py."""

from __future__ import annotations

# Programs that are looked for before anything is done.
TOOLS = (
    "unshare", "nsenter", "setpriv", "setsid", "prlimit", "mount", "umount", "pivot_root", "mkfifo", "base64", "awk",
    "ip", "bridge", "nft", "ss",
)  # fmt: skip

NEWLINE = """\
newline='
'
"""
NEWLINE_WITHOUT_MARGIN = NEWLINE + 'newline=${newline%"${newline#?}"} # its first character'

HEAD = """\
#!/bin/sh
{title}
#
# The same {steps} steps that nanocontainer takes, in a shell: one command a line, above it the step and its number in
# the plan (`nanocontainer run --explain`). What must be taken back stands beside what makes it: undo '...'.
#
{notes}
#
# shellcheck disable=SC2016,SC2034,SC2329 # what is quoted or not used here is used at the end, or inside
set -eu
set -a # the part inside knows all variables
umask 022
{newline}PATH=$PATH:/usr/sbin:/sbin

warn() {{ echo "$0: warning: $*" >&2; }}
die() {{ echo "$0: $*" >&2; exit 125; }}

# Notes what will be done at the end, before it is needed; the end does it all, the latest first
cleanup=
undo() {{ cleanup="$1
$cleanup"; }}
finish() {{
    set +eu
    trap '' HUP INT TERM
    eval "$cleanup" 2>/dev/null
}}
trap finish EXIT
trap 'exit 129' HUP
trap '{interrupt}' INT
trap 'exit 131' QUIT
trap 'exit 143' TERM

[ "$(id -u)" = 0 ] || die "needs root"
for tool in {tools}; do
    command -v "$tool" >/dev/null || die "needs the program $tool"
done
env --default-signal true 2>/dev/null || die "needs an env that knows --default-signal: coreutils 8.31"
exec 3<&0 # a shell gives its background jobs no standard input, unless it is kept
"""

_CALL_PERL = """\
# call WORDS... [PROGRAM...]: the system calls that no program makes. Without perl: says what is missing, and goes on
cat >"$dir/call" <<'PERL'
use strict;
use POSIX;
my $machine = (POSIX::uname())[4];
my %number = $machine eq "x86_64" ? (keyctl => 250, seccomp => 317, bpf => 321)    # syscalls(2)
                                  : (keyctl => 219, seccomp => 277, bpf => 280);
sub content { open(my $file, "<:raw", $_[0]) or die "$_[0]: $!\\n"; local $/; return <$file> }
while (@ARGV && $ARGV[0] =~ /^--(\\w+)$/) {
    shift;
    if ($1 eq "keyring") {       # keyctl(2): KEYCTL_JOIN_SESSION_KEYRING
        my $name = shift() . "\\0";
        syscall($number{keyctl}, 1, $name) >= 0 or die "keyring: $!\\n";
    } elsif ($1 eq "filter") {   # seccomp(2): SECCOMP_SET_MODE_FILTER, flags, struct sock_fprog
        my ($code, $flags) = (content(shift), 0 + shift);
        my $program = pack("S x6 P", length($code) / 8, $code);
        syscall($number{seccomp}, 1, $flags, $program) >= 0 or die "seccomp: $!\\n";
    } elsif ($1 eq "devices") {  # bpf(2): BPF_PROG_LOAD of BPF_PROG_TYPE_CGROUP_DEVICE, then BPF_PROG_ATTACH
        my ($code, $license) = (content(shift), "MIT");
        my $load = pack("L L P P L L Q L L", 15, length($code) / 8, $code, $license, 0, 0, 0, 0, 0);
        my $program = syscall($number{bpf}, 5, $load, length $load);
        $program >= 0 or die "device rules: $!\\n";
        sysopen(my $cgroup, shift, 0) or die "cgroup: $!\\n";
        my $attach = pack("L4", fileno $cgroup, $program, 6, 2);
        syscall($number{bpf}, 8, $attach, length $attach) >= 0 or die "device rules: $!\\n";
    }
}
exec { $ARGV[0] } @ARGV if @ARGV;
PERL
"""

_CALL = """\
call() {
    if command -v perl >/dev/null; then
        perl "$dir/call" "$@"
        return
    fi
    warn "device rules are not loaded: needs perl for bpf(2)"
}
"""

_CALL_INSIDE = """\
call() {
    if command -v perl >/dev/null; then exec perl "$dir/call" "$@"; fi
    if [ "$1" = --keyring ]; then
        warn "the session keyring stays the caller's: needs perl for keyctl(2)"
        shift 2
    fi
    if [ "$1" = --filter ]; then
        filter=$2
        shift 3
        if setpriv --help | grep -q -e --seccomp-filter; then exec setpriv --seccomp-filter "$filter" "$@"; fi
        warn "the seccomp filter is not loaded: needs perl, or a setpriv that knows --seccomp-filter (util-linux 2.41)"
    fi
    exec "$@"
}
"""

_REMOVE_CGROUP = """\
# remove_cgroup DIRECTORY: whatever is in it dies, and it goes
remove_cgroup() {
    [ ! -e "$1/cgroup.kill" ] || echo 1 >"$1/cgroup.kill"
    for _ in $(seq 200); do
        [ -d "$1" ] || break
        find "$1" -depth -type d -exec rmdir {} +
        sleep 0.02
    done
    rmdir "${1%/*}" # the last one to leave
}
"""

_PLACE = """\
# place PATH [ROOT]: where that is below the root; links of the image are followed there, never out of it
place() {
    todo=$1/ at='' hops=0 top=${2:-$rootfs}
    while [ -n "$todo" ]; do
        part=${todo%%/*} todo=${todo#*/}
        case $part in
            '' | .) continue ;;
            ..) at=${at%/*} ;;
            *) at=$at/$part ;;
        esac
        [ -L "$top$at" ] || continue
        hops=$((hops + 1))
        [ "$hops" -le 40 ] || die "too many links: $1"
        link=$(readlink "$top$at")
        todo=$link/$todo
        case $link in /*) at='' ;; *) at=${at%/*} ;; esac
    done
    printf '%s\\n' "$top$at"
}
"""

_DIRECTORY = """\
# directory PATH: its place, made where it is missing
directory() {
    spot=$(place "$1")
    mkdir -p "$spot"
    printf '%s\\n' "$spot"
}
"""

_LIKE = """\
# like SOURCE PATH: its place, a directory or a file as the source is one, made where it is missing
like() {
    spot=$(place "$2")
    if [ -d "$1" ]; then
        mkdir -p "$spot"
    else
        mkdir -p "${spot%/*}"
        [ -e "$spot" ] || : >"$spot"
    fi
    printf '%s\\n' "$spot"
}
"""

_REMOUNT = """\
# remount OPTIONS PLACE: for a mount and all that is mounted below it
remount() {
    findmnt --submounts --noheadings --raw --output TARGET "$2" | while read -r spot; do
        mount -o "remount,bind,$1" "$(printf '%b' "$spot")"
    done
}
"""

_NODE = """\
# node PATH KIND MAJOR MINOR MODE OWNER: a device, unless it is there
node() {
    spot=$(place "$1")
    [ ! -e "$spot" ] || return 0
    mkdir -p "${spot%/*}"
    mknod -m "$5" "$spot" "$2" "$3" "$4"
    chown "$6" "$spot"
}
"""

_LOOK_UP_USER = """\
# look_up_user NAME|NUMBER: sets uid, gid, groups and home by the image's own files (passwd(5))
look_up_user() {
    passwd=$(place /etc/passwd) file=$(place /etc/group) entry=''
    [ ! -f "$passwd" ] || entry=$(awk -F: -v who="$1" '
        NF >= 7 && (who ~ /^[0-9]+$/ ? $3 == who : $1 == who) { print $1 ":" $3 ":" $4 ":" $6; exit }' "$passwd")
    case ${entry:+found}$1 in
        found*) ;;
        *[!0-9]*) die "unable to find user $1: no matching entries in the container's /etc/passwd" ;;
    esac
    IFS=: read -r name uid gid home <<ENTRY
${entry:-:$1:0:/}
ENTRY
    home=${home:-/} groups=$gid
    [ ! -f "$file" ] || [ -z "$name" ] || groups=$gid$(awk -F: -v who="$name" -v own="$gid" '
        $3 != own && index("," $4 ",", "," who ",") { printf ",%s", $3 }' "$file")
}
"""

_GROUP = """\
# group NAME|NUMBER: its number
group() {
    case $1 in *[!0-9]*) ;; *) echo "$1" && return ;; esac
    number=$(awk -F: -v who="$1" '$1 == who { print $3; exit }' "$(place /etc/group)")
    [ -n "$number" ] || die "unable to find group $1: no matching entries in the container's /etc/group"
    echo "$number"
}
"""

_PORT_IS_FREE = """\
# port_is_free PROTOCOL ADDRESS PORT: also of sockets that do not listen, as the engine's are; only perl sees those
port_is_free() {
    if ! command -v perl >/dev/null; then
        [ -z "$(ss --no-header --listening --numeric "--$1" "sport = :$3")" ]
        return
    fi
    perl -MSocket -e '
        my %kind = (tcp => [SOCK_STREAM, 0], udp => [SOCK_DGRAM, 0], sctp => [SOCK_STREAM, 132]);
        my ($protocol, $address, $port) = @ARGV;
        my $six = $address =~ /:/;
        my ($type, $number) = @{$kind{$protocol}};
        socket(my $socket, $six ? PF_INET6 : PF_INET, $type, $number) or die "$protocol: $!\\n";
        setsockopt($socket, 41, 26, pack("i", $address ne "::")) if $six; # IPV6_V6ONLY: "::" is all of both families
        my $place = $six ? pack_sockaddr_in6($port, Socket::inet_pton(PF_INET6, $address))
            : pack_sockaddr_in($port, inet_aton($address));
        exit !bind($socket, $place);' "$@"
}
"""

# In an order in which each uses only those before it.
HOST_FUNCTIONS = {"remove_cgroup": _REMOVE_CGROUP, "port_is_free": _PORT_IS_FREE}
INSIDE_FUNCTIONS = {
    "place": _PLACE, "directory": _DIRECTORY, "like": _LIKE, "remount": _REMOUNT, "node": _NODE, "group": _GROUP,
    "look_up_user": _LOOK_UP_USER, "call": _CALL_INSIDE,
}  # fmt: skip
CALLS = _CALL_PERL + _CALL

WRITE_INSIDE = """\
# ---- what is done inside: a file, because it is another shell that runs it
cat >"$dir/inside" <<'{end}'
warn() {{ echo "$id: warning: $*" >&2; }}
die() {{ echo "$id: $*" >&2; exit 125; }}
trap 'exit 125' EXIT # whatever fails before the command runs

{inside}
{end}"""

BIRTH = """\
undo 'echo 1 >"$cgroup/cgroup.kill"; wait'
(
    echo 0 >"$cgroup/cgroup.procs" # this subshell, and so all that comes of it
    exec setpriv --pdeathsig=KILL \\
        {chain}
) <&3 3<&- &
born=$!
exec 3<&-"""

BECOME = """\
# A shell that has given up all rights, and needs no program any more, waits there for its root; see the host's part
read -r init rest </proc/self/stat
echo "$init" >"$dir/init" # its number on the host
exec 7<"$dir/sh" 8>"$dir/ready" 9<>"$dir/go"
cd /
{chain}"""

AWAIT = """\
echo ready >&8
read -r go <&9"""

WAIT_READY = """\
# ---- on the host again: wait until the first process has nothing left to do but to become the command
until [ -s "$dir/ready" ]; do
    if ! grep -qs '^State:.[^ZX]' "/proc/$born/status"; then # it has ended, and has said why
        code=0
        wait "$born" || code=$?
        exit "$code"
    fi
    sleep 0.01
done
read -r init <"$dir/init\""""

END = """\
# From now on it is the command
echo go >"$dir/go"
code=0
wait "$born" || code=$?
exit "$code\""""
