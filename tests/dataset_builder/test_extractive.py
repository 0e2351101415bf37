import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_dataset_builder.extractive import explanation, item_profile, statements, user_profile
from xrec_dataset_builder.third_person import is_first_person

REVIEW = (
    "We went there last Monday with my cousin. I loved the crispy pizza because the crust was fresh. Hope this helps! "
    "The staff was rude, though. Would you believe it?"
)


def test_an_explanation_states_why_and_nothing_else():
    assert explanation(REVIEW) == ("The user loved the crispy pizza because the crust was fresh. The staff was rude, though.")


@pytest.mark.parametrize(
    ("review", "said"),
    [
        ("The food was bland and I hated the rude staff. I do not recommend this place.", "hated the rude staff"),
        ("Not worth the price, the card never works.", "not worth the price, the card never works"),
        ("I did not like the cold soup.", "The user did not like the cold soup"),
    ],
)
def test_negative_reasons_stay_negative(review: str, said: str):
    assert said in explanation(review)


@pytest.mark.parametrize(
    "review",
    [
        "",
        "   ",
        "ok",
        "Five stars!",
        "We went there last Monday.",
        "Great!",
        "\U0001f44d",
        "What can I say?",
        "Thanks.",
        "...",
    ],
)
def test_a_review_without_a_reason_explains_nothing(review: str):
    assert explanation(review) == ""
    assert user_profile([review]) == ""
    assert item_profile("", "", [review]) == ""


def test_limits_on_sentences_and_words_hold():
    review = "I loved the fresh soup. The friendly waiter smiled. The quiet garden is perfect. Cheap wine is a plus for us."
    for most in (1, 2, 3):
        assert explanation(review, max_sentences=most).count(".") == most
    assert len(explanation(review, max_sentences=9, max_words=20).split()) <= 20


def test_sentences_keep_the_order_of_the_review():
    text = explanation("The cake was dry. I loved the fresh bread because it was cheap, warm and tasty.")
    assert text.index("cake") < text.index("bread")


def test_what_is_said_twice_is_kept_once():
    assert explanation("I loved the fresh bread. I loved the fresh bread!") == "The user loved the fresh bread."


def test_an_item_profile_opens_with_its_description_and_speaks_of_no_person():
    description = "Click here for more information. A bakery with sourdough bread, baked daily. Trademark of Bread Inc."
    reviews = [
        "I loved my fresh bread.",
        "My daughter was happy with the cake.",
        "The warm rolls are cheap and delicious.",
    ]
    assert item_profile("Bakery", description, reviews) == (
        "A bakery with sourdough bread, baked daily. The warm rolls are cheap and delicious."
    )
    assert item_profile("Bakery", "", reviews, max_sentences=1) == "The warm rolls are cheap and delicious."
    assert item_profile("A bakery with sourdough bread", "A bakery with sourdough bread.", []) == ""


def test_a_user_profile_prefers_what_the_user_says_of_themselves():
    reviews = ["The warm rolls are cheap.", "I love quiet gardens.", "We went there."]
    assert user_profile(reviews) == "The user loves quiet gardens. The warm rolls are cheap."
    assert user_profile(reviews, max_sentences=1) == "The user loves quiet gardens."


def test_statements_can_stand_for_their_review():
    read = statements(REVIEW)
    assert explanation(read) == explanation(REVIEW)
    assert user_profile([read, REVIEW]) == user_profile([REVIEW, REVIEW])
    assert item_profile("", "", [read]) == item_profile("", "", [REVIEW])


SAMPLE = (
    "I my me we loved love hate the pizza was great easy to use because not don't gift card for . ! , ? and it's i've "
    "myself our am have been happy with"
)
WORDS = st.sampled_from([*SAMPLE.split(), "\n"])


@given(st.lists(WORDS, max_size=60).map(" ".join))
def test_outputs_are_short_third_person_sentences_and_repeat(review: str):
    text = explanation(review)
    assert text == explanation(review)
    assert len(text.split()) <= 50
    assert not is_first_person(text)
    assert text == "" or re.fullmatch(r"[A-Z0-9\"'].*\.", text)
    assert "\n" not in text
    assert not is_first_person(item_profile("", "", [review]))
