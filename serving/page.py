"""The page at `/`, and the files that it loads: read once, sent as they are, each with a checksum that browsers ask by."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
INDEX = "index.html"


@dataclass(frozen=True)
class PageFile:
    """One file of the page.

    Attributes:
        content: its bytes.
        kind: media type.
        tag: entity tag, in quotes as HTTP wants it.
    """

    content: bytes
    kind: str
    tag: str

    def answer(self, known: str | None) -> Response:
        """The file, or 304 without it where the browser has it already.

        Args:
            known: the request's `If-None-Match`.
        """
        headers = {
            "etag": self.tag,
            "cache-control": "no-cache",  # kept, but asked for again: a new server's page is never mixed with an old one's
            "content-security-policy": CONTENT_POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }
        if known is not None and self.tag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.kind, headers=headers)


def read_page() -> dict[str, PageFile]:
    """The page's files by name; whatever else lies in its folder is left out."""
    found = {}
    for entry in files(__package__).joinpath("page").iterdir():
        kind = KINDS.get(PurePosixPath(entry.name).suffix)
        if kind is not None and entry.is_file():
            content = entry.read_bytes()
            found[entry.name] = PageFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


def page_routes() -> APIRouter:
    """Routes of the page: `/`, and `/page/{name}` for its own files and nothing else."""
    routes = APIRouter(include_in_schema=False)  # for browsers; the description is of the API
    page = read_page()

    @routes.get("/")
    async def index(request: Request) -> Response:
        """Give the page."""
        return page[INDEX].answer(request.headers.get("if-none-match"))

    @routes.get("/page/{name}")
    async def file(request: Request, name: str) -> Response:
        """Give one of the page's files."""
        if name not in page:
            raise HTTPException(404, "expected a file of the page, found none by this name; begin at /")
        return page[name].answer(request.headers.get("if-none-match"))

    return routes
