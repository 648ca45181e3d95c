"""The example's page in headless Chromium: press a button, see the right values die."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from servers.process import wait_until

from tests.fix_example import ALL, KILLS, Demo
from tests.fix_servers import available, missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

pytestmark = pytest.mark.slow

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1440,1000",
]
# What a page needs only milliseconds for, on a machine that may be busy with other things.
SOON = 30.0


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if not available()["chromium"]:
        pytest.skip(missing("chromium"))
    with running_chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@contextmanager
def running_chromium(profile: Path, *flags: str) -> Iterator[Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in (*FLAGS, *flags):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What somebody in front of the page sees and does."""

    def __init__(self, driver: Chrome, demo: Demo) -> None:
        self.driver = driver
        self.origin = demo.url.rstrip("/")
        driver.get(demo.url)

    def script(self, words: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {words}", *arguments)

    def text(self, selector: str) -> str:
        return str(self.script("document.querySelector(arguments[0]).textContent.trim()", selector))

    def press(self, action: str) -> None:
        button = f"[data-action='{action}'] button"
        self.script("document.querySelector(arguments[0]).click()", button)

    def deaths(self) -> dict[str, int]:
        """How often each value has died since the page was opened."""
        return {
            key: int(count)
            for key, count in self.script(
                "[...document.querySelectorAll('.card')]"
                ".map((card) => [card.dataset.key, card.dataset.deaths])"
            )
        }

    def badges(self) -> dict[str, str]:
        return dict(
            self.script(
                "[...document.querySelectorAll('.card')].map((card) => "
                "[card.dataset.key, card.querySelector('.badge').textContent])"
            )
        )

    def card(self, key: str) -> str:
        return str(
            self.script("document.querySelector(`[data-key='${arguments[0]}']`).innerText", key)
        )

    def beside(self, key: str) -> tuple[str, ...]:
        """The cached and the true value of the first row in which they differ."""
        cells = "`[data-key='${arguments[0]}'] tr:has(.true) :is(.wrong, .true)`"
        found = self.script(f"[...document.querySelectorAll({cells})].map((c) => c.innerText)", key)
        return tuple(found[:2])

    def read(self, key: str) -> str:
        """How the value was read."""
        return self.text(f"[data-key='{key}'] .read")

    def nudge(self, number: int) -> str:
        """The text of one nudge in the list, once it has come."""
        item = "document.querySelector(`#nudges [data-number='${arguments[0]}']`)"
        return str(self.script(f"{item}?.innerText ?? ''", number))

    def newest_nudge(self) -> int:
        return int(self.script("document.querySelector('#nudges li')?.dataset.number ?? 0"))

    def all_fresh(self) -> bool:
        return set(self.badges().values()) == {"fresh"}


@pytest.fixture
def page(chromium: Chrome, demo: Demo) -> Iterator[Page]:
    demo.settle()
    page = Page(chromium, demo)
    wait_until(page.all_fresh, "the page to show fresh values", timeout=SOON)
    yield page
    errors = [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []


def test_the_page_shows_every_value_with_its_age_and_how_it_was_read(page: Page) -> None:
    assert set(page.badges()) == ALL
    wait_until(lambda: "hit" in page.card("products"), "a hit", timeout=SOON)
    wait_until(lambda: " s old" in page.card("products"), "an age in seconds", timeout=SOON)
    assert "Espresso beans" in page.card("products")
    assert page.text("#daemon-word") == "runnudge is reading"
    assert "pgoutput" in page.text("#daemon-detail")


@pytest.mark.parametrize("action", KILLS)
def test_a_button_shows_the_values_it_killed_and_the_nudge_that_did(
    page: Page, action: str
) -> None:
    newest = page.newest_nudge()
    page.press(action)
    wait_until(
        lambda: {key for key, count in page.deaths().items() if count} >= KILLS[action],
        f"the page to show that {KILLS[action]} died",
        timeout=SOON,
    )
    wait_until(page.all_fresh, "fresh values", timeout=SOON)
    # A later one may stand above it: TRUNCATE is told again when a proof finds the tables new.
    nudge = wait_until(lambda: page.nudge(newest + 1), "the nudge in the list", timeout=SOON)
    assert {key for key, count in page.deaths().items() if count} == KILLS[action]
    assert (
        set(page.text("#killed").removeprefix("Killed and refilled: ").split(", "))
        == (KILLS[action])
    )
    assert " ms" in nudge.splitlines()[0]
    assert page.text("#said-text") not in {"", "Press a button and watch the values."}


@pytest.mark.parametrize(
    ("action", "moved", "deleted"),
    [
        (
            "raw-sql",
            ["public.shop_product 1 row, pk 3"],
            "deleted category:1, category:2, price:3, products, 2 tokens",
        ),
        (
            "truncate-orders",
            ["public.shop_order any row", "public.shop_orderline any row"],
            "deleted orders, sales",
        ),
        ("order", ["public.shop_orderline 2 rows, pk "], "deleted orders, sales"),
        ("bulk", ["public.shop_pageview 500 rows, pk ", " and 497 more"], "deleted views:2026-10"),
    ],
)
def test_a_nudge_says_what_moved_and_what_it_deleted(
    page: Page, action: str, moved: list[str], deleted: str
) -> None:
    number = page.newest_nudge() + 1
    page.press(action)
    text = wait_until(lambda: page.nudge(number), "the nudge", timeout=SOON)
    for words in moved:
        assert words in text
    assert text.splitlines()[-1] == deleted


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("menu()", "@nudged(Product, timeout=3600)"),
        ("tag(3)", "nudged.row(Product, pk)"),
        ("window()", "it uses tag(1) and tag(3)"),
        ("fragment office", "shop_category, shop_product, shop_product_categories"),
        ("prices.json", "the cookie currency"),
    ],
)
def test_the_card_of_a_nudged_value_says_what_ends_it(page: Page, key: str, words: str) -> None:
    assert words in page.card(key)
    wait_until(lambda: page.read(key) == "hit", "a hit", timeout=SOON)


