"""The program of a keeper that has made itself small: python -IS resume.py ID FILE [rehearsal]. See watch.py."""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from nanocontainer.container.watch import resume

    resume(int(sys.argv[2]), rehearsal=len(sys.argv) > 3)
