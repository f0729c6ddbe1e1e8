"""Mistakes of the user, told apart from faults of the program."""


class UserError(ValueError):
    """A mistake that the user can mend: one line that names the key or file and says what to do.

    The command line prints the message alone and exits with status 2; anything else keeps its traceback.
    """
