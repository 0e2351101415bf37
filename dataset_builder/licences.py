"""What is known of the licence of each source: one table, for cards and for what is published.

It says what the sources' own pages say, as far as we know them, and is no legal advice.
"""

import re
from dataclasses import dataclass, replace

from .errors import DataError


@dataclass(frozen=True)
class Licence:
    """The licence of a source.

    Args:
        hub: the Hub's id of it: `other` for one that the Hub does not know, `unknown` where none is stated.
        raw: whether raw reviews and interactions may be passed on: `yes`, `no` or `unknown`.
        text: for people: who says what, and what follows for raw data and for texts made of them.
        name: what a licence that the Hub does not know is called, in lower case.
        link: where it, or the source, is to be read about.
    """

    hub: str
    raw: str
    text: str
    name: str | None = None
    link: str | None = None

    @property
    def known(self) -> bool:
        """Whether a licence is stated at all."""
        return self.hub != "unknown"

    def yaml(self) -> list[str]:
        """Return the lines of a card's YAML."""
        lines = [f"license: {self.hub}"]
        if self.hub == "other":
            lines += [f"license_name: {self.name}", f"license_link: {self.link}"]
        return lines


NOBODY = (
    "Whether reviews, or profiles and explanations made of them, may be passed on is not known: the reviews are their "
    "writers', and the platform has terms of its own. Settle that before you publish anything, and leave raw reviews out."
)
"""What follows where no licence is stated."""

DERIVED = (
    "Explanations and profiles by the teacher `extractive` are made of clauses of reviews, put into the third person; those "
    "by a language model are its own words about what reviews say."
)
"""What derived texts are, for those who have to judge them."""

UNKNOWN = Licence("unknown", "unknown", f"The licence of this source is unknown to us: check its terms. {NOBODY}")
"""Any source that the table lacks."""

LICENCES = {
    "yelp": Licence(
        "other",
        "no",
        "Yelp licenses its Open Dataset by its Dataset Terms of Use (in the version of July 2023 as far as we know them): for "
        "academic use only, revocable, and without the right to hand the data on. Raw reviews and interactions may not be "
        "passed on. Works derived from the data are allowed for academic use; the terms do not settle whether texts made of "
        "reviews may be published: read them, and ask Yelp, before you make such texts public.",
        "yelp-dataset-terms-of-use",
        "https://business.yelp.com/data/resources/open-dataset/",
    ),
    "amazon-2018": Licence(
        "unknown",
        "unknown",
        "The Amazon review data of 2018 (Ni, Li and McAuley, EMNLP 2019) come without a stated licence: unknown. They are "
        f"offered for research, and citing the paper is asked for. {NOBODY}",
        link="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
    ),
    "amazon-2023": Licence(
        "unknown",
        "unknown",
        "The licence of Amazon Reviews 2023 (Hou et al. 2024) is unknown: its publishers, the McAuley Lab, say that they are "
        f"not in a position to assign one, and offer the data primarily for research. {NOBODY}",
        link="https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/discussions/1",
    ),
    "google-local": Licence(
        "unknown",
        "unknown",
        "The Google Local data of 2021 (Li, Shang and McAuley, ACL 2022; Yan et al., SIGIR 2023) come without a stated "
        f"licence: unknown. Citing the papers is asked for. {NOBODY}",
        link="https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal/",
    ),
    "table": Licence(
        "unknown",
        "unknown",
        "The data come from the publisher's own tables, whose licence is unknown to the program that made this dataset. "
        f"{NOBODY}",
    ),
    "synthetic": Licence("cc0-1.0", "yes", "CC0-1.0: the data is made up by a program."),
}
"""Source to its licence."""

OWN = ("table",)
"""Sources whose licence only the user can know, and may state."""


def licence_of(source: str, stated: str | None = None) -> Licence:
    """Return the licence of a source.

    Args:
        source: one of `source_names.source_names()`.
        stated: the Hub's id of the licence of the user's own data; for source `table`.

    Raises:
        DataError: a licence is stated for data that are not the user's own, or by no id of the Hub.
    """
    found = LICENCES.get(source, UNKNOWN)
    if stated is None:
        return found
    if source not in OWN:
        raise DataError(
            f"expected no licence for source {source}, which is not yours to license, found {stated!r}; leave it out"
        )
    if stated in ("other", "unknown") or not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", stated):
        raise DataError(f"expected a licence by its id on the Hub, for example cc-by-4.0, found {stated!r}; write it so")
    text = f"{stated}, as stated by the publisher of this dataset, whose own tables it is made of."
    return replace(found, hub=stated, raw="yes", text=text)


def licence_section(licence: Licence, made_up: bool) -> str:
    """Return what a card says of a licence.

    Args:
        licence: the licence.
        made_up: whether no person wrote the data.
    """
    if made_up:
        return licence.text
    link = f" See <{licence.link}>." if licence.link else ""
    return f"{licence.text}{link}\n\n{DERIVED} This is what we know, and no legal advice."
