"""Texts of a scratch backbone: whole prompts, or keywords of the answer in a marker's place, never more than asked for."""

import polars as pl
import pytest

from modeling_xrec.processing_xrec import XRecProcessor
from xrec_training.backbone_texts import BackboneTexts

WORDS = [f"word{number}" for number in range(20)]


@pytest.fixture(scope="module")
def processor(tiny_run):
    return XRecProcessor.from_pretrained(str(tiny_run))


@pytest.fixture(scope="module")
def explanations():
    row = {"title": "Casa", "user_profile": "likes food", "item_profile": "has food"}
    said = [" ".join(WORDS[number : number + 10]) for number in range(10)]
    return pl.DataFrame([{**row, "explanation": text} for text in said * 10])


@pytest.mark.parametrize(("share", "most"), [(1.0, 3), (1.0, 40), (0.5, 6)])
def test_keywords_of_the_answer_stand_in_a_markers_place(processor, explanations, share, most):
    texts = BackboneTexts(processor, explanations, share, 0, most)
    markers = {processor.user_token_id, processor.item_token_id}
    replaced = 0
    for index in range(len(texts)):
        ids = texts[index]["input_ids"]
        assert texts[index]["labels"] == ids
        plain = processor.example(*explanations.row(index))["input_ids"]
        if ids == plain:
            continue
        replaced += 1
        assert sum(token in markers for token in ids) == 1
        start = next(place for place, (one, other) in enumerate(zip(ids, plain, strict=False)) if one != other)
        assert plain[start] in markers
        added = processor.tokenizer.decode(ids[start : start + len(ids) - len(plain) + 1]).split()
        said = explanations["explanation"][index].split()
        # Words of more than 15 % of the texts are no keywords.
        rare = [word for word in said if sum(word in text.split() for text in explanations["explanation"]) <= 15]
        assert set(added) <= set(rare)
        assert len(added) == min(most, len(rare))
    assert abs(replaced / len(texts) - share) < 0.15


def test_the_whole_answer_stands_in_a_markers_place_and_every_drawing_is_another(processor, explanations):
    texts = BackboneTexts(processor, explanations, 0.0, 0, copy_share=1.0, drawings=2)
    assert len(texts) == 2 * len(explanations)
    markers = (processor.user_token_id, processor.item_token_id)
    places = []
    for index, example in enumerate(texts):
        row = explanations.row(index % len(explanations))
        plain, answer = processor.example(*row)["input_ids"], processor.answer_ids(row[-1])[:-1]
        told = [plain[: plain.index(m)] + answer + plain[plain.index(m) + 1 :] for m in markers]
        places.append(told.index(example["input_ids"]))
    assert places[: len(explanations)] != places[len(explanations) :]
    assert set(places) == {0, 1}
