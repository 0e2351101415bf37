"""What `xrec train --model` offers. Models are named as strings and imported when asked for, so no room is known by import."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

XREC = "xrec"
BASELINES = "xrec_baselines"


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be trained.

    Args:
        prepare: `module:function` from `Inputs` to `Prepared`; see `prepared`.
        options: `module:function` that returns the names that the recipe's `config` section may hold.
        recipe: name of the packaged recipe that is used when none is given.
        needs_graph: whether `--graph` has to be given.
        about: one line for `--help`.
    """

    prepare: str
    options: str
    recipe: str
    needs_graph: bool
    about: str


_OWN = ("xrec_training.prepare_xrec:prepare", "xrec_training.prepare_xrec:config_names", "demo")
MODELS = {
    XREC: ModelEntry(*_OWN, True, "adapters around a frozen backbone, fed by the graph"),
    "soft-prompt": ModelEntry(*_OWN, True, "as many trained parameters as xrec, and no graph: everyone has one embedding"),
    "prompt": ModelEntry(*_OWN, True, "the frozen backbone with the same prompt, nothing trained"),
} | {
    name: ModelEntry(f"{BASELINES}.{name}:prepare", f"{BASELINES}.{name}:config_names", name, False, about)
    for name, about in {
        "att2seq": "attributes to a sequence by an LSTM (Dong et al., EACL 2017)",
        "nrt": "rating and text by a GRU (Li et al., SIGIR 2017)",
        "peter": "a small Transformer on user and item (Li et al., ACL 2021)",
        "pepler": "user and item as prompts of a pre-trained backbone (Li et al., TOIS 2023)",
    }.items()
}


def find(place: str) -> Callable[..., Any]:
    """Imports `module:function`."""
    module, function = place.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
