"""Why a run ends before it is finished, other than by a user's mistake (those are UserErrors)."""


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved and the same command goes on."""


class TrainingStopped(RuntimeError):
    """Training can't go on (non-finite steps, too many broken videos); nothing saved is lost."""
