"""The command line: ``demo``, ``fit`` and ``lint DATA FORMULA``, ``study``, ``sensitivity``.

Exit codes: 0 for success, 2 with one line on stderr for input that cannot be used, 130 after
Ctrl-C (what was drawn by then is saved), 1 for anything else.
"""

from hiermodels.cli.commands import BAD_INPUT, DEMO_FORMULA, INTERRUPTED, main

__all__ = ["BAD_INPUT", "DEMO_FORMULA", "INTERRUPTED", "main"]
