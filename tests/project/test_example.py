"""The example project: the demo as a process, and what each write of the shop deletes."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from servers.guard import started_at
from servers.installations import find_installations
from servers.process import wait_until

from tests import ROOT
from tests.fix_example import KILLS, NUDGED, Demo, children_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow


def _nothing_is_left(demo: Demo, children: dict[int, str | None]) -> None:
    wait_until(
        lambda: not demo.processes() and not any(started_at(p) == t for p, t in children.items()),
        "the demo's processes to be gone",
        timeout=30,
    )


def test_the_demo_prints_the_address_at_which_the_site_answers(demo: Demo) -> None:
    assert demo.url in demo.said
    assert "<title>" in demo.get()
    daemon = demo.look()["daemon"]
    assert daemon["connected"]
    assert daemon["plugin"] == "pgoutput"


@pytest.mark.parametrize("action", KILLS)
def test_a_write_kills_exactly_the_values_it_changed(demo: Demo, action: str) -> None:
    before = demo.settle()
    demo.press(f"do/{action}/")

    def died() -> set[str]:
        # What nudged has only computed, for want of a lease, is not what is in the cache.
        after = wait_until(demo.settled, "every value to be cached and fresh")
        return {key for key, value in after.items() if value["made"] != before[key]["made"]}

    wait_until(lambda: died() >= KILLS[action], f"{KILLS[action]} to be killed")
    assert died() == KILLS[action]


def test_what_was_rolled_back_kills_nothing(demo: Demo) -> None:
    before = demo.settle()
    demo.press("do/rollback/")
    # Commits are nudged in their order: when this one has arrived, the other would have.
    demo.press("do/partition/")
    wait_until(
        lambda: demo.values()["views:2026-11"]["made"] != before["views:2026-11"]["made"],
        "the page views to be killed",
    )
    after = wait_until(demo.settled, "every value to be cached and fresh")
    assert {key for key in before if before[key]["made"] != after[key]["made"]} == {"views:2026-11"}


def test_the_page_tells_the_tables_and_the_time_of_a_nudge(demo: Demo) -> None:
    demo.settle()
    newest = demo.newest_nudge()
    demo.press("do/bulk/")
    wait_until(lambda: demo.newest_nudge() > newest, "the nudge")
    nudge = demo.look()["nudges"][0]
    assert [(table["name"], table["rows"]) for table in nudge["tables"]] == [
        ("public.shop_pageview", 500)
    ]
    assert nudge["ms"] > 0


def test_the_page_tells_the_keys_that_redis_has_deleted_and_no_others(demo: Demo) -> None:
    demo.settle()
    newest = demo.newest_nudge()
    demo.press("do/raw-sql/")
    nudge = wait_until(lambda: demo.nudge(newest + 1), "the nudge")
    keys = sorted(KILLS["raw-sql"] - NUDGED)
    # Its rule names price:3 for this row, and any category.
    assert nudge["deleted"]["keys"] == keys == ["category:1", "category:2", "price:3", "products"]
    assert nudge["deleted"]["more"] == 0
    # One of the table, one of the row: what any other row changes, tag(3) does not stand on.
    assert nudge["deleted"]["tokens"] == 2


def test_a_truncate_is_told_as_any_row_and_not_as_one(demo: Demo) -> None:
    demo.settle()
    newest = demo.newest_nudge()
    demo.press("do/truncate-orders/")
    nudge = wait_until(lambda: demo.nudge(newest + 1), "the nudge")
    assert {table["name"] for table in nudge["tables"]} == {
        "public.shop_order",
        "public.shop_orderline",
    }
    assert {(table["rows"], table["keys"]) for table in nudge["tables"]} == {(None, "any row")}


def test_rows_changed_twice_are_counted_once(demo: Demo) -> None:
    demo.settle()
    newest = demo.newest_nudge()
    twice = (
        "from django.db import transaction as t; from shop.models import Product; a = t.atomic();"
        "a.__enter__(); [Product.objects.filter(pk=1).update(stock=n) for n in (1, 2)];"
        "a.__exit__(None, None, None)"
    )
    done = demo.manage("shell", "--no-imports", "-c", twice)
    assert done.returncode == 0, done.stderr
    nudge = wait_until(lambda: demo.nudge(newest + 1), "the nudge")
    assert nudge["tables"] == [
        {"name": "public.shop_product", "rows": 1, "changes": 2, "keys": "pk 1"}
    ]


def test_the_card_of_a_page_shows_what_its_address_serves(demo: Demo) -> None:
    card = demo.settle()["prices.json"]
    served = json.loads(demo.get("prices.json"))
    assert (served["rows"], served["made"]) == (card["rows"], card["made"])
    request = urllib.request.Request(demo.url + "prices.json", headers={"Cookie": "currency=USD"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        other = json.loads(answer.read())
    assert other["rows"][0] == ["Espresso beans", "14.90 USD"]
    assert other["made"] > served["made"]


def test_a_value_that_names_nothing_shows_what_it_was_seen_to_read(demo: Demo) -> None:
    demo.settle()
    tables = "public.shop_category, public.shop_product, public.shop_product_categories"
    wait_until(lambda: f"PostgreSQL said that it reads {tables}" in demo.get(), "the tables")


def test_the_page_shows_the_rules_as_they_are_written(demo: Demo) -> None:
    page = html.unescape(demo.get())
    example = ROOT / "example_project"
    assert (example / "shop/templates/shop/office.html").read_text().strip() in page
    for file, first in (
        ("shop_site/settings.py", "PGNUDGE = {"),
        ("shop/cachekeys.py", "invalidates(Order,"),
        ("shop/nudged_values.py", "@nudged(Product,"),
    ):
        text = (example / file).read_text()
        text = text[text.index(first) :]
        whole = text if file.startswith("shop/") else text[: text.index("\n}\n") + 2]
        assert whole.strip() in page
    blocks = "".join(re.findall(r"<pre.*?</pre>", page, re.DOTALL))
    on_cards = re.findall(r'class="source"><code>(.*?)</code>', page)
    assert len(on_cards) == len(NUDGED)
    assert all(code in blocks for code in on_cards)


def test_the_line_for_a_terminal_changes_what_it_says(demo: Demo) -> None:
    demo.settle()
    line = re.search(r'id="psql">(.*?)</code>', demo.get(), re.DOTALL)
    assert line is not None
    words = shlex.split(html.unescape(line[1]))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "UPDATE 1\n"), done.stderr
    wait_until(lambda: ["price", "15.90"] in demo.values()["product:1"]["rows"], "the new price")


def test_a_write_in_another_terminal_is_seen(demo: Demo) -> None:
    before = demo.settle()
    done = demo.manage(
        "shell",
        "--no-imports",
        "-c",
        "from shop.models import Product; Product.objects.filter(pk=1).update(stock=7)",
    )
    assert done.returncode == 0, done.stderr
    rows = wait_until(
        lambda: (
            (now := demo.values()["product:1"])["made"] != before["product:1"]["made"]
            and now["rows"]
        ),
        "the product page to be killed",
    )
    assert ["stock", "7"] in rows


def test_while_runnudge_is_paused_values_go_stale_and_then_are_fresh_again(demo: Demo) -> None:
    demo.settle()
    demo.press("daemon/pause/")
    stopped = demo.pid_of("runnudge")
    wait_until(lambda: _state_of(stopped) == "T", "runnudge to be stopped")
    demo.press("do/raw-sql/")
    wait_until(lambda: not demo.values()["price:3"]["fresh"], "a stale price")
    stale = demo.values()["price:3"]
    assert (stale["rows"], stale["truth"]) == ([["Desk lamp", "59.00"]], [["Desk lamp", "60.00"]])
    assert demo.look()["daemon"]["paused"]
    # A value of nudged is served until the lease is over, and then computed.
    wait_until(
        lambda: (
            not (tag := demo.values()["tag(3)"])["hit"] and tag["rows"] == [["Desk lamp", "60.00"]]
        ),
        "the nudged price to be computed",
    )
    assert not demo.values()["price:3"]["fresh"]
    demo.press("daemon/resume/")
    wait_until(lambda: all(v["fresh"] for v in demo.values().values()), "fresh values")


def _state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_write_without_the_forms_token_is_refused(demo: Demo) -> None:
    request = urllib.request.Request(demo.url + "do/save/", data=b"")
    with pytest.raises(urllib.error.HTTPError) as caught:
        demo.opener.open(request, timeout=30)
    with caught.value:
        assert caught.value.code == 403


def test_the_models_and_the_migrations_agree(demo: Demo) -> None:
    done = demo.manage("makemigrations", "--check", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_migrations_can_be_undone(demo: Demo) -> None:
    create = "from django.db import connection as c; c.cursor().execute('CREATE DATABASE undone')"
    done = demo.manage("shell", "--no-imports", "-c", create)
    assert done.returncode == 0, done.stderr
    elsewhere = {"PGDATABASE": "undone"}
    for words in (["migrate", "--no-input"], ["loadsample"]):
        done = demo.manage(*words, **elsewhere)
        assert done.returncode == 0, done.stderr
    done = demo.manage("migrate", "shop", "zero", "--no-input", **elsewhere)
    assert done.returncode == 0, done.stderr
    done = demo.manage(
        "shell",
        "--no-imports",
        "-c",
        "from django.db import connection as c; k = c.cursor();"
        "print(c.introspection.table_names(k), end=' ');"
        "k.execute('SELECT count(*) FROM pg_publication'); print(k.fetchone())",
        **elsewhere,
    )
    assert done.stdout.split("\n")[0] == "['django_migrations'] (0,)", done.stderr


def test_a_second_demo_on_the_same_state_folder_says_who_has_it(demo: Demo) -> None:
    second = demo.manage("demo", "--port", "0")
    assert second.returncode == 1
    assert f"process {demo.process.pid}" in second.stderr
    assert demo.url in second.stderr
    assert str(demo.state) in second.stderr
    assert "--state" in second.stderr
    assert demo.look()["daemon"]["connected"]


def test_a_busy_port_is_reported_in_words_before_anything_is_started(
    demo_factory: Callable[..., Demo],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        demo = demo_factory(port=port)
        assert demo.wait() == 1
    assert f"port {port} is in use by another program" in demo.said
    assert "--port" in demo.said
    assert "Traceback" not in demo.said
    assert not list(demo.state.glob("postgres-*"))


def test_an_unknown_version_of_postgresql_is_refused_with_those_found(
    demo_factory: Callable[..., Demo],
) -> None:
    demo = demo_factory("--postgres", "7")
    assert demo.wait() == 1
    assert "no PostgreSQL 7 was found" in demo.said
    assert "Traceback" not in demo.said


def test_a_data_folder_that_is_a_link_is_refused(
    demo_factory: Callable[..., Demo], state_folder: Path
) -> None:
    target = state_folder / "target"
    target.mkdir(mode=0o755)
    for installation in find_installations(docker=False):
        (state_folder / f"postgres-{installation.version[0]}").symlink_to(target)
    demo = demo_factory(state=state_folder)
    assert demo.wait() == 1
    assert "is a link or belongs to somebody else" in demo.said
    assert not list(target.iterdir())


def test_ctrl_c_stops_everything_and_a_second_start_finds_the_data(
    demo_factory: Callable[..., Demo],
) -> None:
    first = demo_factory().wait_until_ready()
    first.press("do/save/")
    children = children_of(first.process.pid)
    assert len(first.processes()) >= 4
    assert first.stop(signal.SIGINT) == 0
    _nothing_is_left(first, children)
    assert "Everything is stopped" in first.said
    assert not (first.state / "servers.json").exists()

    second = demo_factory(state=first.state).wait_until_ready()
    assert ["price", "15.90"] in second.values()["product:1"]["rows"]
    children = children_of(second.process.pid)
    assert second.stop(signal.SIGTERM) == 0
    _nothing_is_left(second, children)

    third = demo_factory("--reset", state=first.state).wait_until_ready()
    assert ["price", "14.90"] in third.values()["product:1"]["rows"]
    assert third.stop() == 0


def test_a_child_that_dies_is_named_and_takes_the_demo_with_it(
    demo_factory: Callable[..., Demo],
) -> None:
    demo = demo_factory().wait_until_ready()
    children = children_of(demo.process.pid)
    os.kill(demo.pid_of("runnudge"), signal.SIGKILL)
    assert demo.wait() == 1
    assert "runnudge was killed by signal 9. Its log ends:" in demo.said
    assert "Traceback" not in demo.said
    _nothing_is_left(demo, children)


def test_a_killed_demo_leaves_no_process_and_can_be_started_again(
    demo_factory: Callable[..., Demo],
) -> None:
    demo = demo_factory().wait_until_ready()
    children = children_of(demo.process.pid)
    demo.stop(signal.SIGKILL)
    _nothing_is_left(demo, children)
    again = demo_factory(state=demo.state).wait_until_ready()
    assert again.look()["daemon"]["connected"]
