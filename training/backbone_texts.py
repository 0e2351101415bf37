"""What a backbone trained from scratch reads: text only, never the graph.

Part of it is the fine-tuning's own prompts and explanations, in which the markers say nothing. In another part keywords of the
explanation stand in a marker's place, in random order, so that the backbone learns to write about what it finds there, as
one pre-trained on large text can. In a third the explanation itself may stand there, the easiest thing to find in a prompt.
"""

import functools
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
        copy_share: share of the texts whose one marker is replaced by the explanation as it is.
        drawings: how often each row is drawn; keywords, their order and their place are drawn anew.
    """

    def __init__(
        self,
        processor: XRecProcessor,
        explanations: pl.DataFrame,
        keyword_share: float,
        seed: int,
        most_keywords: int = MOST_KEYWORDS,
        copy_share: float = 0.0,
        drawings: int = 1,
    ) -> None:
        rng = random.Random(seed)
        common = _common_words(explanations["explanation"].to_list())
        rows = explanations.select("title", "user_profile", "item_profile", "explanation").rows()
        answers = [processor.answer_ids(row[-1]) for row in rows]
        plain = [processor.prompt_ids(*row[:-1]) + answer for row, answer in zip(rows, answers, strict=True)]
        keywords = [[word for word in _words(row[-1]) if word not in common] for row in rows]
        markers = [processor.user_token_id, processor.item_token_id]
        ids_of = functools.cache(lambda word: processor.plain_ids(" " + word))
        self.examples = []
        for _ in range(drawings):
            for ids, words, answer in zip(plain, keywords, answers, strict=True):
                drawn = rng.random() if processor.markers_per_side else 1.0
                said = answer[:-1]
                if drawn < keyword_share:
                    rng.shuffle(words)
                    said = [token for word in words[:most_keywords] for token in ids_of(word)]
                if drawn < keyword_share + copy_share:
                    place = ids.index(rng.choice(markers))
                    ids = ids[:place] + said + ids[place + 1 :]
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
