"""LoRA beside the adapters, by PEFT's own means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from modeling_xrec.modeling_xrec import XRecForCausalLM
from xrec_dataset_builder.errors import DataError

LORA_FOLDER = "lora"
ADAPTERS = ["user_adapter", "item_adapter"]


def add_lora(model: XRecForCausalLM, settings: Mapping[str, Any]) -> Any:
    """The model as a `PeftModel` that trains LoRA in the backbone and XRec's adapters whole.

    Args:
        model: an untrained XRec model.
        settings: fields of `peft.LoraConfig`; `modules_to_save` is ours.

    Raises:
        DataError: PEFT is not installed, it does not take the settings, or scales or norms are to be trained as well.
    """
    if model.injection_scale is not None:
        raise DataError("LoRA needs a fixed injection_scale, found 'learned', which PEFT would not save; leave it at 1.0")
    if model.config.trained_norms:
        raise DataError("expected LoRA or trained_norms, found both: PEFT keeps the norms as they were; leave one of them out")
    if "modules_to_save" in settings:
        raise DataError(f"lora.modules_to_save is always {', '.join(ADAPTERS)}; leave it out")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise DataError("section `lora` needs the package 'peft', found none; install `xrec[lora]`") from error
    try:
        return get_peft_model(model, LoraConfig(**settings, modules_to_save=ADAPTERS))
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"expected settings that suit the backbone in section `lora`, found {reason}; mend them") from error


def save_lora(model: Any, folder: Path, state_dict: dict[str, torch.Tensor] | None) -> XRecForCausalLM:
    """Writes the PEFT adapter into `folder/lora` and takes LoRA out of the model.

    Args:
        model: what `add_lora` returned, trained.
        folder: the run folder.
        state_dict: its weights where the engine gathered them.

    Returns:
        The XRec model with its trained adapters, its backbone as it was.
    """
    model.save_pretrained(folder / LORA_FOLDER, state_dict=state_dict)
    (folder / LORA_FOLDER / "README.md").unlink(missing_ok=True)  # an empty form; the run folder has the card
    bare: XRecForCausalLM = model.unload()
    bare.config.peft_adapter = LORA_FOLDER
    return bare
