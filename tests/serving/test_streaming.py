import pytest
import torch

from xrec_serving.streaming import BatchStreamer, GrowingText, StopCancelled


class Ear:
    def __init__(self, listens=True):
        self.cancelled, self.heard = False, []
        self.on_text = self.heard.append if listens else None


def read_bytes(ids):
    return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("text", ["plain words", "café, 北京 and 🍰", "ends in 🍰"])
def test_pieces_make_the_text_and_no_character_is_cut(text):
    growing = GrowingText(read_bytes)
    pieces = [growing.add(byte) for byte in text.encode()]
    pieces.append(growing.rest(text))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) == len(text)


def test_a_decoder_that_changes_its_mind_is_not_quoted_twice():
    texts = iter(["The", "Thé", "The user"])
    growing = GrowingText(lambda ids: next(texts))
    assert [growing.add(0) for _ in range(3)] == ["The", "", " user"]


def test_each_row_of_a_batch_hears_its_own_words_up_to_its_end():
    ears = [Ear(), Ear(listens=False), Ear()]
    streamer = BatchStreamer(read_bytes, ears, end_ids={0})
    streamer.put(torch.tensor([[9, 9], [9, 9], [9, 9]]))  # the prompts
    for tokens in ("axp", "bxq", "\0xr", "cxs"):
        streamer.put(torch.tensor([ord(char) for char in tokens]))
    streamer.finish(["ab", "xxxx", "pqrs!"])
    assert ["".join(ear.heard) for ear in ears] == ["ab", "", "pqrs!"]


def test_who_has_gone_hears_no_more_and_its_row_ends():
    ears = [Ear(), Ear()]
    streamer, stop = BatchStreamer(read_bytes, ears, end_ids={0}), StopCancelled(ears)
    streamer.put(torch.tensor([[9], [9]]))
    streamer.put(torch.tensor([ord("a"), ord("b")]))
    ears[0].cancelled = True
    streamer.put(torch.tensor([ord("c"), ord("d")]))
    assert [ear.heard for ear in ears] == [["a"], ["b", "d"]]
    assert stop(torch.zeros(2, 3), torch.zeros(2, 5)).tolist() == [True, False]
