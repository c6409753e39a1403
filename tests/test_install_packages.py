"""``bin/install-packages`` with the real apt-get and dpkg, on a Debian of its own in a folder."""

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("apt-get", "dpkg", "dpkg-deb", "dpkg-query")
# Every lock that apt takes on its way: dpkg's two, that of the downloads, that of the lists.
LOCKS = (
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/lock",
    "var/cache/apt/archives/lock",
    "var/lib/apt/lists/lock",
)
CONTROL = """\
Package: tiny
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.invalid>
Description: a package with one file
"""
# apt's and dpkg's folders in ours, and nothing of what this machine makes apt do on top.
CONFIGURATION = """\
Dir "{root}";
Dir::State "var/lib/apt";
Dir::State::status "{root}/var/lib/dpkg/status";
Dir::Cache "var/cache/apt";
Dir::Etc "{root}/etc/apt";
Dir::Log "{root}/var/log/apt";
APT::Sandbox::User "";
DPkg::Options {{ "--root={root}"; "--force-not-root"; "--force-script-chrootless"; }};
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


class Debian:
    """An empty Debian whose one source of packages holds the package ``tiny``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "var/lib/dpkg/triggers"):
            (root / name).mkdir(parents=True)
        for name in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt"):
            (root / name).mkdir(parents=True)
        for name in ("status", "available", "lock", "lock-frontend"):
            (root / "var/lib/dpkg" / name).touch()
        self._make_package(root / "source")
        (root / "etc/apt").mkdir(parents=True)
        for name in ("apt.conf.d", "preferences.d", "sources.list.d", "trusted.gpg.d"):
            (root / "etc/apt" / name).mkdir()
        (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{root}/source ./\n")
        self.configuration = root / "apt.conf"
        self.configuration.write_text(CONFIGURATION.format(root=root))
        # Who is not root needs none here: nothing outside the folder is touched.
        sudo = root / "bin" / "sudo"
        sudo.parent.mkdir()
        sudo.write_text('#!/bin/sh\nexec "$@"\n')
        sudo.chmod(0o755)
        self.policy = root / "policy-rc.d"
        self.environment = os.environ | {
            "APT_CONFIG": str(self.configuration),
            "DPKG_ADMINDIR": str(root / "var/lib/dpkg"),
            "PATH": f"{sudo.parent}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin:/sbin",
            "POLICY_RC_D": str(self.policy),
            "PROGRESS_S": "1",
            "TMPDIR": str(root),
        }

    def _make_package(self, source: Path) -> None:
        content = source / "tiny"
        (content / "DEBIAN").mkdir(parents=True)
        (content / "DEBIAN/control").write_text(CONTROL)
        # As Orthanc's: a script that ends where it cannot say what it does.
        script = content / "DEBIAN/postinst"
        script.write_text("#!/bin/sh\nset -e\necho tiny: configured\necho tiny: restarted >&2\n")
        script.chmod(0o755)
        (content / "usr/share/tiny").mkdir(parents=True)
        (content / "usr/share/tiny/file").write_text("tiny\n")
        package = source / "tiny_1.0_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", content, package],
            capture_output=True,
            check=True,
        )
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        (source / "Packages").write_text(
            f"{CONTROL}Filename: ./{package.name}\n"
            f"Size: {package.stat().st_size}\nSHA256: {digest}\n"
        )

    def add_configuration(self, lines: str) -> None:
        with self.configuration.open("a", encoding="utf-8") as file:
            file.write(lines)

    def start(self, *packages: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [ROOT / "bin/install-packages", *packages],
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def install(self, *packages: str, **variables: str) -> tuple[int, str]:
        """Run the script to its end: exit status and output."""
        process = self.start(*packages, **variables)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    @property
    def has_tiny(self) -> bool:
        return (self.root / "usr/share/tiny/file").exists()

    @contextmanager
    def held(self, lock: str) -> Iterator[None]:
        """Hold a lock of apt, as another apt does; the locks are those of `fcntl`."""
        with (self.root / lock).open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: bin/install-packages is for Debian")
    # apt's configuration takes no spaces in a path of a source.
    return Debian(tmp_path)


def line_with(process: "subprocess.Popen[str]", text: str) -> str:
    """Read what a program says until a line has some text in it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return line
    pytest.fail(f"no line with {text!r}: {''.join(lines)}")


def test_a_missing_package_is_installed_without_lists_and_once(debian: Debian) -> None:
    status, output = debian.install("tiny")
    assert status == 0, output
    assert debian.has_tiny
    assert output.splitlines()[0] == "halfscan: installing tiny"
    assert debian.install("tiny") == (0, ""), "it is there: nothing to do, nothing to say"


def test_what_apt_does_not_know_is_one_clear_line(debian: Debian) -> None:
    status, output = debian.install("unheard-of")
    assert status == 1
    assert "E: Unable to locate package unheard-of" in output
    assert "halfscan: apt-get could not install unheard-of" in output.splitlines()[-1]
    assert "status:" not in output


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_of_apt_is_waited_for(debian: Debian, lock: str) -> None:
    with debian.held(lock):
        process = debian.start("tiny")
        line = line_with(process, "waiting")
        assert not debian.has_tiny
    assert line.startswith("halfscan: waiting for apt, 600 s at most: Could not get lock")
    assert str(debian.root / lock) in line
    assert f"held by process {os.getpid()}" in line
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert debian.has_tiny


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_that_is_never_given_back_is_named(debian: Debian, lock: str) -> None:
    with debian.held(lock):
        status, output = debian.install("tiny", LOCK_WAIT_S="1")
    assert status == 1
    assert not debian.has_tiny
    (line,) = (line for line in output.splitlines() if "was in use for all of 1 s" in line)
    assert str(debian.root / lock) in line
    assert f"held by process {os.getpid()}" in line


def test_other_services_start_while_apt_is_waited_for(debian: Debian) -> None:
    """Debian starts no service of ours; the upgrade that holds the lock starts its own."""
    debian.add_configuration(f'DPkg::Pre-Invoke {{"cp -p {debian.policy} {debian.root}/seen";}};\n')
    with debian.held(LOCKS[0]):
        process = debian.start("tiny")
        line_with(process, "waiting")
        assert not debian.policy.exists()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    seen = debian.root / "seen"
    assert seen.read_text() == "#!/bin/sh\nexit 101\n"
    assert seen.stat().st_mode & stat.S_IXUSR
    assert not debian.policy.exists(), "it is taken away again"


def test_a_policy_of_the_site_stays(debian: Debian) -> None:
    debian.policy.write_text("#!/bin/sh\nexit 0\n")
    assert debian.install("tiny")[0] == 0
    assert debian.policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_progress_is_told_through_a_pipe(debian: Debian) -> None:
    gate = debian.root / "gate"
    os.mkfifo(gate)
    # dpkg does not go on before somebody has read that it goes on.
    debian.add_configuration(f'DPkg::Pre-Invoke {{"cat {gate} >/dev/null";}};\n')
    process = debian.start("tiny")
    assert line_with(process, " s: ").startswith("halfscan: ")
    gate.write_text("go on")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert debian.has_tiny
