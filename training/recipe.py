"""A recipe: everything that decides a training run, read from a short YAML and overridden from the command line."""

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from modeling_xrec.processing_xrec import DEFAULT_PROMPT
from modeling_xrec.signals import SIGNALS
from xrec_dataset_builder.errors import DataError

from .model_table import MODELS, XREC, find
from .scratch_backbone import ScratchOptions

SCRATCH = "scratch"
QUANTIZATIONS = (None, "4bit", "8bit")
BACKBONE_DTYPES = ("auto", "float32", "bfloat16", "float16")
HEARING = (XREC, "soft-prompt")
"""Models with adapters."""
PROMPT_STYLES = ("xrec", "reference")
EXPLANATION, ITEM_PROFILE = "explanation", "item_profile"
ADAPTERS, SOFT_PROMPT = "adapters", "soft_prompt"
_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Args:
        model: one of `MODELS`.
        backbone: `scratch`, a local folder or a Hub id.
        revision: commit of a Hub id.
        quantization: `4bit` or `8bit` loads the backbone so (bitsandbytes, on a GPU); None loads it as it is.
        backbone_dtype: `auto` (as it was saved), `float32`, `bfloat16` or `float16`.
        signal: what the model hears in place of the graph; see `apply_signal`.
        prompt: the prompt, with `{user_marker}`, `{item_marker}`, `{title}`, `{user_profile}`, `{item_profile}`.
        prompt_style: `xrec`, or `reference` for the prompt and labels of the paper's code.
        markers_per_side: marker tokens for the user, and as many for the item.
        max_profile_tokens: longest profile in the prompt, in tokens.
        max_prompt_tokens: longest prompt, for which the profiles give way; None for any.
        hold_out: share of the users, and of the items, whose explanations training does not see; 0 for none. `xrec audit` asks
            about them whether the graph's structure matters.
        contrast: weight of the contrast with other rows' embeddings in training; see `SignalTerms`.
        align: weight of the adapted vectors' alignment with the answer's tokens; see `SignalTerms`.
        balance: weight of the experts' balance; see `SignalTerms`.
        profile_dropout: share of the training prompts without profiles, drawn anew every epoch.
        early_stopping_patience: validations without a lower loss after which training ends, and the best is kept; None
            trains to the end and keeps the last.
        target: what the model learns to write: `explanation`, or `item_profile` from the embeddings alone.
        start_from: run folder whose adapters training starts from; None for new ones.
        profile_epochs: passes over the items' profiles (`target: item_profile`) before the explanations, in a run of its own
            beside the output, `<out>-profiles`, whose adapters training starts from; 0 for none.
        trains: `adapters`, or `soft_prompt`: with `profile_epochs` or `start_from`, what the embeddings say is kept as it was
            learned there, and the soft prompt (`config: {soft_prompt: true}`) learns what all explanations share.
        lora: fields of `peft.LoraConfig`, to train LoRA beside the adapters; empty for the adapters alone.
        config: fields of the model's configuration (`XRecConfig`, or the baseline's).
        trainer: fields of `transformers.TrainingArguments`.
        scratch: fields of `ScratchOptions`, used when the backbone is `scratch`.
    """

    model: str = XREC
    backbone: str = SCRATCH
    revision: str | None = None
    quantization: str | None = None
    backbone_dtype: str = "auto"
    signal: str = "graph"
    prompt: str = DEFAULT_PROMPT
    prompt_style: str = "xrec"
    markers_per_side: int = 1
    max_profile_tokens: int = 128
    max_prompt_tokens: int | None = None
    hold_out: float = 0.0
    contrast: float = 0.0
    align: float = 0.0
    balance: float = 0.0
    profile_dropout: float = 0.0
    early_stopping_patience: int | None = None
    target: str = EXPLANATION
    start_from: str | None = None
    profile_epochs: float = 0.0
    trains: str = ADAPTERS
    lora: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    scratch: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses unknown names and values."""
        choices: dict[str, tuple] = {"model": tuple(MODELS), "signal": SIGNALS, "quantization": QUANTIZATIONS}
        choices |= {"prompt_style": PROMPT_STYLES, "backbone_dtype": BACKBONE_DTYPES}
        choices |= {"target": (EXPLANATION, ITEM_PROFILE), "trains": (ADAPTERS, SOFT_PROMPT)}
        for name, values in choices.items():
            if getattr(self, name) not in values:
                words = ", ".join(str(word) for word in values)
                raise DataError(f"expected a {name} among {words}, found {getattr(self, name)!r}; choose one")
        if not 0 <= self.hold_out < 1:
            raise DataError(f"expected a hold_out from 0 to below 1, found {self.hold_out}; give the share of users and items")
        if not 0 <= self.profile_dropout <= 1:
            raise DataError(
                f"expected a profile_dropout from 0 to 1, found {self.profile_dropout}; give a share of the prompts"
            )
        for name in ("contrast", "align", "balance", "profile_epochs"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise DataError(f"expected {name} to be a number from 0 up, found {getattr(self, name)}; give another")
        for name in ("contrast", "align", "balance", "profile_dropout", "profile_epochs", "start_from"):
            if getattr(self, name) and self.model not in HEARING:
                raise DataError(f"{name} is for models {' and '.join(HEARING)}, found {self.model!r}; leave it out")
        self._refuse_stages()
        for section, known in _sections(self.model).items():
            for name in getattr(self, section):
                _check_name(name, known, f"recipe section {section}")

    def _refuse_stages(self) -> None:
        """Refuses stages that do not go together."""
        if self.profile_epochs and self.start_from:
            raise DataError("expected profile_epochs or start_from, found both; leave one of them out")
        if self.trains == SOFT_PROMPT and not (self.config.get("soft_prompt") and (self.profile_epochs or self.start_from)):
            raise DataError(
                "trains: soft_prompt goes with config soft_prompt: true and with profile_epochs or start_from, found one of "
                "them missing; add it"
            )

    def prompt_settings(self) -> dict[str, Any]:
        """Arguments of `XRecProcessor` that shape the prompt."""
        return {
            "prompt": self.prompt,
            "prompt_style": self.prompt_style,
            "markers_per_side": self.markers_per_side,
            "max_profile_tokens": self.max_profile_tokens,
            "max_prompt_tokens": self.max_prompt_tokens,
        }


def read_recipe(name: str | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a recipe and applies overrides.

    Args:
        name: path of a YAML file, or the name of a recipe that comes with the package (`demo`); None for the model's own.
        overrides: values by field name; a name is looked up in the recipe itself, then in `config`, `trainer`, `scratch` and
            `lora`; `section.name` says which.

    Raises:
        DataError: no such recipe, not a mapping, or an unknown name.
    """
    overrides = dict(overrides or {})
    if name is None:
        name = MODELS[overrides["model"]].recipe if overrides.get("model") in MODELS else MODELS[XREC].recipe
    path = Path(name)
    if not path.suffix:
        path = Path(str(resources.files("xrec_training") / "recipes" / f"{name}.yaml"))
    if not path.is_file():
        raise DataError(f"expected a recipe file or one of {', '.join(_packaged())}, found {name!r}; give one of these")
    try:
        values = _numbers(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except yaml.YAMLError as error:
        raise DataError(f"{name}: expected YAML, found {' '.join(str(error).split())}; mend the recipe") from error
    if not isinstance(values, dict):
        raise DataError(f"{name}: expected `key: value` lines, found {type(values).__name__}; mend the recipe")
    model: Any = overrides.get("model", values.get("model", XREC))
    for key, value in overrides.items():
        section, field_name = _locate(key, model)
        target = values if section is None else values.setdefault(section, {})
        target[field_name] = value
    for key in values:
        _check_name(key, _own_fields(), f"recipe {name}")
    return Recipe(**values)


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Turns `--name value` (or `--name=value`) pairs into values, read as YAML.

    Raises:
        DataError: an argument is not of this form.
    """
    values, rest = {}, list(arguments)
    while rest:
        word = rest.pop(0)
        name, has_value, value = word.partition("=")
        if not word.startswith("--") or (not has_value and not rest):
            raise DataError(f"expected `--name value`, found {word!r}; see `xrec train --help`")
        values[name[2:].replace("-", "_")] = _numbers(yaml.safe_load(value if has_value else rest.pop(0)))
    return values


def _numbers(value: Any) -> Any:
    """Reads `1e-4` as a number everywhere: YAML takes it for text unless it has a point."""
    if isinstance(value, dict):
        return {key: _numbers(entry) for key, entry in value.items()}
    return float(value) if isinstance(value, str) and _SCIENTIFIC.fullmatch(value) else value


def _locate(key: str, model: str) -> tuple[str | None, str]:
    section, dot, name = key.partition(".")
    sections = _sections(model)
    if dot:
        _check_name(section, sections, "override")
        return section, name
    if key in _own_fields():
        return None, key
    for candidate, known in sections.items():
        if key in known:
            return candidate, key
    _check_name(key, {name for known in sections.values() for name in known} | _own_fields(), "override")
    raise AssertionError(key)


def _check_name(name: str, known: Any, where: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, sorted(known), n=1)
        raise DataError(f"{where}: unknown name {name!r}; {f'did you mean {near[0]!r}?' if near else 'remove it'}")


def _own_fields() -> set[str]:
    return {entry.name for entry in dataclasses.fields(Recipe)}


def _sections(model: str) -> dict[str, set[str]]:
    """Names that each section of a recipe may hold; those of a model that is unknown, or not installed, are any of XRec's."""
    from transformers import TrainingArguments

    return {
        "config": set(find(MODELS[model if model in MODELS else XREC].options)()),
        "trainer": {entry.name for entry in dataclasses.fields(TrainingArguments) if entry.init},
        "scratch": {entry.name for entry in dataclasses.fields(ScratchOptions)},
        "lora": _lora_names(),
    }


def _lora_names() -> set[str]:
    try:
        from peft import LoraConfig
    except ImportError:
        return set()
    return {entry.name for entry in dataclasses.fields(LoraConfig) if entry.init}


def _packaged() -> list[str]:
    return sorted(
        entry.name[:-5] for entry in (resources.files("xrec_training") / "recipes").iterdir() if entry.name.endswith(".yaml")
    )
