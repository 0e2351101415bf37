"""Publish a model: its files in one commit, then a card that names that commit; its dataset before, where that is asked for.

Each commit stands on the one that was there when it began, so that an interrupted push leaves the old revision or a whole new
one: the files' commit alone is whole, too, and the card that then still stands names older files that are there as well.
"""

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.hf_api import RepoFile
from safetensors import SafetensorError

import xrec_dataset_builder.publishing as dataset_publishing
from modeling_xrec.checkpoint_files import CHECKSUMS_NAME, TABLES_NAME, WEIGHTS_NAME, CheckpointSource, verify
from modeling_xrec.checkpoint_xrec import TABLES_PREFIX
from xrec_dataset_builder.configs import dataset_folder
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.hub_commit import FAILURES, Committed, Place, check_repo_id, commit
from xrec_dataset_builder.hub_trouble import patiently, trouble
from xrec_dataset_builder.licences import OWN, UNKNOWN, Licence, licence_of
from xrec_dataset_builder.publishing import Included, check_terms
from xrec_dataset_builder.schema import read_build

from .code_scan import check_code, code_hash
from .facts import COMMIT, ModelFacts
from .file_kinds import check_kinds
from .model_card import model_card
from .published_files import PublishedFiles, is_stale, lay_out

CARD = "README.md"
SOME_COMMIT = "0" * 40
NOT_OURS = frozenset({CARD, ".gitattributes"})
"""Files that may differ between two commits of the same model."""


@dataclass(frozen=True)
class Options:
    """What is published besides the model, and how.

    Args:
        data: the dataset that the model was trained on: its licence counts, and user ids are hashed with its key.
        dataset_repo_id: where the dataset is published too; not at all when None.
        report: a folder that `xrec evaluate` and `xrec audit` left.
        private: make the repositories private, and refuse public ones.
        include_users: publish raw user ids and the profiles of users.
        include_interactions: publish the dataset's interactions.
        include_reviews: publish the dataset's raw reviews.
        accept_unknown_licence: publish although nobody states a licence of the data.
        licence: the Hub's id of the licence of the model and, where the dataset is made of your own tables, of it.
        tag: a name for the commit, made unless it is there.
        token: as `huggingface_hub` takes it.
        dry_run: check and measure everything, send nothing.
    """

    data: Path | None = None
    dataset_repo_id: str | None = None
    report: Path | None = None
    private: bool = False
    include_users: bool = False
    include_interactions: bool = False
    include_reviews: bool = False
    accept_unknown_licence: bool = False
    licence: str | None = None
    tag: str | None = None
    token: str | bool | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Args:
        repo_id: the model's repository.
        files: path in the repository to size in bytes, the card among them.
        left_out: sentences on what was left out or changed; the card says the same.
        skipped: what lies in the model folder and was not sent.
        code_hash: one hash over the code files.
        dataset: what was published of the dataset; None where that was not asked for.
        revision: the commit of the files, which the card names; None for a dry run.
        commit: the commit that holds files and card; None for a dry run.
        url: where it is to be seen.
        changed: whether anything of the model was new to the Hub.
    """

    repo_id: str
    files: Mapping[str, int]
    left_out: tuple[str, ...]
    skipped: tuple[str, ...]
    code_hash: str
    dataset: dataset_publishing.Publication | None = None
    revision: str | None = None
    commit: str | None = None
    url: str | None = None
    changed: bool = False


def publish(model: Path, repo_id: str, say: Callable[[str], Any] | None = None, **options: Any) -> Publication:
    """Publish a model and, where asked for, its dataset.

    The same again makes no commit. Files of an earlier push that no longer belong, and pickles of any kind, are taken out by
    the same commit, but stay in the repository's history.

    Args:
        model: a model folder, as `xrec train` or `save_pretrained` of model and processor leave it.
        repo_id: `owner/name`; made unless it is there. Its README.md is replaced.
        say: is told, line by line, what will be sent and how large it is, before anything is.
        **options: fields of `Options`.

    Returns:
        The files with their sizes, what was left out, and the commits.

    Raises:
        DataError: no model folder or a damaged one, code that may not travel, a licence that is unknown or does not allow it,
            or the Hub does not take it.
    """
    chosen = Options(**options)
    model = model.expanduser().absolute()
    _check_ids(repo_id, chosen)
    config = _config(model)
    terms, build = _terms(chosen)
    check_tensors(model, adapter_sized=config.get("base_model_name_or_path") is not None)
    with tempfile.TemporaryDirectory(prefix="xrec-publish-") as room:
        staged = Path(room)
        files = lay_out(
            model, staged, chosen.data, chosen.report, chosen.include_users,
            include_texts=chosen.dataset_repo_id is not None, include_reviews=chosen.include_reviews,
        )  # fmt: skip
        check_kinds(files.paths())
        facts = _facts(repo_id, files, terms, build, chosen)
        card = staged / CARD
        card.write_text(model_card(staged, replace(facts, revision=SOME_COMMIT)), encoding="utf-8")  # as long as it will be
        planned = _publication(facts, files, card)
        dataset = _push_dataset(chosen, terms, dry_run=True)
        if say is not None:
            _announce(planned, dataset, files, say)
        if chosen.dry_run:
            return replace(planned, dataset=dataset)
        dataset = _push_dataset(chosen, terms, dry_run=False)
        place = Place(repo_id, "model", chosen.private, chosen.token)
        sent = commit(files.paths(), is_stale, place, "Publish the model")
        revision = sent.oid if sent.changed else _standing_revision(place, sent.oid)
        card.write_text(model_card(staged, replace(facts, revision=revision)), encoding="utf-8")
        named = commit({CARD: card}, lambda _: False, place, f"Card of {revision[:12]}")
        if chosen.tag is not None:
            _tag(place, chosen.tag, named)
        return replace(
            planned, files=files.sizes() | {CARD: card.stat().st_size}, dataset=dataset, revision=revision, commit=named.oid,
            url=named.commit_url, changed=sent.changed or named.changed,
        )  # fmt: skip


def _check_ids(repo_id: str, options: Options) -> None:
    check_repo_id(repo_id)
    if options.dataset_repo_id is not None:
        check_repo_id(options.dataset_repo_id)
        if options.data is None:
            raise DataError(f"expected the dataset of {options.dataset_repo_id}, found none; give --data")
    elif options.include_interactions or options.include_reviews:
        raise DataError("expected a dataset to publish interactions or reviews with, found none; give --dataset-repo-id")


def _config(model: Path) -> dict[str, Any]:
    """The model's configuration, if it is one that loads anywhere."""
    path = model / "config.json"
    if not path.is_file():
        raise DataError(f"{model}: expected a model folder, found no config.json; give the folder that `xrec train` left")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found {error}; save the model again") from error
    if config.get("model_type") != "xrec":
        raise DataError(f"{model}: expected an XRec model, found {config.get('model_type')!r}; only those are published")
    base, revision = config.get("base_model_name_or_path"), config.get("base_model_revision")
    if base is not None and (Path(base).exists() or base.count("/") > 1):
        raise DataError(
            f"{model}: expected a base model by its id on the Hub, found the folder {base!r}, which nobody else has; publish "
            "it, or save the model whole with base_model_name_or_path=None"
        )
    if base is not None and not COMMIT.fullmatch(revision or ""):
        raise DataError(
            f"{model}: expected the commit of the base model {base}, found {revision!r}, and its main may move on; set "
            "base_model_revision in config.json to the commit that the model was trained on"
        )
    return config


