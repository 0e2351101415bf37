import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark_script():
    """Imports a file of `benchmarks/` as it is found when a script of that folder is run."""
    places = [str(FOLDER), str(FOLDER / "signal")]
    sys.path[:0] = places  # for the processes that a script starts, too
    yield importlib.import_module
    for place in places:
        sys.path.remove(place)
    for path in FOLDER.rglob("*.py"):
        sys.modules.pop(path.stem, None)
