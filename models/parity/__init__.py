"""Parity: the same random weights in the reference and in the engine. See __main__.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
