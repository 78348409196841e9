"""Draw the pictures in the README from the bundled sample: the weekly report, and the top of the SLO report.

The SLO report is a page, so its picture needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from feedback_lib import open_report, pages, runner
from feedback_lib.pipeline import sample_store

HERE = Path(__file__).parent
SIZE = "920,1320"  # verdict, table and the first figure


def slo_report(target: Path) -> None:
    """Run the notebook, open its page in Chromium, and keep what a reader sees first."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium: install it to draw slo-report.png")
    with tempfile.TemporaryDirectory() as home:
        done = Path(home) / "slo_report.ipynb"
        runner.run_notebook(HERE.parent / "notebooks" / "slo_report.ipynb", {}, done, timeout_s=300)
        page = pages.export_html(done, done.with_suffix(".html"))
        flags = ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", f"user-data-dir={home}/profile")
        options = [f"--{flag}" for flag in (*flags, f"window-size={SIZE}", f"screenshot={target}")]
        subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    report = open_report(sample_store().path).to_dict()
    for number, sheet in enumerate(pages.png(report, ppi=96), start=1):
        (HERE / f"report-{number}.png").write_bytes(sheet)
    slo_report(HERE / "slo-report.png")