def _terms(options: Options) -> tuple[Licence, dict[str, Any] | None]:
    """The licence of the model and the dataset's build.json, once both are found to allow it."""
    if options.data is None:
        if options.licence is None and not options.accept_unknown_licence:
            raise DataError(
                "expected a licence, found none: what the model was trained on is unknown without --data; give --data, state "
                "the model's licence by --licence, or --accept-unknown-licence"
            )
        terms = UNKNOWN if options.licence is None else licence_of(OWN[0], options.licence)
        return terms, None
    build = read_build(dataset_folder(options.data))
    own = build["source"] in OWN
    terms = licence_of(build["source"], options.licence if own else None)
    included = Included(options.include_users, options.include_interactions, options.include_reviews)
    check_terms(build["source"], terms, included, options.private, options.accept_unknown_licence)
    return (licence_of(OWN[0], options.licence) if options.licence is not None else terms), build


def check_tensors(model: Path, adapter_sized: bool) -> None:
    """Check a model folder's own tensors against its checksums.

    Args:
        model: the folder.
        adapter_sized: whether all of `model.safetensors` is XRec's own, or the backbone lies in it, too.

    Raises:
        DataError: a tensor is damaged, lost or not finite, or there are no checksums.
    """
    path = model / CHECKSUMS_NAME
    if not path.is_file():
        raise DataError(f"{model}: expected {CHECKSUMS_NAME}, found none; save the model again with save_pretrained")
    sums, source = json.loads(path.read_text(encoding="utf-8"))["tensors"], CheckpointSource(model)
    try:
        own = source.tensors(WEIGHTS_NAME, bool if adapter_sized else sums.__contains__)
        if any(name.startswith(TABLES_PREFIX) for name in sums):
            own |= {TABLES_PREFIX + name: table for name, table in source.tensors(TABLES_NAME).items()}
        verify(source, own)
    except SafetensorError as error:
        raise DataError(f"{model}: expected whole files of tensors, found {error}; train or download it again") from error
    except (ValueError, OSError) as error:
        raise DataError(str(error)) from error
    lost = sorted(set(sums) - set(own))
    if lost:
        raise DataError(f"{model}: expected the tensor {lost[0]}, found none; train or download the model again")


