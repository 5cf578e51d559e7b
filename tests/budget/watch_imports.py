"""Runs the launcher and writes down every module it imports: /usr/bin/python3 -IS watch_imports.py LOG LAUNCHER ARGS...

An audit hook (sys.addaudithook) sees each search for a module, and stays with the process over fork: the keeper's
imports are seen as well. What the interpreter has imported before the first line of ours does not count.
"""

import os
import sys

log, launcher, *args = sys.argv[1:]


def hook(event, details):
    if event == "import":
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(fd, f"{details[0]}\n".encode())
        os.close(fd)


with open(launcher) as file:
    code = compile(file.read(), launcher, "exec")
sys.argv = [launcher, *args]
sys.addaudithook(hook)
exec(code, {"__name__": "__main__", "__file__": launcher})
