"""Measure the speed of training steps and of data loaders:

python tools/bench.py model [--sizes small base] [--batch-size 2] [--out runs/bench/model.json]
python tools/bench.py data --cfg configs/k400_vitl.yaml [--step-ms 400] [--memory 20000] [--ratios 30]
"""

from __future__ import annotations

import sys
from pathlib import Path

from diffmae_video.command_line import Parser, run_command

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is not installed with the package

from benchmarks import data, model

BENCHES = {"data": data, "model": model}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark that the command line names."""
    parser = Parser(description="Measure the speed of training steps and of data loaders.")
    commands = parser.add_subparsers(dest="bench", required=True)
    for name, module in BENCHES.items():
        module.add_arguments(commands.add_parser(name, help=module.__doc__, description=module.__doc__))
    args = parser.parse_args(arguments)

    def bench() -> int:
        BENCHES[args.bench].run(args)
        return 0

    return run_command(bench)


if __name__ == "__main__":
    raise SystemExit(main())
