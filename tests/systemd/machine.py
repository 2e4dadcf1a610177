"""A systemd of its own, in namespaces: it sees the machine's files read-only, the project under /opt, and no network."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.drive import DriveServer

ROOT = Path(__file__).resolve().parents[2]
BOOT = Path(__file__).with_name("boot.sh")
COMES_UP_WITHIN_S = 20.0
OLDEST = 250
"""The systemd that INSTALL.md asks for."""
TOOLS = ("unshare", "nsenter", "setpriv", "mount", "systemctl", "journalctl", "useradd", "ldconfig")
PROGRAMS = (Path("/usr/lib/systemd/systemd"), Path("/lib/systemd/systemd"))
TARGETS = (
    "sysinit basic multi-user sockets slices timers paths local-fs shutdown umount network network-online"
)
JOURNAL = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")
OF_ETC = (
    "passwd group login.defs nsswitch.conf hosts localtime os-release ld.so.conf ld.so.conf.d alternatives"
)
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NEW_NETWORK = 0x40000000


class CannotRun(Exception):
    """No systemd can be booted here; the text says why."""


def hindrance() -> str:
    """Return what this machine lacks; empty: it may work."""
    if os.geteuid() != 0:
        return "only root may make the namespaces in which a systemd can boot"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=SEARCHED) is None]
    if missing:
        return f"this machine has no {', '.join(missing)}"
    if not any(program.exists() for program in PROGRAMS):
        return "systemd is not on this machine"
    told = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout
    if int(told.split()[1]) < OLDEST:
        return f"systemd {told.split()[1]} is older than the unit needs"
    if "0::" not in Path("/proc/self/cgroup").read_text():
        return "the kernel has no unified cgroup hierarchy"
    if sysconfig.get_path("purelib") != sysconfig.get_path("platlib"):
        return "the packages of this interpreter lie in two places"
    for place in (Path(sys.base_prefix), Path(sysconfig.get_path("purelib"))):
        if place.stat().st_mode & 0o005 != 0o005:
            return f"the service's account may not read {place}"
    return ""


class Machine:
    """What `systemctl` talks to, between `start` and `stop`.

    Args:
        home: an empty directory; everything the machine needs beside memory lies there.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._boot: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of its systemd, as seen from outside."""

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Boot it.

        Raises:
            CannotRun: it did not come up; nothing is left of it.
        """
        self._prepare()
        with (self._home / "boot.log").open("wb") as log:
            self._boot = subprocess.Popen(
                ["unshare", "--mount", "sh", str(BOOT), "outside", str(self._home)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"PATH": SEARCHED},
                start_new_session=True,
            )
        try:
            self._come_up(time.monotonic() + COMES_UP_WITHIN_S)
        except CannotRun:
            self.stop()
            raise

    def stop(self) -> None:
        """End every process of it; its mounts and cgroups end with them."""
        if self._boot is None:
            return
        assert self._boot.stdin is not None
        assert self._boot.stdout is not None
        self._boot.stdin.close()
        try:
            self._boot.wait(30)
        finally:
            self._boot.stdout.close()
            self._boot = None

    def _come_up(self, end: float) -> None:
        assert self._boot is not None
        assert self._boot.stdout is not None
        ready, _, _ = select.select([self._boot.stdout], [], [], max(0.0, end - time.monotonic()))
        line = os.read(self._boot.stdout.fileno(), 64).strip() if ready else b""
        if not line:
            raise CannotRun(self._said("no namespace can be made"))
        unshare, state = Path(f"/proc/{int(line)}"), ""
        while time.monotonic() < end:
            if (unshare / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                raise CannotRun(self._said("systemd did not start in namespaces"))
            self.pid = _systemd_below(unshare)
            if self.pid:
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.05)
        raise CannotRun(self._said(f"systemd did not come up (it is {state or 'silent'})"))

    def _said(self, what: str) -> str:
        said = (self._home / "boot.log").read_text(errors="replace").strip().splitlines()
        return f"{what}: {said[-1]}" if said else what

    # ── what lies in it ──────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self) -> None:
        for name in ("cgroup", "dev", "etc", "opt"):
            (self._home / name).mkdir()
        (self._home / "systemd").write_text(str(next(path for path in PROGRAMS if path.exists())))
        self._prepare_etc(self._home / "etc")
        self._prepare_program(self._home / "opt")

    def _prepare_etc(self, etc: Path) -> None:
        for name in OF_ETC.split():
            found, copy = Path("/etc", name), etc / name
            copy.parent.mkdir(exist_ok=True)
            if found.is_dir():
                shutil.copytree(found, copy, symlinks=True)
            elif found.is_file():
                shutil.copy(found, copy)
        for name in ("passwd", "group"):
            lines = (etc / name).read_text().splitlines(keepends=True)
            # It may be installed on this machine; the account is made as the notes say.
            (etc / name).write_text("".join(line for line in lines if not line.startswith("sdd-dicom:")))
        (etc / "machine-id").write_text(f"{int.from_bytes(os.urandom(16)):032x}\n")
        # A line for each message, however many come at once; and no word to the kernel's audit.
        (etc / "systemd/system").mkdir(parents=True)
        (etc / "systemd/journald.conf").write_text(
            "[Journal]\nRateLimitIntervalSec=0\nAudit=no\nReadKMsg=no\n"
        )
        few = etc / "systemd/few"
        (few / "sysinit.target.wants").mkdir(parents=True)
        units = Path(next(path for path in PROGRAMS if path.exists())).parent / "system"
        for name in (*(f"{target}.target" for target in TARGETS.split()), *JOURNAL):
            shutil.copy(units / name, few / name)
        for name in JOURNAL:
            (few / "sysinit.target.wants" / name).symlink_to(f"../{name}")

    def _prepare_program(self, opt: Path) -> None:
        """Lay out /opt/sdd-dicom as `python3 -m venv` and `pip install .` would, without installing anything."""
        binds = []
        base, version = Path(sys.base_prefix).resolve(), "python{}.{}".format(*sys.version_info)
        if not base.is_relative_to("/usr"):
            # It may lie where the service sees nothing: in a home, in /tmp, in the machine's own /opt.
            (opt / "python").mkdir()
            binds.append((base, opt / "python"))
            (self._home / "etc/ld.so.conf.d").mkdir(exist_ok=True)
            (self._home / "etc/ld.so.conf.d/of-the-test.conf").write_text("/opt/python/lib\n")
            base = Path("/opt/python")
        venv = opt / "sdd-dicom"
        packages = venv / "lib" / version / "site-packages"
        (venv / "bin").mkdir(parents=True)
        packages.mkdir(parents=True)
        binds.append((Path(sysconfig.get_path("purelib")).resolve(), packages))
        (venv / "bin/python").symlink_to(base / "bin" / version)
        (venv / "pyvenv.cfg").write_text(f"home = {base}/bin\ninclude-system-site-packages = false\n")
        program = venv / "bin/sdd-dicom"
        program.write_text(
            "#!/opt/sdd-dicom/bin/python\n"
            "import sys\n"
            "sys.path.insert(0, '/opt/sdd-dicom/project')\n"
            "from daemon.cli.app import main\n"
            "main()\n"
        )
        program.chmod(0o755)
        project = venv / "project"
        shutil.copytree(ROOT / "daemon", project / "daemon")
        shutil.copytree(ROOT / "systemd", project / "systemd")
        shutil.copy(ROOT / "config.toml", project)
        for path in project.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (self._home / "binds").write_text("".join(f"{where} {what}\n" for what, where in binds))

    # ── using it ─────────────────────────────────────────────────────────────────────────────────────────────

    def path(self, path: str) -> Path:
        """Return where a file of it is seen from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def run(
        self,
        *command: str,
        user: str = "",
        at: str = "/",
        given: str = "",
        check: bool = True,
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root or another account, in the directory `at`, with `given` to read.

        Raises:
            AssertionError: it failed, and `check` is set.
        """
        become = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"] if user else []
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", "env", "-C", at, *become, *command],
            capture_output=True,
            input=given,
            text=True,
            timeout=timeout_s,
            check=False,
            env={"PATH": f"/opt/sdd-dicom/bin:{SEARCHED}", "LANG": "C.UTF-8"},
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    @contextmanager
    def network(self) -> Iterator[None]:
        """Let this thread, and the processes it starts, be in the machine's network instead of ours."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as ours, Path(f"/proc/{self.pid}/ns/net").open() as its:
            if libc.setns(its.fileno(), _NEW_NETWORK) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if libc.setns(ours.fileno(), _NEW_NETWORK) != 0:
                    # A thread that is lost there must not go on with other tests.
                    os.abort()


def _systemd_below(unshare: Path) -> int:
    """Return the process id of the systemd that this process started; 0: it has not come so far."""
    try:
        children = (unshare / "task" / unshare.name / "children").read_text().split()
        return next(
            (int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"), 0
        )
    except FileNotFoundError:
        return 0  # it ended between two looks


class DriveInside(DriveServer):
    """The embedded Drive as a process of our machine that listens in the other one's network."""

    def __init__(self, machine: Machine, root: Path, **settings: Any) -> None:
        super().__init__(root, **settings)
        self._machine = machine

    def start(self) -> DriveServer:
        with self._machine.network():
            return super().start()

    def admin(self, *asked: Any, **more: Any) -> dict[str, Any]:
        with self._machine.network():
            return super().admin(*asked, **more)
