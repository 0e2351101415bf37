"""`xrec convert`: what the public reference code (HKUDS/XRec) publishes for a dataset, as a model folder.

A dataset of the reference holds two pickled tensors, the users' and the items' final embeddings, and two adapters saved by
`torch.save`. A pickle is a program; here it is read as data. The unpickler knows the few names a tensor or an array needs,
refuses every other one by name, and calls none: it records what would be called with what, and the record is then checked
and rebuilt by this file alone. What is pickled once more inside (a tensor's storage) goes to torch's own safe reader.
"""

import io
import math
import pickle
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils.hub import resolve_revision

from modeling_xrec.collaborative_adapter import MixtureOfExpertsAdapter
from modeling_xrec.configuration_xrec import XRecConfig
from modeling_xrec.modeling_xrec import XRecForCausalLM
from modeling_xrec.processing_xrec import XRecProcessor
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import atomic_folder

SIDES = ("user", "item")
TABLE_FILE, ADAPTER_FILE = "{side}_emb.pkl", "{side}_converter.pkl"
_LFS_POINTER = b"version https://git-lfs"
_KINDS = {
    "collections.OrderedDict": "dictionary",
    "torch._utils._rebuild_parameter": "parameter",
    "torch._utils._rebuild_tensor_v2": "tensor",
    "torch.storage._load_from_bytes": "storage",
    "numpy.dtype": "dtype",
    "numpy.ndarray": "array class",
    **{f"numpy.{core}.multiarray._reconstruct": "array" for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": "buffer" for core in ("core", "_core")},
}
_NUMPY_FLOATS = ("f2", "f4", "f8")


class _RefusedError(Exception):
    """Something in a file that is not the data it should hold; the message says what it is."""


class _Record:
    """A name found in a pickle, and what it would have been called with; calling it records, and runs nothing."""

    __slots__ = ("args", "kind", "state")

    def __init__(self, kind: str, args: tuple | None = None) -> None:
        self.kind, self.args, self.state = kind, args, None

    def __call__(self, *args: Any) -> "_Record":
        return _Record(self.kind, args)

    def __setstate__(self, state: Any) -> None:
        # Without this method, a pickle could set attributes of its choice.
        self.state = state


class _Recorder(pickle.Unpickler):
    """Unpickles into `_Record`s, numbers, strings, bytes and tuples."""

    def find_class(self, module: str, name: str) -> _Record:
        """A fresh record for a known name."""
        kind = _KINDS.get(f"{module}.{name}")
        if kind is None:
            raise _RefusedError(f"it asks for {module}.{name}, which no tensor needs")
        return _Record(kind)


@dataclass(frozen=True)
class ReferenceFiles:
    """The four files of one dataset of the reference, checked; everything float32 on the CPU.

    Args:
        tables: final embeddings by side, `(users, dim)` and `(items, dim)`.
        adapters: adapters by side, both of one size.
    """

    tables: dict[str, torch.Tensor]
    adapters: dict[str, MixtureOfExpertsAdapter]

    @classmethod
    def read(cls, folder: Path) -> "ReferenceFiles":
        """Reads a `data/<dataset>` folder of the reference.

        Raises:
            DataError: a file is missing, holds something else, is not finite, or does not belong to the others.
        """
        tables = {side: read_table(folder / TABLE_FILE.format(side=side)) for side in SIDES}
        adapters = {side: read_adapter(folder / ADAPTER_FILE.format(side=side)) for side in SIDES}
        widths = {side: tables[side].shape[1] for side in SIDES}
        sizes = {side: tuple(adapters[side].expert_weight.shape) for side in SIDES}
        if sizes["user"] != sizes["item"] or any(widths[side] != sizes[side][1] for side in SIDES):
            raise DataError(
                f"{folder}: expected tables and adapters of one size, found tables of widths {widths} and adapters of "
                f"(experts, width, hidden size) {sizes}; take all four files from the same dataset of the reference"
            )
        return cls(tables, adapters)

    @property
    def num_parameters(self) -> int:
        """Parameters of both adapters."""
        return sum(parameter.numel() for adapter in self.adapters.values() for parameter in adapter.parameters())


@dataclass(frozen=True)
class Conversion:
    """What `convert` made.

    Args:
        out: the model folder.
        files: what it was made from.
        config: the model's configuration.
        no_tokenizer: why there is no processor in the folder; None when there is one.
    """

    out: Path
    files: ReferenceFiles
    config: XRecConfig
    no_tokenizer: str | None

    def summary(self) -> str:
        """A few lines for the reader, with what the reference does not publish."""
        files, config = self.files, self.config
        base = f"{config.base_model_name_or_path} at {config.base_model_revision or 'no pinned commit'}"
        where = f"behind the vocabulary; no processor: {self.no_tokenizer}" if self.no_tokenizer else "in the saved processor"
        return f"""Model: {self.out}, completed from {base} when loaded
Adapters: {files.num_parameters:,} parameters, each {files.adapters["user"].extra_repr()}
Tables: {config.num_users:,} users and {config.num_items:,} items, by row number: the reference publishes no ids
Markers: tokens {config.user_token_id} (user) and {config.item_token_id} (item), {where}
Fold-in: none, its tables are zero: the reference publishes final embeddings only, so users cannot be given by a history
"""


def convert(reference: Path, base: str, out: Path, revision: str | None = None) -> Conversion:
    """Makes a model folder from what the reference published for one dataset; no weight of the backbone is read.

    Args:
        reference: folder with `user_emb.pkl`, `item_emb.pkl`, `user_converter.pkl` and `item_converter.pkl`.
        base: the backbone the adapters were trained with, Hub id or local folder (the reference's: Llama-2-7b-chat-hf).
        out: folder to make; absent or empty.
        revision: commit of a Hub id; the one found now when None.

    Raises:
        DataError: a file that is not what it should be, or a backbone that does not fit.
    """
    base = str(Path(base).resolve()) if Path(base).is_dir() else base
    with atomic_folder(out) as folder:
        files = ReferenceFiles.read(reference)
        pinned = resolve_revision(base, revision)
        text_config = _read_base(base, pinned, files)
        commit = getattr(pinned, "resolved", revision)
        processor, no_tokenizer = _load_processor(base, commit)
        behind = text_config.get_text_config().vocab_size
        markers = (processor.user_token_id, processor.item_token_id) if processor else (behind, behind + 1)
        model = build_model(files, text_config, base, commit, markers)
        model.save_pretrained(folder)
        if processor:
            processor.save_pretrained(folder)
    return Conversion(out, files, model.config, no_tokenizer)


def build_model(
    files: ReferenceFiles, text_config: Any, base: str, revision: str | None, markers: tuple[int, int]
) -> XRecForCausalLM:
    """The converted model over a backbone on the meta device, ready to be saved; its fold-in tables are zero.

    Args:
        files: see `ReferenceFiles`.
        text_config: the backbone's configuration.
        base: the backbone's Hub id or folder, recorded as it is.
        revision: its commit, likewise.
        markers: token ids of the user's and the item's marker.

    Raises:
        DataError: the backbone cannot take the reference's injection.
    """
    experts, dim, _ = files.adapters["user"].expert_weight.shape
    try:
        config = XRecConfig(
            text_config=text_config, injection="qkv", collaborative_dim=dim, num_experts=experts,
            num_users=len(files.tables["user"]), num_items=len(files.tables["item"]), user_token_id=markers[0],
            item_token_id=markers[1], base_model_name_or_path=base, base_model_revision=revision,
        )  # fmt: skip
        with torch.device("meta"):
            backbone = AutoModelForCausalLM.from_config(text_config)
        model = XRecForCausalLM(config, language_model=backbone)
    except ValueError as error:
        raise DataError(f"{base} cannot be the adapters' backbone: {error}") from error
    for side in SIDES:
        getattr(model, f"{side}_adapter").load_state_dict(files.adapters[side].state_dict())
    tables = {f"{side}_embeddings": files.tables[side] for side in SIDES}
    tables |= {f"{side}_fold_in": torch.zeros_like(files.tables[side]) for side in SIDES}
    model.lightgcn.load_state_dict(tables)
    model.suppress_markers()
    return model.eval()


def _read_base(base: str, revision: str | None, files: ReferenceFiles) -> Any:
    """The backbone's configuration, refused where the adapters cannot have been trained with it."""
    try:
        config = AutoConfig.from_pretrained(base, revision=revision)
    except (OSError, ValueError) as error:
        reason = f"whose configuration does not load ({_first_line(error)}); check its name and your access"
        raise DataError(f"expected a backbone folder or Hub id, found {base!r}, {reason}") from error
    text = config.get_text_config()
    hidden, wanted = text.hidden_size, files.adapters["user"].hidden_size
    keys = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    if hidden != wanted or keys != text.num_attention_heads:
        raise DataError(
            f"expected the adapters' backbone, of hidden size {wanted} and as many key as query heads, found {base} of hidden "
            f"size {hidden}, {text.num_attention_heads} query and {keys} key heads; use the one they were trained with"
        )
    return config


def _load_processor(base: str, revision: str | None) -> tuple[XRecProcessor | None, str | None]:
    """A processor around the backbone's tokenizer, or None and why there is none."""
    try:
        return XRecProcessor(AutoTokenizer.from_pretrained(base, revision=revision)), None
    except (OSError, ValueError, ImportError) as error:
        return None, f"{base} has no usable tokenizer ({_first_line(error)})"


def read_table(path: Path) -> torch.Tensor:
    """Reads a pickled tensor, parameter or numpy array, without running anything in it.

    Args:
        path: file that `pickle.dump` left; a tensor may have been on a GPU, require a gradient, or be a view of a larger one.

    Returns:
        `(rows, dim)`, float32 on the CPU, contiguous, on a storage of its own.

    Raises:
        DataError: no such file, or anything but a finite floating-point table.
    """
    with _bytes_of(path, "a pickled table of embeddings (rows, dim)") as payload:
        table = _rebuild(_Recorder(io.BytesIO(payload)).load())
        if table.dim() != 2 or 0 in table.shape:
            raise _RefusedError(f"it holds a tensor of shape {tuple(table.shape)}")
        return _to_float32(table)


def read_adapter(path: Path) -> MixtureOfExpertsAdapter:
    """Reads an adapter that `torch.save` left, by torch's own safe reader.

    Raises:
        DataError: no such file, or anything but the finite floating-point tensors of a reference adapter.
    """
    with _bytes_of(path, "an adapter of the reference") as payload:
        found = _load_weights(payload)
        if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise _RefusedError("it holds something else than named tensors")
        for name in ("w_gate", "experts.0.lin.weight"):
            if name not in found or found[name].dim() != 2:
                raise _RefusedError(f"it holds no matrix {name}")
        tensors = {name: _to_float32(tensor) for name, tensor in found.items()}
        (dim, experts), hidden = tensors["w_gate"].shape, len(tensors["experts.0.lin.weight"])
        if sum(tensor.numel() for tensor in tensors.values()) < experts * dim * hidden:
            raise _RefusedError(f"it holds fewer numbers than {experts} experts of {dim} to {hidden} need")
        adapter = MixtureOfExpertsAdapter(dim, hidden, experts)
        try:
            adapter.load_reference_state_dict(tensors)
        except ValueError as error:
            raise _RefusedError(str(error)) from error
        return adapter


@contextmanager
def _bytes_of(path: Path, expected: str) -> Iterator[bytes]:
    """The content of a file, for a block whose every failure becomes one line about this file."""
    if not path.is_file():
        raise DataError(f"{path}: expected a file, found none; give a data/<dataset> folder of the reference")
    payload = path.read_bytes()
    if payload.startswith(_LFS_POINTER):
        raise DataError(f"{path}: expected the file, found its Git LFS pointer; run `git lfs pull` in the reference's clone")
    try:
        yield payload
    except Exception as error:  # a broken or hostile pickle can fail in any way
        what = error if isinstance(error, _RefusedError) else f"it does not read as one ({type(error).__name__})"
        raise DataError(f"{path}: expected {expected}, but {what}; nothing was run, take the file from its source") from error


def _load_weights(payload: bytes) -> Any:
    """What `torch.load` makes of bytes when it may build tensors and storages only."""
    try:
        with warnings.catch_warnings():  # torch warns of newer pickles before it refuses them
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise _RefusedError(f"it asks for {found[1]}, which no tensor needs") from error
        _Recorder(io.BytesIO(payload)).load()  # newer opcodes stop torch before it comes to a name; this finds it
        raise _RefusedError("torch's safe reader refuses a pickle in it") from error


def _rebuild(record: Any) -> torch.Tensor:
    """The tensor that a record describes; everything in it comes from the file and is checked here."""
    if isinstance(record, _Record) and record.kind == "parameter" and record.args:
        record = record.args[0]
    match record:
        case _Record(
            kind="tensor",
            args=(_Record(kind="storage", args=(bytes(payload),)), int(offset), tuple(size), tuple(stride), *_),
        ):
            storage = _load_weights(payload)
            if not isinstance(storage, torch.TypedStorage):
                raise _RefusedError("its storage holds something else than numbers")
            return torch.empty(0, dtype=storage.dtype).set_(storage).as_strided(size, stride, offset)
        case _Record(kind="array", state=(1, tuple(shape), dtype, bool(by_columns), bytes(values))):
            return _from_buffer(values, dtype, shape, "F" if by_columns else "C")
        case _Record(kind="buffer", args=(bytes(values) | bytearray(values), dtype, tuple(shape), "C" | "F" as order)):
            return _from_buffer(bytes(values), dtype, shape, order)
    name = record.kind if isinstance(record, _Record) else type(record).__name__
    raise _RefusedError(f"it holds a {name} of another form")


def _from_buffer(values: bytes, dtype: Any, shape: tuple, order: Any) -> torch.Tensor:
    """A tensor from the bytes of a numpy array of floats."""
    match dtype:
        case _Record(kind="dtype", args=(code, *_), state=(_, "<" | ">" as endian, *_)) if code in _NUMPY_FLOATS:
            if math.prod(shape) * int(code[1]) == len(values):
                array = np.frombuffer(values, dtype=f"{endian}{code}").reshape(shape, order=order)
                return torch.from_numpy(array.astype(f"={code}", order="C"))
    raise _RefusedError("it holds an array of another form than floats")


def _to_float32(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise _RefusedError(f"it holds a tensor of {tensor.dtype}, {tensor.layout}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise _RefusedError(f"it holds fewer numbers than its shape {tuple(tensor.shape)} says")
    # A copy, because the reference's tables are views of one storage that holds both sides.
    tensor = tensor.detach().to(torch.float32, copy=True).contiguous()
    if not tensor.isfinite().all():
        raise _RefusedError("it holds NaN, infinity or a number beyond float32")
    return tensor


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" .:;")
