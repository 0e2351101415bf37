import pytest

from xrec_dataset_builder.fragments import completed, split_splices


@pytest.mark.parametrize(
    ("fragment", "found", "stated"),
    [
        ("Love it", "I love it", "I love it"),
        ("Bought for my son", "I bought it for my son", "I bought it for my son"),
        ("Would recommend it", "I would recommend it", "I would recommend it"),
        ("Will not disappoint", "It will not disappoint", "It will not disappoint"),
        ("Happy with the card", "I am happy with the card", "I am happy with the card"),
        ("Works well", "It works well", "It works well"),
        ("Always works", "It always works", "It always works"),
        ("Never expires", "It never expires", "It never expires"),
        ("Great gift", "I find it a great gift", "It is a great gift"),
        ("Excellent gift", "I find it an excellent gift", "It is an excellent gift"),
        ("Best pizza place", "I find it the best pizza place", "It is the best pizza place"),
        ("Very nice gift card", "I find it a very nice gift card", "It is a very nice gift card"),
        ("Great gifts for all", "I find them great gifts for all", "They are great gifts for all"),
        ("Fast delivery", "I mention fast delivery", "It offers fast delivery"),
        ("Easy to use", "I find it easy to use", "It is easy to use"),
        ("The perfect gift for her", "I find it the perfect gift for her", "It is the perfect gift for her"),
        ("Gift card for my daughter", "It is a gift card for my daughter", "It is a gift card for my daughter"),
        ("Just what I wanted", "It is just what I wanted", "It is just what I wanted"),
        ("Not a fan of tea", "I am not a fan of tea", "I am not a fan of tea"),
        ("No problems", "I report no problems", "I report no problems"),
        ("And it was cold", "it was cold", "it was cold"),
        ("Great food is served here", "Great food is served here", "Great food is served here"),
        ("The soup was cold", "The soup was cold", "The soup was cold"),
        ("Like any other card", "", ""),
        ("Because of Monday", "", ""),
    ],
)
def test_missing_subjects_and_verbs_are_added(fragment: str, found: str, stated: str):
    assert completed(fragment, finds=True) == found
    assert completed(fragment, finds=False) == stated


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("Love this place, fast delivery", ["Love this place", "fast delivery"]),
        ("Great gift, works well, easy to use", ["Great gift", "works well", "easy to use"]),
        ("Nice, sturdy box", ["Nice, sturdy box"]),
        ("The soup was cold, great bread", ["The soup was cold, great bread"]),
        ("Great for you, me and them", ["Great for you, me and them"]),
    ],
)
def test_sentences_strung_together_are_split(sentence: str, parts: list[str]):
    assert split_splices(sentence) == parts
