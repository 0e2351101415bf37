import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark_script():
    """Imports a file of `benchmarks/` as it is found when a script of that folder is run."""
    sys.path.insert(0, str(FOLDER))  # for the processes that a script starts, too
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)
