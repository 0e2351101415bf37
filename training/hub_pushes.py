"""Pushes of a run while it trains: at every save a whole repository in one commit, in the background.

`Trainer` pushes weights and configuration alone, and its training arguments as a pickle. A model of ours needs its code, its
processor and the graph's tables, too, and nobody should get the users' ids by the way.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from modeling_xrec.processing_xrec import XRecProcessor
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.hub_commit import Place, commit

from .model_files import is_stale, stage

logger = logging.getLogger(__name__)
_ROOM = ".pushing-"


class HubPushes:
    """The pushes of one run.

    Args:
        arguments: of the trainer; `push_to_hub` and what is named `hub_...` count.
        processor: what is saved beside the model.
        key: what user ids are hashed with; profiles of users are left empty.

    Raises:
        DataError: a strategy by which optimizer states, which are pickles, would be published.
    """

    def __init__(self, arguments: TrainingArguments, processor: XRecProcessor, key: bytes) -> None:
        if arguments.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise DataError(
                f"expected hub_strategy every_save or end, found {arguments.hub_strategy.value}, which would publish the "
                "optimizer's pickles; choose one of these"
            )
        self.arguments, self.processor, self.key = arguments, processor, key
        self._worker = ThreadPoolExecutor(1, "hub-push")
        self._going: Future[None] | None = None

    def start(self, folder: Path, repo_id: str, message: str) -> None:
        """Pushes a checkpoint in the background; leaves it out while the last one is on its way, unless all are asked for.

        Args:
            folder: the checkpoint; it may be deleted meanwhile.
            repo_id: the repository.
            message: what the commit is called.
        """
        if self._going is not None and not self._going.done() and not self.arguments.hub_always_push:
            return
        self.finish()
        room = Path(tempfile.mkdtemp(prefix=_ROOM, dir=self.arguments.output_dir))
        self._going = self._worker.submit(self._send, self._lay_out(folder, room), room, repo_id, message)

    def finish(self) -> None:
        """Waits for the push that is on its way; one that failed is said, and training goes on."""
        going, self._going = self._going, None
        error = None if going is None else going.exception()
        if error is not None:
            logger.warning("a push of this run failed, training goes on: %s", error)

    def now(self, folder: Path, repo_id: str, message: str) -> None:
        """Pushes a model folder and waits for it.

        Args:
            folder: a model folder, whole or without a processor.
            repo_id: the repository.
            message: what the commit is called.

        Raises:
            DataError: the Hub does not take it.
        """
        self.finish()
        with tempfile.TemporaryDirectory(prefix=_ROOM, dir=folder.absolute().parent) as room:
            self._commit(self._lay_out(folder, Path(room)), repo_id, message)

    def _lay_out(self, folder: Path, room: Path) -> dict[str, Path]:
        """Path in the repository to file, all in `room`."""
        self.processor.save_pretrained(room / "processor")
        staged = room / "staged"
        names = stage(room / "processor", staged, self.key, keep=True) + stage(folder, staged, self.key, keep=True)
        return {name: staged / name for name in names}

    def _send(self, files: dict[str, Path], room: Path, repo_id: str, message: str) -> None:
        try:
            self._commit(files, repo_id, message)
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def _commit(self, files: dict[str, Path], repo_id: str, message: str) -> None:
        given = self.arguments
        place = Place(repo_id, "model", bool(given.hub_private_repo), given.hub_token, given.hub_revision)
        commit(files, is_stale, place, message)


def pushes_of(arguments: TrainingArguments, processor: Any, key: Callable[[], bytes]) -> HubPushes | None:
    """The pushes of a run, None where it does not push.

    Args:
        arguments: of the trainer.
        processor: what belongs to the model; None where it has none, or needs more than its own class to load.
        key: gives what user ids are hashed with.

    Raises:
        DataError: there is no processor, so that a repository could not be whole.
    """
    if not arguments.push_to_hub:
        return None
    if processor is None:
        raise DataError(
            "expected a model that is whole at every save to push it, found LoRA or a baseline; leave push_to_hub out, and "
            "publish the finished run with `xrec publish`"
        )
    return HubPushes(arguments, processor, key())
