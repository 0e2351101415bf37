"""Explanations from a trained baseline, by ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedConfig
from transformers.utils import cached_file

from modeling_xrec.catalogue_arguments import row_of
from xrec_training.graph_folder import CATALOGUE_FILE

from .att2seq import Att2Seq
from .base_model import BaselineModel
from .nrt import Nrt
from .pepler import Pepler
from .peter import Peter

MODELS: dict[str, type[BaselineModel]] = {one.config_class.model_type: one for one in (Att2Seq, Nrt, Peter, Pepler)}


class BaselineExplainer:
    """A trained baseline, ready to explain.

    Args:
        model: folder that `xrec train --model att2seq` (or another baseline) left, or a Hub id.
        batch_size: pairs written at a time.
        max_new_tokens: longest explanation, in tokens.
        num_beams: width of the beam search; 1 is greedy.

    Raises:
        ValueError: no such folder, or one that holds something else.
    """

    def __init__(self, model: Path | str, batch_size: int = 32, max_new_tokens: int = 96, num_beams: int = 1) -> None:
        place = str(model)
        advice = f"give a folder that `xrec train --model {' or '.join(name[5:] for name in MODELS)}` left"
        if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
            raise ValueError(f"{model}: expected a baseline's model folder, found no config.json in it; {advice}.")
        try:
            found = PreTrainedConfig.get_config_dict(place)[0].get("model_type")
            if found not in MODELS:
                raise ValueError(f"{model}: expected a model of type {', '.join(MODELS)}, found {found!r}; {advice}.")
            catalogue = pl.read_parquet(str(cached_file(place, CATALOGUE_FILE)))
            self.model = MODELS[found].from_pretrained(place).eval()
            self.tokenizer: Any = AutoTokenizer.from_pretrained(place, config=self.model.config)
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{model}: expected a baseline's model folder, found none ({reason}); {advice}.") from error
        self.rows = {
            side: {key: row for row, key in enumerate(catalogue.filter(pl.col("side") == side)["id"])}
            for side in ("user", "item")
        }
        self.batch_size, self.max_new_tokens, self.num_beams = batch_size, max_new_tokens, num_beams
        if torch.cuda.is_available():
            self.model.to("cuda")

    def pairs(self, users: Sequence[str], items: Sequence[str], progress: bool = False) -> list[str]:
        """Explanations of known users and items, in order.

        Args:
            users: ids.
            items: as many ids.
            progress: whether to show a bar.

        Raises:
            ValueError: an unknown user or item; nothing is written then.
        """
        found = [
            [row_of(s, key, self.rows[s], histories=False) for key in ids] for s, ids in (("user", users), ("item", items))
        ]
        rows = list(zip(*found, strict=True))
        texts: list[str] = []
        with tqdm(total=len(rows), desc="explain", unit="pair", disable=not progress) as bar:
            for start in range(0, len(rows), self.batch_size):
                part = torch.tensor(rows[start : start + self.batch_size], device=self.model.device)
                ids = self.model.explain(part[:, 0], part[:, 1], self.max_new_tokens, self.num_beams)
                texts += [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
                bar.update(len(part))
        return texts
