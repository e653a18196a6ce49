"""What all command lines share: one parser, argument types with bounds, and one way to end."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn

from diffmae_video.errors import UserError

USER_ERROR = 2


def run_command(command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code; a user's mistake becomes one line on stderr and exit code 2.

    Every exception that isn't a mistake (:func:`is_user_error`) is a fault of the code and keeps its traceback.
    """
    try:
        return command()
    except Exception as error:
        if not is_user_error(error):
            raise
        print(f"error: {error_line(error)}", file=sys.stderr)
        return USER_ERROR


def is_user_error(error: BaseException) -> bool:
    """Whether the user can put it right: a :class:`UserError`, or an OSError that names a file.

    Such a file isn't there, is of the wrong kind, or may not be used.
    """
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.filename is not None)


def error_line(error: BaseException) -> str:
    """A user's mistake in one line."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}; check the path and its permissions"
    return " ".join(str(error).split())


class Parser(argparse.ArgumentParser):
    """argparse's, with a wrong argument told in one line like every other mistake; the options are in ``--help``."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit with 2."""
        print(f"error: {message}; {self.prog} --help lists the arguments", file=sys.stderr)
        sys.exit(USER_ERROR)


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


def real_number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """An argparse ``type`` for finite numbers in [low, high], or in (low, high] with ``above``."""
    rule = f"a number above {low:g}" if above else f"a number, {low:g} or more"
    if high < math.inf:
        rule = f"a number above {low:g}, at most {high:g}" if above else f"a number from {low:g} to {high:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} must be {rule}") from None
        if not math.isfinite(value) or not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f"{text} must be {rule}")
        return value

    return parse
