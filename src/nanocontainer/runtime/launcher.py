"""The launcher: a program of some 200 bytes that becomes the user's command, so that the engine's own does not.

/proc/self/exe is a way to the file that a process runs. If the engine's process executed the command itself, a
container could name /proc/self/exe as its command, or as the interpreter in a script's first line: the kernel would run
the host's Python inside, and root inside could change that file's mode and, when nothing runs it any more, its content
(CVE-2019-5736). Looking at the path first does not help: the kernel follows a script's first line by itself.

So the engine executes a launcher that exists in memory only (memfd_create(2)), sealed so that nobody can write to it,
and the launcher executes the command. What /proc/self/exe means inside is then the launcher or the command, never a
file of the host's. With the engine's program go all its open files: no path can lead through one (CVE-2024-21626).

What it does, in C:

    int wire = ...; char *places[] = {...};              // behind the code
    if (fcntl(wire, F_SETFD, FD_CLOEXEC) < 0)            // closes when the command runs: the keeper sees the end
        exit(126);                                       // executed a second time, as /proc/self/exe
    answer = "E";
    for (each place) {
        execve(place, argv, envp);
        answer += errno;
        if (errno is none of ENOENT, EACCES, ENOTDIR) break;
    }
    write(wire, answer); exit(125);
"""

from __future__ import annotations

import os

from ..plan.step import Step, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..plan.step import Side

_X86_64 = """
    48 8b 1c 24              mov  rbx, [rsp]                ; argc
    4c 8d 64 24 08           lea  r12, [rsp+8]              ; argv
    4c 8d 6c dc 10           lea  r13, [rsp+rbx*8+16]       ; envp
    48 8d 2d 86 00 00 00     lea  rbp, [rip+data]
    8b 7d 00                 mov  edi, [rbp]                ; wire
    be 02 00 00 00           mov  esi, 2                    ; F_SETFD
    ba 01 00 00 00           mov  edx, 1                    ; FD_CLOEXEC
    b8 48 00 00 00           mov  eax, 72                   ; fcntl
    0f 05                    syscall
    85 c0                    test eax, eax
    bf 7e 00 00 00           mov  edi, 126                  ; the wire is closed: /proc/self/exe was executed
    78 62                    js   quit
    4c 8d 75 04              lea  r14, [rbp+4]              ; place
    4c 8d bc 24 00 fc ff ff  lea  r15, [rsp-1024]           ; answer
    4c 89 fb                 mov  rbx, r15
    c6 03 45                 mov  byte ptr [rbx], 'E'
    48 ff c3                 inc  rbx
    41 80 3e 00              next: cmp  byte ptr [r14], 0
    74 2f                    je   report
    4c 89 f7                 mov  rdi, r14
    4c 89 e6                 mov  rsi, r12
    4c 89 ea                 mov  rdx, r13
    b8 3b 00 00 00           mov  eax, 59                   ; execve
    0f 05                    syscall
    f7 d8                    neg  eax
    88 03                    mov  [rbx], al
    48 ff c3                 inc  rbx
    3c 02                    cmp  al, 2                     ; ENOENT
    74 08                    je   skip
    3c 0d                    cmp  al, 13                    ; EACCES
    74 04                    je   skip
    3c 14                    cmp  al, 20                    ; ENOTDIR
    75 0c                    jne  report
    49 ff c6                 skip: inc  r14
    41 80 7e ff 00           cmp  byte ptr [r14-1], 0
    75 f6                    jne  skip
    eb cb                    jmp  next
    8b 7d 00                 report: mov  edi, [rbp]        ; wire
    4c 89 fe                 mov  rsi, r15
    48 89 da                 mov  rdx, rbx
    4c 29 fa                 sub  rdx, r15
    b8 01 00 00 00           mov  eax, 1                    ; write
    0f 05                    syscall
    bf 7d 00 00 00           mov  edi, 125
    b8 e7 00 00 00           quit: mov  eax, 231            ; exit_group
    0f 05                    syscall
"""
_AARCH64 = """
    f3 03 40 f9              ldr  x19, [sp]                 ; argc
    f4 23 00 91              add  x20, sp, #8               ; argv
    95 0e 13 8b              add  x21, x20, x19, lsl #3
    b5 22 00 91              add  x21, x21, #8              ; envp
    16 05 00 10              adr  x22, data
    c0 02 40 b9              ldr  w0, [x22]                 ; wire
    41 00 80 d2              mov  x1, #2                    ; F_SETFD
    22 00 80 d2              mov  x2, #1                    ; FD_CLOEXEC
    28 03 80 d2              mov  x8, #25                   ; fcntl
    01 00 00 d4              svc  #0
    da 0f 80 52              mov  w26, #126                 ; the wire is closed: /proc/self/exe was executed
    c0 03 f8 37              tbnz w0, #31, quit
    d7 12 00 91              add  x23, x22, #4              ; place
    f8 03 10 d1              sub  x24, sp, #1024            ; answer
    f9 03 18 aa              mov  x25, x24
    a9 08 80 52              mov  w9, #'E'
    29 17 00 38              strb w9, [x25], #1
    e9 02 40 39              next: ldrb w9, [x23]
    29 02 00 34              cbz  w9, report
    e0 03 17 aa              mov  x0, x23
    e1 03 14 aa              mov  x1, x20
    e2 03 15 aa              mov  x2, x21
    a8 1b 80 d2              mov  x8, #221                  ; execve
    01 00 00 d4              svc  #0
    e0 03 00 4b              neg  w0, w0
    20 17 00 38              strb w0, [x25], #1
    1f 08 00 71              cmp  w0, #2                    ; ENOENT
    a0 00 00 54              b.eq skip
    1f 34 00 71              cmp  w0, #13                   ; EACCES
    60 00 00 54              b.eq skip
    1f 50 00 71              cmp  w0, #20                   ; ENOTDIR
    81 00 00 54              b.ne report
    e9 16 40 38              skip: ldrb w9, [x23], #1
    e9 ff ff 35              cbnz w9, skip
    ef ff ff 17              b    next
    c0 02 40 b9              report: ldr  w0, [x22]         ; wire
    e1 03 18 aa              mov  x1, x24
    22 03 18 cb              sub  x2, x25, x24
    08 08 80 d2              mov  x8, #64                   ; write
    01 00 00 d4              svc  #0
    ba 0f 80 52              mov  w26, #125
    e0 03 1a 2a              quit: mov  w0, w26
    c8 0b 80 d2              mov  x8, #94                   ; exit_group
    01 00 00 d4              svc  #0
"""
_MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}  # e_machine of elf(5)
_BASE = 0x400000  # where the file is mapped
_HEADERS = 64 + 56  # one ELF header and one program header
MOST = 1000  # places; the answer has room for as many


