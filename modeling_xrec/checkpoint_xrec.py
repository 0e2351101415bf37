"""Loading of full and adapter-sized checkpoints, so that no weight is ever left at a random value."""

from collections.abc import Callable
from typing import Any

from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.utils import cached_file

WEIGHTS_NAME = "model.safetensors"
# Arguments of from_pretrained that say where and how to fetch files.
_FETCH_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token")


def resolve_config(config_class: Any, path: Any, config: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The checkpoint's configuration, and what is left of the arguments.

    Args:
        config_class: class to read with when `config` is None.
        path: Hub id or folder.
        config: a configuration given by the caller, used as it is.
        kwargs: arguments of `from_pretrained`; fields of the configuration among them override it.

    Returns:
        Configuration and remaining arguments.
    """
    # Loaded as remote code, the configuration's class may be another copy of the same file.
    if isinstance(config, PreTrainedConfig):
        return config, kwargs
    fetch = {name: kwargs[name] for name in (*_FETCH_ARGUMENTS, "revision") if name in kwargs}
    config = config_class.from_pretrained(path if config is None else config, **fetch)
    for name in [name for name in kwargs if name in config_class.__dataclass_fields__ and name != "dtype"]:
        setattr(config, name, kwargs.pop(name))
    return config, kwargs


def load_full_checkpoint(load: Callable, path: Any, args: tuple, config: Any, kwargs: dict[str, Any]) -> Any:
    """Loads a full checkpoint by transformers' own means and refuses one that does not fill every weight.

    Raises:
        ValueError: a weight is missing, unexpected or of another shape.
    """
    report = kwargs.pop("output_loading_info", False)
    model, info = load(path, *args, config=config, output_loading_info=True, **kwargs)
    wrong = {
        name: sorted(map(str, info[name])) for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[name]
    }
    if wrong:
        raise ValueError(
            f"{path} does not hold this model's weights: {_shorten(wrong)}; save it again with save_pretrained, or, for an "
            "adapter-sized checkpoint, set base_model_name_or_path in its config.json."
        )
    model.freeze()
    return (model, info) if report else model


def load_adapter_checkpoint(
    model_class: Any, path: Any, config: Any, kwargs: dict[str, Any], is_backbone_key: Callable[[str], bool]
) -> Any:
    """Loads the base model at its pinned revision, then the adapters and tables of an adapter-sized checkpoint.

    Raises:
        ValueError: a weight of ours is missing, or the file holds one that is not ours.
    """
    fetch = {name: kwargs[name] for name in _FETCH_ARGUMENTS if name in kwargs}
    weights = load_file(cached_file(path, WEIGHTS_NAME, revision=kwargs.pop("revision", None), **fetch))
    report = kwargs.pop("output_loading_info", False)
    language_model = AutoModelForCausalLM.from_pretrained(
        config.base_model_name_or_path, revision=config.base_model_revision, **kwargs
    )
    model = model_class(config, language_model=language_model)
    own = {name for name in model.state_dict() if not is_backbone_key(name)}
    wrong = {"missing": sorted(own - set(weights)), "unexpected": sorted(set(weights) - own)}
    if wrong["missing"] or wrong["unexpected"]:
        raise ValueError(
            f"{path} is not an adapter checkpoint of this model: {_shorten(wrong)}; save it again with save_pretrained."
        )
    model.load_state_dict(weights, strict=False)
    device = language_model.get_input_embeddings().weight.device
    for name in ("user_adapter", "item_adapter", "lightgcn"):
        getattr(model, name).to(device)
    model.name_or_path = str(path)
    if model.can_generate():
        model.generation_config = language_model.generation_config
        model.suppress_markers()
    model.eval()
    return (model, {"missing_keys": [], "unexpected_keys": []}) if report else model


def _shorten(problems: dict[str, list[str]]) -> str:
    return ", ".join(f"{len(keys)} {kind} (such as {keys[0]})" for kind, keys in problems.items() if keys)


__all__ = ["load_adapter_checkpoint", "load_full_checkpoint", "resolve_config"]
