"""What an adapter-sized checkpoint would lose: changes to the backbone since it was loaded.

Rows that were added for new tokens are kept in the adapter file. Any other change (merged LoRA weights, an edit in place) is
refused at saving, because the base model that completes the checkpoint does not have it.
"""

from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

SAMPLES = 64
ADDED_ROWS = {"added_tokens.embedding": "get_input_embeddings", "added_tokens.head": "get_output_embeddings"}


class Fingerprint(NamedTuple):
    """Shape of a parameter and some of its values, `(at most 64,)`."""

    shape: tuple[int, ...]
    values: torch.Tensor


def norm_names(language_model: PreTrainedModel) -> set[str]:
    """Names of the weights of a backbone's norms: `LayerNorm`, `RMSNorm` and the vendors' own classes, by their names."""
    norms = [(path, module) for path, module in language_model.named_modules() if type(module).__name__.endswith("Norm")]
    return {f"{path}.{name}" for path, module in norms for name, _ in module.named_parameters(recurse=False)}


def fingerprints(language_model: PreTrainedModel) -> dict[str, Fingerprint]:
    """Shape and evenly spread values of every parameter; quantised, offloaded and sharded ones are left out."""
    return {
        name: Fingerprint(tuple(parameter.shape), _samples(parameter))
        for name, parameter in language_model.named_parameters()
        if _is_plain(parameter)
    }


def _is_plain(parameter: torch.Tensor) -> bool:
    quantised_or_sharded = type(parameter) is not torch.nn.Parameter or hasattr(parameter, "full_tensor")
    return parameter.is_floating_point() and not parameter.is_meta and not quantised_or_sharded


def _samples(parameter: torch.Tensor) -> torch.Tensor:
    values = parameter.detach().reshape(-1)
    # A copy: a view would follow every edit in place.
    return values[:: max(len(values) // SAMPLES, 1)][:SAMPLES].to("cpu", torch.float32, copy=True)


def changed_parameters(language_model: PreTrainedModel, before: dict[str, Fingerprint]) -> list[str]:
    """Names of parameters that are new or not what they were, precision aside; embedding and head may have more rows."""
    changed = []
    token_rows = {id(module.weight) for _, module in _token_modules(language_model)}
    for name, parameter in language_model.named_parameters():
        if name not in before:
            changed += [name] if _is_plain(parameter) else []
            continue
        if not _is_plain(parameter):
            continue
        shape, values = before[name]
        grown = id(parameter) in token_rows and parameter.shape[1:] == shape[1:] and parameter.shape[0] > shape[0]
        found = parameter[: shape[0]] if grown else parameter
        # Half precision rounds by up to 0.4 percent.
        if found.shape != shape or not torch.allclose(_samples(found), values, rtol=1e-2, atol=1e-6):
            changed.append(name)
    return changed


def _token_modules(language_model: PreTrainedModel) -> list[tuple[str, Any]]:
    """Embedding and head, where there is one, by the names of their rows in the adapter file."""
    modules = [(key, getattr(language_model, getter)()) for key, getter in ADDED_ROWS.items()]
    return [(key, module) for key, module in modules if module is not None]


def added_rows(language_model: PreTrainedModel, before: dict[str, Fingerprint]) -> dict[str, torch.Tensor]:
    """Rows that embedding and head have beyond those they were loaded with, by their names in the adapter file."""
    names = {id(parameter): name for name, parameter in language_model.named_parameters()}
    rows = {}
    for key, module in _token_modules(language_model):
        old = before.get(names[id(module.weight)])
        if old is not None and module.weight.shape[0] > old.shape[0]:
            rows[key] = module.weight.detach()[old.shape[0] :].clone()
    return rows


def restore_added_rows(language_model: PreTrainedModel, rows: dict[str, torch.Tensor]) -> None:
    """Gives a freshly loaded backbone the rows that an adapter file brings."""
    if not rows:
        return
    old = language_model.get_input_embeddings().weight.shape[0]
    language_model.resize_token_embeddings(old + len(rows["added_tokens.embedding"]), mean_resizing=False)
    with torch.no_grad():
        for key, value in rows.items():
            getattr(language_model, ADDED_ROWS[key])().weight[old:] = value


__all__ = ["ADDED_ROWS", "added_rows", "changed_parameters", "fingerprints", "norm_names", "restore_added_rows"]
