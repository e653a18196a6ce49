"""Measure what a step costs, and what a loader delivers:

python tools/bench.py model [--sizes small base] [--batch-size 2] [--out runs/bench/model.json]
python tools/bench.py data --cfg configs/k400_vitl.yaml [--step-ms 400] [--memory 20000] [--ratios 30]
"""

from __future__ import annotations

import argparse
import sys

from diffmae_video.bench import data, model
from diffmae_video.errors import UserError

BENCHES = {"data": data, "model": model}


def main(arguments: list[str] | None = None) -> int:
    """Run the bench that the command line names; 2 and one line when it asks for something impossible."""
    parser = argparse.ArgumentParser(description="Measure what a step costs.")
    commands = parser.add_subparsers(dest="bench", required=True)
    for name, bench in BENCHES.items():
        bench.add_arguments(commands.add_parser(name, help=bench.__doc__, description=bench.__doc__))
    asked = parser.parse_args(arguments)
    try:
        BENCHES[asked.bench].run(asked)
    except UserError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
