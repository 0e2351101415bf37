"""The two errors of this room: one for input a user can mend, one for a split that leaks."""


class DataError(ValueError):
    """Input or options that cannot be used.

    The message is one line: what was expected, what was found, what to do. The command line prints it and exits with 1.
    """


class LeakError(DataError):
    """Explanation test or validation pairs are edges the graph is trained on."""
