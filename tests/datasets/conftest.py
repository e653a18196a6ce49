"""The scripts of datasets/ are not a package: import them from their folder, as their command lines do."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "datasets"))
