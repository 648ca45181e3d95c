"""The demo's state folder: where the servers keep their data, and how others find them.

``servers.json`` exists only while a demo runs; a lock, not the file, says whether one does.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

DEFAULT = Path(__file__).resolve().parent.parent / ".state"
VARIABLE = "SHOP_STATE"


class StateBusyError(Exception):
    """Another demo holds the folder; the text says which."""


@dataclass(frozen=True)
class State:
    """One folder, chosen by ``--state`` or the environment variable SHOP_STATE."""

    path: Path

    @classmethod
    def from_environment(cls) -> State:
        return cls(Path(os.environ.get(VARIABLE) or DEFAULT).expanduser().absolute())

    @property
    def servers_file(self) -> Path:
        return self.path / "servers.json"

    @property
    def pause_file(self) -> Path:
        """While it exists, the demo holds runnudge still."""
        return self.path / "pause"

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def read(self) -> dict[str, Any]:
        """What the running demo wrote, or nothing."""
        try:
            content = json.loads(self.servers_file.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def addresses(self) -> dict[str, str]:
        addresses = self.read().get("environment", {})
        return {str(name): str(value) for name, value in addresses.items()}

    def write(self, content: dict[str, Any]) -> None:
        """Replace the file in one step, readable by its owner only."""
        draft = self.servers_file.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=1)
        draft.replace(self.servers_file)

    def forget(self) -> None:
        self.servers_file.unlink(missing_ok=True)
        self.pause_file.unlink(missing_ok=True)

    def lock(self) -> IO[str]:
        """Hold the folder until the returned file is closed, or the process ends in any way."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = (self.path / "demo.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            other = self.read()
            who = f" (process {other['pid']})" if "pid" in other else ""
            where = f", serving {other['url']}" if "url" in other else ""
            raise StateBusyError(
                f"another demo{who} is already running on {self.path}{where}; stop it with Ctrl-C,"
                " or give this one a folder of its own with --state"
            ) from None
        return file

    def reset(self) -> None:
        """Remove what a demo made, and only that: the folder may hold other things."""
        self.forget()
        for pattern in ("postgres-*", "redis-*", "*.log"):
            for path in self.path.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
