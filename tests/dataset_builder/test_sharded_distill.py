"""Shards of a distillation end in the bytes of one process, whatever their number and order."""

import itertools
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from xrec_dataset_builder.ask_options import AskOptions
from xrec_dataset_builder.distill import distill, workplace
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.lesson import Lesson
from xrec_dataset_builder.planning import plan
from xrec_dataset_builder.quoting import QuoteOptions
from xrec_dataset_builder.schema import REVIEWS, USER_NAMES, DatasetFolder, write_table
from xrec_dataset_builder.shards import Shard
from xrec_dataset_builder.teacher import Answer, Request, TeacherError
from xrec_dataset_builder.teacher_flags import distill_as_told
from xrec_dataset_builder.teaching import TeachOptions
from xrec_dataset_builder.usable import Usable

from .wording_teacher import WordingTeacher, distinct, edited

TEACHING = TeachOptions(model="scripted-1", domain="business")


def content(folder: Path) -> dict[str, bytes]:
    """All files but the journal, whose times differ."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("journal"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def taught(folder: Path, script=None, teaching: TeachOptions = TEACHING, **shares) -> list[Request]:
    teacher = WordingTeacher(script) if script else WordingTeacher()
    distill(folder, teacher, teaching=teaching, asking=AskOptions(), progress=False, **shares)
    return teacher.asked


@pytest.fixture
def pair(built: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two equal folders: one to be distilled in shards, one by one process."""
    edited(built, distinct())
    return built, Path(shutil.copytree(built, tmp_path / "whole"))


@pytest.mark.parametrize("of", [1, 2, 5, 40])
def test_extracted_shards_gather_into_the_bytes_of_one_process(pair, of: int):
    sharded, whole = pair
    for shard in reversed(Shard.every(of)):
        assert not distill(sharded, shard=shard, progress=False)
    assert distill(sharded, gather=of, progress=False)
    assert distill(whole, progress=False)
    assert content(sharded) == content(whole)


@pytest.mark.parametrize("of", [1, 3])
def test_taught_shards_ask_every_question_once_and_gather_into_the_same_bytes(pair, of: int):
    sharded, whole = pair
    asked = [taught(sharded, shard=shard) for _ in range(2) for shard in Shard.every(of)]
    assert taught(sharded, gather=of) == []
    undisturbed = taught(whole)
    assert sorted(one.hash for one in itertools.chain(*asked)) == sorted(one.hash for one in undisturbed)
    assert max(map(len, asked)) < len(undisturbed) or of == 1
    assert content(sharded) == content(whole)
    assert taught(sharded) == []


def test_a_shard_explains_only_when_all_profiles_are_there(pair, caplog):
    sharded, _ = pair
    first = taught(sharded, shard=Shard(1, 2))
    assert {one.kind for one in first} == {"item_profile", "user_profile"}
    assert "run it once more for its explanations when those of 2-of-2 are" in caplog.text
    assert {one.kind for one in taught(sharded, shard=Shard(2, 2))} == {"item_profile", "user_profile", "explanation"}
    assert {one.kind for one in taught(sharded, shard=Shard(1, 2))} == {"explanation"}
    assert "when all are, run this with --gather 2" in caplog.text


def test_profiles_that_were_asked_for_otherwise_do_not_count(pair):
    sharded, _ = pair
    other = TeachOptions(model="scripted-1", domain="business", temperature=0.5)
    taught(sharded, teaching=other, shard=Shard(1, 2))
    assert "explanation" not in {one.kind for one in taught(sharded, shard=Shard(2, 2))}


def test_what_failed_in_a_shard_is_asked_for_when_they_are_gathered(pair):
    sharded, whole = pair

    def fails(request: Request, number: int) -> Answer | None:
        if request.key == ("U3",):
            raise TeacherError("not this one")
        return None

    for shard in Shard.every(2) * 2:
        taught(sharded, fails, shard=shard)
    asked = taught(sharded, gather=2)
    assert [one.key[0] for one in asked] == ["U3"] * 6  # the profile, and the five explanations that rest on it
    taught(whole)
    assert content(sharded) == content(whole)


def test_shards_of_one_teacher_leave_those_of_another_alone(pair):
    sharded, _ = pair
    for shard in Shard.every(2) * 2:
        taught(sharded, shard=shard)
    for shard in Shard.every(2):
        distill(sharded, shard=shard, progress=False)
    distill(sharded, gather=2, progress=False)
    assert taught(sharded, gather=2) == []
    assert not DatasetFolder(sharded).shards.exists()


def test_gathering_leaves_the_shards_of_another_number(pair):
    sharded, _ = pair
    for shard in [*Shard.every(2), Shard(3, 3)]:
        distill(sharded, shard=shard, progress=False)
    distill(sharded, gather=2, progress=False)
    assert [path.name for path in (DatasetFolder(sharded).shards / "extractive").iterdir()] == ["3-of-3"]


