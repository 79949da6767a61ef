"""Two people chat in a real browser, in the talk's version and in the Channels 4 version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.flows.browser import ChatTab, chromium
from tests.flows.processes import EXAMPLES, Site, free_port

pytestmark = pytest.mark.timeout(150)
EDITIONS = ["talk", "channels4"]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path / "profile") as driver:
        yield driver


@pytest.mark.parametrize("edition", EDITIONS)
def test_two_tabs_chat(edition: str, driver: webdriver.Chrome, tmp_path: Path) -> None:
    site, port = Site(EXAMPLES / edition, tmp_path / "layer"), free_port()
    base = f"http://127.0.0.1:{port}"
    with site.server(port), site.workers(2 if edition == "talk" else 0):
        ada, ben = ChatTab.open(driver, base, "Ada"), ChatTab.open(driver, base, "Ben")
        ada.connected()
        ben.connected()
        ada.wait(lambda: ada.people == ["Ada (you)", "Ben"], "Ada does not see who is here")
        ben.wait(lambda: ben.people == ["Ben (you)", "Ada"], "Ben does not see who is here")
        ada.say("Hello, Ben")
        ben.reads("Hello, Ben")
        ben.say("Hello, Ada ✓ <b>not bold</b>")
        ada.reads("Hello, Ada ✓ <b>not bold</b>")
        assert ada.texts(".message.mine .bubble") == ["Hello, Ben"]
        assert ben.texts(".message:not(.mine) .bubble") == ["Hello, Ben"]
        assert ada.texts(".day") == ["Today"]
        assert len(ada.texts(".message time")) == 2
        ben.type("I am writing")
        ada.wait(lambda: ada.texts("#typing") == ["Ben is typing…"], "no typing notice")
        ada.wait(lambda: ada.texts("#typing") == [""], "the typing notice stayed")
        assert not ada.errors()
        assert not ben.errors()
        ben.front()
        driver.close()
        driver.switch_to.window(ada.handle)
        ada.wait(lambda: ada.people == ["Ada (you)"], "Ben is still here")
        assert "Ben left" in ada.texts(".note")


@pytest.mark.parametrize("edition", EDITIONS)
def test_messages_written_while_the_server_is_away_are_sent_later(
    edition: str, driver: webdriver.Chrome, tmp_path: Path
) -> None:
    site, port = Site(EXAMPLES / edition, tmp_path / "layer"), free_port()
    base = f"http://127.0.0.1:{port}"
    with site.workers(2 if edition == "talk" else 0):
        with site.server(port) as server:
            ada, ben = ChatTab.open(driver, base, "Ada"), ChatTab.open(driver, base, "Ben")
            ada.connected()
            ben.connected()
            server.terminate()
        ada.wait(lambda: ada.state in ("waiting", "connecting"), "the page did not notice")
        ada.wait(lambda: ada.state_text.startswith("Reconnecting in "), "the page did not say when it tries again")
        ada.say("written offline, 1")
        ada.say("written offline, 2")
        assert ada.pending == ["written offline, 1", "written offline, 2"]
        assert ada.messages == []
        with site.server(port):
            ada.connected(40)
            ben.connected(40)
            ada.reads("written offline, 2")
            assert ada.pending == []
            # Ben may have come back after the messages went out; what comes now reaches both.
            ada.say("online again")
            ben.reads("online again")
            assert ada.messages == ["written offline, 1", "written offline, 2", "online again"]
            ben.wait(lambda: ben.people == ["Ben (you)", "Ada"], "the list of who is here is wrong")


def test_joining_by_keyboard_alone(driver: webdriver.Chrome, tmp_path: Path) -> None:
    site, port = Site(EXAMPLES / "channels4", tmp_path / "layer"), free_port()
    with site.server(port):
        driver.get(f"http://127.0.0.1:{port}/?room=Tea%20room")
        driver.switch_to.active_element.send_keys("Grace Hopper" + Keys.ENTER)
        tab = ChatTab(driver)
        tab.connected()
        assert tab.texts("#room") == ["tea-room"]
        assert driver.switch_to.active_element.get_attribute("id") == "text"
        driver.switch_to.active_element.send_keys("one" + Keys.SHIFT + Keys.ENTER + Keys.NULL + "two" + Keys.ENTER)
        tab.reads("one\ntwo")
        # The name is kept for the next visit.
        driver.get(f"http://127.0.0.1:{port}/")
        tab.connected()
        assert tab.people == ["Grace Hopper (you)"]


@pytest.mark.parametrize("width", [320, 390, 760, 1400])
def test_the_page_fits(width: int, driver: webdriver.Chrome, tmp_path: Path) -> None:
    site, port = Site(EXAMPLES / "channels4", tmp_path / "layer"), free_port()
    with site.server(port):
        size = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": width < 700}
        tab = ChatTab.open(driver, f"http://127.0.0.1:{port}", "A name that is as long as names may get.")
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        tab.connected()
        tab.say("unbroken" * 40)
        tab.reads("unbroken" * 40)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        for control in ("text", "send", "settings"):
            box = driver.find_element(By.ID, control).rect
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= 700
