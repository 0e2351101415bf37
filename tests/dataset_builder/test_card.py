import json
import re
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard

from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.card import write_card
from xrec_dataset_builder.card_details import card_yaml, filters_section, masking_section, prompts_section, source_section
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.licences import LICENCES, licence_of
from xrec_dataset_builder.prompts import BUILT_IN, read_prompts
from xrec_dataset_builder.schema import DatasetFolder, sha256
from xrec_dataset_builder.source_names import source_names

from ..hub_card.card_schema import dataset_problems

DOCS = Path(__file__).parents[2] / "docs" / "dataset.md"
COUNTS = {"users": 3, "items": 3, "kept": 9, "train": 7, "validation": 1, "test": 1}


def head(folder: DatasetFolder) -> dict:
    return yaml.safe_load(folder.card.read_text().split("---\n")[1])


def test_the_card_lists_what_is_there_and_nothing_private(built: Path):
    folder = DatasetFolder(built)
    assert [config["config_name"] for config in head(folder)["configs"]] == ["interactions", "users", "items"]
    distill(built, progress=False)
    configs = head(folder)["configs"]
    assert [config["config_name"] for config in configs] == ["explanations", "interactions", "users", "items"]
    assert [config.get("default", False) for config in configs] == [True, False, False, False]
    paths = [file["path"] for config in configs for file in config["data_files"]]
    assert all((built / path).is_file() for path in paths)
    text = folder.card.read_text()
    assert "private" not in text
    assert "| interactions | 80 | 10 | 10 |" in text
    assert "0 of 20 held-out pairs (0.0 %) are training edges." in text
    assert "teacher `extractive`" in text
    assert "come without a stated licence: unknown" in text


def test_a_repaired_dataset_says_how_it_was_published(tmp_path: Path):
    lines = [f"{u},{i},{'train' if i else 'test'}\n" for u in range(9) for i in range(5)]
    (tmp_path / "i.csv").write_text("user_id,item_id,split\n" + "".join(lines))
    (tmp_path / "e.csv").write_text("user_id,item_id,explanation\n" + "".join(f"{u},1,why {u}\n" for u in range(9)))
    inputs = Inputs(interactions=tmp_path / "i.csv", explanations=tmp_path / "e.csv")
    build("table", tmp_path / "out", inputs=inputs, repair_leaks=True)
    text = DatasetFolder(tmp_path / "out").card.read_text()
    assert "0 of 9 held-out pairs (0.0 %) are training edges." in text
    assert "As published it was 9 of 9 (100.0 %)" in text
    assert "Not verified: whether the given explanations" in text
    assert "| explanations | 7 | 1 | 1 |" in text


def test_a_card_states_the_licence_by_an_id_of_the_hub(tmp_path: Path):
    for source, licence in LICENCES.items():
        build_json = {"source": source, "counts": COUNTS, "leak_report": {"count": 0, "total": 9, "overlap": 0.0}}
        (tmp_path / source).mkdir()
        folder = DatasetFolder(tmp_path / source)
        write_card(folder, build_json)
        stated = head(folder)
        assert stated["license"] in ("cc0-1.0", "other", "unknown")
        assert ("license_name" in stated) == ("license_link" in stated) == (stated["license"] == "other")
        text = folder.card.read_text()
        assert licence.text in text
        if source != "synthetic":
            assert "passed on" in text
            assert "no legal advice" in text
            assert "clauses of reviews" in text


def test_every_source_has_a_licence_and_the_documentation_says_the_same():
    assert set(LICENCES) == set(source_names())
    section = DOCS.read_text(encoding="utf-8").split("## Licences")[1]
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `([\w-]+)` \| `([\w.-]+)`[^|]*\| ([^|]+) \|$", section, re.MULTILINE)}
    assert {name: row[0] for name, row in rows.items()} == {name: one.hub for name, one in LICENCES.items()}
    for name, licence in LICENCES.items():
        assert rows[name][1].startswith(licence.raw) or name == "table"


def test_a_source_that_the_table_lacks_is_unknown_and_not_published_unawares():
    assert licence_of("a-new-reader").hub == "unknown"
    assert not licence_of("a-new-reader").known


