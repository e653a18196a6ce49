"""The command line of a run: ``diffmae-run --cfg RECIPE [key=value ...]``, also as tools/run_net.py."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from diffmae_video.engine.describe import describe
from diffmae_video.engine.errors import TrainingStopped
from diffmae_video.engine.runner import run
from diffmae_video.errors import UserError
from diffmae_video.recipe import Recipe, load_recipe
from diffmae_video.recipe.rules import walk

USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run, and turn what a user can put right into one line and exit code 2."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if parsed.keys:
            print(_key_table())
            return 0
        if not parsed.cfg:
            raise UserError("--cfg is missing; give a recipe, as in --cfg configs/motion_tiny.yaml")
        recipe = load_recipe(parsed.cfg, parsed.overrides)
        if parsed.dry_run:
            print(describe(recipe, world_size=int(os.environ["WORLD_SIZE"]) if "WORLD_SIZE" in os.environ else 1))
            return 0
        return run(recipe, profile_steps=parsed.profile)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except TrainingStopped as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Pre-train, fine-tune and test by a recipe; resumes by itself.")
    parser.add_argument("--cfg", help="the recipe, a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys to change, in order")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and its numbers, and exit")
    parser.add_argument(
        "--profile", type=int, default=0, metavar="N", help="trace N training steps of each stage into its profile/"
    )
    parser.add_argument("--keys", action="store_true", help="list every recipe key with its default, and exit")
    return parser


def _key_table() -> str:
    rows = []
    for name, spec, value in walk(Recipe()):
        choices = spec.metadata["choices"]
        rule = f"  one of {', '.join(choices)}" if choices else ""
        rows.append(f"{name} = {value}\n    {spec.metadata['doc']}{rule}")
    return "\n".join(rows)
