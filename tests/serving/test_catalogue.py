import random
from types import SimpleNamespace

import polars as pl
import pytest

from xrec_serving.catalogue import Catalogue
from xrec_serving.explaining import ExplainingModel
from xrec_serving.options import ServeOptions
from xrec_serving.schemas import About, Items, UserHistory, Users

LETTERS = ["a", "A", "b", "é", "É", "ß", "SS", "İ", " ", ".", "*", "\n", "\ud800", "北"]


def folded(text):
    return text.replace("\n", " ").encode("utf-8", "replace").decode().casefold()


def plain(texts, query, limit):
    """Rows whose texts contain a query: equal ones first, then those that start with it."""
    texts, query = [[folded(text) for text in row] for row in texts], folded(query)
    hits = [row for row, some in enumerate(texts) if any(query in text for text in some)]
    order = sorted(
        hits, key=lambda row: (query not in texts[row], not any(text.startswith(query) for text in texts[row]), row)
    )
    return (hits if not query else order)[:limit], len(hits)


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_a_search_finds_what_a_look_at_every_row_finds(limit):
    rng = random.Random(0)

    def text():
        return "".join(rng.choices(LETTERS, k=rng.randint(1, 5)))

    ids = [[text()] for _ in range(300)]
    items = [[text(), text() * rng.randint(0, 2)] for _ in range(300)]
    processor = SimpleNamespace(
        users=[{"user_id": one} for (one,) in ids],
        items=[{"item_id": one, "title": title} if title else {"item_id": one} for one, title in items],
    )
    catalogue = Catalogue(processor)
    for query in ["", "nothing", *LETTERS, *(text() for _ in range(60))]:
        rows, total = plain(ids, query, limit)
        assert catalogue.users(query, limit) == {"users": [processor.users[row] for row in rows], "total": total}
        rows, total = plain(items, query, limit)
        found = [{"item_id": items[row][0], "title": items[row][1]} for row in rows]
        assert catalogue.items(query, limit) == {"items": found, "total": total}


def test_the_routes_say_what_the_model_knows(serve, model, tiny_data):
    client = serve()
    about = client.get("/v1/about").json()
    assert About(**about).model_dump() == about
    users, items = (pl.read_parquet(tiny_data / "data" / side / "all.parquet") for side in ("users", "items"))
    assert (about["users"], about["items"], about["has_data"]) == (len(users), len(items), True)
    assert (about["experts"], about["injection"]) == (model.model.config.num_experts, model.model.config.injection)
    assert "/" not in about["name"]
    found = client.get("/v1/users", params={"query": "U0000", "limit": 3}).json()
    known = sorted(one for one in users["user_id"] if "u0000" in one)
    assert found == {"users": [{"user_id": one} for one in known[:3]], "total": len(known)}
    assert Users(**found)
    assert len(client.get("/v1/users").json()["users"]) == 20
    title = items["title"][3]
    found = client.get("/v1/items", params={"query": title.upper()}).json()
    assert {"item_id": items["item_id"][3], "title": title} in found["items"]
    assert Items(**found)


def test_a_users_history_is_its_training_items_the_latest_first(serve, tiny_data):
    client = serve()
    train = pl.read_parquet(tiny_data / "data" / "interactions" / "train.parquet")
    titles = dict(pl.read_parquet(tiny_data / "data" / "items" / "all.parquet").select("item_id", "title").rows())
    for user in train["user_id"].unique(maintain_order=True).to_list()[:3]:
        own = train.filter(pl.col("user_id") == user)
        found = client.get(f"/v1/users/{user}").json()
        assert UserHistory(**found).total == len(own) == len(found["history"])
        times = dict(own.select("item_id", "timestamp").rows())
        assert sorted(item["item_id"] for item in found["history"]) == sorted(times)
        came = [times[item["item_id"]] for item in found["history"]]
        assert came == sorted(came, reverse=True)
        assert all(item["title"] == titles[item["item_id"]] for item in found["history"])


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/users/nobody", 404), ("/v1/users/", 422), ("/v1/users?limit=0", 422), ("/v1/users?limit=101", 422),
     ("/v1/items?limit=x", 422), (f"/v1/items?query={'x' * 257}", 422), (f"/v1/users/{'x' * 257}", 422)],
)  # fmt: skip
def test_what_cannot_be_looked_up_gets_its_status(serve, path, status):
    answer = serve().get(path)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])


def test_without_data_a_history_is_empty_and_claims_are_null(tiny_run, serve, pairs):
    client = serve(ExplainingModel(ServeOptions(model=str(tiny_run), max_new_tokens=16)))
    user, item = pairs[0]
    assert client.get("/v1/about").json()["has_data"] is False
    assert client.get(f"/v1/users/{user}").json() == {"user_id": user, "history": [], "total": 0}
    asked = {"pairs": [{"user_id": user, "item_id": item}], "claims": True, "evidence": True}
    answer = client.post("/v1/explain", json=asked).json()
    assert (answer["explanations"][0]["claims"], answer["explanations"][0]["evidence"]) == (None, None)
    assert "no claims" in answer["notes"][0]


def test_a_search_finds_no_place_in_a_full_queue(serve, patient, pairs, wait_for):
    client = serve(patient, queue=1)
    with client.app.state.answering.places(1):
        assert [client.get(path).status_code for path in ("/v1/items", "/v1/users", f"/v1/users/{pairs[0][0]}")] == [429] * 3
        assert client.get("/v1/about").status_code == 200
    assert client.get("/v1/items").status_code == 200
