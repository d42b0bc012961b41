"""Who cannot see, hold still or aim: contrast, names, sizes, steady pages, and what screen readers are told."""

from __future__ import annotations

import pytest

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs axe: pip install axe-playwright-python"
)

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Gradio's own markup: rule -> what it is about. Nothing else may be found.
GRADIOS = {
    "aria-prohibited-attr": "Empty value",  # the icon of a gr.Label that holds nothing yet
}
SHIFTS = """new PerformanceObserver(list => { for (const entry of list.getEntries())
    if (!entry.hadRecentInput) window.shifted = (window.shifted || 0) + entry.value;
}).observe({type: 'layout-shift', buffered: true})"""
# Gradio measures its tabs with copies that are one pixel high.
SMALL = """() => [...document.querySelectorAll('button, a, input, select, summary, textarea')]
    .map(one => [one, one.getBoundingClientRect()])
    .filter(([one, box]) => one.checkVisibility() && box.height > 1 && Math.min(box.width, box.height) < 24)
    .map(([one, box]) => ['small', one.outerHTML.slice(0, 200), box.width, box.height])"""
SETTLING = 300  # ms
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 900}


def violations(tab):
    """Rule and element of all that axe-core finds, but for what is known of Gradio's; and controls under 24 px."""
    found = axe.Axe().run(tab, options={"runOnly": TAGS}).response["violations"]
    return tab.evaluate(SMALL) + [
        (rule["id"], node["html"][:200])
        for rule in found
        for node in rule["nodes"]
        if GRADIOS.get(rule["id"], "\0") not in node["html"]
    ]


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk-light", "phone-dark"])
def test_axe_finds_nothing_on_any_tab_before_and_after(visit, size, scheme):
    tab = visit(**size, color_scheme=scheme)
    for name in ("More to mix in", "Weights", "Settings"):
        tab.get_by_role("button", name=name).first.click()
    tab.wait_for_timeout(SETTLING)
    found = violations(tab)
    tab.get_by_role("spinbutton", name="Steps").first.fill("1")
    tab.get_by_role("button", name="Draw", exact=True).click()
    tab.locator("#status").get_by_text("Done in").wait_for()
    found += violations(tab)
    tab.get_by_role("tab", name="Arithmetic").click()
    tab.wait_for_timeout(SETTLING)
    found += violations(tab)
    tab.get_by_role("tab", name="Find it").click()
    tab.get_by_role("button", name="Three sounds at once").click()
    tab.locator("#detect-inputs .image-container img").first.wait_for()
    tab.get_by_role("button", name="Find", exact=True).click()
    tab.locator("#detect-status").get_by_text("Done in").wait_for()
    found += violations(tab)
    tab.get_by_role("tab", name="Search").click()
    tab.get_by_role("textbox", name="Words to search by").fill("a dog")
    tab.get_by_role("button", name="Search", exact=True).click()
    tab.locator("#search-status").get_by_text("Done in").wait_for()
    assert found + violations(tab) == []


def test_on_a_phone_nothing_jumps_and_the_picture_comes_into_view(visit):
    tab = visit(**PHONE, reduced_motion="reduce")
    tab.evaluate(SHIFTS)
    tab.get_by_role("textbox", name="Words").press("Enter")  # draws, as the button does
    tab.locator("#status").get_by_text("Done in").wait_for()
    tab.wait_for_timeout(SETTLING)
    stop, line = (tab.locator(place).bounding_box() for place in ("#buttons-draw", "#status"))
    assert stop["y"] >= 0 and line["y"] + line["height"] <= PHONE["height"]
    assert (tab.evaluate("window.shifted") or 0) < 0.1  # of a good page, as web.dev says


def test_the_main_buttons_are_on_the_first_screen_of_a_laptop(visit):
    tab = visit(**DESK)
    for name, button in (("Draw it", "Draw"), ("Find it", "Find"), ("Arithmetic", "Slide"), ("Search", "Search")):
        tab.get_by_role("tab", name=name).click()
        place = tab.get_by_role("button", name=button, exact=True).bounding_box()
        assert place["y"] + place["height"] < DESK["height"], name


def test_the_status_is_one_live_region_and_messages_of_the_last_try_go(visit):
    """A new element would not be read out; the words of every step would, one by one, so they are hidden."""
    tab = visit()
    region, words = tab.locator("#status").get_by_role("status"), tab.get_by_role("textbox", name="Words")
    region.evaluate("e => { e.ours = true }")
    tab.get_by_role("button", name="Draw", exact=True).click()
    steps = region.get_by_text("Step")
    steps.wait_for()
    assert steps.get_attribute("aria-hidden") == "true"
    region.get_by_text("Done in").wait_for()
    tab.locator(".b2g-sound").first.get_by_label("Clear").click()
    tab.get_by_role("button", name="Draw", exact=True).click()
    region.get_by_text("nothing was given").wait_for()
    assert tab.get_by_test_id("toast-body").count() == 1
    words.fill("a dog")
    words.press("Enter")
    tab.get_by_test_id("toast-body").wait_for(state="detached")
    region.get_by_text("Done in").wait_for()
    assert region.evaluate("e => e.ours")
