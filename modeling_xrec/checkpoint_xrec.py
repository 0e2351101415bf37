"""Saving and loading of full and adapter-sized checkpoints, so that no weight is ever left at a random value."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import create_repo
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils.hub import resolve_revision

from .backbone_changes import ADDED_ROWS, added_rows, changed_parameters, norm_names, restore_added_rows
from .checkpoint_files import (
    TABLES_NAME,
    WEIGHTS_NAME,
    CheckpointSource,
    names,
    remove_stale,
    save_checksums,
    save_tables,
    verify,
)
from .configuration_xrec import XRecConfig
from .layer_injection import install_injection
from .lightgcn import LightGCN, table_arguments

BACKBONE_PREFIX, TABLES_PREFIX = "language_model.", "lightgcn."
ADAPTER_PREFIXES = ("user_adapter.", "item_adapter.", "injection_scale")
AUTO_MAP = {"AutoModel": "modeling_xrec.XRecModel", "AutoModelForCausalLM": "modeling_xrec.XRecForCausalLM"}


def is_adapter_key(name: str) -> bool:
    """Whether a weight is one of XRec's own."""
    return name.startswith(ADAPTER_PREFIXES)


def trained_keys(model: Any) -> set[str]:
    """Weights that are XRec's to train: these alone are trainable, and an adapter-sized file holds exactly these.

    They are XRec's own and, with `config.trained_norms`, the backbone's norms.
    """
    norms = norm_names(model.language_model) if model.config.trained_norms else set()
    own = {name for name, _ in model.named_parameters() if is_adapter_key(name)}
    return own | {BACKBONE_PREFIX + name for name in norms}


def names_not_saved(model: Any) -> set[str]:
    """Weights that `model.safetensors` leaves out: the tables have their own file, an adapter-sized one needs no backbone.

    Asked at save time too, because quantisation adds keys after loading.
    """
    left_out = (TABLES_PREFIX,) if model.config.base_model_name_or_path is None else (TABLES_PREFIX, BACKBONE_PREFIX)
    return {name for name in model.state_dict() if name.startswith(left_out)} - trained_keys(model)


def save_checkpoint(
    model: Any,
    save: Callable,
    folder: Any,
    state_dict: dict[str, torch.Tensor] | None = None,
    max_shard_size: int | str = "50GB",
    is_main_process: bool = True,
    push_to_hub: bool = False,
    **kwargs: Any,
) -> None:
    """Saves weights, tables, checksums and code.

    Args:
        model: an XRec model.
        save: transformers' own `save_pretrained` of this model.
        folder: where to.
        state_dict: weights to save; the model's own when None.
        max_shard_size: largest file.
        is_main_process: whether this process writes.
        push_to_hub: whether to push what was written (`repo_id`, `commit_message`, `create_pr`, `token` in kwargs).
        kwargs: more arguments of `save_pretrained`.

    Raises:
        ValueError: a `variant`, a loaded PEFT adapter, or a backbone that an adapter-sized checkpoint would lose.
    """
    from .pipeline_xrec import CUSTOM_PIPELINES  # here, so that loading a model need not import every pipeline

    if kwargs.get("variant") is not None:
        raise ValueError(f"expected no variant, found {kwargs['variant']!r}; give each variant a folder or a branch.")
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "the model holds a PEFT adapter, which would be saved alone; load it with peft_adapter=None and the adapter by "
            "PeftModel.from_pretrained, then save each by its own means, or merge_and_unload() first."
        )
    push = {name: kwargs.pop(name) for name in ("repo_id", "commit_message", "create_pr") if push_to_hub and name in kwargs}
    timestamps = model._get_files_timestamps(folder) if push_to_hub and Path(folder).is_dir() else {}
    weights = dict(model.state_dict() if state_dict is None else state_dict)
    trained = trained_keys(model)
    adapter = {name: weights[name] for name in weights if name in trained}
    if model.config.base_model_name_or_path is not None:
        adapter |= _added_rows(model)
        state_dict = adapter
    # Saving one class registers that one only; a checkpoint serves both.
    model.config.auto_map = {**(getattr(model.config, "auto_map", None) or {}), **AUTO_MAP}
    model.config.custom_pipelines = copy.deepcopy(CUSTOM_PIPELINES)
    model._keys_to_ignore_on_save = names_not_saved(model)
    # A copy, for transformers empties the dictionary it is given.
    given = None if state_dict is None else dict(state_dict)
    save(folder, state_dict=given, max_shard_size=max_shard_size, is_main_process=is_main_process, **kwargs)
    if not is_main_process:
        return
    tables = {name: weights[name] for name in weights if name.startswith(TABLES_PREFIX)}
    if model.config.num_users or model.config.num_items:
        bare = {name.removeprefix(TABLES_PREFIX): table for name, table in tables.items()}
        save_tables(Path(folder), bare, max_shard_size)
    save_checksums(Path(folder), adapter | tables)
    for name in (WEIGHTS_NAME, TABLES_NAME):
        remove_stale(Path(folder), name)
    if push_to_hub:
        _push(model, Path(folder), timestamps, token=kwargs.get("token"), **push)


