import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from xrec_serving.page import CONTENT_POLICY, page_routes

FOLDER = files("xrec_serving").joinpath("page")
NAMES = sorted(entry.name for entry in FOLDER.iterdir())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]


@pytest.fixture(scope="module")
def client():
    app = FastAPI()
    app.include_router(page_routes())
    return TestClient(app)


class Tags(HTMLParser):
    """Tags of a document with their attributes, and whether a script or a style holds anything itself."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inline, self._in = [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        self.inline += data.strip() if self._in else ""


def text_of(name):
    return FOLDER.joinpath(name).read_text(encoding="utf-8")


def test_every_file_is_given_as_it_is_and_with_its_guards(client):
    kinds = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
    for path, name in [("/", "index.html"), *((f"/page/{name}", name) for name in NAMES)]:
        found = client.get(path)
        assert (found.status_code, found.content) == (200, FOLDER.joinpath(name).read_bytes())
        assert found.headers["content-type"] == kinds[name.rsplit(".", 1)[1]]
        assert found.headers["content-security-policy"] == CONTENT_POLICY
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["cache-control"] == "no-cache"


def test_a_browser_that_has_a_file_is_not_sent_it_again(client):
    tag = client.get("/page/app.js").headers["etag"]
    for known in (tag, f'"other", W/{tag}'):
        again = client.get("/page/app.js", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/page/app.js", headers={"if-none-match": '"other"'}).status_code == 200
    assert len({client.get(f"/page/{name}").headers["etag"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(
    "path", ["/page/", "/page/page.py", "/page/../page.py", "/page/%2e%2e/page.py", "/page/..%2fapi.py", "/page/app"]
)
def test_nothing_else_is_given(client, path):
    found = client.get(path, follow_redirects=False)
    assert found.status_code in (404, 307)
    assert b"import" not in found.content


def test_the_policy_lets_no_script_in_but_the_pages_own():
    rules = dict(rule.strip().split(" ", 1) for rule in CONTENT_POLICY.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_document_holds_nothing_that_the_policy_forbids_and_names_only_files_that_exist():
    index = Tags(text_of("index.html"))
    assert index.inline == ""
    names = {name for _, attributes in index.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert "style" not in names
    loaded = [attributes.get("src") or attributes.get("href") for tag, attributes in index.tags if tag in ("script", "link")]
    own = [name.removeprefix("page/") for name in loaded if not name.startswith("data:")]
    assert own
    assert set(own) <= set(NAMES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_no_markup_of_texts_and_imports_only_its_neighbours(name):
    text = text_of(name)
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "localStorage",
    ):
        assert forbidden not in text
    assert set(re.findall(r'from "\./(.+?)"', text)) <= set(SCRIPTS)
    assert re.findall(r'from "(?!\./)', text) == []
    assert "://" not in text
    assert len(text.splitlines()) <= 350


def test_every_script_is_loaded_by_another_or_by_the_document():
    loaded = {"app.js"} | {name for script in SCRIPTS for name in re.findall(r'from "\./(.+?)"', text_of(script))}
    assert loaded == set(SCRIPTS)
