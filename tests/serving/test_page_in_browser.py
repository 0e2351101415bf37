"""The page in a real browser: what a reader does there."""

import re

import pytest

from .page_browser import (
    NEEDS_BROWSER,
    api,
    box,
    expect,
    explained,
    figures,
    launched,
    named,
    squeezed,
    text_of,
    titles,
    visiting,
)

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@pytest.fixture
def visit(browser):
    with visiting(browser) as go:
        yield go


def test_a_newcomer_sees_recommendations_a_text_and_parts_that_add_up(serve, visit):
    client = serve()
    page = visit(client)
    text = explained(page)
    user = client.get("/v1/users?limit=1").json()["users"][0]["user_id"]
    best = api(client, "recommend", user_id=user, k=10)["items"]
    assert titles(page) == [item["title"] for item in best]
    assert (named(page, "user"), named(page, "item")) == ([user], [best[0]["item_id"]])
    assert squeezed(text) == squeezed(text_of(client, user, best[0]["item_id"]))
    for chart in page.locator(".bars").all():
        *parts, score = figures(chart.locator(".bar-value"))
        assert len(parts) >= 3
        assert sum(parts) == pytest.approx(score, abs=0.0005 * (len(parts) + 1))
        assert score == pytest.approx(best[0]["score"], abs=0.0006)
    gates = page.locator(".gate-bars").first.locator("li").all_inner_texts()
    assert len(gates) == client.get("/v1/about").json()["experts"]
    expect(page.locator("#trust code")).to_have_text(client.get("/v1/about").json()["model"])
    expect(page.locator("#status")).to_contain_text(squeezed(text)[:40])


def test_leaving_an_item_out_compares_two_histories_that_both_keep_the_profile(serve, visit):
    client = serve()
    page = visit(client)
    explained(page)
    asked = []
    page.on("request", lambda request: asked.append((request.url.rsplit("/", 1)[1], request.post_data_json)))
    [user], [item] = named(page, "user"), named(page, "item")
    history = [row["item_id"] for row in client.get(f"/v1/users/{user}").json()["history"]]
    page.locator("#who .chip button").first.click()
    expect(page.locator(".sides .said")).to_have_count(2)
    rest = history[1:]
    assert named(page, "without") == history[:1]
    for keep in (True, False):
        more = {"profile_of": user} if keep else {}
        rows = [{"history": some, "item_id": item, **more} for some in (history, rest)]
        assert ("explain", {"histories": rows}) in asked
        both = api(client, "explain", histories=rows)["explanations"]
        sides = page.locator(".sides .said").all_inner_texts()
        assert [squeezed(side) for side in sides] == [squeezed(one["explanation"]) for one in both]
        change = "The text did not change." if sides[0] == sides[1] else "The text changed."
        expect(page.locator(".outcome b")).to_have_text(change)
        assert (page.locator(".sides del, .sides ins").count() > 0) == (sides[0] != sides[1])
        scores = re.findall(r"-?\d+\.\d+", page.locator(".outcome").inner_text().replace("\u2212", "-"))
        assert [float(score) for score in scores[:2]] == pytest.approx([one["score"] for one in both], abs=0.0006)
        if keep:
            page.locator(".switch input").press("Space")
            expect(page.locator(".comparison .note").first).to_contain_text("neither has a profile text")
    after = api(client, "recommend", history=rest, exclude=history[:1], k=10)["items"]
    assert page.locator(".moves .move-title").all_inner_texts() == [one["title"] for one in after]
    page.get_by_role("button", name="Put back").click()
    expect(page.locator(".sides")).to_have_count(0)


def test_another_user_is_told_of_the_same_item(serve, visit):
    client = serve()
    page = visit(client)
    explained(page)
    [user], [item] = named(page, "user"), named(page, "item")
    other = client.get("/v1/users?limit=3").json()["users"][2]["user_id"]
    box(page, "The same item for another user").fill(other)
    page.locator("#what-if [role=option]", has_text=other).first.click()
    expect(page.locator(".sides .said")).to_have_count(2)
    sides = page.locator(".sides .said").all_inner_texts()
    assert [squeezed(side) for side in sides] == [squeezed(text_of(client, who, item)) for who in (user, other)]
    assert named(page, "swap") == [other]


