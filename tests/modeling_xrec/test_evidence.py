import dataclasses

import pytest
import torch
import torch.nn.functional as F

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import normalized_adjacency
from modeling_xrec.evidence import Evidence, recover_lengths

USERS, ITEMS, WIDTH = 14, 11, 6
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
WEIGHTS = {"mean": "mean", "sum": "sum", "weights": [0.2, 0.3, 0.5], "no own part": [0.0, 0.4, 0.6]}


def random_edges(users=USERS, items=ITEMS, count=60):
    """Edges with repeats; the last user and the last item have none."""
    torch.manual_seed(0)
    return torch.stack([torch.randint(users - 1, (count,)), torch.randint(items - 1, (count,))])


EDGES = random_edges()
HISTORY = [sorted({i for u, i in EDGES.T.tolist() if u == user}) for user in range(USERS)]
TOUCHED_BY = [sorted({u for u, i in EDGES.T.tolist() if i == item}) for item in range(ITEMS)]


class Plain:
    """Embeddings by dense propagation, with chosen neighbours left out of the last step, scaled at the end."""

    def __init__(self, model, exponent):
        self.alpha, self.exponent = model.layer_weights, exponent
        self.dense = normalized_adjacency(EDGES, USERS, ITEMS).to_dense().double()
        self.layers = [torch.cat([model.user_embeddings, model.item_embeddings]).detach().double()]
        for _ in range(model.num_layers):
            self.layers.append(self.dense @ self.layers[-1])
        self.mean = sum(self.raw(USERS + item).norm() for item in range(ITEMS)) / ITEMS

    def raw(self, node, without=()):
        total = self.alpha[0] * self.layers[0][node]
        for weight, before in zip(self.alpha[1:], self.layers, strict=False):
            for neighbour in range(USERS + ITEMS):
                if neighbour not in without:
                    total = total + weight * self.dense[node, neighbour] * before[neighbour]
        return total

    def embedding(self, node, without=()):
        if self.exponent is None:
            return self.raw(node, without)
        length = self.raw(node).norm().clamp(min=1e-12)
        return self.raw(node, without) / length * (1 if node < USERS else (length / self.mean) ** self.exponent)

    def score(self, user, item, without_item=(), without_user=()):
        return float(self.embedding(user, [USERS + j for j in without_item]) @ self.embedding(USERS + item, without_user))


@pytest.fixture(params=[None, 0.0, 0.4], ids=["raw", "unit", "long"])
def settled(request):
    def make(aggregation="mean"):
        layers = len(aggregation) - 1 if isinstance(aggregation, list) else 3
        torch.manual_seed(1)
        model = LightGCN(USERS, ITEMS, WIDTH, layers, aggregation).requires_grad_(False)
        plain = Plain(model, request.param)
        model.settle(EDGES)
        lengths = None if request.param is None else model.to_unit_rows(request.param)
        return model, plain, lengths

    return make


@pytest.mark.parametrize("aggregation", WEIGHTS)
def test_shares_are_what_is_lost_without_a_neighbour_at_the_last_step(settled, aggregation):
    model, plain, lengths = settled(WEIGHTS[aggregation])
    evidence = Evidence(model, EDGES, lengths)
    for user, item in [(0, 0), (1, 5), (2, HISTORY[2][0]), (USERS - 1, 3), (4, ITEMS - 1)]:
        found = evidence.explain(user, item, k=50)
        score = plain.score(user, item)
        assert found.score == pytest.approx(score, abs=1e-5)
        assert [entry.item for entry in sorted(found.history, key=lambda entry: entry.item)] == HISTORY[user]
        for entry in found.history:
            assert entry.share == pytest.approx(score - plain.score(user, item, [entry.item]), abs=1e-5)
        for entry in found.users:
            assert entry.share == pytest.approx(score - plain.score(user, item, [], [entry.user]), abs=1e-5)
        assert sorted(entry.user for entry in found.users) == TOUCHED_BY[item]
        assert found.own == pytest.approx(plain.score(user, item, range(ITEMS)), abs=1e-5)
        assert found.item_own == pytest.approx(plain.score(user, item, [], range(USERS)), abs=1e-5)
        assert found.own_own == pytest.approx(plain.score(user, item, range(ITEMS), range(USERS)), abs=1e-5)
        assert (found.history_rest, found.users_rest) == pytest.approx((0, 0), abs=1e-9)


