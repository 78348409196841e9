"""Draw the pictures in the README from the bundled samples: the weekly report, and the tops of two notebooks' pages.

Pages need Chromium.
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
TOPS = {"slo_report": "920,1320", "workflow_review": "920,730"}  # verdict, and as far as the first figure


def top(notebook: str, target: Path) -> None:
    """Run a notebook, open its page in Chromium, and keep what a reader sees first."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit(f"no Chromium: install it to draw {target.name}")
    with tempfile.TemporaryDirectory() as home:
        done = Path(home) / f"{notebook}.ipynb"
        runner.run_notebook(HERE.parent / "notebooks" / f"{notebook}.ipynb", {}, done, timeout_s=300)
        page = pages.export_html(done, done.with_suffix(".html"))
        flags = ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", f"user-data-dir={home}/profile")
        options = [f"--{flag}" for flag in (*flags, f"window-size={TOPS[notebook]}", f"screenshot={target}")]
        subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    report = open_report(sample_store().path).to_dict()
    for number, sheet in enumerate(pages.png(report, ppi=96), start=1):
        (HERE / f"report-{number}.png").write_bytes(sheet)
    for name in TOPS:
        top(name, HERE / f"{name.replace('_', '-')}.png")
