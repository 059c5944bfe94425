"""Tests of the page of a report in headless Chromium."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.shared.reporting import write_report
from pipeline.storage.store import Store
from tests.archives import write_archive
from tests.browser import chromium, eventually, press

EVIL = "<img src=x onerror=document.title='run'><script>document.title='run'<∕script>{:04d}.mp4"
"""A name with a slash that is no separator."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a report of 30 videos, and return its place."""
    store = Store(str(tmp_path_factory.mktemp("archive") / "out"))
    write_archive(store, 30, people_per_video=4, name=EVIL)
    return Path(write_report(store.uri))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as window:
        yield window


@pytest.fixture
def window(browser: Any, page: Path) -> Any:
    """Return the browser with the page anew."""
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    wait(browser, "return document.documentElement.dataset.ready !== undefined")
    wait(browser, "return document.querySelectorAll('[data-chart] svg').length === 4")
    return browser


def wait(window: Any, script: str) -> None:
    eventually(window, lambda: window.execute_script(script), script)


def soon(window: Any, ask: Callable[[], object], answer: object) -> None:
    """Hold that `ask` returns `answer`, at once or in a moment."""
    eventually(window, lambda: ask() == answer, f"it does not come to {answer!r}")


def texts(window: Any, selector: str) -> list[str]:
    return [element.text for element in find(window, selector)]


def find(window: Any, selector: str) -> list[Any]:
    return window.find_elements("css selector", selector)


def head(window: Any, title: str) -> Any:
    """Return the head of a column of the list of videos."""
    return next(th for th in find(window, "#videos thead th") if th.text.startswith(title))


def order(window: Any, title: str) -> str | None:
    return head(window, title).get_attribute("aria-sort")


def numbers(window: Any, column: int) -> list[int]:
    return [int(text) for text in texts(window, f"#videos tbody tr.row > :nth-child({column})")]


def test_nothing_is_written_to_the_console_and_nothing_is_fetched(window: Any) -> None:
    find(window, "#videos .open")[0].click()
    wait(window, "return document.querySelectorAll('.panel .chart svg').length === 3")
    assert window.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in window.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in urls} <= {"file", "data", "about"}
    assert "could not be drawn" not in window.page_source.partition('id="data"')[0]


def test_the_name_of_a_file_is_text(window: Any) -> None:
    assert "<img src=x onerror" in texts(window, "#videos .open")[0]
    assert window.title == "out: Rollcall report"
    assert find(window, "main img") == []


def test_a_click_on_a_head_sorts_and_says_so(window: Any) -> None:
    assert order(window, "Video") == "ascending"
    head(window, "Female").find_element("tag name", "button").click()
    soon(window, lambda: [order(window, "Female"), order(window, "Video")], ["descending", None])
    women = numbers(window, 7)
    assert women == sorted(women, reverse=True)
    head(window, "Female").find_element("tag name", "button").click()
    soon(window, lambda: [order(window, "Female"), order(window, "Video")], ["ascending", None])
    assert numbers(window, 7)[0] == min(women + numbers(window, 7))


def test_filters_and_pages_show_what_they_name(window: Any) -> None:
    status, next_page = find(window, "#videos [role=status]")[0], find(window, "#videos .pages button")[2]
    assert status.text == "1–25 of 30 videos"
    next_page.click()
    soon(window, lambda: status.text, "26–30 of 30 videos")
    find(window, "#videos input")[0].send_keys("0007")
    soon(window, lambda: status.text, "1–1 of 1 videos (filtered from 30)")
    choose(window, "#persons select", "female")
    soon(window, lambda: set(texts(window, "#persons tbody tr td:nth-child(6)")), {"female"})
    choose(window, "#persons label:nth-of-type(3) select", "60+")

    def ages() -> list[float]:
        return [float(age) for age in texts(window, "#persons tbody tr td:nth-child(7)")]

    eventually(window, lambda: ages() and min(ages()) >= 56.5, "younger people are shown")


def choose(window: Any, selector: str, choice: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(find(window, selector)[0]).select_by_visible_text(choice)


def test_the_keyboard_alone_is_enough(window: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    active = "return document.activeElement"
    window.execute_script("window.focus()")
    press(window, Keys.TAB)
    soon(window, lambda: window.execute_script(f"{active}.textContent"), "Skip to the figures")
    for _ in range(60):
        if window.switch_to.active_element.get_attribute("aria-expanded") is not None:
            break
        before = window.switch_to.active_element
        press(window, Keys.TAB)
        eventually(window, lambda before=before: window.switch_to.active_element != before, "the focus stays")
    button = window.switch_to.active_element
    assert button.get_attribute("aria-expanded") == "false"
    soon(window, lambda: window.execute_script(f"return getComputedStyle({active[7:]}).outlineStyle"), "solid")
    press(window, Keys.ENTER)
    soon(window, lambda: button.get_attribute("aria-expanded"), "true")
    panel = button.get_attribute("aria-controls")
    eventually(window, lambda: find(window, f"[id='{panel}'] .panel table"), "the panel is empty")
    press(window, Keys.ENTER)
    soon(window, lambda: button.get_attribute("aria-expanded"), "false")


def test_a_link_to_a_video_opens_it_and_moves_the_focus_there(window: Any) -> None:
    link = find(window, "#persons tbody a")[0]
    window.execute_script("arguments[0].click()", link)
    wait(window, "return document.activeElement.getAttribute('aria-expanded') === 'true'")
    soon(window, lambda: window.switch_to.active_element.text, link.text)


def test_another_day_has_other_hours(window: Any) -> None:
    days = [option.text for option in find(window, "#day option")]
    choose(window, "#day", days[0])
    soon(window, lambda: texts(window, "#chosen-day"), [days[0]])
    eventually(window, lambda: len(find(window, "#hours tbody tr")) >= 5, "the hours are not shown")


@pytest.mark.parametrize("width", [400, 1280, 2560])
def test_the_page_fits_the_screen(window: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    find(window, "#videos .open")[0].click()
    wait(window, "return document.querySelectorAll('.panel .chart svg').length === 3")
    wait(window, f"return document.documentElement.scrollWidth <= {width}")
    if width >= 1280:  # on a small screen, the table of persons scrolls in its place
        place = "document.querySelector('.panel > div:last-child .scroll')"
        wait(window, f"return {place}.scrollWidth - {place}.clientWidth === 0")


def test_light_and_dark_follow_the_system(window: Any) -> None:
    colours = (
        "const style = getComputedStyle; const bar = document.querySelector('[data-chart=ages] .mark-rect path');"
        "return [style(document.body).backgroundColor, style(bar).fill]"
    )
    for scheme, expected in (
        ("light", ["rgb(246, 245, 241)", "rgb(47, 111, 106)"]),
        ("dark", ["rgb(20, 23, 27)", "rgb(111, 184, 174)"]),
    ):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        soon(window, lambda: window.execute_script(colours), expected)