def test_paths_are_the_pairs_of_the_graph_and_weigh_what_both_lose_together(settled):
    model, plain, lengths = settled([0.2, 0.3, 0.5])
    evidence, count = Evidence(model, EDGES, lengths), 0
    for user, item in [(0, 0), (1, 5), (2, HISTORY[2][0]), (6, 2), (USERS - 1, 3)]:
        found = evidence.explain(user, item, k=50, paths=50)
        linked = 0.0
        for entry in found.history:
            both = set(TOUCHED_BY[entry.item]) & set(TOUCHED_BY[item]) - {user} if entry.item != item else set()
            assert {path.user for path in entry.paths} == both
            weights = [abs(path.weight) for path in entry.paths]
            assert weights == sorted(weights, reverse=True)
            for path in entry.paths:
                j, v = [entry.item], [path.user]
                alone = plain.score(user, item, j) + plain.score(user, item, [], v)
                wanted = plain.score(user, item) - alone + plain.score(user, item, j, v)
                assert path.weight == pytest.approx(wanted, abs=1e-5)
                linked += wanted
            few = evidence.explain(user, item, k=50, paths=2)
            shorter = next(other for other in few.history if other.item == entry.item)
            assert shorter.paths == entry.paths[:2]
        assert found.linked == pytest.approx(linked, abs=1e-5)
        count += sum(len(entry.paths) for entry in found.history)
    assert count >= 10


def sums_of(found):
    history = sum(entry.share for entry in found.history)
    users = sum(entry.share for entry in found.users)
    return (
        found.own + history + found.history_rest,
        found.item_own + users + found.users_rest,
        found.own_own + found.own_users + found.history_own + found.linked + found.unlinked,
    )


def test_all_sums_are_the_score_and_the_largest_shares_come_first(settled):
    model, _, lengths = settled()
    evidence = Evidence(model, EDGES, lengths)
    scores = model.user_embeddings @ model.item_embeddings.T
    for user in range(USERS):
        for item in range(ITEMS):
            found, everything = evidence.explain(user, item, k=2), evidence.explain(user, item, k=99)
            assert found.score == pytest.approx(float(scores[user, item]), abs=1e-6)
            assert sums_of(found) == pytest.approx((found.score,) * 3, abs=1e-9)
            shares = [abs(entry.share) for entry in everything.history]
            assert shares == sorted(shares, reverse=True)
            assert [(entry.item, entry.share) for entry in found.history] == [
                (e.item, e.share) for e in everything.history[:2]
            ]
            assert found.users == everything.users[:2]
    assert dataclasses.asdict(found)["score"] == found.score


def test_an_unseen_node_is_its_history(settled):
    model, _, lengths = settled()
    evidence = Evidence(model, EDGES, lengths)
    history, touched_by = [3, 0, 3, 7], [1, 2, 8]
    user, item = model.fold_in([history])[0], model.fold_in([touched_by], side="item")[0]
    for found, score in [
        (evidence.explain(history, 5, k=99), user @ model.item_embeddings[5]),
        (evidence.explain(torch.tensor(history), touched_by, k=99), user @ item),
    ]:
        assert found.score == pytest.approx(float(score), abs=1e-6)
        assert (found.own, found.own_own, found.own_users) == (0, 0, 0)
        assert sums_of(found) == pytest.approx((found.score,) * 3, abs=1e-9)
        other = model.item_embeddings[5] if found.item_own else item
        shares = model.fold_in_shares([history], other.unsqueeze(0))[0]
        found_shares = [entry.share for entry in sorted(found.history, key=lambda entry: entry.item)]
        torch.testing.assert_close(torch.tensor(found_shares), shares, **CLOSE)
    assert evidence.explain(2, touched_by).item_own == 0


