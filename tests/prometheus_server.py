"""A real Prometheus on a free loopback port over measurements written beforehand."""

import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from conftest import needed

CONFIG = "global: {scrape_interval: 1h}\n"  # nothing is scraped


def backfill(folder: Path, openmetrics: str) -> Path:
    """The folder of a database made of samples written as OpenMetrics text: lines of one metric together, oldest first,
    times in seconds, without the ``# EOF`` at the end.
    """
    promtool = needed("Prometheus' promtool", "promtool")
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "samples.txt"
    text.write_text(openmetrics.rstrip("\n") + "\n# EOF\n")
    # one block for all: blocks of two hours, the default, take twenty seconds for a week
    command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=168h", "--quiet"]
    subprocess.run([*command, text, folder / "tsdb"], check=True, capture_output=True)
    return folder / "tsdb"


class Prometheus:
    """``with Prometheus(tsdb) as server:`` answers at ``server.url`` until the end of the block.

    ``kill`` ends it at once, ``start`` starts it again at the same address. Old samples stay, however old they are.
    """

    def __init__(self, tsdb: Path, *, config: str = CONFIG, options: tuple[str, ...] = ()):
        self._program = needed("Prometheus", "prometheus")
        self._tsdb, self._options, self._process = tsdb, options, None
        self._tsdb.mkdir(parents=True, exist_ok=True)
        self._config = tsdb.parent / f"{tsdb.name}.yml"
        self._config.write_text(config)
        self._log = tsdb.parent / f"{tsdb.name}.log"
        self.port = 0
        self.url = ""

    def __enter__(self) -> "Prometheus":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers, at the address it had before if it had one."""
        command = [self._program, f"--config.file={self._config}", f"--storage.tsdb.path={self._tsdb}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--storage.tsdb.retention.time=100y"]
        (self._tsdb / "lock").unlink(missing_ok=True)  # left by one that was killed
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log)
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _wait(self) -> None:
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            said = self._log.read_text()
            listens = re.search(r'msg="Listening on" address=127\.0\.0\.1:(\d+)', said)
            if "Server is ready" in said and listens:
                self.port = int(listens[1])
                self.url = f"http://127.0.0.1:{self.port}"
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                    answer.read()
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"Prometheus did not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a crash does (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    stop = kill  # its data are thrown away, so it need not write them first

    def remove(self) -> None:
        """Stop it and delete its database."""
        self.stop()
        shutil.rmtree(self._tsdb, ignore_errors=True)
