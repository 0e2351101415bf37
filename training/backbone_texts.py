"""What a backbone trained from scratch reads: text only, never the graph.

Half of it is the fine-tuning's own prompts and explanations, in which the markers say nothing. In the other half keywords of
the explanation stand in a marker's place, in random order, so that the backbone learns to write about what it finds there, as
one pre-trained on large text can.
"""

import random
from collections import Counter

import polars as pl
from torch.utils.data import Dataset

from modeling_xrec.processing_xrec import XRecProcessor

COMMON_SHARE = 0.15
"""Words in more than this share of the explanations are no keywords."""
MOST_KEYWORDS = 6


class BackboneTexts(Dataset):
    """Tokenised texts with labels on every token.

    Args:
        processor: makes the prompts.
        explanations: rows with `title, user_profile, item_profile, explanation`.
        keyword_share: share of the texts whose one marker is replaced by keywords.
        seed: of which texts, which marker, and the order of the keywords.
        most_keywords: of a text. Long texts need more, or looking there would not be worth learning.
    """

    def __init__(
        self,
        processor: XRecProcessor,
        explanations: pl.DataFrame,
        keyword_share: float,
        seed: int,
        most_keywords: int = MOST_KEYWORDS,
    ) -> None:
        rng = random.Random(seed)
        common = _common_words(explanations["explanation"].to_list())
        self.examples = []
        for row in explanations.select("title", "user_profile", "item_profile", "explanation").iter_rows():
            ids = processor.example(*row)["input_ids"]
            if processor.markers_per_side and rng.random() < keyword_share:
                words = [word for word in _words(row[-1]) if word not in common]
                rng.shuffle(words)
                marker = rng.choice([processor.user_token_id, processor.item_token_id])
                place = ids.index(marker)
                ids = ids[:place] + processor.plain_ids(" " + " ".join(words[:most_keywords])) + ids[place + 1 :]
            self.examples.append({"input_ids": ids, "labels": list(ids)})

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.examples[index]


def _words(text: str) -> list[str]:
    return [word.strip(".,;:!?\"'()") for word in text.split()]


def _common_words(texts: list[str]) -> set[str]:
    counts = Counter(word for text in texts for word in set(_words(text)))
    return {word for word, count in counts.items() if count > COMMON_SHARE * len(texts)}
