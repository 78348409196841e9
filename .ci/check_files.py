"""Whitespace, end of file, size: ``python .ci/check_files.py FILE...`` names what is wrong; exit code 1 if anything."""

from __future__ import annotations

import sys
from pathlib import Path

# what stands in tests/data is as it was received, so only its size is looked at
LARGEST = 500_000  # bytes; data that is larger belongs outside the repository
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".ipynb", ".json", ".jsonl", ".csv", ".typ", ".js", ".css", ""}


def complaints(path: Path) -> list[str]:
    """What is wrong with one file, in words."""
    content = path.read_bytes()
    found = []
    if len(content) > LARGEST:
        found.append(f"{path}: {len(content):,} bytes, more than {LARGEST:,}")
    if "tests/data/" in path.as_posix() or path.suffix not in TEXT or b"\0" in content:
        return found
    if content and not content.endswith(b"\n"):
        found.append(f"{path}: no line end at the end of the file")
    if b"\r\n" in content and path.suffix != ".csv":
        found.append(f"{path}: Windows line ends")
    if path.suffix not in {".md", ".ipynb", ".csv", ".txt"}:
        found += [
            f"{path}:{number}: space at the end of the line"
            for number, line in enumerate(content.split(b"\n"), 1)
            if line != line.rstrip(b" \t")
        ]
    return found


def main(names: list[str]) -> int:
    """Check files, print the complaints, count them into an exit code."""
    found = [text for name in names if Path(name).is_file() for text in complaints(Path(name))]
    sys.stdout.write("".join(f"{text}\n" for text in found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
