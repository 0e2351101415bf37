import pytest

from xrec_serving.schemas import Explanations

from .asking import asked, streamed


def test_claims_and_evidence_are_the_same_streamed_or_not(serve, pairs):
    client = serve()
    body = asked(pairs[:1], claims=True, evidence=True)
    plain = client.post("/v1/explain", json=body).json()["explanations"][0]
    assert Explanations(model="", notes=[], explanations=[plain])
    done = streamed(client, body | {"stream": True})[-1][1]
    assert plain["claims"]
    assert (done["claims"], done["evidence"]) == (plain["claims"], plain["evidence"])
    many = client.post("/v1/explain", json=asked(pairs, claims=True)).json()["explanations"]  # more than are checked at a time
    assert many[0]["claims"] == plain["claims"]
    assert all("evidence" not in one and one["claims"] is not None for one in many)


def test_a_history_hears_the_profile_of_a_user_and_says_whose(serve, model, pairs):
    client, (user, item) = serve(), pairs[0]
    row = {"history": [one for _, one in pairs[1:4]], "item_id": item}
    profile = next(one["user_profile"] for one in model.processor.users if one["user_id"] == user)
    rows = [{**row, "profile_of": user}, {**row, "user_profile": profile}, row]
    ids = [model.prepare(one).row["input_ids"] for one in rows]
    assert ids[0] == ids[1] != ids[2]
    of_user, typed, bare = client.post("/v1/explain", json={"histories": rows}).json()["explanations"]
    assert of_user.pop("profile_of") == user
    assert "profile_of" not in typed | bare
    assert of_user["explanation"] == typed["explanation"]
    assert (of_user["score"], of_user["history"]) == (pytest.approx(bare["score"]), bare["history"])


def test_recommendations_for_a_history_explain_what_they_recommend(serve, pairs):
    client = serve()
    user, history = pairs[0][0], [item for _, item in pairs[:3]]
    got = client.get(f"/v1/recommend/{user}", params={"k": 3}).json()
    assert client.post("/v1/recommend", json={"user_id": user, "k": 3}).json() == got
    found = client.post("/v1/recommend", json={"history": history, "k": 3, "explain": True}).json()
    assert (found["history"], found["masked"], "user_id" in found) == (history, True, False)
    assert not {item["item_id"] for item in found["items"]} & set(history)
    rows = [{"history": history, "item_id": item["item_id"]} for item in found["items"]]
    alone = client.post("/v1/explain", json={"histories": rows}).json()["explanations"]
    for item, one in zip(found["items"], alone, strict=True):
        assert item["explanation"]["explanation"] == one["explanation"]
        assert item["score"] == pytest.approx(one["score"], abs=1e-5)
    out = [item["item_id"] for item in found["items"]]
    rest = client.post("/v1/recommend", json={"history": history, "k": 3, "exclude": out[:1]}).json()["items"]
    assert [item["item_id"] for item in rest][:2] == out[1:]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "expected 'user_id' or 'history', found none"),
        ({"user_id": "u", "history": ["i"]}, 422, "found both"),
        ({"history": []}, 422, "body.history"),
        ({"user_id": "u", "k": 101}, 422, "body.k"),
        ({"user_id": "nobody"}, 404, "unknown user"),
        ({"history": ["nothing"]}, 404, "unknown item"),
        ({"user_id": "u00000", "exclude": ["nothing"]}, 404, "unknown item"),
        ({"user_id": "u00000", "exclude": ["i"] * 1001}, 422, "body.exclude"),
    ],
)  # fmt: skip
def test_recommendations_that_cannot_be_made_get_their_status(serve, body, status, says):
    answer = serve().post("/v1/recommend", json=body)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert says in answer.json()["detail"]


def test_keys_stand_before_all_that_the_model_knows(serve, pairs):
    client = serve(keys=("one-key",))
    paths = ("/v1/about", "/v1/users", "/v1/items", f"/v1/users/{pairs[0][0]}", f"/v1/recommend/{pairs[0][0]}")
    assert [client.get(path).status_code for path in paths] == [401] * 5
    assert client.post("/v1/recommend", json={"user_id": pairs[0][0]}).status_code == 401
    key = {"authorization": "Bearer one-key"}
    assert [client.get(path, headers=key).status_code for path in paths] == [200] * 5
    assert client.get("/page/../v1/about").status_code == 401
    assert client.get("/page/..%2Fv1%2Fabout").status_code == 404
