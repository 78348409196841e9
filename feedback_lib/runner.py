"""Notebook runs: parameters checked first, one capped and redacted record of what happened, folders published whole."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import dataclasses
import errno
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from papermill.utils import find_first_tagged_cell_index
from traitlets.config import Config

from feedback_lib.errors import ConfigError, FeedbackError, NotebookError, nearest
from feedback_lib.privacy import redact

logger = logging.getLogger(__name__)

MAX_TEXT = 200_000  # characters of printed text kept per cell: 200,000 printed lines make a 17 MB notebook
CUT = f"\n[cut here: a cell keeps {MAX_TEXT:,} characters of printed text]\n"
START_TIMEOUT_S = 60
Progress = Callable[[str], None]

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_BUILTIN = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}


@dataclasses.dataclass(frozen=True, slots=True)
class NotebookRun:
    """One finished run: which notebook, where the executed one is, how many code cells ran, how long it took."""

    notebook: Path
    out: Path
    cells: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """What ended a run early, and in which code cell."""

    cell: int
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """One name of a parameters cell. ``type`` is None when the default does not say what is meant."""

    name: str
    default: Any
    type: type | None


def parameters(path: Path) -> dict[str, Parameter]:
    """The names a notebook's ``parameters`` cell sets, with default and type; empty when it has no such cell.

    The type is the annotation's where there is one, otherwise the default's; a default of None takes anything.

    Raises:
        ConfigError: the notebook cannot be read, or its parameters cell is not plain assignments.
    """
    return _parameters(_read(path), path)


def check(path: Path, given: Mapping[str, Any]) -> None:
    """Compare parameters with the notebook's parameters cell; nothing is run.

    Raises:
        ConfigError: a name is unknown (the message names the nearest) or a value has another type than the default.
    """
    _check(_read(path), path, given)


def run_notebook(
    path: Path,
    params: Mapping[str, Any],
    out: Path,
    *,
    timeout_s: float,
    progress: Progress | None = None,
    secrets: Collection[str] = (),
) -> NotebookRun:
    """Run a notebook with parameters in a kernel of its own and write the executed notebook to ``out``.

    Args:
        path: The notebook; it is not changed.
        params: Values for names of its parameters cell, checked before any cell runs.
        out: Where the executed notebook goes. After a failure it goes to ``*.failed.ipynb`` beside it instead.
        timeout_s: Seconds the whole notebook may take.
        progress: Called with a line such as ``weekly_trends: cell 3 of 9`` as each code cell starts.
        secrets: Values that must not stand in the outputs, whatever prints them.

    Raises:
        ConfigError: a parameter is unknown or has the wrong type.
        NotebookError: a cell failed, the time was over, the kernel died or a cell did not run. ``.notebook`` is the
            kept notebook, ``.cell`` the number of the code cell as ``In [n]`` shows it.
    """
    source = _read(path)
    _check(source, path, params)
    nb = parameterize_notebook(source, dict(params), kernel_name="python3", language="python") if params else source
    started = time.monotonic()
    trouble = _execute(nb, path.stem, timeout_s, progress)
    _clean(nb, secrets)
    trouble = trouble or _unfinished(nb)
    seconds = time.monotonic() - started
    failed = out.with_name(f"{out.stem}.failed.ipynb")
    failed.unlink(missing_ok=True)  # of an earlier run
    kept = failed if trouble else out
    kept.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, kept)  # type: ignore[no-untyped-call]
    if trouble:
        logger.warning("notebook=%s failed cell=%s seconds=%.1f", path.name, trouble.cell, seconds)
        text = _without(redact(trouble.text), secrets)[:500]
        raise NotebookError(str(kept), trouble.cell, f"stopped at cell {trouble.cell}: {text}. The traceback is there.")
    cells = sum(_runs(c) for c in nb.cells)
    logger.info("notebook=%s cells=%d seconds=%.1f", path.name, cells, seconds)
    return NotebookRun(path, out, cells, seconds)


def _read(path: Path) -> nbformat.NotebookNode:
    if not path.is_file():
        raise ConfigError(f"{path}: no such notebook")
    try:
        nb: nbformat.NotebookNode = load_notebook_node(str(path))
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: not a notebook ({type(error).__name__})") from None
    return nb


def _parameters(nb: nbformat.NotebookNode, path: Path) -> dict[str, Parameter]:
    index = find_first_tagged_cell_index(nb, "parameters")
    if index < 0:
        return {}
    try:
        body = ast.parse(nb.cells[index].source).body
    except SyntaxError as error:
        raise ConfigError(f"{path}: the parameters cell is not Python: line {error.lineno}") from None
    found = {}
    for node in body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, value, hint = node.targets[0].id, node.value, None
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            name, value, hint = node.target.id, node.value, _hinted(node.annotation)
        else:
            continue
        try:
            default = ast.literal_eval(value)
        except ValueError:  # an expression: its value is not known without running it
            default = None
        found[name] = Parameter(name, default, hint or (None if default is None else type(default)))
    return found


def _hinted(annotation: ast.expr) -> type | None:
    """The plain type an annotation names, as in ``int``, ``list[str]``; None for anything wider."""
    outer = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return _BUILTIN.get(outer.id) if isinstance(outer, ast.Name) else None


def _check(nb: nbformat.NotebookNode, path: Path, given: Mapping[str, Any]) -> None:
    known = _parameters(nb, path)
    for name, value in given.items():
        if name not in known:
            hint = nearest(name, list(known)) if known else "it has no parameters cell"
            raise ConfigError(f"{path}: no parameter {name!r}; {hint}")
        expected, default = known[name].type, known[name].default
        if expected is None or (value is None and default is None) or _fits(value, expected):
            continue
        raise ConfigError(
            f"{path}: parameter {name!r} is {value!r} ({type(value).__name__}); "
            f"expected {expected.__name__}, such as {default!r}"
        )


def _fits(value: Any, expected: type) -> bool:
    if expected is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if expected in (list, tuple):
        return isinstance(value, (list, tuple))
    return type(value) is expected


def _execute(nb: nbformat.NotebookNode, name: str, timeout_s: float, progress: Progress | None) -> Trouble | None:
    """Run every cell of ``nb`` in place; what went wrong, or None."""
    deadline = time.monotonic() + timeout_s
    quiet = logger.getChild("kernel")
    quiet.setLevel(logging.CRITICAL)  # what it would say is in the error, and its debug lines hold people's words
    with tempfile.TemporaryDirectory(prefix="feedback-") as folder:
        watched = _Watched(nb, name, progress)
        client = _Client(
            watched,
            kernel_name="python3",
            startup_timeout=START_TIMEOUT_S,
            timeout_func=lambda _: max(1, round(deadline - time.monotonic())),
            shutdown_kernel="immediate",
            # sockets in a private folder: runs side by side do not race for ports, and the path stays short
            config=Config(KernelManager={"transport": "ipc", "connection_file": f"{folder}/kernel.json"}),
            log=quiet,
        )
        watched.notebook_start()
        try:
            client.execute()
        except DeadKernelError:
            watched.failed("the kernel died (killed, out of memory, or a crash in native code)")
        except CellTimeoutError:
            watched.failed(f"the notebook took longer than {timeout_s:g} s")
        except RuntimeError as error:  # what jupyter_client raises when a kernel does not start
            watched.failed(f"the kernel did not start: {error}")
        finally:
            watched.notebook_complete()
    return watched.trouble


class _Watched(NotebookExecutionManager):  # type: ignore[misc]  # papermill is untyped
    """Papermill's bookkeeping, which calls back after each cell and keeps what went wrong."""

    def __init__(self, nb: nbformat.NotebookNode, name: str, progress: Progress | None) -> None:
        super().__init__(nb, progress_bar=False)
        self.name = name
        self.progress = progress or (lambda line: None)
        self.total = sum(_runs(cell) for cell in nb.cells)
        self.index = 0
        self.trouble: Trouble | None = None

    def failed(self, text: str) -> None:
        """Keep what went wrong in the current cell, in the notebook as well: papermill calls such a cell completed."""
        if _runs(self.nb.cells[self.index]):
            self.nb.cells[self.index].metadata.papermill.update(status=self.FAILED, exception=True)
        self.nb.metadata.papermill["exception"] = True
        self.trouble = Trouble(_number(self.nb, self.index), text)

    def cell_start(self, cell: nbformat.NotebookNode, cell_index: int = 0, **kwargs: Any) -> None:
        self.index = cell_index
        super().cell_start(cell, cell_index, **kwargs)
        if _runs(cell):
            self.progress(f"{self.name}: cell {_number(self.nb, cell_index)} of {self.total}")

    def cell_exception(self, cell: nbformat.NotebookNode, cell_index: int = 0, **kwargs: Any) -> None:
        super().cell_exception(cell, cell_index, **kwargs)
        error = kwargs["exception"]
        self.failed(f"{error.ename}: {error.evalue}")


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill is untyped
    """Papermill's client, which keeps at most `MAX_TEXT` characters of printed text per cell."""

    def output(
        self, outs: list[nbformat.NotebookNode], msg: dict[str, Any], display_id: str | None, cell_index: int
    ) -> nbformat.NotebookNode | None:
        if msg["msg_type"] == "stream":
            held = sum(len(out["text"]) for out in outs if out["output_type"] == "stream")
            if held > MAX_TEXT:
                return None
            if held + len(msg["content"]["text"]) > MAX_TEXT:
                msg["content"]["text"] = msg["content"]["text"][: MAX_TEXT - held] + CUT
        out: nbformat.NotebookNode | None = super().output(outs, msg, display_id, cell_index)
        return out


