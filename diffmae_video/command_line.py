"""What all command lines share: one way to end, and argument types with bounds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from diffmae_video.errors import UserError

USER_ERROR = 2


def run_command(command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code; a user's mistake becomes one line on stderr and exit code 2.

    A mistake is a :class:`UserError`, or an OSError that names a file: a path that isn't there, is of the wrong kind
    or may not be used. Every other exception is a fault of the code and keeps its traceback.
    """
    try:
        return command()
    except UserError as error:
        line = " ".join(str(error).split())
    except OSError as error:
        if error.filename is None:
            raise
        line = f"{error.filename}: {error.strerror}; check the path and its permissions"
    print(f"error: {line}", file=sys.stderr)
    return USER_ERROR


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """An argparse ``type`` for whole numbers in [low, high]; ``high`` None for no upper bound."""
    rule = f"a whole number, {low} or more" if high is None else f"a whole number from {low} to {high}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} must be {rule}") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} must be {rule}")
        return value

    return parse
