"""The command line of a run: ``diffmae-run --cfg CONFIG [key=value ...]``, also as tools/run_net.py."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from diffmae_video.command_line import USER_ERROR, Parser, run_command, whole_number
from diffmae_video.config import Config, load_config, value_text
from diffmae_video.config.rules import walk
from diffmae_video.engine.distributed.env import read_world_size
from diffmae_video.errors import TrainingStopped, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run: 0 finished, 75 interrupted and saved, 2 a user's mistake, 1 stopped."""
    parsed = _parser().parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        return run_command(lambda: _run(parsed))
    except TrainingStopped as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1


def _run(parsed: argparse.Namespace) -> int:
    if parsed.keys:
        print(_key_table())
        return 0
    if not parsed.cfg:
        raise UserError("--cfg is missing; give a config, as in --cfg configs/motion_tiny.yaml")
    config = load_config(parsed.cfg, parsed.overrides)
    # Imported late: torch takes seconds, and a mistake in the config is told at once.
    if parsed.dry_run:
        return _dry_run(config, world_size=read_world_size(os.environ))
    from diffmae_video.engine.runner import run

    return run(config, profile_steps=parsed.profile)


def _dry_run(config: Config, *, world_size: int) -> int:
    """Print the config's numbers, then a line for each input that a run would refuse; exit code 2 if there are any."""
    from diffmae_video.engine.dry_run import describe
    from diffmae_video.engine.inputs import read_inputs

    print(describe(config, world_size=world_size), flush=True)
    problems = read_inputs(config, world_size=world_size).problems
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return USER_ERROR if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description="Pre-train, fine-tune and test by a config; resumes by itself.")
    parser.add_argument("--cfg", help="the config, a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config keys to change, in order")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved config and its numbers, check all inputs, and exit"
    )
    parser.add_argument(
        "--profile",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="trace N training steps of each stage into its profile/",
    )
    parser.add_argument("--keys", action="store_true", help="list every config key with its default, and exit")
    return parser


def _key_table() -> str:
    rows = []
    for name, spec, value in walk(Config()):
        choices = spec.metadata["choices"]
        rule = f"  one of {', '.join(choices)}" if choices else ""
        rows.append(f"{name} = {value_text(value)}\n    {spec.metadata['doc']}{rule}")
    return "\n".join(rows)
