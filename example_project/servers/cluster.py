"""Data directories: initdb, a cluster for each installation to copy, and where one may be."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from servers.process import (
    Account,
    ServerFailedError,
    can_traverse,
    identity,
    run,
    server_account,
)

if TYPE_CHECKING:
    from servers.installations import Installation

_ROOM: Final = 2 * 1024**3
"""Bytes. In a container `/dev/shm` often has 64 MB: too few for one server."""


def initdb(installation: Installation, data: Path, account: Account | None) -> None:
    """A new cluster at `data`, whose parent belongs to `account`."""
    run(
        [
            installation.program("initdb", account),
            *("-D", data, "-U", "postgres", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        ],
        account=account,
        timeout=120,
        env=environment(),
    )


@functools.cache
def cluster_template(installation: Installation, account: Account | None) -> Path:
    """A cluster to copy: initdb takes a second, a copy a tenth.

    Removed when the interpreter ends.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"pgnudge-template-{installation.name}-"))
    temporary_folders.append(folder)
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    initdb(installation, folder / "data", account)
    return folder / "data"


class _Folders(list[Path]):
    """Temporary folders of this process, removed at its end."""

    def __init__(self) -> None:
        atexit.register(self.remove_all)

    def remove_all(self) -> None:
        for folder in self:
            shutil.rmtree(folder, ignore_errors=True)


temporary_folders = _Folders()


def copy_tree(source: Path, target: Path, account: Account | None) -> None:
    try:
        subprocess.run(
            ["cp", "-a", os.fspath(source), os.fspath(target)],
            check=True,
            capture_output=True,
            text=True,
            **identity(account),
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerFailedError(f"Could not copy {source} to {target}: {error}") from error


def reachable_directory(preferred: Path) -> Path:
    """`preferred` where the server's user can get to it; for root in a private folder, one below
    /var/tmp.
    """
    account = server_account()
    if can_traverse(preferred, account):
        return preferred
    name = "-".join(preferred.absolute().parts[1:])
    return Path("/var/tmp") / f"pgnudge-{name}"


def memory_folder() -> Path | None:
    """A folder in memory with room for the servers of a few workers; None where there is none."""
    folder = Path("/dev/shm")
    try:
        room = shutil.disk_usage(folder).free
    except OSError:
        return None
    return folder if room >= _ROOM and os.access(folder, os.W_OK | os.X_OK) else None


def environment() -> dict[str, str]:
    """Ours without PG*, which would set the server's defaults, and with messages in English."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return kept | {"LC_ALL": "C"}