def test_shards_begin_with_what_the_dataset_has_recorded(pair):
    sharded, whole = pair
    some = WordingTeacher()
    distill(sharded, some, teaching=TEACHING, asking=AskOptions(limit=12), progress=False)
    asked = [one.hash for _ in range(2) for shard in Shard.every(2) for one in taught(sharded, shard=shard)]
    assert len(some.asked) == 12
    assert sorted([one.hash for one in some.asked] + asked) == sorted(one.hash for one in taught(whole))
    assert taught(sharded, gather=2) == []


def test_a_shard_plans_by_its_own_journal(pair):
    sharded, _ = pair
    folder = DatasetFolder(sharded)
    taught(sharded, shard=Shard(1, 2))
    with workplace(folder) as room:
        kinds = plan(Lesson.read(folder, "scripted", TEACHING, room, Shard(1, 2)), AskOptions()).kinds
    assert [(kinds[kind].requests, kinds[kind].recorded) for kind in ("item_profile", "user_profile")] == [(0, 5), (0, 10)]
    assert kinds["explanation"].requests == 50


def test_shards_that_were_told_otherwise_are_not_gathered(pair):
    sharded, _ = pair
    for shard in Shard.every(2) * 2:
        taught(sharded, shard=shard)
    other = TeachOptions(model="scripted-2", domain="business")
    with pytest.raises(DataError, match=r"1-of-2: expected a shard that was told what this run is"):
        taught(sharded, teaching=other, gather=2)


@pytest.mark.parametrize("of", [1, 2])
def test_personal_data_stays_out_of_what_is_extracted(built: Path, of: int):
    folder = DatasetFolder(built)
    texts = pl.format("I loved Zebulon{} because ruth@example.org made fresh bread by hand.", pl.int_range(pl.len()))
    edited(built, texts)
    users = pl.read_parquet(folder.reviews)["user_id"].unique().sort()
    names = pl.DataFrame({"user_id": users, "name": ["Zebulon0"] * len(users)})
    write_table(names, folder.user_names, USER_NAMES)
    for shard in Shard.every(of):
        distill(built, shard=shard, progress=False)
    distill(built, gather=of, progress=False)
    made = [pl.read_parquet(path) for path in (built / "data").rglob("*.parquet")]
    said = " ".join(str(row) for table in made for row in table.iter_rows())
    assert "bread" in said
    assert "ruth@" not in said
    assert "Zebulon0 " not in said
    masked = json.loads(folder.build_json.read_text())["distillation"]["masked"]
    assert masked["email"] == 100


def test_shards_that_are_missing_or_unlike_are_not_gathered(pair):
    sharded, _ = pair
    before = content(sharded)
    with pytest.raises(DataError, match="expected 2 finished shards, found 0; run --shard 1/2 to its end first"):
        distill(sharded, gather=2, progress=False)
    with pytest.raises(DataError, match="expected 2 finished shards, found 0"):
        taught(sharded, gather=2)
    distill(sharded, shard=Shard(1, 2), progress=False)
    with pytest.raises(DataError, match="found 1; run --shard 2/2"):
        distill(sharded, gather=2, progress=False)
    distill(sharded, shard=Shard(2, 2), quoting=QuoteOptions(profile_sentences=1), progress=False)
    with pytest.raises(DataError, match=r"2-of-2: expected a shard made with .*; run it again"):
        distill(sharded, gather=2, progress=False)
    with pytest.raises(DataError, match="expected --shard or --gather, found both"):
        distill(sharded, shard=Shard(1, 2), gather=2)
    assert {name: data for name, data in content(sharded).items() if not name.startswith("private/shards/")} == before


def test_the_rows_of_a_user_stay_in_one_shard(pair):
    usable = Usable(DatasetFolder(pair[0]))
    for of in range(1, 30):
        shares = [usable.share(shard) for shard in Shard.every(of)]
        users = [set(user for rows in usable.batches(*share) for user in rows["user_id"]) for share in shares]
        assert sum(map(len, users)) == len(set().union(*users)) == 20
        assert [shares[0][0], *(stop for _, stop in shares)] == [*(start for start, _ in shares), usable.height]


def test_reviews_in_another_order_are_refused(built: Path):
    folder = DatasetFolder(built)
    write_table(pl.read_parquet(folder.reviews).reverse(), folder.reviews, REVIEWS)
    with pytest.raises(DataError, match="expected reviews sorted by user, found others; build again"):
        distill(built, progress=False)


def test_the_command_line_divides_and_gathers(pair):
    sharded, whole = pair
    for shard in ("1/2", "2/2"):
        distill_as_told(sharded, "extractive", {"shard": shard, "explanation_words": 30})
    distill_as_told(sharded, "extractive", {"gather": 2, "explanation_words": 30})
    distill_as_told(whole, "extractive", {"explanation_words": 30})
    assert content(sharded) == content(whole)
    with pytest.raises(DataError, match="expected --shard I/N, for example 3/8, found 'two'"):
        distill_as_told(sharded, "extractive", {"shard": "two"})
