"""Builds a bundle from published checkpoints and a manifest of studies. See __main__.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
