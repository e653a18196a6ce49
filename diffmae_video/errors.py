"""How a run ends early: a user's mistake, a signal, or a training that can't go on."""


class UserError(ValueError):
    """A user's mistake, in one line: the value, the rule it breaks and the remedy.

    Command lines print the line and exit with 2 (``command_line.run_command``). Any other exception is a fault of the
    code and keeps its traceback. It is a ValueError so that callers from Python can catch it as one.
    """


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved and the same command goes on."""


class TrainingStopped(RuntimeError):
    """Training can't go on (non-finite steps, too many broken videos); nothing saved is lost."""