@pytest.mark.parametrize("aggregation", ["mean", "sum", [0.2, 0.3, 0.5], [0.5, 0.5], [0.0, 1.0], [0.1, 0.2, 0.3, 0.2, 0.2]])
@pytest.mark.parametrize("exponent", [0.0, 0.4])
def test_lengths_are_recovered_from_the_stored_tables(aggregation, exponent):
    edges, layers = random_edges(60, 50, 400), len(aggregation) - 1 if isinstance(aggregation, list) else 3
    model = LightGCN(60, 50, 16, layers, aggregation).requires_grad_(False)
    model.settle(edges)
    lengths = model.to_unit_rows(exponent)
    loaded = LightGCN(60, 50, 16)  # as from an older checkpoint: without the layer weights
    loaded.load_state_dict(model.state_dict())
    for found, wanted in zip(recover_lengths(loaded, edges, model.layer_weights), lengths, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4 * float(wanted.mean()), rtol=1e-4)
    given, recovered = Evidence(model, edges, lengths), Evidence(loaded, edges, layer_weights=model.layer_weights)
    for user, item in [(0, 0), (3, 9)]:
        wanted = {entry.item: entry.share for entry in given.explain(user, item, k=99).history}
        found = {entry.item: entry.share for entry in recovered.explain(user, item, k=99).history}
        assert found == pytest.approx(wanted, abs=1e-5)


def test_wrong_weights_or_another_graph_are_noticed_where_lengths_are_recovered():
    edges = random_edges(60, 50, 400)
    model = LightGCN(60, 50, 16, 2, [0.2, 0.3, 0.5]).requires_grad_(False)
    model.settle(edges)
    model.to_unit_rows()
    with pytest.raises(ValueError, match=r"no lengths explain the tables .* layer weights \(0.3, 0.3, 0.4\)"):
        Evidence(model, edges, layer_weights=[0.3, 0.3, 0.4])
    with pytest.raises(ValueError, match="no lengths explain the tables"):
        Evidence(model, edges[:, 40:])


def test_what_cannot_be_explained_is_named():
    model = LightGCN(USERS, ITEMS, WIDTH).requires_grad_(False)
    with pytest.raises(ValueError, match="expected a settled model"):
        Evidence(model, EDGES)
    model.settle(EDGES)
    with pytest.raises(ValueError, match="edge 0 has item index 11, expected 0 to 10"):
        Evidence(model, torch.tensor([[0], [ITEMS]]))
    with pytest.raises(ValueError, match=r"expected lengths of shapes \(14,\) and \(11,\), found \[\(11,\), \(14,\)\]"):
        Evidence(model, EDGES, (torch.ones(ITEMS), torch.ones(USERS)))
    evidence = Evidence(model, EDGES)
    for user, item, message in [
        (USERS, 0, "user 14 is not stored, expected 0 to 13; give an unseen one's history"),
        (0, -1, "item -1 is not stored"),
        ([], 0, "history 0 is empty; give at least one item"),
        ([ITEMS], 0, "history 0 has index 11, expected 0 to 10"),
        (0, [0.5], "expected for each history a list of user indices"),
    ]:
        with pytest.raises(ValueError, match=message):
            evidence.explain(user, item)
    model.item_fold_in[HISTORY[0][0]] = float("nan")
    with pytest.raises(ValueError, match=r"item_fold_in .* holds NaN"):
        evidence.explain(0, 0)


def test_a_model_with_unit_rows_has_a_cosine_times_a_length_for_a_score(settled):
    model, plain, lengths = settled()
    found = Evidence(model, EDGES, lengths).explain(0, 0)
    user, item = plain.raw(0), plain.raw(USERS)
    wanted = user @ item
    if plain.exponent is not None:
        wanted = F.cosine_similarity(user, item, dim=0) * (item.norm() / plain.mean) ** plain.exponent
    assert found.score == pytest.approx(float(wanted), abs=1e-5)
