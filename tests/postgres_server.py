"""A real PostgreSQL on a free loopback port, with one database and a user who needs its password."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from conftest import needed

DEBIAN = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True)  # not on the PATH there
QUICK = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=16MB", "log_statement=all")


class Postgres:
    """``with Postgres(password) as server:`` answers at ``server.url``; at the end of the block nothing is left.

    The server's log, with every statement it was sent, is ``server.log``; ``server.data`` are its files.
    """

    def __init__(self, password: str):
        self._initdb = needed("PostgreSQL", "initdb", *DEBIAN).resolve()
        self._password = password
        self._process = None

    def __enter__(self) -> "Postgres":
        # not pytest's folder: that is closed to others, and PostgreSQL refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="feedback-postgres-"))
        self._as = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self.data, self.log = self.folder / "data", self.folder / "log"
        try:
            self._create()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def _create(self) -> None:
        secret = self.folder / "password"
        secret.write_text(self._password)
        secret.chmod(0o644)
        command = [self._initdb, "-D", self.data, "-U", "loader", f"--pwfile={secret}", "-A", "scram-sha-256"]
        command += ["--no-sync", "--locale=C", "--encoding=UTF8", "--no-instructions"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as)
        secret.unlink()

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://loader:{self._password}@127.0.0.1:{self.port}/postgres"
        command = [self._initdb.with_name("postgres"), "-D", self.data, "-h", "127.0.0.1", "-p", str(self.port)]
        command += ["-k", self.folder, *(part for option in QUICK for part in ("-c", option))]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as)
        ends = time.monotonic() + 20
        while time.monotonic() < ends and self._process.poll() is None:
            if "ready to accept connections" in self.log.read_text("utf-8", "replace"):
                return
            time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it at once and delete its data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # with its children, without writing anything
            self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)
