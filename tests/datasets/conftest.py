"""The scripts of datasets/ are no package: import them as their own command line does, from their folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "datasets"))
