"""The documentation's pages, the hooks that build them, and a browser to look at them."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "hooks"))
sys.path.insert(0, str(Path(__file__).parent))
