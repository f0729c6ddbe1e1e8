"""Mistakes of the user, told apart from faults of the program."""


class UserError(ValueError):
    """A mistake that the user can mend: one line that names the key or file and says what to do.

    The command line prints the message alone and exits with status 2; anything else keeps its traceback.
    """


class SetAsideError(RuntimeError):
    """Items that failed again and again while all others were done: a line for each, in words that name its log.

    The command line prints the message alone and exits with status 1; the same command tries them anew.
    """
