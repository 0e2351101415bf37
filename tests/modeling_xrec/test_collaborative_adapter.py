import pytest
import torch

from modeling_xrec import MixtureOfExpertsAdapter


def plain_adapter(adapter, x):
    """The paper's formula, expert by expert."""
    gates = (x @ adapter.gate_weight).softmax(-1)
    experts = [(x - b) @ w for b, w in zip(adapter.expert_bias, adapter.expert_weight, strict=True)]
    return sum(gates[:, k : k + 1] * expert for k, expert in enumerate(experts))


def test_equals_the_formula():
    adapter = MixtureOfExpertsAdapter(6, 10, num_experts=3, markers=2).eval()
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(4, 6)
    torch.testing.assert_close(adapter(x), plain_adapter(adapter, x).view(4, 2, 10))


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_only_the_experts_with_the_largest_gates_speak(top_k):
    adapter = MixtureOfExpertsAdapter(6, 10, num_experts=3, top_k=top_k).eval()
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(5, 6)
    for row, gates, adapted in zip(x, adapter.gates(x), adapter(x), strict=True):
        dense = (row @ adapter.gate_weight).softmax(-1)
        kept = sorted(range(3), key=lambda expert: -dense[expert])[:top_k]
        experts = [(row - adapter.expert_bias[k]) @ adapter.expert_weight[k] for k in kept]
        total = sum(dense[k] for k in kept)
        assert sorted(gates.nonzero().flatten().tolist()) == sorted(kept)
        torch.testing.assert_close(gates[kept], dense[kept] / total)
        torch.testing.assert_close(adapted[0], sum(dense[k] / total * one for k, one in zip(kept, experts, strict=True)))


def test_every_expert_learns_under_noise_although_few_speak():
    torch.manual_seed(0)
    adapter = MixtureOfExpertsAdapter(6, 10, num_experts=4, top_k=1, dropout=0.0).train()
    gates = adapter.gates(torch.randn(64, 6))  # before any training all logits are equal: the noise chooses
    assert ((gates > 0).sum(dim=1) == 1).all()
    assert (gates.sum(dim=0) > 0).all()
    adapter(torch.randn(64, 6)).square().sum().backward()
    assert (adapter.expert_weight.grad.abs().sum(dim=(1, 2)) > 0).all()


def test_every_place_has_a_map_of_its_own():
    adapter = MixtureOfExpertsAdapter(6, 10, markers=2, places=3).eval()
    x, weight = torch.randn(4, 6), torch.randn(6, 3, 2, 10)
    assert torch.equal(adapter.at_places(x), torch.zeros(4, 3, 2, 10))
    with torch.no_grad():
        adapter.place_weight.copy_(weight.flatten(1))
    torch.testing.assert_close(adapter.at_places(x), torch.einsum("be,epmh->bpmh", x, weight))
    with pytest.raises(ValueError, match="layer_maps=True"):
        MixtureOfExpertsAdapter(6, 10).at_places(x)


def test_a_soft_prompt_is_the_same_for_everyone_and_starts_at_nothing():
    torch.manual_seed(0)
    prompted = MixtureOfExpertsAdapter(6, 10, markers=2, soft_prompt=True).eval()
    torch.manual_seed(0)
    plain = MixtureOfExpertsAdapter(6, 10, markers=2).eval()
    x, prompt = torch.randn(4, 6), torch.randn(20)
    assert torch.equal(prompted(x), plain(x))
    with torch.no_grad():
        prompted.prompt_weight.copy_(prompt)
    torch.testing.assert_close(prompted(x) - plain(x), (6**0.5 * prompt).view(2, 10).expand(4, 2, 10))


def test_a_soft_prompt_moves_as_fast_as_the_map_of_an_embedding_that_all_share():
    shared = torch.full((4, 6), 6**-0.5)
    moves = []
    for soft_prompt, x in ((False, shared), (True, torch.zeros(4, 6))):
        torch.manual_seed(0)
        adapter = MixtureOfExpertsAdapter(6, 10, num_experts=1, dropout=0.0, soft_prompt=soft_prompt).eval()
        trained = adapter.prompt_weight if soft_prompt else adapter.expert_weight
        before = adapter(x).detach()
        adapter(x).sum().backward()
        torch.optim.Adam([trained], lr=0.01).step()
        moves.append((adapter(x) - before).detach())
    torch.testing.assert_close(moves[0], moves[1])


def test_parameter_count_of_the_paper():
    one = sum(p.numel() for p in MixtureOfExpertsAdapter(64, 4096, num_experts=8).parameters())
    assert 2 * one == 4_197_376


def test_noise_and_dropout_speak_in_training_only():
    adapter = MixtureOfExpertsAdapter(6, 10, dropout=0.5)
    x = torch.randn(4, 6)
    assert not torch.equal(adapter.train()(x), adapter(x))
    assert torch.equal(adapter.eval()(x), adapter(x))


def test_reference_names_are_checked():
    adapter = MixtureOfExpertsAdapter(6, 10, num_experts=2)
    with pytest.raises(ValueError, match=r"missing .*w_gate"):
        adapter.load_reference_state_dict({})
    wrong = {"w_gate": torch.zeros(6, 2), "w_noise": torch.zeros(6, 2)}
    wrong |= {f"experts.{k}.bias": torch.zeros(6) for k in range(2)}
    wrong |= {f"experts.{k}.lin.weight": torch.zeros(11, 6) for k in range(2)}
    with pytest.raises(ValueError, match=r"expert_weight is \(2, 6, 11\), this adapter's is \(2, 6, 10\)"):
        adapter.load_reference_state_dict(wrong)
