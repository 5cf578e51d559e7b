"""Lessons: how a container comes to be, one wall after the other (`nanocontainer learn`).

    lesson.py      what a lesson is, and the container it has: the plan of a start without what later lessons add
    playhost.py    the machine that lessons happen on: namespaces of their own, so that no attack meets the real host
    stage.py       what stands on it: an engine, a secret, a victim, a registry
    course.py      how a lesson goes: text, plan, try, check, attack
    walls.py       the lessons from chroot to net       guards.py   from cgroups to registry
    texts.py       languages; en/ and zh/ have a text per lesson and the words between (words.json)

A lesson runs the real plan of a default container, from the same planner and with the same steps: earlier lessons
leave out what later ones add (run --without is the same thing). So the attack of a lesson is played twice: in the
container of the lesson before, where it hits, and in that of this one, where it does not.
"""
