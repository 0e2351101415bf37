"""Raw reviews to a leak-checked dataset with explanations.

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import DataError, LeakError

if TYPE_CHECKING:
    from .explanations_builder import XRecExplanations
    from .leaks import LeakReport, leak_report
    from .publishing import Publication, push_to_hub
    from .schema import DatasetFolder

__all__ = [
    "DataError",
    "DatasetFolder",
    "LeakError",
    "LeakReport",
    "Publication",
    "XRecExplanations",
    "leak_report",
    "push_to_hub",
]

_HOMES = {
    "DatasetFolder": ".schema",
    "LeakReport": ".leaks",
    "Publication": ".publishing",
    "XRecExplanations": ".explanations_builder",
    "leak_report": ".leaks",
    "push_to_hub": ".publishing",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
