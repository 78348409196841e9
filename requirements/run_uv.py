"""Run uv with what the user told pip.

uv does not read pip's configuration, so somebody behind a company index would have to say everything twice. Whatever
is set for uv, in the environment or in a ``uv.toml``, wins. Usage: ``python requirements/run_uv.py pip install ...``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# pip's name of a setting, uv's variable, and what separates several values there
SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
}


def from_pip(lines: list[str]) -> dict[str, str]:
    """Variables for uv that say what ``pip config list`` said; the environment stands before pip's files, as in pip.

    >>> from_pip(["global.index-url='https://index.example/simple'", "install.find-links='/a /b'"])
    {'UV_DEFAULT_INDEX': 'https://index.example/simple', 'UV_FIND_LINKS': '/a,/b'}
    """
    found: dict[str, str] = {}
    for line in sorted(lines, key=lambda text: not text.startswith(":env:")):
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in (":env:", "global", "install") and name in SETTINGS:
            variable, separator = SETTINGS[name]
            found.setdefault(variable, separator.join(value.strip("'\"").replace("\\n", " ").split()))
    if "UV_INDEX" in found:
        # pip takes the best of all indexes; the lock's hashes say what is accepted
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment uv runs in: the given one, completed from pip's configuration unless uv has its own."""
    home = Path(given.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    own = [home / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]
    if "UV_CONFIG_FILE" in given or any(path.exists() for path in own):
        return dict(given)
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False, env=dict(given)
    )
    return {**from_pip(listed.stdout.splitlines()), **given}


def main(arguments: list[str]) -> int:
    """Run uv on this interpreter's environment, whichever one is active; the exit code is uv's."""
    uv = Path(sys.executable).parent / "uv"
    here = environment(os.environ) | {"VIRTUAL_ENV": sys.prefix}
    for elsewhere in ("UV_PYTHON", "UV_SYSTEM_PYTHON"):
        here.pop(elsewhere, None)
    return subprocess.run([str(uv), *arguments], env=here, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
