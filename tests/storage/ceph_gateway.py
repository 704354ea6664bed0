"""A whole Ceph cluster of one node, in memory, with its S3 gateway: an S3 server that is not a toy.

It needs the programs of Debian's `ceph-mon ceph-mgr ceph-osd radosgw ceph-common`.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING, Final

from server_processes import START, free_port, listens, running, until

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

__all__ = ["Gateway", "can_start"]

PROGRAMS: Final = (
    *("ceph", "ceph-authtool", "ceph-mgr", "ceph-mon"),
    *("ceph-osd", "monmaptool", "radosgw", "radosgw-admin"),
)
CONFIGURATION: Final = """
[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
run dir = {folder}
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
keyring = {folder}/keyring
[mon]
mon data = {folder}/mon
# a new cluster is a hundred small changes, for each of which a monitor waits a second
paxos propose interval = 0.05
paxos min wait = 0.01
# a monitor ends when the machine's disk is nearly full; nothing of a test is kept there
mon data avail crit = 0
mon data avail warn = 0
[mgr]
mgr data = {folder}/mgr
mgr initial modules =
[osd]
osd data = {folder}/osd
osd objectstore = memstore
# a limit, not an allocation; a full disk blocks every write without an error
memstore device bytes = 8589934592
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {folder}/rgw
rgw dns name = 127.0.0.1
# space of removed objects is free within seconds, not after two hours
rgw gc obj min wait = 1
rgw gc processor period = 2
rgw gc processor max time = 2
"""
#: Permissions of each user; without authentication the gateway never comes up.
KEYS: Final = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "client.rgw": {"mon": "allow rwx", "osd": "allow rwx", "mgr": "allow rw"},
    "mgr.x": {"mon": "allow profile mgr", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
}


def can_start() -> bool:
    """Tell whether all programs are installed."""
    return all(map(shutil.which, PROGRAMS))


class Gateway:
    """A running cluster; its daemons end with the stack that they are entered into."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Start in an empty folder, whose path is short: there will be sockets in it."""
        self.port = free_port()
        self._folder, self._stack, self._fsid = folder, stack, str(uuid.uuid4())
        self._monitor = f"[v2:127.0.0.1:{free_port()},v1:127.0.0.1:{free_port()}]"
        self._configuration = folder / "ceph.conf"
        self._write_configuration()
        self._make_keys()
        self._start_monitor()
        self._start_disk()
        self._start_gateway()

    def add_user(self, key: str, secret: str) -> None:
        """Create a user."""
        self._call(
            *("radosgw-admin", "user", "create", "--uid", key, "--display-name", key),
            *("--access-key", key, "--secret-key", secret),
        )

    def _write_configuration(self) -> None:
        for name in ("mon", "mgr", "osd", "rgw"):
            (self._folder / name).mkdir()
        text = CONFIGURATION.format(
            folder=self._folder, fsid=self._fsid, monitor=self._monitor, port=self.port
        )
        self._configuration.write_text(text, encoding="utf-8")

    def _make_keys(self) -> None:
        keyring = self._folder / "keyring"
        self._call("ceph-authtool", "--create-keyring", keyring)
        for name, rights in KEYS.items():
            flags = [part for what, right in rights.items() for part in ("--cap", what, right)]
            self._call("ceph-authtool", keyring, "--gen-key", "-n", name, *flags)

    def _start_monitor(self) -> None:
        keyring, monmap = self._folder / "keyring", self._folder / "monmap"
        self._call(
            *("monmaptool", "--create", "--addv", "a", self._monitor),
            *("--fsid", self._fsid, "--set-min-mon-release", "16", monmap),
        )
        self._call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._start("ceph-mon", "-i", "a")
        self._start("ceph-mgr", "-i", "x")

    def _start_disk(self) -> None:
        made = str(uuid.uuid4())
        self._call("ceph", "osd", "create", made)
        self._call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", made)
        self._call("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=here")
        self._start("ceph-osd", "-i", "0")

    def _start_gateway(self) -> None:
        process = self._start("radosgw", "-n", "client.rgw")
        until(lambda: listens(self.port), process)

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [program, "-f", "-c", str(self._configuration), *arguments]
        return self._stack.enter_context(running(command, self._folder / f"{program}.out"))

    def _call(self, program: str, *arguments: object) -> None:
        command = [program, *map(str, arguments), "-c", str(self._configuration)]
        done = subprocess.run(command, capture_output=True, timeout=START, check=False)  # noqa: S603
        assert 0 == done.returncode, f"{' '.join(command)}: {done.stderr.decode()}"
