"""Personal data masked in text that leaves the machine or is published, and counted by kind.

What is covered, and nothing else:

- `email`: addresses; also with `(at)` or `[at]` for the sign, and with ` at ` where the dots are `(dot)`, `[dot]` or ` dot `.
- `url`: addresses with a user name or a password in them.
- `card`: 13 to 19 digits, in groups or not, that start as payment cards do and have the right check digit (Luhn).
- `account`: IBANs with the right check digits; US social security numbers written with hyphens; 5 to 17 digits after words
  such as `account number`, `acct`, `routing`, `sort code`, `IBAN`, `SSN`.
- `phone`: 8 to 15 digits after `+`, or after `00` where they are in groups; American numbers in three groups; 9 to 12 digits
  in groups that start with 0; 7 to 15 digits after words such as `phone`, `call`, `text`, `cell`, `fax`, `WhatsApp`.
- `handle`: `@name`, `u/name`, addresses of profiles at the large networks, names after the name of one (`instagram: name`).
- `name`: the reviewer's own name where the source gives it: the whole name in any case, and each of its parts of at least
  three letters that is no common English word, where it is written with a capital.

Not covered: names of others, postal addresses, dates of birth, plates, places, and what is spelled out in words.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from .words import GENERIC_PRAISE, SPECIFIC_OPINION, STOP_WORDS

KINDS = ("url", "email", "card", "account", "phone", "handle", "name")
"""What is masked, each replaced by its kind in round brackets."""

_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,15}://[^\s/@]{1,200}@[^\s]+")
_EMAIL = re.compile(r"[\w.+%'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}")
_AT, _DOT = r"\s{0,2}[(\[{]\s?at\s?[)\]}]\s{0,2}", r"\s{0,2}[(\[{]\s?dot\s?[)\]}]\s{0,2}"
_SPELT = re.compile(
    rf"(?i)\b[\w.+-]{{1,64}}(?:{_AT}[\w-]{{1,63}}(?:(?:{_DOT}|\sdot\s|\.)[\w-]{{2,63}}){{1,4}}"
    rf"|(?:\sat\s|@)[\w-]{{1,63}}(?:(?:{_DOT}|\sdot\s)[\w-]{{2,63}}){{1,4}})"
)
_NETWORKS = "instagram|insta|twitter|tiktok|snapchat|telegram|facebook|discord|skype|venmo|twitch|youtube|reddit|linkedin"
_PROFILE = re.compile(
    rf"(?i)(?:https?://)?(?:www\.|m\.)?(?:(?:{_NETWORKS})\.com|t\.me|x\.com|fb\.com|wa\.me|twitch\.tv)"
    r"/(?:in/|u/|user/|@)?[\w.@-]{2,60}/?"
)
_HANDLE = re.compile(r"(?<![\w@.])@(?!\d{1,2}(?:[ap]m)?\b)[\w.]{1,29}\w(?:#\d{4})?|(?<![\w/])/?u/[\w.-]{2,30}\w")
_NETWORK_NAME = re.compile(
    rf"(?i)\b(?P<kept>(?:{_NETWORKS}|ig|fb|snap)(?: (?:handle|name|user ?name|id|account)){{0,2}}"
    r"(?:\s?[:=]\s?|\s(?:is|as)\s(?=[\w.]*(?:\d|[_.]\w))))[\w.]{2,29}\w(?:#\d{4})?"
)
_DIGITS = re.compile(r"\d(?:[ -]?\d){12,}")
_IBAN = re.compile(r"(?i)(?<!\w)[a-z]{2}\d{2}[a-z0-9]{0,30}(?: [a-z0-9]{1,30}){0,9}(?!\w)")
_SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_BETWEEN = r"[\s:#=.-]{0,3}(?:(?:number|no|nr|num|is|was|ending in|me|us|him|her|at|on|to|my|the|of)\b[\s:#=.-]{0,3}){0,4}"
_ACCOUNT = re.compile(
    r"(?i)\b(?P<kept>(?:account|acct|a/c|routing|sort code|iban|bank details|ssn|social security)"
    rf"{_BETWEEN})\d(?:[ -]?\d){{4,16}}(?!\d)"
)
_EXTENSION = r"(?:\s?(?:x|ext\.?)\s?\d{1,5})?(?!\d)"
_CALLED = re.compile(
    r"(?i)\b(?P<kept>(?:phone|telephone|tel|call|called|calling|text|texted|cell|mobile|fax|whatsapp|dial|ring|reach|ph)"
    rf"{_BETWEEN})\+?\(?\d(?:[ ().-]{{0,2}}\d){{6,14}}{_EXTENSION}"
)
_ABROAD = re.compile(
    r"(?<![\w+])(?:\+[1-9](?:[ ().-]{0,3}\d){7,14}|00[ .-]?[1-9]\d{0,2}[ ().-](?:[ ().-]{0,2}\d){6,12})" + _EXTENSION
)
_AMERICAN = re.compile(
    r"(?<![\w$-])(?<!\d[.,])(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}(?!\d|[.-]\d)" + _EXTENSION
)
_NATIONAL = re.compile(
    r"(?<![\w$/-])(?<!\d[.,])(?!\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d(?!\d))(?!\d{5}-\d{4}(?!\d))"
    r"\(?0\d{1,4}\)?(?:[ ./-]\d{2,8}){1,4}" + _EXTENSION
)
_MOST_PIECES = 39  # of a card or an account number whose digits all stand apart
_NAMES_OF_ALL = ("amazon", "kindle", "customer", "customers", "reviewer", "shopper", "buyer", "anonymous", "user", "reader")
_NO_NAME = GENERIC_PRAISE | SPECIFIC_OPINION | STOP_WORDS | {*_NAMES_OF_ALL, "the", "and", "mrs", "mom", "dad", "love", "gift"}


def mask(text: str, names: Iterable[str] = ()) -> tuple[str, Counter[str]]:
    """Replace personal data by its kind in round brackets, such as `(email)`.

    Args:
        text: visible text, as `untrusted.visible` returns it.
        names: the writer's names, as far as they are known.

    Returns:
        The text, and how many of each kind were masked.
    """
    found: Counter[str] = Counter()

    def replace(kind: str, is_meant: Callable[[str], bool] | None = None) -> Callable[[re.Match[str]], str]:
        def replaced(match: re.Match[str]) -> str:
            if is_meant is not None and not is_meant(match.group()):
                return match.group()
            found[kind] += 1
            return f"{match.groupdict().get('kept', '')}({kind})"

        return replaced

    def replace_parts(kind: str, is_meant: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
        def replaced(match: re.Match[str]) -> str:
            parts = list(_meant_parts(match.group(), is_meant))
            found.update(kind for _, meant in parts if meant)
            return "".join(f"({kind})" if meant else part for part, meant in parts)

        return replaced

    for kind, pattern in (("url", _URL), ("email", _EMAIL), ("email", _SPELT)):
        text = pattern.sub(replace(kind), text)
    for pattern in (_PROFILE, _HANDLE, _NETWORK_NAME):
        text = pattern.sub(replace("handle"), text)
    text = _IBAN.sub(replace_parts("account", is_iban), text)
    text = _DIGITS.sub(replace_parts("card", is_card), text)
    for kind, pattern in (("account", _SSN), ("account", _ACCOUNT), ("phone", _CALLED), ("phone", _ABROAD)):
        text = pattern.sub(replace(kind), text)
    text = _NATIONAL.sub(replace("phone", lambda number: 9 <= len(re.sub(r"\D", "", number)) <= 12), text)
    text = _AMERICAN.sub(replace("phone"), text)
    for whole in filter(None, map(_name_pattern, names)):
        text = whole.sub(replace("name"), text)
    return text, found


def _meant_parts(text: str, is_meant: Callable[[str], bool]) -> Iterator[tuple[str, bool]]:
    """Split a run of groups into what is meant and what stands around it: the longest such run of groups at each place."""
    pieces = re.split(r"([ -])", text)
    start = 0
    while start < len(pieces):
        ends = (
            end for end in range(min(len(pieces), start + _MOST_PIECES), start, -2) if is_meant("".join(pieces[start:end]))
        )
        end = next(ends, None)
        yield "".join(pieces[start : end or start + 1]), end is not None
        start = end or start + 1


def is_card(digits: str) -> bool:
    """Whether digits are as long as a payment card's number, start as one and have the right check digit (Luhn)."""
    plain = digits.replace(" ", "").replace("-", "")
    if not 13 <= len(plain) <= 19 or not re.fullmatch(r"4[0-9]{12}|3[0689][0-9]{12}|3[47][0-9]{13}|[2-6][0-9]{15,18}", plain):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(plain))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def is_iban(code: str) -> bool:
    """Whether a code has an IBAN's form and the right check digits."""
    plain = code.replace(" ", "").upper()
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", plain):
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def _name_pattern(name: str) -> re.Pattern[str] | None:
    """What finds a reviewer's name; None where there is none, or only a name that shops give to many."""
    parts = re.findall(r"[^\W\d_][\w'\u2019-]*", name)
    own = [part for part in parts if len(part) > 2 and part.lower() not in _NO_NAME]
    if not own:
        return None
    whole = r"[^\w]{1,3}".join(map(re.escape, parts))
    choices = [f"(?i:{whole})"]
    choices += [rf"{re.escape(part[0].upper())}(?i:{re.escape(part[1:])})" for part in own]
    return re.compile(rf"(?<!\w)(?:{'|'.join(choices)})(?!\w)")
