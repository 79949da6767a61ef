"""A headless Chromium for the tests that need a real page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Two tabs are looked at in turn; the one behind must go on as if it were in front.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)


def program(*names: str) -> str:
    """The path of the first of ``names`` that is installed; a test that needs it fails when none is."""
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.fail(f"{names[0]} is not installed: run tests/parts.sh, or apt-get install chromium chromium-driver", False)


@contextmanager
def chromium(profile: Path, size: tuple[int, int] = (1100, 760)) -> Iterator[webdriver.Chrome]:
    """A fresh browser with its profile under ``profile``."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "google-chrome")
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument(f"--window-size={size[0]},{size[1]}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(program("chromedriver")))
    try:
        driver.set_page_load_timeout(20)
        driver.set_script_timeout(10)
        yield driver
    finally:
        driver.quit()


class ChatTab:
    """The tab in front, which shows the chat page, as its reader sees it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.handle = driver.current_window_handle

    @classmethod
    def open(cls, driver: webdriver.Chrome, base: str, name: str, room: str = "lobby") -> ChatTab:
        """A new tab in which ``name`` joins ``room``."""
        driver.switch_to.new_window("tab")
        driver.get(f"{base}/?{urlencode({'room': room, 'name': name})}")
        return cls(driver)

    def front(self) -> None:
        if self.driver.current_window_handle != self.handle:
            self.driver.switch_to.window(self.handle)

    def wait(self, what: Callable[[], Any], told: str, timeout: float = 15) -> Any:
        """The first true value of ``what()``; fails with ``told`` when there is none in time."""
        self.front()
        gone = (NoSuchElementException, StaleElementReferenceException)
        return WebDriverWait(self.driver, timeout, 0.05, ignored_exceptions=gone).until(lambda _: what(), told)

    def texts(self, selector: str) -> list[str]:
        self.front()
        script = "return [...document.querySelectorAll(arguments[0])].map(found => found.textContent)"
        texts: list[str] = self.driver.execute_script(script, selector)
        return texts

    @property
    def state(self) -> str:
        """``connected``, ``waiting``, ... as on the page's connection label."""
        self.front()
        return self.driver.find_element(By.ID, "link").get_attribute("data-state") or ""

    @property
    def state_text(self) -> str:
        return self.texts("#link-text")[0]

    @property
    def messages(self) -> list[str]:
        return self.texts(".message:not(.pending) .bubble")

    @property
    def pending(self) -> list[str]:
        return self.texts(".message.pending .bubble")

    @property
    def people(self) -> list[str]:
        return self.texts("#people li > span:last-child")

    def type(self, text: str) -> None:
        self.front()
        self.driver.find_element(By.ID, "text").send_keys(text)

    def say(self, text: str) -> None:
        self.type(text + Keys.ENTER)

    def connected(self, timeout: float = 15) -> None:
        self.wait(lambda: self.state == "connected", "the page did not connect", timeout)

    def reads(self, text: str, timeout: float = 15) -> None:
        self.wait(lambda: text in self.messages, f"{text!r} did not arrive", timeout)

    def errors(self) -> list[str]:
        """What the page's scripts complained of. A refused connection is the network's complaint, not the page's."""
        self.front()
        log: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["source"] not in ("network", "javascript-network")]
