import random
import time
from collections import Counter

import pytest

from xrec_dataset_builder.masking import is_card, is_iban, mask
from xrec_dataset_builder.untrusted import visible

from .planted import ORDINARY, iban, luhn_number, planted_data


def test_of_1000_planted_data_none_gets_through_and_nothing_else_goes():
    wrong, kinds = [], Counter()
    for kind, sentence, datum, name in planted_data(1000):
        text, found = mask(visible(sentence), [name] if name else [])
        kinds[kind] += 1
        if text != visible(sentence).replace(visible(datum), f"({kind})") or found != {kind: 1}:
            wrong.append((sentence, text))
    assert wrong == []
    assert sum(kinds.values()) == 1000
    assert min(kinds.values()) > 140


def test_ordinary_sentences_stay_as_they_are_but_for_one_known_mistake():
    changed = [(sentence, mask(sentence, ["Kindle Customer", "The Great Gift"])[0]) for sentence in ORDINARY]
    assert [pair for pair in changed if pair[0] != pair[1]] == [
        ("I found it on Facebook: great page!", "I found it on Facebook: (handle) page!")
    ]


def test_check_digits_decide_what_is_a_card_or_an_account():
    draw = random.Random(3)
    cards = [luhn_number(draw, "4", 16) for _ in range(200)]
    accounts = [iban(draw, "DE", 22) for _ in range(200)]
    assert all(map(is_card, cards))
    assert all(map(is_iban, accounts))
    for card, account in zip(cards, accounts, strict=True):
        place = draw.randrange(1, 16)
        other = str((int(card[place]) + draw.randrange(1, 10)) % 10)
        assert not is_card(card[:place] + other + card[place + 1 :])
        place = draw.choice([at for at in range(4, len(account)) if account[at].isdigit()])
        assert not is_iban(account[:place] + str((int(account[place]) + 1) % 10) + account[place + 1 :])


def test_numbers_beside_a_card_or_an_account_do_not_hide_it():
    draw = random.Random(4)
    card, account = luhn_number(draw, "51", 16), iban(draw, "BE", 16)
    grouped = " ".join(card[at : at + 4] for at in range(0, 16, 4))
    for text in (f"on 5 {grouped} 12/29", f"{grouped} 123", f"no {card} 2029", f"{grouped} {grouped}"):
        assert grouped[-9:] not in mask(text)[0]
        assert mask(text)[1]["card"] >= 1
    assert mask(f"{account} from me")[0] == "(account) from me"
    assert mask(f"AB12 {account} 4711 and")[1]["account"] == 1


@pytest.mark.parametrize(
    ("name", "text", "masked"),
    [
        ("john stoiber", "John was here. JOHN STOIBER, john  stoiber", "(name) was here. (name), (name)"),
        ("Seán O'Brien", "O'Brien and Seán", "(name) and (name)"),
        ("Great Books", "Great stuff, books, great  books", "Great stuff, books, (name)"),
        ("Amazon Customer", "Amazon is a Customer", "Amazon is a Customer"),
        ("Mark", "Mark my words, I mark them. Marks", "(name) my words, I (name) them. Marks"),
        ("Will", "Will you?", "Will you?"),
        ("", "Nobody", "Nobody"),
    ],
)
def test_the_writers_own_name_goes(name: str, text: str, masked: str):
    assert mask(text, [name])[0] == masked


def test_masking_is_quick_whatever_the_text():
    for piece in ("1 ", "ab12 ", "a.b@", "@a", "<", "call ", "0 ", "+1", "a (at) b dot ", "http://", "4111-"):
        start = time.perf_counter()
        mask(piece * (8000 // len(piece)), ["Ann Bo"])
        assert time.perf_counter() - start < 3, piece


def test_masking_twice_masks_no_more():
    for _, sentence, _, name in planted_data(200):
        once = mask(visible(sentence), [name])[0]
        assert mask(once, [name]) == (once, Counter())
