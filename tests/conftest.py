"""For all tests: signals as a terminal gives them, and no hurry.

What a shell without job control runs in the background ignores SIGINT and SIGQUIT (POSIX, 2.11 "Signals and Error
Handling"), what nohup(1) runs SIGHUP, and so do all children: a test that sends them would test nothing, or hang.
"""

from __future__ import annotations

import signal

from hypothesis import settings

for number, ordinary in (
    (signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL),
):  # fmt: skip
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, ordinary)

# How long an example takes says more about the machine than about the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
