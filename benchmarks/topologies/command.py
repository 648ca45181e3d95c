"""`python -m benchmarks topologies`: a table of the caches that sites have."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from servers.postgres import Postgres
from servers.process import wait_until

from benchmarks import ROOT
from benchmarks.local import child_environment, choose_installation, start_runnudge
from benchmarks.topologies.shapes import shapes

if TYPE_CHECKING:
    import argparse

    from benchmarks.topologies.shapes import Running, Shape

DATABASE: Final = "site"
LEASE: Final = 2.0
COLUMNS: Final = ("cache", "reads", "hits", "stale past the lease", "stalest, s", "failover")

TABLE: Final = """
CREATE TABLE site_item (id bigint PRIMARY KEY, number bigint NOT NULL);
INSERT INTO site_item SELECT n, 0 FROM generate_series(1, 20) n
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=20.0, help="of each (default: 20)")
    parser.add_argument("--only", default="", metavar="WORDS", help="those with these words")
    parser.add_argument("--server", help="pg15, pg16 …: one of this machine's")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table there, too")


def main(options: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = []
    is_right = True
    chosen = [shape for shape in shapes() if options.only in shape.name]
    with Postgres(choose_installation(options.server)) as postgres:
        for shape in chosen:
            if shape.lacks:
                rows.append((shape.name, f"not here: no {shape.lacks}", "", "", "", ""))
            else:
                found = measure(shape, postgres, options.seconds)
                is_right = is_right and not complaints(shape, found)
                rows.append(_row(shape, found))
                for complaint in complaints(shape, found):
                    print(f"{shape.name}: {complaint}", file=sys.stderr)
            print(_line(rows[-1]), flush=True)
    table = "\n".join([_line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows), ""])
    if options.table:
        options.table.write_text(table, encoding="utf-8")
    return 0 if is_right and chosen else 1


def measure(shape: Shape, postgres: Postgres, seconds: float) -> dict[str, Any]:
    """What the site's process saw, with a failover at half time where there can be one."""
    with ExitStack() as stack:
        postgres.create_database(DATABASE)
        stack.callback(postgres.drop_database, DATABASE)
        postgres.execute(TABLE, DATABASE)
        folder = Path(tempfile.mkdtemp(prefix="pgnudge-topology-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        running = stack.enter_context(shape.open())
        environment = _environment(postgres, running)
        if "DatabaseCache" in running.cache["BACKEND"]:
            command = [sys.executable, "-m", "django", "createcachetable"]
            subprocess.run(command, env=environment, cwd=ROOT, check=True)
        log = folder / "runnudge"
        daemon = start_runnudge(environment, log)
        stack.callback(daemon.end)
        wait_until(lambda: "Connected" in log.read_text() or not daemon.alive, "runnudge")
        if not daemon.alive:
            raise RuntimeError(log.read_text())
        found = _site(environment, seconds, running)
        return {**found, "failover": running.fail_over is not None, "log": log.read_text()}


def complaints(shape: Shape, found: dict[str, Any]) -> list[str]:
    """What is not as it is to be."""
    said = [
        (bool(found["stale"]), f"{found['stale']} values were stale past the lease"),
        (bool(found["left"]), f"{found['left']} keys were left that a rule names"),
        (bool(found["errors"]), f"{found['errors']}"),
        (not found["reads"], "nothing was read"),
        (bool(found["hits"]) == shape.refused, f"{found['hits']} hits"),
    ]
    return [words for is_wrong, words in said if is_wrong]


def _site(environment: dict[str, str], seconds: float, running: Running) -> dict[str, Any]:
    site = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.topologies.worker", str(seconds), str(LEASE)],
        env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert site.stdout is not None
        assert site.stdin is not None
        for line in site.stdout:
            if line != "half\n":
                found: dict[str, Any] = json.loads(line)
                return found
            if running.fail_over is not None:
                running.fail_over()
            site.stdin.write("end\n")
            site.stdin.flush()
        raise RuntimeError("the site's process ended without a word")
    finally:
        site.kill()
        site.communicate()


def _environment(postgres: Postgres, running: Running) -> dict[str, str]:
    site = {
        "database": DATABASE, "user": postgres.user, "host": postgres.host, "port": postgres.port,
        "cache": running.cache, "more": dict(running.more), "lease": LEASE,
    }  # fmt: skip
    return child_environment(
        DJANGO_SETTINGS_MODULE="benchmarks.topologies.site.settings",
        PGNUDGE_TOPOLOGY=json.dumps(site),
    )


def _row(shape: Shape, found: dict[str, Any]) -> tuple[str, ...]:
    share = "refused" if shape.refused else f"{found['hits'] / max(found['reads'], 1):.0%}"
    return (
        shape.name, f"{found['reads']:,}", share, str(found["stale"]), f"{found['stalest']:.2f}",
        "yes" if found["failover"] else "",
    )  # fmt: skip


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
