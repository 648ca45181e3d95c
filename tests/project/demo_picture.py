"""The picture of the demo page: `python -m tests.project.demo_picture` makes docs/demo.png anew.

It starts the demo on an empty folder, presses buttons as a visitor does, and photographs the window
right after the last one. It needs Chromium and its driver, as the tests of the page do, and Pillow,
which the extra `bench` brings.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image
from servers.process import wait_until

from tests import ROOT
from tests.fix_example import KILLS, Demo, make_state_folder
from tests.project.test_browser import SOON, Page, running_chromium

PICTURE: Final = ROOT / "docs" / "demo.png"
SIZE: Final = (1280, 900)
# Letters with coloured edges look odd when a browser scales the picture.
FLAGS: Final = ("--hide-scrollbars", "--disable-lcd-text")
PRESSED: Final = ("update", "order", "raw-sql")


def main() -> None:
    demo = Demo(make_state_folder())
    try:
        demo.wait_until_ready()
        with (
            tempfile.TemporaryDirectory(prefix="pgnudge-picture-") as profile,
            running_chromium(Path(profile), *FLAGS) as driver,
        ):
            width, height = SIZE
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            page = Page(driver, demo)
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": "light"}]},
            )
            wait_until(page.all_fresh, "fresh values", timeout=SOON)
            wait_until(lambda: page.read("fragment office") == "hit", "a hit", timeout=SOON)
            for action in PRESSED:
                press(page, action)
            picture = Image.open(io.BytesIO(driver.get_screenshot_as_png()))
            # The page has few colours: a palette makes the file a third as large.
            picture.convert("RGB").quantize(256).save(PICTURE, optimize=True)
    finally:
        demo.remove()


def press(page: Page, action: str) -> None:
    """Press a button, and wait until all that it killed is on the page anew."""
    number, before = page.newest_nudge() + 1, page.deaths()
    page.press(action)
    wait_until(lambda: page.nudge(number), f"the nudge of {action}", timeout=SOON)
    wait_until(
        lambda: all(page.deaths()[key] > before[key] for key in KILLS[action]),
        f"the values that {action} killed",
        timeout=SOON,
    )
    wait_until(page.all_fresh, "fresh values", timeout=SOON)


if __name__ == "__main__":
    main()
