"""What a file is, by its content: only kinds that can't run anything are published, whatever a file is called."""

import json
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path

from xrec_dataset_builder.errors import DataError

PICTURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
PACKED = {
    b"PK\x03\x04": "zip (as torch.save and numpy write)", b"PK\x05\x06": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7z", b"\x93NUMPY": "numpy array",
    b"\x7fELF": "program", b"MZ": "program", b"\x89HDF": "HDF5 file",
}  # fmt: skip
"""First bytes of what may hold or be a pickle or a program."""
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""Names under which tokenizers keep a SentencePiece model, which has no first bytes of its own."""
TEXT_CHECKED = 2**20
"""Bytes of a text in which a pickle without binary marks is looked for."""


def check_kinds(files: Mapping[str, Path]) -> dict[str, str]:
    """Check that every file is of a kind that is published.

    Args:
        files: path in the repository to file.

    Returns:
        Path in the repository to kind.

    Raises:
        DataError: a pickle of any kind, something packed, a program, or what can't be told.
    """
    found = {}
    for name, path in files.items():
        kind = kind_of(path)
        if kind not in PUBLISHED:
            raise DataError(
                f"{name}: expected {', '.join(PUBLISHED)} by content, found {kind}; leave it out: it may run code when read"
            )
        found[name] = kind
    return found


PUBLISHED = ("text", "safetensors", "parquet", "png", "jpeg", "sentencepiece")
"""Kinds that may be published."""


def kind_of(path: Path) -> str:
    """Return what a file is by its content: one of `PUBLISHED`, or what else it seems to be.

    Args:
        path: a file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(16)
        file.seek(max(0, size - 4))
        last = file.read(4)
    packed = next((kind for mark, kind in PACKED.items() if first.startswith(mark)), None)
    if packed:
        return packed
    if _is_safetensors(path, first, size):
        return "safetensors"
    if len(first) > 1 and first[0] == 0x80 and first[1] <= 5:
        return "pickle"
    if zipfile.is_zipfile(path):
        return "zip behind something else"
    if first[:4] == last == b"PAR1":
        return "parquet"
    picture = next((kind for mark, kind in PICTURES.items() if first.startswith(mark)), None)
    if picture:
        return picture
    if _is_text(path):
        return "pickle in text" if _is_text_pickle(path) else "text"
    if path.name in SENTENCEPIECE and first[:1] == b"\n":
        return "sentencepiece"
    return "an unknown kind"


def _is_safetensors(path: Path, first: bytes, size: int) -> bool:
    """Whether the header is JSON of the length that the first 8 bytes say, and its tensors fill the file to the last byte."""
    length = int.from_bytes(first[:8], "little")
    if len(first) < 8 or first[8:9] != b"{" or length > size - 8:
        return False
    with path.open("rb") as file:
        file.seek(8)
        raw = file.read(length)
    try:
        header = json.loads(raw)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return max(ends, default=0) == size - 8 - length


def _is_text(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            while block := file.read(TEXT_CHECKED):
                if "\0" in block:
                    return False
    except UnicodeDecodeError:
        return False
    return True


def _is_text_pickle(path: Path) -> bool:
    """Whether a text is a pickle of protocol 0: one that calls something, or one to the last byte; nothing of it is run."""
    with path.open("rb") as file:
        head = file.read(TEXT_CHECKED)
    calls, end = False, 0
    try:
        for opcode, _, place in pickletools.genops(head):
            calls, end = calls or opcode.name in ("GLOBAL", "INST", "REDUCE", "OBJ", "BUILD"), (place or 0) + 1
    except ValueError:  # no opcode, or no STOP
        return False
    return calls or end == len(head)