def tab_to(page, name, presses=80):
    """Presses Tab until the element of that name has the focus."""
    for _ in range(presses):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        hidden = page.evaluate("document.activeElement.matches('.kinds input')")
        assert hidden or outline != "none", "nobody sees where the focus is"
        if name in page.evaluate(
            "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText || ''"
        ):
            return
        if name in page.evaluate("[...(document.activeElement.labels || [])].map((one) => one.innerText).join()"):
            return
    raise AssertionError(f"Tab never came to {name}")


def test_the_keyboard_alone_is_enough(serve, visit):
    client = serve()
    page = visit(client)
    explained(page)
    tab_to(page, "Skip to the explanation")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "stage"
    page.locator("body").press("Shift+Tab")
    page.evaluate("document.activeElement.blur()")
    page.reload()
    explained(page)
    tab_to(page, "User")
    wanted = client.get("/v1/users?limit=5").json()["users"][4]["user_id"]
    page.keyboard.type(wanted)
    expect(page.locator("#who [role=option]").first).to_have_text(wanted)
    page.keyboard.press("ArrowDown")
    active = box(page, "User").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
    page.keyboard.press("Enter")
    expect(page.locator(".kicker").first).to_contain_text(wanted)
    explained(page)
    second = titles(page)[1]
    tab_to(page, second)
    page.keyboard.press("Enter")
    expect(page.locator("#item-title")).to_have_text(second)
    explained(page)
    tab_to(page, "Leave out")
    page.keyboard.press("Space")
    expect(page.locator(".sides .said")).to_have_count(2)
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    tab_to(page, "Back to how it was")
    page.keyboard.press("Enter")
    expect(page.locator(".sides")).to_have_count(0)


def test_a_typed_history_is_in_the_address_and_back_goes_back(serve, visit):
    client = serve()
    page = visit(client)
    explained(page)
    page.get_by_role("radio", name="A history of items").check()
    expect(page.locator("#list")).to_contain_text("They appear with the first item")
    chosen = client.get("/v1/items?limit=2").json()["items"]
    for item in chosen:
        box(page, "Add an item").fill(item["title"])
        page.locator("#who [role=option]", has_text=item["item_id"]).first.click()
        expect(page.locator(".chip", has_text=item["title"]).first).to_be_visible()
        explained(page)
    ids = [item["item_id"] for item in chosen]
    assert named(page, "history") == ids
    best = api(client, "recommend", history=ids, k=10)["items"]
    expect(page.locator(".picks li").first).to_be_visible()
    assert titles(page) == [item["title"] for item in best]
    text, address = explained(page), page.url
    page.locator(".chip button").first.press("Enter")
    expect(page.locator(".chip")).to_have_count(1)
    explained(page)
    page.go_back()
    expect(page.locator(".chip")).to_have_count(2)
    assert (explained(page), page.url) == (text, address)
    page.go_back()
    page.go_back()
    page.go_back()
    expect(box(page, "User")).to_have_value("u00000")
    shared = visit(client, where="#" + address.split("#")[1])
    assert explained(shared) == text


def test_choosing_another_item_ends_the_first_stream(serve, visit, patient, wait_for):
    page = visit(serve(patient))
    expect(page.locator(".lead .said")).to_contain_text("First")
    page.locator(".pick").nth(1).click()
    wait_for(lambda: patient.abandoned == 1)
    patient.go.set()
    explained(page)
    expect(page.locator("#item-title")).to_have_text(titles(page)[1])


def test_a_word_difference_puts_both_texts_together_again_and_finds_the_most_common_words(serve, visit):
    page = visit(serve())
    explained(page)
    cases = [
        ("", ""),
        ("a b c", "a b c"),
        ("a b c d", "b d"),
        ("a", "b"),
        ("x a y b z", "a x b y"),
        ("the a of the b", "the b of the a"),
    ]
    for one, other in cases:
        found = page.evaluate("async ([one, other]) => (await import('/page/diff.js')).compare(one, other)", [one, other])
        assert [" ".join(run["text"] for run in found[side]) for side in ("before", "after")] == [one, other]
        same = [[word for run in found[side] if run["same"] for word in run["text"].split()] for side in ("before", "after")]
        assert same[0] == same[1]
        assert len(same[0]) == longest_common(one.split(), other.split())


def longest_common(one, other):
    """The length of the longest row of words that both hold in order, by its definition."""
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + longest_common(one[1:], other[1:])
    return max(longest_common(one[1:], other), longest_common(one, other[1:]))
