"""Stops a server whose owner died.

Run as a program, with the read end of a pipe from the owner on standard input.

    python guard.py PID SIGNAL [FOLDER ...]

The pipe ends when the owner does, however it died. The guard then signals PID, kills it ten seconds
later, and removes the folders. An owner that stops its server itself kills the guard first.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def started_at(pid: int) -> str | None:
    """When the process started, which tells it from a later one of the same id.

    None where /proc does not say.
    """
    with contextlib.suppress(OSError):
        # The command in parentheses may itself contain blanks and parentheses.
        return (
            Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
        )
    return None


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(pid: int, signum: int, *folders: str) -> None:
    born = started_at(pid)
    sys.stdin.buffer.read()
    if started_at(pid) == born:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signum)
        deadline = time.monotonic() + 10
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if started_at(pid) == born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
