import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_dataset_builder.synthetic_text import ASPECTS, REASONS
from xrec_evaluation.claims import MAX_CHARACTERS, MAX_CLAIMS, content_words, split_claims


def texts(text):
    return [claim.text for claim in split_claims(text)]


@pytest.mark.parametrize("template", REASONS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_aspect_of_the_built_in_world_becomes_one_claim(template, count):
    """The world's sentences are made from a list of phrases; the splitter must give the list back."""
    phrases = list(ASPECTS.values())
    for start in range(len(phrases)):
        named = [phrases[(start + step) % len(phrases)] for step in range(count)]
        said = template.format(list=" and the ".join(named)).replace("I ", "The user ", 1)
        assert texts(said) == named


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        (
            "The user would enjoy it for its rich coffee, kind staff, and quiet garden.",
            ["rich coffee", "kind staff", "quiet garden"],
        ),
        ("The user would enjoy Taco Riendo in Ohio because it has a salsa bar.", ["salsa bar"]),
        ("The user would enjoy this place for its rich coffee.", ["rich coffee"]),
        ("The user came back because of tea and the bread.", ["tea", "bread"]),
        ("You would enjoy the business because it is open late, and offers fresh juice.", ["it is open late", "fresh juice"]),
        ("Fans of old books, and those who like rare maps, would enjoy Fern & Co.", ["Fans of old books", "rare maps"]),
        ("A tavern known for craft beer.", ["tavern", "craft beer"]),
        ("It has fresh and crispy bread.", ["fresh and crispy bread"]),
        ("It has delicious sauces and traditional toppings.", ["delicious sauces", "traditional toppings"]),
        ("It has chicken and waffles.", ["chicken and waffles"]),
        ("Fresh, crispy, hot bread.", ["Fresh, crispy, hot bread"]),
        ("The band plays at 8 p.m. near St. John. It is loud!", ["band plays at 8 p.m. near St. John", "It is loud"]),
        ("The user loved the live music and the LIVE MUSIC.", ["live music"]),
    ],
)
def test_phrases_of_real_sentences(text, claims):
    assert texts(text) == claims


@pytest.mark.parametrize(
    "text", ["", "  \n ", "...", "The user would enjoy it.", "A great place!", "This is the best place ever.", "5 10 2024"]
)
def test_a_text_that_says_nothing_concrete_has_no_claim(text):
    assert texts(text) == []


def test_other_scripts_are_parted_at_their_marks():
    assert texts("川菜很辣\uff0c服务也很好。环境安静\uff01") == ["川菜很辣", "服务也很好", "环境安静"]
    assert texts("Живая музыка, тихая терраса.") == ["Живая музыка", "тихая терраса"]
    assert texts("قهوة قوية، حديقة هادئة؟") == ["قهوة قوية", "حديقة هادئة"]


def test_a_claim_keeps_its_sentence_and_reads_as_a_statement():
    first, second, third = split_claims("The user loved the live music. It is open late, and serves the strong coffee.")
    assert (first.sentence, second.sentence) == ("The user loved the live music.", third.sentence)
    assert [claim.statement for claim in (first, second, third)] == [
        "It has live music.",
        "It is open late.",
        "It has strong coffee.",
    ]
    assert split_claims("The shop has a bar, and closes late.")[-1].statement == "It has closes late."  # a stated limit


@given(st.text(max_size=300))
def test_claims_are_parts_of_the_text_each_once(text):
    found = split_claims(text)
    assert len({claim.text.casefold() for claim in found}) == len(found) <= MAX_CLAIMS
    words = set(content_words(text))
    for claim in found:
        assert set(content_words(claim.text)) <= words
        assert content_words(claim.text)


@pytest.mark.parametrize(
    "unit", ["very ", "The user would also ", "A B of the ", "and the ", "a, ", "((", "good-", "nice bread, "]
)
def test_degenerate_texts_are_split_in_linear_time(unit):
    text = unit * (20 * MAX_CHARACTERS // len(unit))
    start = time.perf_counter()
    assert len(split_claims(text)) <= MAX_CLAIMS
    assert time.perf_counter() - start < 5


def test_content_words_leave_out_what_says_nothing():
    assert content_words("The user's GREAT place has 3 bars, a café\u2019s view and x") == ["bars", "café", "view"]
