"""What a user can put right, told apart from our own faults."""


class UserError(ValueError):
    """A user's mistake, in one line: the value, the rule it breaks and the remedy.

    Command lines print the line and exit with 2 (``command_line.run_command``). Any other exception is a fault of the
    code and keeps its traceback. It is a ValueError so that callers from Python can catch it as one.
    """
