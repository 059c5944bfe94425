"""Headless Chromium, driven by selenium. Tests that need it are skipped if it is absent."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.patience import PATIENCE_S

OFFLINE = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
)


@contextmanager
def chromium(width: int = 1280, height: int = 860, *, dark: bool = False) -> Iterator[Any]:
    """Yield a window of Chromium that logs its console and its requests. Skip the test if there is no Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the package selenium")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs Chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (*OFFLINE, f"--window-size={width},{height}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield window
    finally:
        window.quit()


def eventually(window: Any, condition: Callable[[], Any], what: str = "") -> Any:
    """Return the first true answer of `condition`: a busy browser follows a key or a click some moments later."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    patient = WebDriverWait(window, PATIENCE_S, ignored_exceptions=[StaleElementReferenceException])
    return patient.until(lambda _: condition(), what)


def wait_for(window: Any, text: str) -> None:
    """Wait until the page shows `text`."""
    eventually(window, lambda: text in window.find_element("tag name", "body").text, f"the page does not show {text!r}")


def press(window: Any, *keys: str) -> None:
    """Press keys, wherever the focus is."""
    from selenium import webdriver

    webdriver.ActionChains(window).send_keys(*keys).perform()
