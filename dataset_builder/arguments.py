"""The parser that all of `xrec`'s commands share."""

import argparse
from typing import NoReturn

from .errors import DataError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and are raised like those of the data.

    Raises:
        DataError: the arguments do not fit.
    """

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print."""
        raise DataError(f"{message}; see `{self.prog} --help`")
