"""The questions to a teacher: versioned templates from one YAML file, filled with material as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from .errors import DataError
from .teacher import KINDS

DOMAINS = ("business", "book", "product")
"""What the items are; each domain has its own templates."""

BUILT_IN = Path(__file__).with_name("prompts.yaml")
"""The templates that come with the package."""

FIELDS = {"item_profile": "profile", "user_profile": "profile", "explanation": "explanation"}
"""The one field of an answer's JSON object."""

Messages = tuple[tuple[str, str], ...]
"""Role and content of each turn."""


@dataclass(frozen=True)
class Prompt:
    """One question with gaps.

    Args:
        version: domain, kind and number, as it stands in requests and in the dataset.
        system: the teacher's task; `$words` is the most words of the answer.
        user: what comes with it; `$data` is the material.
    """

    version: str
    system: Template
    user: Template

    def messages(self, data: Mapping[str, Any], words: int) -> Messages:
        """The question about one row; `data` goes into the user's turn as JSON on one line."""
        material = json.dumps(data, ensure_ascii=False)
        user = self.user.substitute(data=material, words=words).strip()
        return ("system", self.system.substitute(words=words).strip()), ("user", user)

    @property
    def own_text(self) -> str:
        """What the question says whatever the row."""
        gaps = dict.fromkeys(("data", "words"), "\n")
        return f"{self.system.safe_substitute(gaps)}\n{self.user.safe_substitute(gaps)}"


@dataclass(frozen=True)
class Prompts:
    """The questions of one domain.

    Args:
        domain: one of `DOMAINS`.
        kinds: the prompt of each of `teacher.KINDS`.
        repair: the turn that asks again, with `$reason` and `$words`.
        repair_version: its version.
    """

    domain: str
    kinds: Mapping[str, Prompt]
    repair: Template
    repair_version: str


def answer_schema(kind: str) -> str:
    """The JSON schema of an answer as canonical JSON: one object with one text."""
    field = FIELDS[kind]
    schema = {"type": "object", "properties": {field: {"type": "string"}}, "required": [field], "additionalProperties": False}
    return json.dumps(schema, sort_keys=True, separators=(",", ":"))


def read_prompts(domain: str, path: Path | None = None) -> Prompts:
    """Read the questions of one domain and check them.

    Args:
        domain: one of `DOMAINS`.
        path: a YAML file of the form of the built-in one; None for that.

    Raises:
        DataError: the domain is unknown, or the file cannot be used.
    """
    if domain not in DOMAINS:
        raise DataError(f"expected a domain among {', '.join(DOMAINS)}, found {domain!r}; choose one")
    where = BUILT_IN if path is None else path
    content = _read(where)
    _check_keys(content, where, "", (*DOMAINS, "repair"), (domain,))
    own = content.get("repair") or _read(BUILT_IN)["repair"]
    kinds: dict[str, Prompt] = {}
    for name in (name for name in DOMAINS if name in content):
        _check_keys(content[name], where, name, KINDS, KINDS)
        prompts = {kind: _prompt(content[name][kind], where, f"{name}.{kind}") for kind in KINDS}
        kinds = prompts if name == domain else kinds
    _check_keys(own, where, "repair", ("version", "user"), ("version", "user"))
    repair = _template(own["user"], where, "repair.user", needed=("reason",), allowed=("reason", "words"))
    return Prompts(domain, kinds, repair, f"repair.{_version(own, where, 'repair')}")


class _UniqueKeys(yaml.SafeLoader):
    """A loader that takes no key twice, where YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds one mapping.

        Raises:
            yaml.constructor.ConstructorError: a key stands in it twice.
        """
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506 (a safe loader)
    except OSError as error:
        raise DataError(f"{path}: expected a file of prompts, found {error.strerror}; check --prompts") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or type(error).__name__
        raise DataError(f"{path}: expected YAML, found {reason}{line}; mend the file") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected domains with prompts, found {type(content).__name__}; see prompts.yaml of the package"
        )
    return content


def _prompt(entry: Any, where: Path, name: str) -> Prompt:
    fields = ("version", "system", "user")
    _check_keys(entry, where, name, fields, fields)
    system = _template(entry["system"], where, f"{name}.system", needed=(), allowed=("words",))
    user = _template(entry["user"], where, f"{name}.user", needed=("data",), allowed=("data", "words"))
    if "words" not in system.get_identifiers() + user.get_identifiers():
        raise DataError(f"{where}: expected $words in {name}, found it nowhere; state the limit that answers are held to")
    if user.template.count("$data") + user.template.count("${data}") > 1:
        raise DataError(f"{where}: expected $data once in {name}.user, found it more often; state the material once")
    return Prompt(f"{name}.{_version(entry, where, name)}", system, user)


def _version(entry: Mapping[str, Any], where: Path, name: str) -> int:
    version = entry["version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DataError(f"{where}: expected a whole number from 1 in {name}.version, found {version!r}; number the prompt")
    return version


def _template(text: Any, where: Path, name: str, needed: tuple[str, ...], allowed: tuple[str, ...]) -> Template:
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: expected text in {name}, found {text!r}; write the prompt")
    template = Template(text)
    if not template.is_valid():
        raise DataError(f"{where}: expected $name or $$ at every dollar sign in {name}, found another; write $$ for a dollar")
    found = template.get_identifiers()
    for placeholder in found:
        if placeholder not in allowed:
            may = ", ".join(f"${one}" for one in allowed)
            raise DataError(f"{where}: expected only {may} in {name}, found ${placeholder}; take it out")
    for placeholder in needed:
        if placeholder not in found:
            raise DataError(f"{where}: expected ${placeholder} in {name}, found it nowhere; put it where it belongs")
    return template


def _check_keys(entry: Any, where: Path, name: str, allowed: tuple[str, ...], needed: tuple[str, ...]) -> None:
    place = f" in {name}" if name else ""
    if not isinstance(entry, dict):
        raise DataError(
            f"{where}: expected {', '.join(allowed)}{place}, found {type(entry).__name__}; see prompts.yaml of the package"
        )
    for key in entry:
        if key not in allowed:
            raise DataError(f"{where}: expected only {', '.join(allowed)}{place}, found {key!r}; mend the name")
    for key in needed:
        if key not in entry:
            raise DataError(f"{where}: expected {key}{place}, found {', '.join(map(str, entry)) or 'nothing'}; add it")