def test_the_line_for_psql_is_copied_by_keyboard(page: Page) -> None:
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": page.origin},
    )
    page.driver.find_element(By.ID, "copy").send_keys(Keys.ENTER)
    wait_until(lambda: page.text("#copy") == "Copied", "the answer", timeout=SOON)
    copied = page.driver.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], (error) => arguments[0](`${error}`))"
    )
    assert copied == page.text("#psql")
    assert copied.startswith("psql ")


def test_all_that_scrolls_can_be_reached_by_keyboard(page: Page) -> None:
    assert page.script(
        "[...document.querySelectorAll('pre, #nudges')]"
        ".every((each) => each.tabIndex === 0 && each.matches('[aria-label], [aria-labelledby]'))"
    )


def test_the_page_loads_nothing_from_elsewhere(page: Page) -> None:
    loaded = page.script("performance.getEntriesByType('resource').map((each) => each.name)")
    assert loaded
    assert all(address.startswith(page.origin) for address in loaded)


def test_a_killed_value_is_replaced_by_the_one_in_the_database(page: Page) -> None:
    assert "59.00" in page.card("price:3")
    page.press("raw-sql")
    wait_until(lambda: "60.00" in page.card("price:3"), "the new price", timeout=SOON)
    # The page reads one value after the other, so this one's death may show a look later.
    wait_until(
        lambda: "59.00" not in page.card("products"), "the new list of products", timeout=SOON
    )


def test_a_rolled_back_write_shows_no_death_and_no_nudge(page: Page) -> None:
    newest = page.newest_nudge()
    page.press("rollback")
    wait_until(lambda: "ROLLBACK" in page.text("#said-text"), "the answer", timeout=SOON)
    page.press("partition")
    wait_until(lambda: page.deaths()["views:2026-11"], "the death after it", timeout=SOON)
    wait_until(lambda: page.newest_nudge() > newest, "the nudge after it", timeout=SOON)
    assert page.newest_nudge() == newest + 1
    assert {key for key, count in page.deaths().items() if count} == {"views:2026-11"}


def test_a_write_in_another_terminal_shows_without_a_button(page: Page, demo: Demo) -> None:
    done = demo.manage(
        "shell",
        "--no-imports",
        "-c",
        "from shop.models import Product; Product.objects.filter(pk=2).update(stock=1234)",
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: "1234" in page.card("product:2"), "the new stock", timeout=SOON)


@pytest.mark.usefixtures("resumed")
def test_with_runnudge_paused_the_page_says_stale_and_then_fresh_again(page: Page) -> None:
    click = "document.getElementById('daemon-button').click()"
    page.script(click)
    wait_until(lambda: page.text("#daemon-word") == "runnudge is paused", "the pause", timeout=SOON)
    # The site says so at once, the supervisor holds the process a moment later.
    wait_until(lambda: _paused_write(page), "a stale price", timeout=SOON)
    assert page.script("document.getElementById('figure-fresh').className") == "bad"
    # The plain value stays as it was; a nudged one is served until its lease is over.
    wait_until(lambda: page.read("tag(3)") == "computed", "the lease to be over", timeout=SOON)
    assert page.badges()["tag(3)"] == "fresh"
    cached, actual = page.beside("price:3")
    assert float(actual) > float(cached) == 59
    wait_until(lambda: actual in page.card("tag(3)"), "the true price on both cards", timeout=SOON)
    assert page.badges()["price:3"] == "STALE"
    page.script(click)
    wait_until(
        lambda: page.text("#daemon-word") == "runnudge is reading", "it to go on", timeout=SOON
    )
    wait_until(page.all_fresh, "fresh values", timeout=SOON)
    assert page.beside("price:3") == ()
    assert page.script(
        "[...document.querySelectorAll('.card thead')].every((columns) => columns.hidden)"
    )


@pytest.fixture
def resumed(demo: Demo) -> Iterator[None]:
    """Whatever the test finds: those after it need runnudge."""
    yield
    demo.press("daemon/resume/")


def _paused_write(page: Page) -> bool:
    if page.badges()["price:3"] != "STALE":
        page.press("raw-sql")
    return page.badges()["price:3"] == "STALE"


def test_the_buttons_work_by_keyboard_and_announce_their_answer(page: Page) -> None:
    button = page.driver.find_element(By.CSS_SELECTOR, "[data-action='update'] button")
    button.send_keys(Keys.ENTER)
    wait_until(lambda: "filter papers" in page.text("#said-text"), "the answer", timeout=SOON)
    assert page.script("document.getElementById('said').getAttribute('aria-live')") == "polite"


@pytest.mark.parametrize("width", [360, 390, 820, 1280, 1440])
def test_nothing_sticks_out_at_any_width(page: Page, width: int) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        assert page.script("document.documentElement.scrollWidth <= window.innerWidth")
        # What a block of code hides on its right is scrolled to in the block.
        right = page.script(
            "Math.max(...[...document.querySelectorAll('body *:not(pre > code)')]"
            ".map((each) => each.getBoundingClientRect().right))"
        )
        assert right <= width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
