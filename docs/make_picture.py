"""Draw the pictures of the weekly report in the README, from the bundled sample."""

from __future__ import annotations

from pathlib import Path

from feedback_lib import open_report, pages
from feedback_lib.pipeline import sample_store

HERE = Path(__file__).parent

if __name__ == "__main__":
    report = open_report(sample_store().path).to_dict()
    for number, sheet in enumerate(pages.png(report, ppi=96), start=1):
        (HERE / f"report-{number}.png").write_bytes(sheet)
