"""The probe of the signal benchmark: it finds the bits that are there, and none that are not."""

import numpy as np
import pytest
import torch

ROWS, WORDS, LENGTH = 1200, 30, 20


@pytest.fixture(scope="module")
def probe(benchmark_script):
    return benchmark_script("probe")


@pytest.fixture(scope="module")
def drawn():
    """Features by split, the words drawn from them, and the bits of a test text that a reader who knows the truth gains."""
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(3, WORDS))
    features, counts, gains = {}, {}, {}
    for split, rows in (("train", ROWS), ("validation", ROWS // 3), ("test", ROWS // 3)):
        features[split] = generator.normal(size=(rows, 3)).astype(np.float32)
        logits = features[split] @ weight
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        counts[split] = np.stack([generator.multinomial(LENGTH, one) for one in chances])
        gains[split] = chances
    frequency = counts["train"].sum(axis=0) / counts["train"].sum()
    true = (counts["test"] * np.log2(gains["test"] / frequency)).sum(axis=1)
    return features, counts, true


def test_it_finds_the_bits_that_are_there(probe, drawn):
    features, counts, true = drawn
    (found,) = probe.bits_of([features], counts)
    assert 0.9 * true.mean() < found.mean() <= true.mean() + 1e-6
    assert np.corrcoef(found, true)[0, 1] > 0.98


def test_it_reads_the_rows_that_it_is_told_to(probe, drawn):
    features, counts, _ = drawn
    (found,) = probe.bits_of([features], counts, "validation")
    moved = [given | {"test": given["validation"]} for given in (features, counts)]
    (expected,) = probe.bits_of([moved[0]], moved[1])
    np.testing.assert_array_equal(found, expected)


def test_noise_stays_out_and_costs_nothing(probe, drawn):
    features, counts, _ = drawn
    generator = np.random.default_rng(1)
    noise = {split: generator.normal(size=(len(one), 64)).astype(np.float32) for split, one in features.items()}
    alone, beside = probe.bits_of([features, noise], counts)
    assert abs(beside.mean() - alone.mean()) < 0.02 * alone.mean()
    (nothing,) = probe.bits_of([noise], counts)
    assert abs(nothing.mean()) < 0.02 * alone.mean()


def test_a_second_block_adds_what_the_first_lacks(probe, drawn):
    features, counts, _ = drawn
    first = {split: one[:, :1] for split, one in features.items()}
    second = {split: one[:, 1:] for split, one in features.items()}
    (whole,) = probe.bits_of([features], counts)
    alone, both = probe.bits_of([first, second], counts)
    assert alone.mean() < 0.6 * whole.mean()
    assert both.mean() == pytest.approx(whole.mean(), rel=0.03)


def test_the_fit_is_where_the_gradient_vanishes(probe, drawn):
    features, counts, _ = drawn
    words = probe.Words(features["train"], counts["train"])
    words.fit(np.full(3, 1e-2))
    scaled = (features["train"] - features["train"].mean(axis=0)) / features["train"].std(axis=0)
    with torch.no_grad():
        chances = (words.bias + torch.from_numpy(scaled).float() @ words.weight).softmax(dim=1).numpy()
    said, length = counts["train"], counts["train"].sum(axis=1, keepdims=True)
    gradient = scaled.T @ (length * chances - said) / said.sum() + 2e-2 * words.weight.detach().numpy()
    assert np.abs(gradient).max() < 1e-3 * np.abs(words.weight.detach().numpy()).max()


def test_the_near_history_is_its_definition(probe):
    generator = np.random.default_rng(2)
    items = generator.normal(size=(6, 4)).astype(np.float32)
    edges = np.array([[2, 0, 0, 2, 1, 0], [5, 1, 3, 1, 4, 2]])
    users, targets = np.array([0, 0, 1, 3]), np.array([3, 5, 4, 0])
    found = probe.near_history(users, targets, edges, items)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    for row, (user, target) in enumerate(zip(users, targets, strict=True)):
        history = [item for other, item in edges.T if other == user and item != target]
        weights = np.array([np.exp(probe.SHARPNESS * cosine(items[item], items[target])) for item in history])
        expected = weights @ items[history] / weights.sum() if history else np.zeros(4)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5)
