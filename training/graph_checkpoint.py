"""The state of an unfinished `xrec encode`, kept beside its output so that a killed run can go on."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from xrec_dataset_builder.errors import DataError

STATE_FILE, PROGRESS_FILE = "state.{epoch}.safetensors", "progress.json"


@dataclass
class EncoderState:
    """All that the next epoch depends on.

    Args:
        tensors: tables, best tables so far, the optimizer's moments and the random number generator's state, by name.
        history: validation score of each epoch so far.
    """

    tensors: dict[str, torch.Tensor]
    history: list[float] = field(default_factory=list)


class GraphCheckpoint:
    """Reads and writes the state in a sibling folder of the output, `OUT.partial`.

    The tensors are written first, under a name of their epoch, then `progress.json`, which names them, is put in place by one
    rename: whenever the process dies, `progress.json` names a whole state.

    Args:
        out: the output folder of the run.
        identity: what the run depends on; a state of another identity is refused.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        out = out.absolute()
        self.folder = out.with_name(f"{out.name}.partial")
        self.identity = dict(identity)

    def save(self, state: EncoderState) -> None:
        """Writes the state after an epoch and removes the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = STATE_FILE.format(epoch=len(state.history))
        save_file({key: tensor.detach().contiguous() for key, tensor in state.tensors.items()}, self.folder / name)
        _flush(self.folder / name)
        progress = {"identity": self.identity, "history": state.history, "state": name}
        temporary = self.folder / f"{PROGRESS_FILE}.new"
        temporary.write_text(json.dumps(progress, indent=2) + "\n", encoding="utf-8")
        _flush(temporary)
        os.replace(temporary, self.folder / PROGRESS_FILE)
        for old in self.folder.glob(STATE_FILE.format(epoch="*")):
            if old.name != name:
                old.unlink()

    def load(self) -> EncoderState | None:
        """The newest state, None where there is none.

        Raises:
            DataError: the state is of other data or options, or broken.
        """
        path = self.folder / PROGRESS_FILE
        if not path.is_file():
            return None
        try:
            progress = json.loads(path.read_text(encoding="utf-8"))
            found, name, history = progress["identity"], progress["state"], list(progress["history"])
            different = [key for key in self.identity if found.get(key) != self.identity[key]]
            if different:
                key = different[0]
                raise DataError(
                    f"{self.folder}: expected a run with {key} {self.identity[key]}, found one with {found.get(key)}; "
                    "repeat its command to go on, or leave --resume out to start anew"
                )
            with safe_open(self.folder / name, framework="pt") as file:
                return EncoderState({key: file.get_tensor(key) for key in file.keys()}, history)  # noqa: SIM118
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, SafetensorError, FileNotFoundError) as error:
            raise DataError(f"{self.folder}: the state cannot be read ({error}); leave --resume out to start anew") from error

    def remove(self) -> None:
        """Deletes the folder, if there is one."""
        shutil.rmtree(self.folder, ignore_errors=True)


def edges_fingerprint(*splits: torch.Tensor) -> str:
    """Hash of edges `(2, edges)`, in order."""
    digest = hashlib.sha256()
    for edges in splits:
        digest.update(f"{tuple(edges.shape)}".encode())
        digest.update(edges.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
