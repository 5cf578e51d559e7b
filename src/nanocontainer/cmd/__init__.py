"""The command line face. Knows the engine only; each verb imports its own module and nothing else (verbs.py)."""
