import pytest
import torch
import torch.nn.functional as F

from xrec_training import objectives
from xrec_training.objectives import bpr_loss, softmax_loss


def case(users=7, items=11, dim=5, seed=0):
    """Embeddings and a batch in which the users touched 0 to 4 items."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(count, dim, generator=generator, requires_grad=True) for count in (users, items)]
    places = torch.tensor([0, 0, 1, 3, 3, 3, 4, 5, 5, 5, 5])
    touched = torch.tensor([2, 5, 0, 10, 3, 4, 4, 1, 0, 9, 6])
    return *rows, places, touched


def plain_softmax(users, items, places, touched, temperature, weights, length_exponent=0.0):
    """Cross-entropy of one interaction after the other."""
    scores = F.cosine_similarity(users[places].unsqueeze(1), items.unsqueeze(0), dim=2) / temperature
    scores = scores * (items.norm(dim=1) / items.norm(dim=1).mean().detach()) ** length_exponent
    return ((scores.exp() * weights).sum(dim=1).log() - scores.gather(1, touched.unsqueeze(1)).squeeze(1)).mean()


@pytest.mark.parametrize("length_exponent", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows_at_a_time", [1, 3, 256])
def test_the_softmax_and_its_gradients_equal_those_by_interaction(rows_at_a_time, weighted, length_exponent, monkeypatch):
    monkeypatch.setattr(objectives, "ROWS_AT_A_TIME", rows_at_a_time)
    users, items, places, touched = case()
    weights = torch.rand(11) + 0.1 if weighted else None
    found = softmax_loss(users, items, places, touched, 0.2, None, weights, length_exponent)
    found_gradients = torch.autograd.grad(found * 3, [users, items])
    plain_weights = torch.ones(11) if weights is None else weights
    expected = plain_softmax(users, items, places, touched, 0.2, plain_weights, length_exponent)
    torch.testing.assert_close(found, expected)
    for one, other in zip(found_gradients, torch.autograd.grad(expected * 3, [users, items]), strict=True):
        torch.testing.assert_close(one, other)


def test_without_weights_it_is_torchs_cross_entropy():
    users, items, places, touched = case()
    scores = F.normalize(users, dim=1)[places] @ F.normalize(items, dim=1).T / 0.2
    torch.testing.assert_close(softmax_loss(users, items, places, touched, 0.2), F.cross_entropy(scores, touched))


def test_the_softmax_stays_finite_at_the_least_temperature():
    users = torch.ones(2, 4, requires_grad=True)
    items = torch.cat([torch.ones(3, 4), -torch.ones(50_000, 4)]).requires_grad_()
    loss = softmax_loss(users, items, torch.tensor([0, 1]), torch.tensor([0, 5]), 0.03)
    assert loss.item() == pytest.approx((0 + 200 / 3) / 2 + torch.log(torch.tensor(3.0)).item(), rel=1e-5)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, [users, items]))


def test_sampled_items_stand_for_all_of_them():
    users, items, places, touched = case(items=400)
    weights = torch.rand(400, generator=torch.Generator().manual_seed(1)) + 0.5
    full = softmax_loss(users, items, places, touched, 1.0, None, weights).item()
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randperm(400, generator=generator)[:100] for _ in range(200)]
    sampled = torch.tensor([softmax_loss(users, items, places, touched, 1.0, draw, weights).item() for draw in draws])
    assert sampled.mean().item() == pytest.approx(full, abs=4 * sampled.std().item() / 200**0.5 + 0.01)
    everything = softmax_loss(users, items, places, touched, 1.0, torch.randperm(400, generator=generator), weights)
    assert everything.item() == pytest.approx(full, abs=1e-5)


def test_a_step_holds_one_block_of_scores_and_not_the_batch(monkeypatch):
    monkeypatch.setattr(objectives, "ROWS_AT_A_TIME", 16)
    largest = 0
    original = torch.Tensor.exp_

    def watch(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return original(tensor)

    monkeypatch.setattr(torch.Tensor, "exp_", watch)
    users, items = torch.randn(200, 4, requires_grad=True), torch.randn(300, 4, requires_grad=True)
    softmax_loss(users, items, torch.arange(200), torch.arange(200), 0.5).backward()
    assert largest == 16 * 300


def test_bpr_equals_the_plain_definition():
    users, positives, negatives = (rows.detach() for rows in torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0)))
    expected = 0.0
    for u, p, n in zip(users.double(), positives.double(), negatives.double(), strict=True):
        expected += -torch.log(torch.sigmoid(u @ p - u @ n)).item() / 6
        expected += 0.01 * sum(float(x) ** 2 for row in (u, p, n) for x in row)
    assert bpr_loss(users, positives, negatives, 0.01).item() == pytest.approx(expected, rel=1e-5)
