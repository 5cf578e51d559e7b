"""The language of steps: what a step is, lists of steps, and what can be done with a list.

    step.py      Step, World, Reporter
    plan.py      Plan: a list that is checked
    execute.py   run it: one half on the host, one half inside
    wire.py      what the two halves say to each other
    journal.py   what must be undone is written down before it is done; recover() undoes it
    explanation.py  the list in words, with the system calls of each step
    rehearsal.py the calls of a step, without making them
    recording.py a kernel that takes notes instead of acting
"""