def _facts(repo_id: str, files: PublishedFiles, terms: Licence, build: dict[str, Any] | None, options: Options) -> ModelFacts:
    code = check_code(files.root)
    return ModelFacts(
        repo_id, None, options.dataset_repo_id, terms.hub, files.sizes(), code, code_hash(code), files.left_out,
        files.private_users, terms.name, terms.link, build, options.report,
    )  # fmt: skip


def _publication(facts: ModelFacts, files: PublishedFiles, card: Path) -> Publication:
    sizes = files.sizes() | {CARD: card.stat().st_size}
    return Publication(facts.repo_id, sizes, files.left_out, files.skipped, facts.code_hash)


def _push_dataset(options: Options, terms: Licence, dry_run: bool) -> dataset_publishing.Publication | None:
    if options.dataset_repo_id is None or options.data is None:
        return None
    own = read_build(dataset_folder(options.data))["source"] in OWN
    return dataset_publishing.push_to_hub(
        options.data, options.dataset_repo_id, private=options.private, token=options.token,
        include_users=options.include_users, include_interactions=options.include_interactions,
        include_reviews=options.include_reviews, accept_unknown_licence=options.accept_unknown_licence,
        licence=options.licence if own else None, dry_run=dry_run,
    )  # fmt: skip


def _announce(
    model: Publication, dataset: dataset_publishing.Publication | None, files: PublishedFiles, say: Callable[[str], Any]
) -> None:
    for one in (dataset, model):
        if one is None:
            continue
        kind = "Model" if one is model else "Dataset"
        say(f"{kind} {one.repo_id}: {len(one.files)} files, {shown_size(sum(one.files.values()))}")
        for name, length in sorted(one.files.items()):
            say(f"  {shown_size(length):>9}  {name}")
        for note in one.left_out:
            say(f"  - {note}")
    if files.skipped:
        say(f"Stays here: {', '.join(files.skipped)}")
    if files.key_file is not None:
        say(f"The key of the user ids stays here: {files.key_file}")


def shown_size(length: int) -> str:
    """A size in bytes as people read it, such as `1.7 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if length >= factor:
            return f"{length / factor:.1f} {unit}"
    return f"{length} B"


def _standing_revision(place: Place, head: str) -> str:
    """The commit of the files where the Hub has them already: the one that the card names, if its files are the same.

    Args:
        place: the repository.
        head: the commit at which it stands, whose files are ours.
    """
    try:
        return patiently(lambda: _named_revision(place, head)) or head
    except FAILURES as error:
        raise trouble(error, place.repo_id, "tell what it holds") from error


def _named_revision(place: Place, head: str) -> str | None:
    try:
        with tempfile.TemporaryDirectory(prefix="xrec-card-") as cache:
            card = place.api.hf_hub_download(place.repo_id, CARD, revision=head, cache_dir=cache)
            text = Path(card).read_text(encoding="utf-8")
    except RemoteEntryNotFoundError:
        return None
    ours = _contents(place, head)
    for commit_id in dict.fromkeys(re.findall(rf"\b{COMMIT.pattern}\b", text)):
        if place.api.revision_exists(place.repo_id, commit_id) and _contents(place, commit_id) == ours:
            return str(commit_id)
    return None


def _contents(place: Place, revision: str) -> dict[str, str]:
    """Path to content's id of every file but the card."""
    tree = place.api.list_repo_tree(place.repo_id, recursive=True, revision=revision)
    return {one.path: one.blob_id for one in tree if isinstance(one, RepoFile) and one.path not in NOT_OURS}


def _tag(place: Place, tag: str, at: Committed) -> None:
    """Name a commit; a tag that names another one is not moved, since somebody may load by it."""

    def make() -> str:
        place.api.create_tag(place.repo_id, tag=tag, revision=at.oid, exist_ok=True)
        refs = place.api.list_repo_refs(place.repo_id)
        return next(str(ref.target_commit) for ref in refs.tags if ref.name == tag)

    try:
        found = patiently(make)
    except FAILURES as error:
        raise trouble(error, place.repo_id, f"make the tag {tag!r}") from error
    if found != at.oid:
        raise DataError(
            f"{place.repo_id}: expected no tag {tag!r} or one at {at.oid[:12]}, found it at {found[:12]}; the model is "
            "published, give it another tag"
        )