def test_the_card_parses_and_passes_a_check_of_its_yaml(built: Path):
    folder = DatasetFolder(built)
    assert dataset_problems(head(folder)) == []
    assert head(folder)["annotations_creators"] == ["no-annotation"]
    distill(built, progress=False)
    data = DatasetCard(folder.card.read_text()).data
    assert dataset_problems(head(folder)) == []
    assert (data.task_categories, data.size_categories) == (["text-generation"], ["n<1K"])
    assert (data.annotations_creators, data.license) == (["machine-generated"], "unknown")
    for change in ({"size_categories": ["small"]}, {"pretty_name": 1}, {"license": "mine"}, {"configs": [{}]}, {"x": 1}):
        assert dataset_problems(head(folder) | change), change


def test_the_card_names_files_filters_and_splits(built: Path):
    text = DatasetFolder(built).card.read_text()
    about = json.loads((built / "build.json").read_text())
    for one in about["files"]:
        assert f"{one['role']} | `{one['sha256']}` |" in text
    assert f"| read | {about['counts']['read']:,} |" in text
    assert f"| kept | {about['counts']['kept']:,} |" in text
    assert "80% / 10% / 10%, seed 0" in text
    assert str(built.parent) not in text


def test_every_filter_is_told_with_what_it_took():
    options = {
        "min_rating": 4.0, "k_core": 5, "split": "leave-one-out", "fractions": [0.8, 0.1, 0.1], "seed": 3, "min_words": 6,
        "language": "de", "sample_users": 0.25, "max_per_user": 20, "max_per_item": None,
    }  # fmt: skip
    taken = {
        "skipped": 1, "duplicates": 2, "low_rating": 3, "too_short": 4, "other_language": 5, "user_not_sampled": 6,
        "over_cap": 7, "outside_k_core": 8,
    }  # fmt: skip
    counts = COUNTS | taken | {"read": 9 + sum(taken.values()), "cold_user": 11}
    text = "\n".join(filters_section({"options": options, "counts": counts}))
    rows = dict(re.findall(r"^\| (.+) \| ([\d,]+) \|$", text, re.MULTILINE))
    assert list(rows.values()) == ["45", *"12345678", "9"]
    for words in ("rated below 4.0", "fewer than 6 words", "not in `de`", "25% drawn", "20 of a user", "fewer than 5 pairs"):
        assert any(words in row for row in rows), words
    assert "each user's latest pair is a test pair" in text
    assert "`cold_user` (11)" in text
    assert card_yaml({"source": "yelp", "options": options, "counts": counts}, 1000)[1:5] == [
        "language:", "- de", "task_categories:", "- text-generation"
    ]  # fmt: skip


def test_sizes_are_named_as_the_hub_does():
    build_json = {"source": "yelp", "counts": COUNTS}
    for rows, name in ((999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**7, "10M<n<100M"), (10**8, "100M<n<1B")):
        assert f"- {name}" in card_yaml(build_json, rows)


def test_prompts_stand_in_full_where_they_are_the_packages_own():
    distillation = {"prompts": {"item_profile": "x"}, "prompts_sha256": sha256(BUILT_IN), "domain": "book"}
    text = "\n".join(prompts_section({"distillation": distillation}))
    for prompt in read_prompts("book").kinds.values():
        assert prompt.system.template.strip() in text
        assert prompt.user.template.strip() in text
        assert prompt.version in text
    text = "\n".join(prompts_section({"distillation": distillation | {"prompts_sha256": "a" * 64}}))
    assert "a" * 64 in text
    assert "recommender" not in text
    assert prompts_section({"distillation": {"teacher": "extractive"}}) == prompts_section({"distillation": None}) == []


def test_what_was_masked_is_counted_over_all_places():
    both = {"material": {"email": 1200, "phone": 1}, "answers": {"phone": 2}}
    assert "Masked: email 1,200, phone 3." in masking_section({"distillation": {"masked": both}})[0]
    assert "Masked: url 4." in masking_section({"distillation": {"masked": {"url": 4}}})[0]
    assert "Masked: none found." in masking_section({"distillation": {"masked": {}}})[0]
    assert "Nothing was masked" in masking_section({"distillation": None})[0]


def test_names_of_files_are_no_markup():
    name = "a|b [c](d) <i> `e` *f*.json"
    build_json = {"source": "table", "files": [{"role": "reviews", "name": name, "sha256": "0" * 64}]}
    row = source_section(build_json, licence_of("table"))[-1]
    assert not re.search(r"[\[\]*<>`|]", row.split("<code>")[1].split("</code>")[0])
