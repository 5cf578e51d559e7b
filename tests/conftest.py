"""For all tests: signals as a terminal gives them.

What a shell without job control runs in the background ignores SIGINT and SIGQUIT (POSIX, 2.11 "Signals and Error
Handling"), and so do all children: a test that sends them would test nothing, or hang.
"""

from __future__ import annotations

import signal

for number, ordinary in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, ordinary)