def _runs(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell is code that a run executes."""
    return (
        cell.cell_type == "code" and bool(cell.source.strip()) and "skip-execution" not in cell.metadata.get("tags", [])
    )


def _number(nb: nbformat.NotebookNode, index: int) -> int:
    """The n of ``In [n]`` for the cell at ``index``."""
    return sum(_runs(cell) for cell in nb.cells[: index + 1])


def _unfinished(nb: nbformat.NotebookNode) -> Trouble | None:
    """The first code cell that did not run although nothing failed; papermill marks such cells completed."""
    for index, cell in enumerate(nb.cells):
        if _runs(cell) and not cell.execution_count:
            return Trouble(_number(nb, index), "this cell did not run")
    return None


def _clean(nb: nbformat.NotebookNode, secrets: Collection[str]) -> None:
    """Redact printed text and tracebacks, and take the secrets out of every string of the notebook."""
    for cell in nb.cells:
        for out in cell.get("outputs", ()):
            if out.output_type == "stream":
                out.text = redact(out.text)
            elif out.output_type == "error":
                # colour codes inside a traceback would hide what there is to redact
                out.evalue = redact(out.evalue)[:MAX_TEXT]
                out.traceback = redact(_ANSI.sub("", "\n".join(out.traceback)))[:MAX_TEXT].split("\n")
    if secrets:
        nb.update(nbformat.from_dict(_replaced(nb, secrets)))  # type: ignore[no-untyped-call]


def _replaced(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, str):
        return _without(value, secrets)
    if isinstance(value, Mapping):
        return {key: _replaced(inner, secrets) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(inner, secrets) for inner in value]
    return value


def _without(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "[secret]")
    return text


@contextlib.contextmanager
def publish(target: Path, *, wait_s: float = 600) -> Iterator[Path]:
    """A fresh folder beside ``target`` that takes its place when the block ends well, all or nothing.

    Whoever reads ``target`` sees the folder that was there or the new one, complete. When the block fails, what it
    wrote becomes ``<target>.failed``, replacing an older one, the target stays, and paths in the error's message
    follow. A killed run leaves its folder behind; the next one removes it.

    Args:
        target: The folder to make or replace.
        wait_s: Seconds to wait for another process that is publishing the same folder.

    Raises:
        FeedbackError: another process held the folder all that time.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), timeout=wait_s)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise FeedbackError(f"{target}: another run is writing it; wait for it to end, or end it") from None
    with contextlib.ExitStack() as stack:
        stack.callback(lock.release)
        new, old = (target.with_name(f".{target.name}.{part}") for part in ("new", "old"))
        _recover(target, new, old)
        new.mkdir()
        try:
            yield new
        except BaseException as error:
            _keep_failed(target, new, error)
            raise
        _swap(new, target, old)


