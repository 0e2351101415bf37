"""An unfinished `xrec train`, kept beside its output so that a killed run can go on."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import write_json

from .atomic_checkpoints import newest_checkpoint

IDENTITY_FILE = "run.json"
PARTIAL = ".partial"
_SAY = {"recipe": "the same recipe and overrides", "data": "the same dataset", "graph": "the same graph"}


class PartialRun:
    """The folder `OUT.partial`: what the run is of, and its checkpoints.

    Args:
        out: the output folder of the run.
    """

    def __init__(self, out: Path) -> None:
        out = out.absolute()
        self.folder = out.with_name(out.name + PARTIAL)

    def begin(self, identity: Mapping[str, Any], resume: bool, writes: bool) -> Path | None:
        """Finds where to go on, or begins anew.

        Args:
            identity: what the run depends on.
            resume: whether to go on.
            writes: whether this process may write.

        Returns:
            The newest checkpoint; None to start from the beginning.

        Raises:
            DataError: there is a checkpoint and `resume` is not set, or it is of another run.
        """
        checkpoint = newest_checkpoint(self.folder)
        if checkpoint is not None and not resume:
            raise DataError(
                f"{self.folder}: expected no unfinished run, found one at {checkpoint.name}; go on with --resume, or remove "
                "the folder to start anew"
            )
        path = self.folder / IDENTITY_FILE
        if checkpoint is not None:
            found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            for key, value in identity.items():
                if found.get(key) != value:
                    what = _SAY.get(key, f"{value} {key}, found {found.get(key)}")
                    raise DataError(
                        f"{self.folder}: to go on from {checkpoint.name} expected {what}; repeat that run's command, or "
                        "remove the folder to start anew"
                    )
        elif writes:
            self.remove()
            write_json(identity, path)
        return checkpoint

    def give_up(self) -> None:
        """Deletes the folder where it holds nothing of use to the user: no checkpoint, and no word on what went wrong."""
        if self.folder.is_dir() and {path.name for path in self.folder.iterdir()} <= {IDENTITY_FILE}:
            self.remove()

    def remove(self) -> None:
        """Deletes the folder, if there is one."""
        shutil.rmtree(self.folder, ignore_errors=True)
