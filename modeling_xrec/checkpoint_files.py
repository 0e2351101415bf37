"""The files of a checkpoint besides the configuration: where they come from, the graph's tables, and their checksums.

A model folder holds `model.safetensors` (the adapters; in a full checkpoint the backbone too), `collaborative.safetensors`
(the graph's tables, the same file that the encoder writes, in shards when large) and `checksums.json` (a SHA-256 of every
tensor of XRec's own, so that a damaged file is noticed however it was sharded or copied).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import safe_open
from transformers.utils import cached_file, logging
from transformers.utils.hub import get_checkpoint_shard_files

WEIGHTS_NAME = "model.safetensors"
TABLES_NAME = "collaborative.safetensors"
CHECKSUMS_NAME = "checksums.json"
logger = logging.get_logger(__name__)


class CheckpointSource:
    """A folder or Hub repository, at one revision.

    Args:
        path: folder or Hub id.
        kwargs: arguments of `from_pretrained`; those that say where and how to fetch files are used, the rest ignored.
    """

    FETCH_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")

    def __init__(self, path: Any, **kwargs: Any) -> None:
        self.path = str(path)
        self.fetch = {name: kwargs[name] for name in self.FETCH_ARGUMENTS if kwargs.get(name) is not None}

    def find(self, name: str) -> str | None:
        """Local path of a file, downloaded if need be; None when the checkpoint does not have it."""
        return cached_file(self.path, name, _raise_exceptions_for_missing_entries=False, **self.fetch)

    def tensors(self, name: str, wanted: Callable[[str], bool] = bool) -> dict[str, torch.Tensor]:
        """Tensors of a safetensors file or of its shards.

        Args:
            name: the file's name when it is not sharded.
            wanted: which keys to read; all by default.

        Raises:
            ValueError: neither the file nor its index is there.
        """
        file = self.find(name)
        index = self.find(f"{name}.index.json") if file is None else None  # in the order in which transformers looks
        if file is None and index is None:
            raise ValueError(f"{self.path} has no {name}; is it a model folder, saved with save_pretrained?")
        paths = [file] if index is None else get_checkpoint_shard_files(self.path, index, **self.fetch)[0]
        tensors = {}
        for path in paths:
            with safe_open(path, framework="pt") as handle:
                tensors.update({key: handle.get_tensor(key) for key in handle.keys() if wanted(key)})  # noqa: SIM118
        return tensors


def checksum(tensor: torch.Tensor) -> str:
    """SHA-256 of a tensor's dtype, shape and bytes."""
    tensor = tensor.detach().cpu().contiguous()
    raw: Any = tensor.flatten().view(torch.uint8).numpy()
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(raw)
    return digest.hexdigest()


def save_tables(folder: Path, tables: dict[str, torch.Tensor], max_shard_size: int | str) -> None:
    """Writes the graph's tables, in shards where they exceed `max_shard_size`."""
    save_torch_state_dict(tables, folder, filename_pattern="collaborative{suffix}.safetensors", max_shard_size=max_shard_size)


def remove_stale(folder: Path, name: str) -> None:
    """Removes what an earlier save left that the newest one does not need: the whole file beside shards, or their index."""
    shards = folder.glob(f"{Path(name).stem}-*-of-*.safetensors")
    (folder / name if any(shards) else folder / f"{name}.index.json").unlink(missing_ok=True)


def save_checksums(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes `checksums.json` for tensors by their names in the model's state dict."""
    sums = {name: checksum(tensor) for name, tensor in sorted(tensors.items())}
    (folder / CHECKSUMS_NAME).write_text(json.dumps({"algorithm": "sha256", "tensors": sums}, indent=1), encoding="utf-8")


def verify(source: CheckpointSource, tensors: dict[str, torch.Tensor]) -> None:
    """Checks tensors that were read from a checkpoint against its checksums, and that they are finite.

    Args:
        source: the checkpoint.
        tensors: names in the model's state dict, values as they stand in the files.

    Raises:
        ValueError: a tensor differs from its checksum, has none, or holds NaN or infinity.
    """
    path = source.find(CHECKSUMS_NAME)
    if path is None:
        logger.warning_once(
            f"{source.path} has no {CHECKSUMS_NAME}, so damage to its files would go unnoticed; save it again."
        )
    sums = json.loads(Path(path).read_text(encoding="utf-8"))["tensors"] if path else None
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            count = int((~tensor.isfinite()).sum())
            raise ValueError(f"{name} in {source.path} has {count} NaN or infinite values; train or download the model again.")
        if sums is not None and checksum(tensor) != sums.get(name):
            raise ValueError(
                f"{name} in {source.path} is not what {CHECKSUMS_NAME} says it was when saved: the file is damaged or was "
                "changed; download it again, or, if you changed it yourself, load without that file and save again."
            )


def names(problems: Mapping[str, Iterable[str]]) -> str:
    """`2 missing (such as x), 1 unexpected (such as y)`, for error messages."""
    sizes = {kind: sorted(map(str, keys)) for kind, keys in problems.items()}
    return ", ".join(f"{len(keys)} {kind} (such as {keys[0]})" for kind, keys in sizes.items() if keys)


__all__ = ["CheckpointSource", "checksum", "names", "remove_stale", "save_checksums", "save_tables", "verify"]