def _recover(target: Path, new: Path, old: Path) -> None:
    """Remove what a killed run left; nobody else is writing, because the lock is ours."""
    if old.exists() and not target.exists():
        old.rename(target)
    for left in (new, old):
        if left.exists():
            shutil.rmtree(left)


def _keep_failed(target: Path, new: Path, error: BaseException) -> None:
    if not any(new.iterdir()):
        new.rmdir()
        return
    failed = target.with_name(f"{target.name}.failed")
    if failed.exists():
        shutil.rmtree(failed)
    new.rename(failed)
    if isinstance(error, FeedbackError):
        error.args = tuple(a.replace(str(new), str(failed)) if isinstance(a, str) else a for a in error.args)
    if isinstance(error, NotebookError):
        error.notebook = error.notebook.replace(str(new), str(failed))


def _swap(new: Path, target: Path, old: Path) -> None:
    """Put ``new`` in the place of ``target``; in one step where the system can exchange two folders."""
    if not target.exists():
        new.rename(target)
    elif _exchange(new, target):
        shutil.rmtree(new)
    else:  # two steps; `_recover` completes them after a kill in between
        target.rename(old)
        new.rename(target)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically: renameat2 on Linux, renamex_np on macOS. False where neither works."""
    if sys.platform not in ("linux", "darwin"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        code = libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), ctypes.c_uint(exchange))
    elif hasattr(libc, "renamex_np"):
        code = libc.renamex_np(os.fsencode(one), os.fsencode(other), ctypes.c_uint(2))  # RENAME_SWAP
    else:
        return False
    if code == 0:
        return True
    if ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV, errno.EPERM):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
