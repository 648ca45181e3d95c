"""The example shop as a user starts it: `manage.py demo` as a process, and its page's state.

| fixture | gives |
|---|---|
| `demo` | a running demo, shared by the session |
| `state_folder` | an empty state folder, for a demo of the test's own |
| `demo_factory` | makes demos of the test's own, to be stopped and killed |
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from servers.guard import started_at
from servers.installations import find_installations
from servers.process import free_port, processes_below, wait_until

from tests import ROOT
from tests.fix_servers import missing, redis_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANAGE = ROOT / "example_project" / "manage.py"
DEADLINE = 90.0
T = TypeVar("T")

PLAIN = {
    "products",
    "product:1",
    "product:2",
    "price:3",
    "category:1",
    "category:2",
    "orders",
    "sales",
    "views:2026-10",
    "views:2026-11",
}
NUDGED = {"menu()", "tag(3)", "window()", "shelves()", "fragment office", "prices.json"}
ALL = PLAIN | NUDGED
CATEGORIES = {"category:1", "category:2"}
OF_ANY_PRODUCT = {"menu()", "shelves()", "fragment office", "prices.json"}
KILLS: dict[str, set[str]] = {
    "save": {"products", "product:1", *CATEGORIES, *OF_ANY_PRODUCT, "window()"},
    "update": {"products", "product:2", *CATEGORIES, *OF_ANY_PRODUCT},
    "many-to-many": {*CATEGORIES, "shelves()", "fragment office"},
    "order": {"orders", "sales"},
    "raw-sql": {"products", "price:3", *CATEGORIES, *NUDGED},
    "cascade": {"orders", "sales"},
    "partition": {"views:2026-11"},
    "bulk": {"views:2026-10"},
    "truncate-orders": {"orders", "sales"},
    "truncate-products": ALL - {"views:2026-10", "views:2026-11"},
    "load-sample": ALL,
}
"""Each button of the page that changes something, and exactly the values it must kill."""


def children_of(pid: int) -> dict[int, str | None]:
    """The direct children of a process, each with its start time: an id may be used again."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            found[int(entry.name)] = started_at(int(entry.name))
    return found


class Demo:
    """One `manage.py demo`."""

    def __init__(self, state: Path, *options: str, port: int | None = None) -> None:
        self.state = state
        self.port = free_port() if port is None else port
        self.output = state / "test-output.txt"
        # A state folder is all that tells a command where the servers are.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PG") and name not in {"REDIS_URL", "DJANGO_SETTINGS_MODULE"}
        }
        self.environment = kept | {"PYTHONPATH": str(ROOT), "SHOP_STATE": str(state)}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, MANAGE, "demo", "--port", str(self.port), *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=ROOT,
            )
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_until_ready(self) -> Demo:
        wait_until(
            lambda: "Ctrl-C stops everything" in self.said or self.process.poll() is not None,
            "the demo to be ready",
        )
        assert self.process.poll() is None, self.said
        return self

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.wait()

    def pid_of(self, name: str) -> int:
        """The child whose command line has the word `name`."""
        for pid in children_of(self.process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if name.encode() in words:
                return pid
        raise AssertionError(f"no child {name}")

    def manage(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A management command in another terminal."""
        return subprocess.run(
            [sys.executable, MANAGE, *words],
            env=self.environment | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def get(self, path: str = "") -> str:
        with self.opener.open(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def look(self) -> dict[str, Any]:
        """The page's state: what it polls."""
        state: dict[str, Any] = json.loads(self.get("state/"))
        return state

    def values(self) -> dict[str, dict[str, Any]]:
        return {value["key"]: value for value in self.look()["values"]}

    def press(self, path: str) -> str:
        """Post as the page's form does, with its token."""
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get())
        assert token is not None
        request = urllib.request.Request(
            self.url + path,
            data=f"csrfmiddlewaretoken={token[1]}".encode(),
            headers={"Accept": "application/json"},
        )
        with self.opener.open(request, timeout=30) as answer:
            return str(json.loads(answer.read())["said"])

    def settle(self) -> dict[str, dict[str, Any]]:
        """The values once the sample is loaded and its nudge has come and gone."""
        before = self.newest_nudge()
        self.press("do/load-sample/")
        wait_until(lambda: self.newest_nudge() > before, "the nudge of the sample data")
        # It truncates its tables, which the daemon finds stored anew at its next proof: then it
        # tells them again. The second proof from here on began after the sample was loaded.
        for _ in range(2):
            proven = self.look()["daemon"]["proven"]
            wait_until(lambda: self.look()["daemon"]["proven"] != proven, "a proof")
        values: dict[str, dict[str, Any]] = wait_until(
            self.settled, "every value to be cached and fresh"
        )
        return values

    def settled(self) -> dict[str, dict[str, Any]] | None:
        values = self.values()
        return values if all(value["hit"] and value["fresh"] for value in values.values()) else None

    def newest_nudge(self) -> int:
        nudges = self.look()["nudges"]
        return int(nudges[0]["number"]) if nudges else 0

    def nudge(self, number: int) -> dict[str, Any] | None:
        """The nudge of that number, once it has come."""
        found = [each for each in self.look()["nudges"] if each["number"] == number]
        return found[0] if found else None

    def processes(self) -> set[int]:
        """Whatever lives in the state folder: the servers, runnudge and the site."""
        return set(processes_below(self.state))

    def remove(self) -> None:
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.state)


def make_state_folder() -> Path:
    # PostgreSQL runs as another user where the tests run as root, so pytest's private folders
    # would not do.
    folder = Path(tempfile.mkdtemp(prefix="pgnudge-demo-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def state_folder() -> Path:
    """An empty one; the demo that is made on it removes it."""
    return make_state_folder()


@pytest.fixture(scope="session")
def demo_requirements() -> None:
    if not find_installations(docker=False):
        pytest.skip(missing("pgoutput"))
    if redis_program() is None:
        pytest.skip(missing("redis"))


@pytest.fixture(scope="session")
def demo(demo_requirements: None) -> Iterator[Demo]:
    demo = Demo(make_state_folder())
    try:
        yield demo.wait_until_ready()
    finally:
        demo.remove()


@pytest.fixture
def demo_factory(demo_requirements: None) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []
    folders: set[Path] = set()

    def make(*options: str, state: Path | None = None, port: int | None = None) -> Demo:
        folder = state or make_state_folder()
        folders.add(folder)
        demos.append(Demo(folder, *options, port=port))
        return demos[-1]

    yield make
    for demo in demos:
        if demo.process.poll() is None:
            demo.stop()
    for folder in folders:
        shutil.rmtree(folder)