def program(machine: str, wire: int, places: tuple[str, ...]) -> bytes:
    """The launcher as an ELF file: headers, code, the number of the wire's file, and the places, each ended by NUL."""
    number, listing = _MACHINES[machine]
    code = bytes.fromhex("".join(line[4:29] for line in listing.splitlines()))
    tail = b"".join(os.fsencode(place) + b"\0" for place in places[:MOST]) + b"\0"
    body = code + wire.to_bytes(4, "little") + tail
    size = _HEADERS + len(body)
    header = b"\x7fELF\2\1\1" + bytes(9)  # 64 bits, little endian
    header += _packed((2, 2), (number, 2), (1, 4), (_BASE + _HEADERS, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2))
    header += _packed((1, 2), (0, 2), (0, 2), (0, 2))
    load = _packed((1, 4), (5, 4), (0, 8), (_BASE, 8), (_BASE, 8), (size, 8), (size, 8), (0x10000, 8))  # r-x
    return header + load + body


def _packed(*fields: tuple[int, int]) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value, size in fields)


class MakeLauncher(Step):
    """A tiny program in memory that will become the command, so that nothing inside can reach the engine's own.

    places: where the command may be, in order. flags: of memfd_create(2); Linux 6.3 wants to know that it is executed.
    """

    side: ClassVar[Side] = "host"

    places: tuple[str, ...]
    machine: str
    flags: int = 0

    def reads(self) -> tuple[str, ...]:
        return ("wire",)

    def writes(self) -> tuple[str, ...]:
        return ("launcher",)

    def do(self, world: World) -> None:
        data = program(self.machine, world["wire"], self.places)
        world["launcher"] = world.kernel.sealed_file("launcher", data, self.flags)

    def explain(self) -> str:
        return (
            "Make a program of 200 bytes in memory that nobody can change, which will execute the command, so "
            "that /proc/self/exe inside never leads to a file of the host's, as in CVE-2019-5736 "
            "(memfd_create(2))."
        )

    def shell(self) -> str:
        why = "# For the same reason: not the host's sh becomes the command, but a copy of it."
        return f'{why}\ncp "$(command -v sh)" "$dir/sh"'
