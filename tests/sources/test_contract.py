"""What every built-in source must do, run against every one there is (`feedback_lib.testing`)."""

import importlib.resources
from pathlib import Path

import pytest

from feedback_lib.testing import SourceContract

DATA = Path(__file__).parents[1] / "data"
DOCS = Path(__file__).parents[2] / "docs" / "sources.md"
KINDS = sorted(
    path.name.removesuffix(".py")
    for path in importlib.resources.files("feedback_lib.sources").iterdir()
    if path.name.endswith(".py") and not path.name.startswith("_")
)
STREAMED = {"files"}

for _kind in KINDS:
    _about = {"kind": _kind, "example": DATA / _kind, "streamed": _kind in STREAMED}
    globals()[f"Test_{_kind}"] = type(f"Test_{_kind}", (SourceContract,), _about)


@pytest.mark.parametrize("kind", KINDS)
def test_is_documented(kind):
    assert f"| `{kind}` |" in DOCS.read_text("utf-8"), f"add a row for {kind} to docs/sources.md"