def _added_rows(model: Any) -> dict[str, torch.Tensor]:
    trained = trained_keys(model)
    found = changed_parameters(model.language_model, model.backbone_before)
    changed = [name for name in found if BACKBONE_PREFIX + name not in trained]
    if changed:
        raise ValueError(
            f"the backbone has changed since it was loaded ({len(changed)} parameters, such as {changed[0]}), and an "
            "adapter-sized checkpoint would lose that; set config.base_model_name_or_path=None to save it whole."
        )
    return added_rows(model.language_model, model.backbone_before)


def _push(
    model: Any,
    folder: Path,
    timestamps: dict[str, float],
    repo_id: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> None:
    repo = create_repo(repo_id or folder.name, exist_ok=True, token=token).repo_id
    model._upload_modified_files(folder, repo, timestamps, commit_message=commit_message, create_pr=create_pr, token=token)


def load_checkpoint(model_class: Any, load: Callable, path: Any, args: tuple, config: Any, kwargs: dict[str, Any]) -> Any:
    """Loads a checkpoint of either size and its tables.

    Args:
        model_class: class to build.
        load: transformers' own `from_pretrained` of that class.
        path: Hub id or folder.
        args: positional arguments of `from_pretrained`.
        config: configuration given by the caller, or None.
        kwargs: arguments of `from_pretrained`, and `load_tables`.

    Returns:
        The model; with `output_loading_info=True`, the model and that information.
    """
    report, with_tables = kwargs.pop("output_loading_info", False), kwargs.pop("load_tables", True)
    # One commit for every file of this load, however the branch moves meanwhile.
    where = {name: kwargs[name] for name in ("token", "cache_dir") if name in kwargs}
    revision = resolve_revision(path, kwargs.get("revision"), local_files_only=bool(kwargs.get("local_files_only")), **where)
    if revision is not None:
        kwargs["revision"] = revision
    source = CheckpointSource(path, **kwargs)
    config, overrides = resolve_config(source, config, kwargs)
    num_users, num_items = config.num_users, config.num_items
    config.num_users = config.num_items = 0  # the tables come last, and are never drawn at random first
    if config.base_model_name_or_path is None:
        model, info = load_full_checkpoint(load, source, args, config, kwargs)
    else:
        model, info = load_adapter_checkpoint(model_class, source, config, kwargs)
    if model.can_generate() and overrides & {"user_token_id", "item_token_id"}:
        model.suppress_markers()
    if with_tables:
        load_tables(model, source, num_users, num_items)
    if config.peft_adapter is not None:
        folder = "/".join(filter(None, (source.fetch.get("subfolder"), config.peft_adapter)))
        model.load_adapter(source.path, adapter_kwargs=source.fetch | {"subfolder": folder})
        model.eval()
    model.freeze()
    return (model, info) if report else model


def resolve_config(source: CheckpointSource, config: Any, kwargs: dict[str, Any]) -> tuple[Any, set[str]]:
    """The checkpoint's configuration.

    Args:
        source: the checkpoint.
        config: a configuration given by the caller, used as it is; or where to read one instead; or None.
        kwargs: arguments of `from_pretrained`; fields of the configuration among them override it and are taken out.

    Returns:
        A configuration of its own, and the names of the overridden fields.

    Raises:
        ValueError: an override out of range.
    """
    # Loaded as remote code, the configuration's class may be another copy of the same file.
    if isinstance(config, PreTrainedConfig):
        return copy.deepcopy(config), set()
    config = XRecConfig.from_pretrained(source.path if config is None else config, **source.fetch)
    overrides = {name for name in kwargs if name in XRecConfig.__dataclass_fields__ and name != "dtype"}
    for name in overrides:
        setattr(config, name, kwargs.pop(name))
    config.validate_ranges()
    return config, overrides


def load_full_checkpoint(
    load: Callable, source: CheckpointSource, args: tuple, config: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict]:
    """Loads a full checkpoint by transformers' own means and refuses one that does not fill every weight.

    Returns:
        The model and transformers' loading information.

    Raises:
        ValueError: a weight is missing, unexpected or of another shape; an adapter's is damaged or not finite.
    """
    model, info = load(source.path, *args, config=config, output_loading_info=True, **kwargs)
    wrong = {name: info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[name]}
    if wrong:
        raise ValueError(
            f"{source.path} does not hold this model's weights: {names(wrong)}; save it again with save_pretrained, or, for "
            "an adapter-sized checkpoint, set base_model_name_or_path in its config.json."
        )
    verify(source, source.tensors(WEIGHTS_NAME, trained_keys(model).__contains__))
    # Quantisation puts new linear layers in the place of those that were hooked.
    model.injection_plan = install_injection(model.language_model, config.injection)
    return model, info


def load_adapter_checkpoint(
    model_class: Any, source: CheckpointSource, config: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict]:
    """Loads the base model at its pinned revision, then the adapters of an adapter-sized checkpoint.

    Returns:
        The model and empty loading information.

    Raises:
        ValueError: a weight of ours is missing, damaged or not finite, or the file holds one that is not ours.
    """
    weights = source.tensors(WEIGHTS_NAME)
    # Where PEFT is installed, adapter_kwargs hold this repository's commit, which the base does not have.
    ours = ("revision", "subfolder", "adapter_kwargs")
    base = {name: value for name, value in kwargs.items() if name not in ours}
    language_model = AutoModelForCausalLM.from_pretrained(
        config.base_model_name_or_path, revision=config.base_model_revision, **base
    )
    model = model_class(config, language_model=language_model)
    own = trained_keys(model)
    wrong = {"missing": own - set(weights), "unexpected": set(weights) - own - set(ADDED_ROWS)}
    if any(wrong.values()):
        raise ValueError(
            f"{source.path} is not an adapter checkpoint of this model: {names(wrong)}; save it again with save_pretrained."
        )
    verify(source, weights)
    # After the model has noted what the base brings, so that saving again finds these rows to be additions.
    restore_added_rows(language_model, {name: weights.pop(name) for name in ADDED_ROWS if name in weights})
    model.load_state_dict(weights, strict=False)
    device = language_model.get_input_embeddings().weight.device
    for name, parameter in model.named_parameters():
        if is_adapter_key(name):
            parameter.data = parameter.data.to(device)
    model.name_or_path = source.path
    if model.can_generate():
        saved = source.find(GENERATION_CONFIG_NAME)
        settings = GenerationConfig.from_pretrained(Path(saved).parent) if saved else language_model.generation_config
        model.generation_config = copy.deepcopy(settings)
        if saved is None:
            model.suppress_markers()
    return model.eval(), {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}


def load_tables(model: Any, source: CheckpointSource, num_users: int, num_items: int) -> None:
    """Gives a model the graph's tables of its checkpoint.

    Args:
        model: the model, built without tables.
        source: the checkpoint.
        num_users: users that the configuration announces.
        num_items: items that the configuration announces.

    Raises:
        ValueError: the tables are missing, of other sizes than announced, damaged or not finite.
    """
    if num_users == num_items == 0:
        return
    if source.find(TABLES_NAME) is None and source.find(f"{TABLES_NAME}.index.json") is None:
        raise ValueError(
            f"{source.path} has no {TABLES_NAME}, and its configuration announces {num_users} users and {num_items} items; "
            "load with load_tables=False and pass user_embeds and item_embeds."
        )
    tables = source.tensors(TABLES_NAME)
    with torch.device("meta"):
        known = model.config.layer_weights
        lightgcn = LightGCN(num_users, num_items, model.config.collaborative_dim, **table_arguments(model.config))
    expected = {name: tuple(table.shape) for name, table in lightgcn.state_dict().items()}
    found = {name: tuple(table.shape) for name, table in tables.items()}
    if expected != found:
        raise ValueError(
            f"{TABLES_NAME} in {source.path} holds {found}, expected {expected}; save it again with save_pretrained."
        )
    verify(source, {TABLES_PREFIX + name: table for name, table in tables.items()})
    device = model.get_input_embeddings().weight.device
    # In single precision, as the adapters are, whatever the model was saved in.
    lightgcn.load_state_dict({name: table.to(device, torch.float32) for name, table in tables.items()}, assign=True)
    model.set_tables(lightgcn)
    model.config.layer_weights = known  # what was not known when the model was saved is not known now


__all__ = ["load_checkpoint", "names_not_saved", "save_checkpoint", "trained_keys"]
