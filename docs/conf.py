"""How Sphinx builds these pages: `make docs`. What the code knows is read from the code (`generated.py`)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from freeswitch_callback import __version__  # noqa: E402

project = "freeswitch-callback"
author = "the freeswitch-callback contributors"
copyright = "the freeswitch-callback contributors; MIT licence"
release = version = __version__
extensions = ["sphinx_click", "generated"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"freeswitch-callback {__version__}"
html_copy_source = False
nitpicky = True
# Or `--` becomes a dash in the help of commands.
smartquotes = False
pygments_style = "default"
