"""Texts that others wrote, made to mean nothing in Markdown and HTML."""

import re
import unicodedata
from collections.abc import Sequence

_HARMLESS = re.compile(r"[^\W_]| |(?<=[^\W_])_(?=[^\W_])|[,.;:()%'\"+/?!-]")
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_LINKS = re.compile(r"(?i):(?=//)|(?<=\bwww)\.")


def one_line(text: str) -> str:
    """Return a text as one line; control and direction characters, and runs of spaces, become one space."""
    return " ".join("".join(" " if unicodedata.category(one) in _UNSEEN else one for one in text).split())


def plain(text: str) -> str:
    """Return a text as one line in which no character is markup, for Markdown and for HTML.

    Characters that could be markup become numeric entities, which Markdown reads after its structure is settled (CommonMark
    0.31, section 2.5); addresses do not become links.

    Args:
        text: anything.
    """
    text = one_line(text)
    links = {match.start() for match in _LINKS.finditer(text)}
    harmless = {match.start() for match in _HARMLESS.finditer(text)} - links
    return "".join(one if place in harmless else f"&#{ord(one)};" for place, one in enumerate(text))


def code(text: str) -> str:
    """Return a text as inline code that no backtick in it ends."""
    return f"<code>{plain(text)}</code>"


def sentence(text: str) -> str:
    """Return a sentence in which what stands between backticks is code, and nothing else is markup."""
    *pairs, last = re.split(r"`([^`]*)`", text)
    return "".join(f"{_plain_part(pairs[n])}{code(pairs[n + 1])}" for n in range(0, len(pairs), 2)) + _plain_part(last)


def _plain_part(text: str) -> str:
    """Return `plain` of a part of a sentence, with the spaces at its ends."""
    return " " * text.startswith(" ") + plain(text) + " " * (text.endswith(" ") and bool(text.strip()))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; cells are Markdown already."""
    return ["| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows]]


def size(count: int) -> str:
    """Return a size in bytes for readers."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"
