"""The code that travels with a model: which files it is, their hash, and that it can't reach what it has no business with.

The rules are about imports and calls as they are written, by the syntax tree, so that a reader can check them too: a code file
imports harmless modules of the standard library, the libraries that every user of the model has, and its siblings. A program
that wants to hide something can do so from any such scan; what a load really does is seen by an audit hook in the tests.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrec_dataset_builder.errors import DataError

STANDARD = frozenset({
    "__future__", "abc", "array", "ast", "base64", "bisect", "collections", "contextlib", "copy", "dataclasses",
    "datetime", "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "hmac", "html", "itertools",
    "json", "math", "numbers", "operator", "pathlib", "random", "re", "statistics", "string", "struct", "textwrap",
    "time", "types", "typing", "unicodedata", "warnings", "weakref"
})  # fmt: skip
"""Modules of the standard library that code files may import: none starts a program, opens a connection, runs or unpickles."""
LIBRARIES = frozenset({"torch", "transformers", "safetensors", "huggingface_hub"})
"""What every user of a model has."""
OPTIONAL = frozenset({"jinja2", "torch_geometric"})
"""What may be imported too, at the top of a file within `try` and `except ImportError`."""
OUTSIDE = frozenset({
    "builtins", "ctypes", "ftplib", "http", "importlib", "marshal", "multiprocessing", "os", "pickle", "posix", "pty",
    "requests", "runpy", "shelve", "shutil", "smtplib", "socket", "subprocess", "sys", "tempfile", "urllib", "webbrowser"
})  # fmt: skip
"""Modules that must not be reached as an attribute of another one either, as in `torch.os`."""
PARTS = frozenset({
    "torch.classes", "torch.hub", "torch.jit.load", "torch.load", "torch.ops.load_library", "torch.package", "torch.save",
    "torch.serialization", "torch.utils.cpp_extension", "torch.utils.model_zoo", "transformers.dynamic_module_utils"
})  # fmt: skip
"""Parts of the libraries that fetch, compile, unpickle or load native code."""
RUNNERS = frozenset({"__import__", "breakpoint", "compile", "eval", "exec", "globals", "input", "locals", "open"})
"""Builtins that code files never name: they run strings, open files, or give what the scan can't see."""
INNARDS = frozenset({
    "__builtins__", "__bases__", "__closure__", "__code__", "__globals__", "__import__", "__loader__", "__mro__",
    "__reduce__", "__reduce_ex__", "__spec__", "__subclasses__"
})  # fmt: skip
"""Attributes by which any object leads to any module, or a class tells pickle what to call."""
AT_IMPORT = frozenset({
    "cached_file", "chmod", "connect", "from_pretrained", "hf_hub_download", "load", "load_file",
    "load_state_dict_from_url", "mkdir", "open", "read_bytes", "read_text", "rename", "replace_file", "rglob", "rmdir",
    "safe_open", "save", "save_file", "snapshot_download", "touch", "unlink", "urlopen", "write_bytes", "write_text"
})  # fmt: skip
"""Calls by name that open a file or a connection: fine in a function, never while a file is imported."""
_RELATIVE = re.compile(r"^\s*(?:from\s+\.(\S+)\s+import|import\s+\.(\S+)\s*$)", re.MULTILINE)


@dataclass(frozen=True)
class CodeFile:
    """A file of code.

    Args:
        name: its name in the folder.
        sha256: of its bytes, in hexadecimal digits.
        lines: how many lines it has.
    """

    name: str
    sha256: str
    lines: int


def code_files(folder: Path) -> list[CodeFile]:
    """Return the code files of a model folder, by name.

    Args:
        folder: its root; code lies nowhere else (see `check_code`).
    """
    found = []
    for path in sorted(folder.glob("*.py")):
        content = path.read_bytes()
        found.append(CodeFile(path.name, hashlib.sha256(content).hexdigest(), len(content.splitlines())))
    return found


def code_hash(files: Iterable[CodeFile]) -> str:
    """Return one hash over all code files, 64 hexadecimal digits: what `LC_ALL=C sha256sum *.py | sha256sum` prints.

    Args:
        files: as `code_files` gives them.
    """
    lines = sorted((file.name, f"{file.sha256}  {file.name}\n") for file in files)
    return hashlib.sha256("".join(line for _, line in lines).encode()).hexdigest()


def check_code(folder: Path) -> list[CodeFile]:
    """Check the code of a model folder and return it.

    Args:
        folder: a model folder; `config.json` and `processor_config.json` may name classes of it.

    Raises:
        DataError: code that does what it may not, lies elsewhere, or is named and not there.
    """
    found = problems(folder)
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        raise DataError(
            f"{folder}: expected code that keeps to itself, found {found[0]}{more}; save the model again with "
            "save_pretrained, or take that out"
        )
    return code_files(folder)


