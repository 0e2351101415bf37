import json
import shutil
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from xrec_dataset_builder import material
from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.prompts import BUILT_IN
from xrec_dataset_builder.schema import REVIEWS, SPLITS, DatasetFolder, write_table
from xrec_dataset_builder.teacher import KINDS, Answer, Request, TeacherError
from xrec_dataset_builder.teaching import TeachOptions

from .planted import OTHER_ID, RUTHS_EMAIL, RUTHS_PHONE, TRACES, obedient_answer, planted_reviews
from .wording_teacher import WordingTeacher, distinct, edited, reply


def taught(folder: Path, teacher: WordingTeacher | None = None, **changes) -> WordingTeacher:
    teacher = teacher or WordingTeacher()
    asking = changes.pop("asking", AskOptions())
    teaching = TeachOptions(**{"model": "scripted-1", "domain": "business"} | changes)
    distill(folder, teacher, teaching=teaching, asking=asking, progress=False)
    return teacher


def content(folder: Path) -> dict[str, bytes]:
    """All files but the journal, whose times differ."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("journal"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def built(built: Path) -> Path:
    edited(built, distinct())
    return built


def explanations(folder: Path) -> pl.DataFrame:
    tables = [pl.read_parquet(DatasetFolder(folder).explanations(split)).with_columns(split=pl.lit(split)) for split in SPLITS]
    return pl.concat(tables)


def test_every_row_is_asked_for_once_and_lands_in_its_place(built: Path):
    secrets = pl.format("I loved the secret{} because it was fresh.", pl.int_range(pl.len()))
    reviews = edited(built, secrets)
    teacher = taught(built)
    words = {(row["user_id"], row["item_id"]): row["review"].split()[3] for row in reviews.to_dicts()}
    assert Counter(request.kind for request in teacher.asked) == {"item_profile": 10, "user_profile": 20, "explanation": 100}
    rows = explanations(built)
    assert {(row["user_id"], row["item_id"]): row["split"] for row in rows.to_dicts()} == {
        (row["user_id"], row["item_id"]): row["split"] for row in reviews.to_dicts()
    }
    assert all(f" {words[row['user_id'], row['item_id']]} " in row["explanation"] for row in rows.to_dicts())
    profiles = dict(pl.read_parquet(DatasetFolder(built).users).iter_rows())
    assert all(row["user_profile"] == profiles[row["user_id"]] != "" for row in rows.to_dicts())


def test_profiles_are_asked_about_training_reviews_only(built: Path):
    held_out = pl.col("split") != "train"
    secrets = pl.format("I loved the secret{} because it was easy.", pl.int_range(pl.len()))
    edited(built, pl.when(held_out).then(secrets).otherwise("review"))
    copied = "I loved the unique marmalade because it was fresh!"
    same = (pl.col("split") == "test") | (pl.int_range(pl.len()) % 7 == 0)
    reviews = edited(built, pl.when(same).then(pl.lit(copied)).otherwise("review"))
    teacher = taught(built)
    of_profiles = "".join(request.messages[1][1] for request in teacher.asked if request.kind != "explanation")
    assert "fresh" in of_profiles
    assert "secret" not in of_profiles
    assert "marmalade" not in of_profiles
    left = reviews.filter((pl.col("split") != "train") | (pl.col("review") != copied))
    assert sum(request.kind == "explanation" for request in teacher.asked) <= left.height
    rows = explanations(built)
    assert rows.height == left.height
    assert set(rows.filter(pl.col("explanation").str.contains("marmalade"))["split"]) == {"test", "validation"}


def test_a_second_run_asks_nothing_and_changes_nothing(built: Path):
    taught(built)
    before = content(built)
    again = taught(built)
    assert again.asked == []
    assert content(built) == before


@pytest.mark.parametrize("stops", [1, 11, 28, 95])
def test_an_interrupted_run_ends_in_the_same_bytes(built: Path, tmp_path: Path, stops: int):
    other = Path(shutil.copytree(built, tmp_path / "other"))
    before = content(built)

    def interrupts(request: Request, number: int) -> Answer | None:
        if number >= stops:
            raise RuntimeError("the power went")
        return None

    with pytest.raises(RuntimeError, match="the power went"):
        taught(built, WordingTeacher(interrupts))
    assert content(built) == before
    rest = taught(built)
    undisturbed = taught(other)
    assert len(rest.asked) <= len(undisturbed.asked) - (stops - 1) + AskOptions().concurrency
    assert content(built) == content(other)


def test_a_changed_prompt_asks_again_exactly_what_it_words(built: Path, tmp_path: Path):
    taught(built)
    prompts = tmp_path / "prompts.yaml"
    text = BUILT_IN.read_text().replace("State the reason as JSON.", "State the honest reason as JSON.", 1)
    prompts.write_text(text)
    again = taught(built, prompts=prompts)
    assert Counter(request.kind for request in again.asked) == {"explanation": 100}
    assert len(taught(built, temperature=0.5).asked) == 130
    assert len(taught(built, model="scripted-2").asked) == 130
    assert taught(built).asked == []


def test_failed_rows_are_left_out_counted_and_asked_for_by_the_next_run(built: Path, tmp_path: Path):
    other = Path(shutil.copytree(built, tmp_path / "other"))

    def fails(request: Request, number: int) -> Answer | None:
        if request.key == ("U3",):
            raise TeacherError("not this one")
        if request.kind == "explanation" and request.key[0] == "U5":
            return reply(request, "I'm sorry, but I cannot help with that.")
        return None

    first = taught(built, WordingTeacher(fails))
    counts = json.loads((built / "build.json").read_text())["distillation"]["counts"]
    assert (counts["user_profiles_failed"], counts["explanations_failed"], counts["item_profiles_failed"]) == (1, 5, 0)
    assert counts["interactions"] == 100 == 5 + sum(counts[f"explanations_{split}"] for split in SPLITS)
    assert counts["users_without_profile"] == 1
    rows = explanations(built)
    assert "U5" not in rows["user_id"]
    assert set(rows.filter(pl.col("user_id") == "U3")["user_profile"]) == {""}
    assert sum(request.kind == "explanation" and request.key[0] == "U5" for request in first.asked) == 10  # one repair each
    second = taught(built)
    assert Counter(request.kind for request in second.asked) == {"user_profile": 1, "explanation": 10}
    assert {request.key[0] for request in second.asked} == {"U3", "U5"}
    taught(other)
    assert content(built) == content(other)


def test_a_limit_bounds_the_questions_and_the_tables_wait(built: Path, caplog: pytest.LogCaptureFixture):
    before = content(built)
    asked = [len(taught(built, asking=AskOptions(limit=45)).asked) for _ in range(2)]
    assert asked == [45, 45]
    assert content(built) == before
    assert "asked 45 questions and left 40 unasked" in caplog.text
    assert len(taught(built, asking=AskOptions(limit=45)).asked) == 40
    assert explanations(built).height == 100


def test_provenance_names_the_source_of_every_text(built: Path):
    teacher = taught(built, seed=3, temperature=0.25)
    folder = DatasetFolder(built)
    rows = pl.read_parquet(folder.provenance)
    about = json.loads(folder.build_json.read_text())["distillation"]
    by_hash = {request.hash: request for request in teacher.asked}
    assert rows.height == 130
    for row in rows.to_dicts():
        request = by_hash[row["request"]]
        key = tuple(one for one in (row["user_id"], row["item_id"]) if one is not None)
        assert (request.kind, request.key, request.prompt_version) == (row["kind"], key, row["prompt_version"])
        assert (row["teacher"], row["model"], row["seed"], row["temperature"]) == ("scripted", "scripted-1", 3, 0.25)
    assert about["tokens"] == {"prompt": rows["prompt_tokens"].sum(), "completion": rows["completion_tokens"].sum()}
    assert about["tokens"]["prompt"] > 1000
    assert about["prompts"]["explanation"] == "business.explanation.1"
    assert "`scripted-1`" in folder.card.read_text()
    distill(built, progress=False)
    assert not folder.provenance.exists()


def test_a_review_of_a_megabyte_changes_no_other_row(built: Path):
    taught(built)
    before = explanations(built)
    reviews = pl.read_parquet(DatasetFolder(built).reviews)
    place = reviews.with_row_index().filter(pl.col("split") == "test")["index"][0]
    user, item = reviews.row(place)[:2]
    noise = '<|im_start|> [INST] {"} \u202e ' * 40_000
    edited(built, pl.when(pl.int_range(pl.len()) == place).then(pl.lit(noise)).otherwise("review"))
    teacher = taught(built)
    assert {request.key for request in teacher.asked} == {(user, item)}
    assert len(teacher.asked[0].messages[1][1]) < 3000
    other = (pl.col("user_id") != user) | (pl.col("item_id") != item)
    assert explanations(built).filter(other).equals(before.filter(other))


def test_personal_data_leave_neither_the_machine_nor_the_tables(built: Path):
    secrets = f" Ask Ruth, {RUTHS_EMAIL}, {RUTHS_PHONE}. Yours, Zelda Quist"
    reviews = edited(built, pl.col("review") + secrets)
    folder = DatasetFolder(built)
    users = reviews["user_id"].unique().sort()
    pl.DataFrame({"user_id": users, "name": ["Zelda Quist"] * len(users)}).write_parquet(folder.user_names)

    def tells(request: Request, number: int) -> Answer:
        return reply(request, f"{'It' if request.kind == 'item_profile' else 'Zelda'} has the phone {RUTHS_PHONE}.")

    teacher = taught(built, WordingTeacher(tells))
    asked = "".join(content for request in teacher.asked for _, content in request.messages)
    written = "".join(json.dumps(pl.read_parquet(path).to_dicts()) for path in (built / "data").rglob("*.parquet"))
    for trace in ("Zelda", "Quist", RUTHS_EMAIL, RUTHS_PHONE[-9:]):
        assert trace not in asked
        assert trace not in written
    assert "(name) has the phone (phone)." in written
    masked = json.loads(folder.build_json.read_text())["distillation"]["masked"]
    assert masked["material"] == {"email": 100, "name": 100, "phone": 100}
    assert masked["answers"]["phone"] == len({request.hash for request in teacher.asked})


def obeys(request: Request, number: int) -> Answer | None:
    said = obedient_answer(request.messages, "explanation" if request.kind == "explanation" else "profile")
    return None if said is None else Answer(said, "stop", 1, 1)


def test_of_500_planted_orders_none_reaches_a_table_and_no_other_row_changes(tmp_path: Path):
    """The teacher does what the texts say; the tables must be those of a world in which those reviews say nothing."""
    plain = big_world(tmp_path / "plain", ["" for _ in range(500)])
    taught(plain)
    planted = big_world(tmp_path / "planted", [text for text, _ in planted_reviews(500)])
    teacher = taught(planted, WordingTeacher(obeys), asking=AskOptions(stop_after=10_000))
    assert len({request.key for request in teacher.asked if obeys(request, 0)}) == 500
    mine, theirs = explanations(planted), explanations(plain)
    own = pl.col("user_id").str.starts_with("P")
    assert mine.filter(~own).equals(theirs.filter(~own))
    folders = DatasetFolder(planted), DatasetFolder(plain)
    for one in ("users", "items"):
        assert pl.read_parquet(getattr(folders[0], one)).equals(pl.read_parquet(getattr(folders[1], one)))
    assert [row for row in mine["explanation"] if any(trace in row for trace in TRACES)] == []


def test_what_the_checks_claim_holds_when_every_order_gets_into_the_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planted = big_world(tmp_path / "planted", [text for text, _ in planted_reviews(500)])
    monkeypatch.setattr(material, "speaks_to_model", lambda text: False)
    teacher = taught(planted, WordingTeacher(obeys), asking=AskOptions(stop_after=10_000))
    assert {request.kind for request in teacher.asked if obeys(request, 0)} == set(KINDS)
    tables = [pl.read_parquet(path).drop("user_id", "item_id", strict=False) for path in (planted / "data").rglob("*.parquet")]
    written = " ".join(json.dumps(table.to_dicts()) for table in tables)
    assert [trace for trace in TRACES if trace in written] == []


def big_world(root: Path, planted: list[str]) -> Path:
    """Fifty users with ordinary reviews, and as many planted training reviews as given by users who also wrote one other."""
    rows = []
    for user in range(50):
        for item in range(user % 10, 50, 10):
            split = ("train", "train", "train", "validation", "test")[(user + item) % 5]
            rows.append((f"O{user}", f"I{item}", split, f"The soup of door {item} was hot, and table {user} was clean."))
    for number, text in enumerate(planted):
        rows.append((f"P{number // 2}", f"I{number % 50}", "train", text))
    rows += [
        (f"P{user}", f"I{(2 * user + 7) % 50}", "train", f"I like bread, and number {user} has it.") for user in range(250)
    ]
    rows.append((OTHER_ID, "I0", "train", "The victim wrote this one, and liked the tea."))
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "split", "review"], orient="row")
    table = table.with_columns(rating=pl.lit(4.0), timestamp=pl.lit(None, pl.Int64)).sort("user_id", "item_id")
    folder = DatasetFolder(root)
    write_table(table, folder.reviews, REVIEWS)
    items = [{"item_id": f"I{item}", "title": f"Café {item}", "description": ""} for item in range(50)]
    folder.raw_items.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(items).write_parquet(folder.raw_items)
    counts = {"users": 301, "items": 50, "kept": table.height}
    about = {"source": "synthetic", "counts": counts, "leak_report": {"count": 0, "total": 1, "overlap": 0.0}}
    folder.build_json.write_text(json.dumps(about))
    return root
