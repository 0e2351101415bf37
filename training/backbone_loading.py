"""How a backbone is loaded: its numbers' type, and in 4 or 8 bits for a small GPU."""

import importlib.util
from typing import Any

import torch

from xrec_dataset_builder.errors import DataError


def backbone_arguments(quantization: str | None, dtype: str) -> dict[str, Any]:
    """Arguments of `AutoModelForCausalLM.from_pretrained`.

    Args:
        quantization: None, `4bit` (NF4, its scales quantised too) or `8bit`; both by bitsandbytes.
        dtype: `auto`, `float32`, `bfloat16` or `float16`; what a quantised backbone computes in.

    Raises:
        DataError: bitsandbytes is not installed.
    """
    arguments: dict[str, Any] = {"dtype": dtype}
    if quantization is None:
        return arguments
    if importlib.util.find_spec("bitsandbytes") is None:
        raise DataError(
            f"quantization {quantization} needs the package 'bitsandbytes', found none; install `xrec[quantization]`"
        )
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return arguments | {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    compute = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    settings = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": compute}
    return arguments | {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, **settings)}