def problems(folder: Path) -> list[str]:
    """Return what is wrong with the code of a model folder, one phrase each; empty when nothing is."""
    names = {file.name for file in code_files(folder)}
    found = [f"{path.relative_to(folder)}, code outside the root" for path in _strays(folder)]
    found += [f"{name} called by {file}, which is not there" for file, name in _named(folder) if name not in names]
    for name in sorted(names):
        found += [f"{problem} in {name}" for problem in file_problems(folder / name, names)]
    return found


def _strays(folder: Path) -> list[Path]:
    """Code where no one looks for it; caches of Python itself and repositories' own folders aside."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".pyc", ".pyd", ".so", ".pth", ".dylib", ".dll")
        and not (path.suffix == ".py" and path.parent == folder)
        and "__pycache__" not in path.relative_to(folder).parts
    ]


def _named(folder: Path) -> Iterator[tuple[str, str]]:
    """The code files that configurations call for; a class of another repository is called by its full reference."""
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        if not (folder / file).is_file():
            continue
        content: Mapping[str, Any] = json.loads((folder / file).read_text(encoding="utf-8"))
        references = list((content.get("auto_map") or {}).values())
        references += [task["impl"] for task in (content.get("custom_pipelines") or {}).values()]
        for reference in references:
            for one in reference if isinstance(reference, list) else [reference]:
                if one is not None:
                    yield file, one if "--" in one or "/" in one else f"{one.split('.')[0]}.py"


def file_problems(path: Path, names: Iterable[str]) -> list[str]:
    """Return what is wrong with one code file, one phrase each.

    Args:
        path: the file.
        names: the names of all code files.
    """
    names = set(names)
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        return [f"text that is no Python ({type(error).__name__})"]
    guarded, known = set(_guarded(tree)), _full_names(tree)
    found = []
    for node in ast.walk(tree):
        found += _wrong_import(node, names, guarded) + _wrong_name(node, known)
    found += [f"{call}(...) run at import (line {line})" for call, line in _calls_at_import(tree) if call in AT_IMPORT]
    # transformers finds siblings by this expression on the raw text, docstrings and all.
    siblings = {one or other for one, other in _RELATIVE.findall(text)}
    found += [
        f"a relative import of {name!r}, no file of the folder" for name in sorted(siblings) if f"{name}.py" not in names
    ]
    return found


def _guarded(tree: ast.Module) -> Iterator[ast.AST]:
    """Imports at the top of a file within `try` ... `except ImportError`."""
    for node in tree.body:
        if isinstance(node, ast.Try) and all(
            isinstance(handler.type, ast.Name) and handler.type.id == "ImportError" for handler in node.handlers
        ):
            yield from node.body


def _full_names(tree: ast.Module) -> dict[str, str]:
    """Each imported name to what it stands for, such as `F` to `torch.nn.functional`."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def _wrong_import(node: ast.AST, names: set[str], guarded: set[ast.AST]) -> list[str]:
    allowed = STANDARD | LIBRARIES | (OPTIONAL if node in guarded else frozenset())
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        modules = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        good = node.level == 1 and f"{node.module}.py" in names and all(alias.name != "*" for alias in node.names)
        return [] if good else [f"the import {ast.unparse(node)!r} (line {node.lineno})"]
    else:
        return []
    return [f"an import of {module} (line {node.lineno})" for module in modules if not _may_import(module, allowed)]


def _may_import(module: str, allowed: frozenset[str]) -> bool:
    root, *rest = module.split(".")
    return root in allowed and "*" not in rest and not OUTSIDE.intersection(rest) and not _is_part(module)


def _is_part(name: str) -> bool:
    return any(f"{name}.".startswith(f"{part}.") for part in PARTS)


def _wrong_name(node: ast.AST, known: Mapping[str, str]) -> list[str]:
    if isinstance(node, ast.Name) and node.id in RUNNERS | INNARDS:
        return [f"the builtin {node.id} (line {node.lineno})"]
    if isinstance(node, ast.Attribute):
        root, *rest = ast.unparse(node).split(".")
        chain = ".".join([known.get(root, root), *rest])
        if node.attr in INNARDS | OUTSIDE or _is_part(chain):
            return [f"the attribute {chain} (line {node.lineno})"]
    if isinstance(node, ast.FunctionDef) and node.name in INNARDS:
        return [f"a method {node.name} (line {node.lineno})"]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in INNARDS:
        return [f"the string {node.value!r} (line {node.lineno})"]  # such as getattr(x, "__globals__")
    return []


def _calls_at_import(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names and lines of the calls that run when a file is imported: all but those in the bodies of functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += [*node.decorator_list, *node.args.defaults, *(one for one in node.args.kw_defaults if one)]
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            yield name, node.lineno
        waiting += ast.iter_child_nodes(node)
