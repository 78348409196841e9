"""Seconds and peak memory of the whole weekly run, by stage: first on an empty store, then again.

``python -m benchmarks.weekly [--data PARAMS.yaml] [--json]``. Without ``--data`` it runs the bundled sample; with it,
the params file given (its store and reports are replaced by a temporary folder). Each run is a process of its own; the
embeddings cached by the first serve the second. One JSON object per stage; there is no peer to compare with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUN = """
import json, resource, sys
from pathlib import Path
from feedback_lib import config, pipeline, sample
params, home = sys.argv[1], Path(sys.argv[2])
if not (home / "data").exists():
    sample.generate(home / "data" / "sample")
places = [f"store={home}/store", f"reports={home}/reports", f"notebook_folder={sys.argv[3]}/notebooks", "sinks=[]"]
run = pipeline.weekly(config.load(params, places))
print(json.dumps({"stages": run.stages, "signals": run.report.feedback_items_processed}))
"""


def run(params: Path, home: Path) -> dict[str, object]:
    """One weekly run in its own process; its stages, and the wall seconds of the whole process."""
    started = time.perf_counter()
    environment = {**os.environ, "FEEDBACK_CACHE": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(params), str(home), str(ROOT)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Run twice and print what each stage took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a params file; default: the bundled sample")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        params = given.data
        if params is None:
            (home / "params").mkdir()
            params = home / "params" / "weekly.yaml"
            params.write_text((ROOT / "params" / "weekly.yaml").read_text("utf-8"), "utf-8")
        for name in ("first", "again"):
            made = run(params.resolve(), home)
            rows = [*made["stages"], {"stage": "whole process", "seconds": made["seconds"], "peak_mb": None}]  # type: ignore[misc]
            for row in rows:
                shown = {"benchmark": "weekly", "run": name, "signals": made["signals"], **row}
                if given.json:
                    print(json.dumps(shown))
                else:
                    print(f"{name:6} {row['stage']:26} {row['seconds']:7.1f} s {row['peak_mb'] or '':>6} MB")


if __name__ == "__main__":
    main()
