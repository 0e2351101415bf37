"""`xrec train`: parse, load, Trainer, save."""

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoTokenizer, Trainer, TrainingArguments, set_seed

from modeling_xrec.lightgcn import LightGCN
from modeling_xrec.modeling_xrec import XRecForCausalLM
from modeling_xrec.processing_xrec import XRecProcessor
from modeling_xrec.signals import apply_signal
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import atomic_folder

from .examples import ExplanationDataset, PadCollator
from .graph_folder import read_graph
from .recipe import SCRATCH, Recipe
from .scratch_backbone import ScratchOptions, scratch_backbone
from .tables import Catalogue, read_explanations

logger = logging.getLogger(__name__)
RUN_FILE = "training.json"


def train(data: Path, graph: Path, out: Path, recipe: Recipe) -> Path:
    """Trains the adapters of an XRec model and leaves a folder that the Auto classes load.

    Args:
        data: dataset folder with explanations.
        graph: folder that `encode` left for this dataset.
        out: folder to make.
        recipe: see `Recipe`. With `backbone: scratch` the backbone is trained first, into `<out>-backbone`.

    Returns:
        `out`.

    Raises:
        DataError: inputs that cannot be used, or that do not belong together.
    """
    catalogue = Catalogue.read(data)
    lightgcn = read_graph(graph, catalogue)
    lightgcn.load_state_dict(apply_signal(dict(lightgcn.state_dict()), recipe.signal))
    explanations = {split: read_explanations(data, split) for split in ("train", "validation")}
    if explanations["train"].is_empty():
        raise DataError(f"{data}: expected training explanations, found none; build with other splits or filters")
    with atomic_folder(out) as folder:
        backbone = recipe.backbone
        if backbone == SCRATCH:
            options = ScratchOptions(**recipe.scratch)
            place = out.with_name(f"{out.name}-backbone")
            backbone = str(scratch_backbone(explanations["train"], place, options, recipe.prompt_settings()))
        processor = build_processor(backbone, recipe, catalogue)
        set_seed(recipe.trainer.get("seed", 42))
        model = build_model(backbone, recipe, processor, lightgcn)
        datasets = {
            split: ExplanationDataset(processor, table, catalogue.rows(table)) for split, table in explanations.items()
        }
        log = _fit(model, processor, datasets, recipe, folder / "trainer")
        shutil.rmtree(folder / "trainer", ignore_errors=True)
        save_run(model, processor, folder)
        about = {"recipe": asdict(recipe) | {"backbone": Path(backbone).name}, "log": log}
        (folder / RUN_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return out


def build_processor(backbone: str, recipe: Recipe, catalogue: Catalogue) -> XRecProcessor:
    """The backbone's tokenizer with the markers, and the dataset's catalogue."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(backbone, revision=recipe.revision)
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected a backbone folder or Hub id, found {backbone!r}, which does not load ({str(error).splitlines()[0]}); "
            "check the name, or use `--backbone scratch`"
        ) from error
    return XRecProcessor(
        tokenizer,
        users=catalogue.users.to_dicts(),
        items=catalogue.items.to_dicts(),
        **recipe.prompt_settings(),
    )


def build_model(backbone: str, recipe: Recipe, processor: XRecProcessor, lightgcn: LightGCN) -> XRecForCausalLM:
    """An untrained XRec model around the backbone, with the graph's tables in place.

    A Hub backbone gives adapter-sized checkpoints; a local folder, which no one else has, is saved in full.
    """
    is_hub_id = not Path(backbone).exists()
    model = XRecForCausalLM.from_backbone(
        backbone,
        revision=recipe.revision,
        user_token_id=processor.user_token_id,
        item_token_id=processor.item_token_id,
        collaborative_dim=lightgcn.user_embeddings.shape[1],
        markers_per_side=recipe.markers_per_side,
        base_model_name_or_path=backbone if is_hub_id else None,
        base_model_revision=recipe.revision if is_hub_id else None,
        **recipe.model,
    )
    model.set_tables(lightgcn)
    return model


def save_run(model: XRecForCausalLM, processor: XRecProcessor, folder: Path) -> None:
    """Writes model, processor and code files."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _fit(
    model: XRecForCausalLM,
    processor: XRecProcessor,
    datasets: dict[str, ExplanationDataset],
    recipe: Recipe,
    work: Path,
) -> list[dict]:
    """Runs `Trainer` and returns its log."""
    settings = {"report_to": "none", "save_strategy": "no", "dataloader_pin_memory": False, "logging_steps": 100}
    settings |= {
        "use_cpu": not torch.cuda.is_available(),
        "eval_strategy": "epoch" if len(datasets["validation"]) else "no",
    }
    arguments = TrainingArguments(output_dir=str(work), **(settings | dict(recipe.trainer)))
    trainer = Trainer(
        model,
        arguments,
        train_dataset=datasets["train"],
        eval_dataset=datasets["validation"] if len(datasets["validation"]) else None,
        data_collator=PadCollator(processor),
    )
    trainer.train()
    model.eval()
    timings = ("runtime", "per_second", "flos")
    return [{k: v for k, v in row.items() if not any(word in k for word in timings)} for row in trainer.state.log_history]
