"""The program of the resolver process: python -IS resolver_main.py FILE. See resolver.py."""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from nanocontainer.network.resolver import main

    main(int(sys.argv[1]))
