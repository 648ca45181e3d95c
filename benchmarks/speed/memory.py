"""What the daemon's memory grows by: in a big transaction, and in a day's worth of small commits.

The figure is the most that was resident while it worked, above what was resident before, when the
process was live and had deleted its first keys. Each case has a process of its own.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis import Redis
from servers.process import ServerFailedError, wait_until

from benchmarks.speed import stage
from benchmarks.speed.peers import pgnudge_deletes
from benchmarks.speed.report import OURS, PGNUDGE
from benchmarks.speed.site.tables import ROWS, STORED, TABLES

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator

    from benchmarks.speed.command import Run

__all__ = ["add_arguments", "measure"]

PATIENCE: Final = 300.0
QUIET: Final = 1.0
"""Seconds in which what a start leaves to be done is done."""
LAST: Final = len(TABLES) - 1
"""The number of the table written last, whose key tells that everything before is through."""

IDLE: Final = "resident when idle, MB"
ABOVE: Final = "most above idle, MB"
LEFT: Final = "left above idle, MB"


def add_arguments(parser: ArgumentParser) -> None:
    """Those of its own."""
    stage.add_arguments(parser)
    parser.set_defaults(plugin=None)
    parser.add_argument("--rows", type=int, help="of the big transaction (default 1,000,000)")
    parser.add_argument("--commits", type=int, help="small ones (default 86,400: one a second)")


def measure(run: Run) -> None:
    """Fill the report."""
    options = run.options
    rows = options.rows or (20_000 if run.quick else 1_000_000)
    commits = options.commits or (2_000 if run.quick else 86_400)
    work = {
        f"one transaction of {rows:,} rows": _big(rows),
        f"{commits:,} commits over {len(TABLES)} tables": _small(commits),
    }
    with stage.Stage(options) as servers:
        run.report.facts |= {"server": str(servers.installation), "cache": options.cache}
        plugins = [options.plugin] if options.plugin else list(servers.postgres.plugins)
        if run.quick:
            plugins = plugins[-1:]
        for each in run.rounds(3):
            for plugin in plugins:
                options.plugin = plugin
                able = [OURS] if plugin == "pgoutput" else [OURS, PGNUDGE]
                for case, sql in work.items():
                    for contender in run.in_turn(able, each):
                        _restore(servers)
                        with _process(servers, contender) as pid:
                            _one(run, servers, pid, f"{case}, {plugin}", contender, sql)
    run.report.notes.append(f"{PGNUDGE} runs without Django, which its idle size shows.")
    for case in run.report.samples:
        run.report.at_most(case, run.report.median(case, ABOVE), 20, "MB above idle")


@contextlib.contextmanager
def _process(servers: stage.Stage, contender: str) -> Iterator[int]:
    if contender == PGNUDGE:
        with pgnudge_deletes.started(servers, servers.options.plugin) as child:
            yield child.pid
    else:
        with servers.runnudge() as process:
            yield process.pid


def _one(run: Run, servers: stage.Stage, pid: int, case: str, contender: str, sql: str) -> None:
    """One contender's turn."""
    with contextlib.closing(Redis(port=servers.redis.port)) as redis:
        _wait_until_live(servers, redis)
        time.sleep(QUIET)
        idle = _resident(pid, "VmRSS")
        # The peak counts from here: proc(5), /proc/PID/clear_refs.
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        servers.postgres.execute(sql, stage.DATABASE)
        if not _goes(servers, redis, PATIENCE):
            raise ServerFailedError(f"{contender} was not through after {PATIENCE:g} s.")
        most, left = _resident(pid, "VmHWM"), _resident(pid, "VmRSS")
    run.report.add(case, contender, **{IDLE: idle, ABOVE: most - idle, LEFT: left - idle})
    run.say(f"{case}: {contender}: {idle:.1f} MB, {most - idle:+.1f} MB")


def _wait_until_live(servers: stage.Stage, redis: Redis) -> None:
    wait_until(lambda: _goes(servers, redis, 0.5), "the first key to go")


def _goes(servers: stage.Stage, redis: Redis, patience: float) -> bool:
    """Whether a key goes with a commit to the last table."""
    redis.set(STORED[LAST], 1)
    servers.postgres.execute(f"UPDATE {TABLES[LAST]} SET amount = amount + 1", stage.DATABASE)
    try:
        wait_until(lambda: not redis.exists(STORED[LAST]), "it", timeout=patience)
    except ServerFailedError:
        return False
    return True


def _resident(pid: int, name: str) -> float:
    """Megabytes, out of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ServerFailedError(f"The system does not tell the {name} of a process.")


def _restore(servers: stage.Stage) -> None:
    """Take away what the big transaction wrote; nobody listens."""
    servers.postgres.execute(
        f"TRUNCATE {TABLES[0]};"
        f"INSERT INTO {TABLES[0]} SELECT n, 0 FROM generate_series(1, {ROWS}) n",
        stage.DATABASE,
    )


def _big(rows: int) -> str:
    numbers = f"generate_series({ROWS + 1}, {ROWS + rows}) n"
    return f"INSERT INTO {TABLES[0]} SELECT n, n FROM {numbers}"


def _small(commits: int) -> str:
    tables = ", ".join(f"'{table}'" for table in TABLES)
    return f"""DO $$ DECLARE tables text[] = ARRAY[{tables}]; BEGIN
        FOR i IN 1 .. {commits} LOOP
            EXECUTE format('UPDATE %I SET amount = amount + 1 WHERE id = %s',
                           tables[1 + i % {len(TABLES)}], 1 + i % {ROWS});
            COMMIT;
        END LOOP;
    END $$"""
