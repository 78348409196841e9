"""Write the lock files: ``make lock``, or ``make lock UPGRADE=--upgrade`` for newer versions.

``runtime.txt`` and ``dev.txt`` are hash-pinned for every platform, ``uv.txt`` is what installs them, and ``conda.txt``
is ``dev.txt`` without hashes, because a conda environment file cannot hold hashes and an editable package together.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import run_uv

COMPILE = ["pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
COMPILE += ["--no-emit-index-url", "--no-header", "--no-annotate", "--override", "requirements/overrides.txt"]
INPUTS = {
    "runtime": ["pyproject.toml"],
    "dev": ["pyproject.toml", "--extra", "dev"],
    "uv": ["requirements/uv.in"],
}


def entries(text: str) -> list[str]:
    """The entries of a lock, each with its lines of hashes."""
    return re.findall(r"^\S.*\n(?:[ \t].*\n)*", text, flags=re.MULTILINE)


def without_never(text: str) -> str:
    """The lock without what the overrides switched off: uv keeps such entries with a marker that is never true."""
    return "".join(entry for entry in entries(text) if "sys_platform == 'never'" not in entry)


def without_hashes(text: str) -> str:
    """Names, versions and markers only."""
    return "".join(entry.splitlines()[0].removesuffix("\\").rstrip() + "\n" for entry in entries(text))


def main(options: list[str]) -> int:
    """Compile every lock; the existing versions stay unless ``--upgrade`` is among the options."""
    for name, inputs in INPUTS.items():
        path = Path("requirements") / f"{name}.txt"
        code = run_uv.main([*COMPILE, *inputs, *options, "-o", str(path)])
        if code:
            return code
        path.write_text(without_never(path.read_text()))
    Path("requirements/conda.txt").write_text(without_hashes(Path("requirements/dev.txt").read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
