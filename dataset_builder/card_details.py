"""What a dataset card says of how the data came about: files, filters, splits, prompts and personal data."""

from collections.abc import Mapping
from typing import Any

from .licences import Licence
from .prompts import BUILT_IN, read_prompts
from .schema import COLD_SPLITS, SPLITS, sha256
from .teacher import KINDS

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
"""Least number of rows that is too many, and the Hub's name of what is below it."""
SPLIT_MEANING = {
    "random": "pairs are drawn at random",
    "temporal": "the latest pairs are the test pairs, by time over all users",
    "leave-one-out": "each user's latest pair is a test pair, the one before it a validation pair",
}
KINDS_MASKED = (
    "addresses of e-mail, web addresses with a user name or password, telephone numbers, payment card numbers, bank account "
    "and social security numbers, handles and profile addresses of networks, and the reviewer's own name where the source "
    "gives it"
)
NOT_MASKED = "names of others, postal addresses, dates of birth, plates, places, and what is spelled out in words"


def card_yaml(build: Mapping[str, Any], rows: int) -> list[str]:
    """Return the lines of the YAML that say what kind of dataset it is.

    Args:
        build: the content of a build.json.
        rows: how many rows the default config has.
    """
    source = build["source"]
    original = source in ("synthetic", "table")
    size = next((name for least, name in SIZES if rows < least), "10M<n<100M" if rows < 10**8 else "100M<n<1B")
    lines = [f"pretty_name: Explained recommendations from {source}"]
    language = language_of(build)
    if language:
        lines += ["language:", f"- {language}"]
    lines += ["task_categories:", "- text-generation", "size_categories:", f"- {size}"]
    lines += ["annotations_creators:", f"- {_annotators(build)}"]
    return [*lines, "source_datasets:", f"- {'original' if original else f'extended|other-{source}'}"]


def language_of(build: Mapping[str, Any]) -> str | None:
    """Return the language of the texts by its code; None where nothing records it."""
    return "en" if build["source"] == "synthetic" else (build.get("options") or {}).get("language")


def _annotators(build: Mapping[str, Any]) -> str:
    if build.get("distillation"):
        return "machine-generated"
    return "found" if "explanations_train" in build["counts"] else "no-annotation"


def source_section(build: Mapping[str, Any], licence: Licence) -> list[str]:
    """Return what was read, and from where.

    Args:
        build: the content of a build.json.
        licence: of the source.
    """
    if build["source"] == "synthetic":
        return ["Made up by a program: users, items and reviews of a world in which who likes what is known."]
    lines = [f"`{build['source']}`" + (f", see <{licence.link}>." if licence.link else ".")]
    files = build.get("files") or []
    if files:
        lines += ["", "| file | read as | SHA-256 |", "|---|---|---|"]
        lines += [f"| {_cell(one['name'])} | {one['role']} | `{one['sha256']}` |" for one in files]
    return lines


def _cell(text: str) -> str:
    """A name as code in a table's cell, in which no character is markup."""
    safe = (one if one.isalnum() or one in " .-" else f"&#{ord(one)};" for one in " ".join(text.split()))
    return f"<code>{''.join(safe)}</code>"


def filters_section(build: Mapping[str, Any]) -> list[str]:
    """Return which interactions were kept, how many each filter took, and how they were split.

    Args:
        build: the content of a build.json.
    """
    options, counts = build.get("options") or {}, build["counts"]
    steps = {
        "skipped": "broken rows",
        "duplicates": "repeats of a pair",
        "low_rating": f"rated below {options.get('min_rating')}, or not rated",
        "too_short": f"fewer than {options.get('min_words')} words",
        "other_language": f"not in `{options.get('language')}`",
        "user_not_sampled": f"users beyond the {options.get('sample_users', 1.0):.0%} drawn",
        "over_cap": f"beyond {_caps(options)}",
        "outside_k_core": f"users or items with fewer than {options.get('k_core')} pairs",
        "removed_explanation_pairs": "pairs that are explained, taken out of the graph",
    }
    lines = []
    if "read" in counts:
        rows = [
            ("read", counts["read"]),
            *((f"left out: {text}", counts[name]) for name, text in steps.items() if counts.get(name)),
        ]
        lines += ["| interactions | |", "|---|---|", *(f"| {text} | {count:,} |" for text, count in rows)]
        lines += [f"| kept | {counts['kept']:,} |", ""]
    return [*lines, _split(options, counts)]


def _caps(options: Mapping[str, Any]) -> str:
    caps = [f"{options[f'max_per_{side}']:,} of a {side}" for side in ("user", "item") if options.get(f"max_per_{side}")]
    return " and ".join(caps) or "a cap"


def _split(options: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    if "split" not in options:
        return "How the pairs were split is not recorded."
    shares = " / ".join(f"{share:.0%}" for share in options["fractions"])
    method = options["split"]
    names = ", ".join(SPLITS)
    text = f"Splits {names}: {SPLIT_MEANING[method]}"
    text += "" if method == "leave-one-out" else f", {shares}"
    text += f", seed {options['seed']}; a split that the source gives is kept."
    cold = [f"`{split}` ({counts[split]:,})" for split in COLD_SPLITS if split in counts]
    return text + (f" Users and items held out whole: {', '.join(cold)}." if cold else "")


def prompts_section(build: Mapping[str, Any]) -> list[str]:
    """Return what a language model was asked, in full where the package's own prompts were used; empty without a model.

    Args:
        build: the content of a build.json.
    """
    distillation = build.get("distillation") or {}
    if "prompts" not in distillation:
        return []
    digest = distillation.get("prompts_sha256")
    if digest != sha256(BUILT_IN):
        return ["The prompts are the publisher's own" + (f"; SHA-256 of their file: `{digest}`." if digest else ".")]
    prompts = read_prompts(distillation["domain"])
    lines = ["`$data` is the material as JSON, `$words` the most words of an answer."]
    for kind in KINDS:
        prompt = prompts.kinds[kind]
        text = f"{prompt.system.template.strip()}\n\n{prompt.user.template.strip()}"
        lines += ["", f"<details><summary>{prompt.version}</summary>", "", "~~~~text", text, "~~~~", "", "</details>"]
    return lines


def masking_section(build: Mapping[str, Any]) -> list[str]:
    """Return what was done about personal data in the texts.

    Args:
        build: the content of a build.json.
    """
    distillation = build.get("distillation")
    if not distillation:
        return ["Nothing was masked: the texts are as the source has them."]
    masked = distillation.get("masked") or {}
    parts = masked.values() if any(isinstance(one, Mapping) for one in masked.values()) else [masked]
    found: dict[str, int] = {}
    for part in parts:
        for kind, count in part.items():
            found[kind] = found.get(kind, 0) + count
    counted = ", ".join(f"{kind} {count:,}" for kind, count in sorted(found.items())) or "none found"
    return [
        f"Looked for by form and replaced by its kind in round brackets: {KINDS_MASKED}. Masked: {counted}.",
        f"Not covered: {NOT_MASKED}.",
    ]
