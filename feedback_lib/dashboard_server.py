"""Serves one dashboard notebook with Voila, on this machine only."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from tornado.web import HTTPError
from traitlets.config import Config
from voila.app import Voila
from voila.handler import BaseVoilaHandler
from voila.paths import collect_template_paths
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import AllowListFileHandler

from feedback_lib import pages, runner
from feedback_lib.charts import TEMPLATES

LOOPBACK = "127.0.0.1"
ORPHAN_S = 60  # a kernel whose page went without a word (a crash, a lost network) is stopped after this
EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' blob:; style-src 'self' 'unsafe-inline'; "
    f"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws://{LOOPBACK}:* ws://localhost:*; "
    "object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'self'"
)


def serve(
    notebook: Path, parameters: Mapping[str, Any] | None = None, *, port: int = 8866, open_browser: bool = False
) -> None:
    """Serve a dashboard until interrupted, on the loopback address and nowhere else.

    Whoever wants it reachable puts a proxy that authenticates in front: Voila has no login of its own.

    Args:
        notebook: the dashboard, with a cell tagged ``parameters``.
        parameters: for that cell, such as ``store`` and ``run_id``. Relative paths start at the working directory.
        port: the first one tried.
        open_browser: show the page when it is there.

    Raises:
        ConfigError: the notebook has no such parameter.
    """
    runner.check(notebook, parameters or {})
    with tempfile.TemporaryDirectory(prefix="feedback-dashboard-") as folder:
        copy = Path(folder) / notebook.name
        read = nbformat.reads(notebook.read_text("utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        copy.write_text(_with(read, parameters or {}), "utf-8")
        app = _Server(config=_settings(port, open_browser), notebook_path=str(copy), root_dir=folder)
        app.initialize([])
        app.start()


def _with(notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]) -> str:
    """The notebook with a cell of these values after its parameters cell, as the runner does it."""
    place = next(n for n, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", []))
    values = "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    here = f"import os\nos.chdir({str(Path.cwd())!r})"  # else relative paths would start at the copy's folder
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(here + values))  # type: ignore[no-untyped-call]
    return str(nbformat.writes(notebook))  # type: ignore[no-untyped-call]


def _settings(port: int, open_browser: bool) -> Config:
    """Everything about Voila that differs from its defaults."""
    return Config(
        {
            "Voila": {"ip": LOOPBACK, "port": port, "open_browser": open_browser},
            "VoilaConfiguration": {
                "template": "feedback",
                "allow_template_override": "NO",
                "allow_theme_override": "NO",
                "strip_sources": True,
                "show_tracebacks": False,
                "extension_allowlist": EXTENSIONS,
                "file_allowlist": [],
                "preheat_kernel": True,
                "default_pool_size": 1,
                "resources": {"page_css": pages.css()},
            },
            "MappingKernelManager": {"cull_idle_timeout": ORPHAN_S, "cull_interval": 20, "cull_connected": False},
        }
    )


class _Server(Voila):  # type: ignore[misc]  # voila has no types
    """Voila with our template, wherever the package is installed, and without what a reader does not need."""

    name = "feedback-dashboard"

    def setup_template_dirs(self) -> None:
        """Look for our template beside the package before Voila's own."""
        ours = TEMPLATES / "voila"
        self.template_paths = [
            str(ours / "feedback"),
            *collect_template_paths(["voila", "nbconvert"], "base", prune=True),
        ]
        self.static_paths = [str(Path(p) / "static") for p in self.template_paths if (Path(p) / "static").is_dir()]

    def init_settings(self) -> dict[str, Any]:
        """Refuse other host names (so that no foreign page reaches us by DNS) and forbid foreign content."""
        settings: dict[str, Any] = super().init_settings()
        return settings | {
            "allow_remote_access": False,
            "local_hostnames": ["localhost", LOOPBACK],
            "headers": {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"},
        }

    def init_handlers(self) -> list[Any]:
        """Let a closing page stop its kernel, and answer every address but the page's with our own error page."""
        kept: list[Any] = []
        for pattern, handler, *rest in super().init_handlers():
            if handler is VoilaShutdownKernelHandler:
                kept.append((pattern, _Closing, *rest))
            elif handler is AllowListFileHandler:
                kept.append((pattern, _Missing, {"voila_configuration": self.voila_configuration}))
            else:
                kept.append((pattern, handler, *rest))
        return kept


class _Missing(BaseVoilaHandler):  # type: ignore[misc]
    def get(self, *_: str) -> None:
        """There are no files beside the page."""
        raise HTTPError(404)


class _Closing(VoilaShutdownKernelHandler):  # type: ignore[misc]
    def check_xsrf_cookie(self) -> None:
        """Pass: browsers send this last message without the token; the random id in the address is the secret."""
