"""Tool feedback leaves: only if its owner agreed, only what was verified, each workflow once however often it is tried.

Whether it may is looked at before anything is read. The file of process feedback is not opened at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedback_lib.analysis.patterns import shortened
from feedback_lib.errors import ConfigError, PrivacyError, TransportError
from feedback_lib.records import Rejected
from feedback_lib.workflows import anonymous, entries, gist, settings, telling
from feedback_lib.workflows.entries import ToolEntry
from feedback_lib.workflows.gist import KIND, Unsent

if TYPE_CHECKING:
    from feedback_lib.transport import Transport

TOKEN = "FEEDBACK_SYNC_TOKEN"
TIMEOUT_S = 10.0
ATTEMPTS = 3
_FORCED = " What was sent before stays noted as sent; --force sends it again, too."
_BATCH_BYTES = 250_000  # of one request; collectors take at least this


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What became of a sync.

    ``off``: why nothing may be sent, else None. ``total``: workflows that there are entries of. ``bodies``: of a dry
    run, what would be sent, byte for byte, one for each request (of a Gist: the lines that would stand in it).
    ``confirmed``: entries that the receiver says it has; ``known`` of them it had before. ``refused``: entries that may
    not leave or that the receiver does not take; they stay queued. ``pending``: entries that were never sent, those
    refused among them. ``problem``: why not everything was sent, and what to do.
    """

    where: str
    off: str | None = None
    total: int = 0
    bodies: tuple[bytes, ...] = ()
    confirmed: int = 0
    known: int = 0
    refused: tuple[PrivacyError, ...] = ()
    unread: tuple[Rejected, ...] = ()
    pending: int = 0
    problem: str | None = None
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for happened."""
        return self.problem is None and not self.refused and not self.unread

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "where": self.where,
            "off": self.off,
            "dry_run": self.dry_run,
            "total": self.total,
            "confirmed": self.confirmed,
            "known": self.known,
            "pending": self.pending,
            "refused": [{"field": one.field, "reason": _reason(one)} for one in self.refused],
            "unread": [{"where": one.where, "reason": one.reason} for one in self.unread],
            "problem": self.problem,
            **({"bodies": [body.decode() for body in self.bodies]} if self.dry_run else {}),
        }


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How it stands, by workflow. ``refused`` of those ``pending`` may not leave. ``unread``: lines without meaning."""

    where: str
    off: str | None
    total: int
    synced: int
    pending: int
    refused: tuple[PrivacyError, ...]
    unread: tuple[Rejected, ...]
    last: str | None

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            **{name: getattr(self, name) for name in ("where", "off", "total", "synced", "pending", "last")},
            "refused": [{"field": one.field, "reason": _reason(one)} for one in self.refused],
            "unread": [{"where": one.where, "reason": one.reason} for one in self.unread],
        }


def sync(
    folder: Path, *, dry_run: bool = False, force: bool = False, progress: Callable[[str], None] = lambda line: None
) -> Synced:
    """Send the tool feedback of a folder that was not sent yet; what the receiver confirms is marked as sent.

    Trouble on the way is told in the result and never raised: a workflow that calls this goes on.

    Args:
        folder: the folder of the workflow tool's files.
        dry_run: send nothing and open no connection; also when sending is off.
        force: send everything again. It does not send when sending is off. What was sent before stays marked as sent
            until it is confirmed again, so that trouble on the way loses nothing that is known.
        progress: told of each request.

    Raises:
        ConfigError: the settings, the endpoint or the file cannot be used.
        PrivacyError: the salt of this installation is damaged or no secret.
    """
    folder = Path(folder)
    off = settings.why_off(folder)
    chosen = settings.load()
    where = destination(chosen.feedback_endpoint)
    if off and not dry_run:
        return Synced(where=where, off=off)
    if not chosen.feedback_endpoint and not dry_run:
        raise ConfigError(
            "nobody is named to send to; write feedback config set feedback_endpoint https://… "
            f"(or {settings.GIST} for a private Gist of your own)"
        )
    files = _files(folder)
    salt = settings.salt()
    read = files.read(salt, process=False)
    known = telling.own_names(folder)
    queue, refused = _queue([e for e in read.tool if force or e.synced_at is None], salt, known)
    kept = Synced(
        where=where,
        off=off,
        total=len(read.tool),
        refused=tuple(refused),
        unread=read.rejected,
        pending=sum(1 for entry in read.tool if entry.synced_at is None),
        dry_run=dry_run,
    )
    to_gist = chosen.feedback_endpoint == settings.GIST
    batches = _batches(queue, salt)
    run = _Run(kept, files, salt, known, progress)
    if dry_run:
        form = run.lines if to_gist else run.payload
        return dataclasses.replace(kept, bodies=tuple(form(batch) for batch in batches))
    if not queue:
        return kept
    try:
        if to_gist:
            run.to_gist(queue)
        else:
            base, path = _address(chosen.feedback_endpoint)
            with contextlib.closing(_collector(base)) as client:
                for batch in batches:
                    run.send(client, path, batch)
    except (TransportError, Unsent) as problem:
        run.problem = told(problem) + (_FORCED if force else "")
    except PrivacyError as problem:
        run.problem = f"{problem}; nothing more was sent"
    return run.result()


def status(folder: Path) -> Status:
    """How it stands: how much was sent and waits, where to, and whether sending is on. Opens no connection.

    Raises:
        ConfigError: the settings or the file cannot be used.
        PrivacyError: the salt of this installation is damaged or no secret.
    """
    folder = Path(folder)
    off = settings.why_off(folder)
    files = _files(folder)
    salt = settings.salt()
    read = files.read(salt, process=False)
    sent = [entry.synced_at for entry in read.tool if entry.synced_at is not None]
    waiting = [entry for entry in read.tool if entry.synced_at is None]
    return Status(
        where=destination(settings.load().feedback_endpoint),
        off=off,
        total=len(read.tool),
        synced=len(sent),
        pending=len(waiting),
        refused=tuple(_queue(waiting, salt, telling.own_names(folder))[1]),
        unread=read.rejected,
        last=max(sent, default=None),
    )


def destination(endpoint: str) -> str:
    """Where an endpoint is, in words."""
    if endpoint == settings.GIST:
        return "a private Gist"
    return endpoint or "nowhere (feedback_endpoint is not set)"


def _files(folder: Path) -> entries.Files:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder. Name the folder of the workflow with --dir.")
    return entries.Files(folder)


def _queue(
    waiting: Sequence[ToolEntry], salt: bytes, known: frozenset[str]
) -> tuple[list[ToolEntry], list[PrivacyError]]:
    """What may leave of the entries, and why the others may not; these are named by their place among the entries."""
    queue: list[ToolEntry] = []
    refused: list[PrivacyError] = []
    for at, entry in enumerate(waiting):
        if found := anonymous.entry_problem(anonymous.wire(entry, salt), known):
            refused.append(_refusal(at, *found, entry))
        else:
            queue.append(entry)
    return queue, refused


def _refusal(at: int, field: str, reason: str, entry: ToolEntry) -> PrivacyError:
    day, key = entry.timestamp[:10], entry.workflow_id_hash[:8]
    return PrivacyError(f"entries[{at}].{field}" if field else f"entries[{at}]", f"{reason} (workflow {key} of {day})")


def _reason(error: PrivacyError) -> str:
    return str(error).removeprefix(f"{error.field}: ")


def _batches(queue: Sequence[ToolEntry], salt: bytes) -> list[list[ToolEntry]]:
    """The queue in parts that one request may hold."""
    found: list[list[ToolEntry]] = []
    size = 0
    for one in queue:
        length = len(anonymous.dumped(anonymous.wire(one, salt))) + 1
        if not found or len(found[-1]) >= anonymous.MOST_ENTRIES or size + length > _BATCH_BYTES:
            found.append([])
            size = 0
        found[-1].append(one)
        size += length
    return found


def _collector(base: str) -> Transport:
    from feedback_lib.transport import Transport, secret

    try:
        token = secret(TOKEN, KIND)
    except ConfigError:
        token = ""  # a collector may do without
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Transport(KIND, base, headers=headers, writes=True, timeout_s=TIMEOUT_S, attempts=ATTEMPTS, max_bytes=2**20)


def _address(endpoint: str) -> tuple[str, str]:
    """An endpoint as base address and path; without a path it is that of `feedback collect`."""
    parts = urllib.parse.urlsplit(endpoint)
    path = parts.path if parts.path not in ("", "/") else "/submit"
    return f"{parts.scheme}://{parts.netloc}", path


class _Run:
    """One sync under way: what is confirmed is marked at once, so that being stopped costs nothing."""

    def __init__(
        self, kept: Synced, files: entries.Files, salt: bytes, names: frozenset[str], progress: Callable[[str], None]
    ) -> None:
        self.kept, self.files, self.salt, self.names, self.progress = kept, files, salt, names, progress
        self.confirmed = self.known = 0
        self.pending = kept.pending
        self.refused = list(kept.refused)
        self.problem: str | None = None

    def payload(self, batch: Sequence[ToolEntry]) -> bytes:
        """The body of one request, verified."""
        return anonymous.payload(batch, self.salt, self.names)

    def lines(self, batch: Sequence[ToolEntry]) -> bytes:
        """The lines of a Gist's file, each a payload of one entry, verified."""
        return b"".join(self.payload([one]) + b"\n" for one in batch)

    def send(self, client: Transport, path: str, batch: Sequence[ToolEntry]) -> None:
        """Verify a batch, send it and mark what is confirmed; what is too large for the receiver goes in halves.

        Raises:
            PrivacyError: something in these bytes must not leave.
            TransportError: no usable answer.
            Unsent: an answer that confirms nothing.
        """
        from feedback_lib import sinks

        content = self.payload(batch)
        body = json.loads(content)
        if sinks.dumped(body).encode() != content:  # what was verified is what goes out, or nothing does
            raise PrivacyError("payload", "would be sent in other bytes than were verified")
        self.progress(f"sends {len(batch)} entries, {len(content):,} bytes, to {client.host}")
        try:
            reply = client.call("POST", path, body=body)
        except TransportError as problem:
            parts = self._parts(problem, batch)
            if parts is None:
                raise
            for places in parts:
                self.send(client, path, [batch[at] for at in places])
            return
        answer = reply.json()
        refused = _refused(answer, len(batch))
        counts = [answer.get(name) if isinstance(answer, dict) else None for name in ("accepted", "known")]
        if refused is None or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
            raise Unsent(f"{client.host} answered, but not as a collector does; is feedback_endpoint its address?")
        accepted, known = (int(n or 0) for n in counts)
        if accepted + known + len(refused) != len(batch):
            raise Unsent(
                f"{client.host} confirms {accepted + known} entries of {len(batch)} and refuses {len(refused)}; "
                "nothing is taken for sent, as nobody knows which; try again later"
            )
        self._refuse(refused, batch)
        self.confirm([one for at, one in enumerate(batch) if at not in refused], known)

    def _parts(self, problem: TransportError, batch: Sequence[ToolEntry]) -> list[Sequence[int]] | None:
        """Places of what to send instead: halves of what is too large, or what 422 does not name; None for nothing."""
        if problem.status == 413 and len(batch) > 1:
            middle = len(batch) // 2
            return [range(middle), range(middle, len(batch))]
        if problem.status != 422:
            return None
        try:
            refused = _refused(json.loads(problem.body), len(batch))
        except (ValueError, RecursionError):
            return None
        if not refused:
            return None
        self._refuse(refused, batch)
        rest = [at for at in range(len(batch)) if at not in refused]
        return [rest] if rest else []

    def _refuse(self, refused: Mapping[int, tuple[str, str]], batch: Sequence[ToolEntry]) -> None:
        for at, (field, reason) in refused.items():
            self.refused.append(_refusal(at, field, f"the receiver does not take it: {reason}", batch[at]))

    def to_gist(self, queue: Sequence[ToolEntry]) -> None:
        """Bring the lines of a queue into the private Gist and mark those that are there.

        Raises:
            TransportError: no usable answer.
            Unsent: the Gist is public, or does not show what was sent.
            ConfigError: there is no token.
        """
        named = {one.workflow_id_hash: one for one in queue}
        gist.put(
            {key: self.lines([one]) for key, one in named.items()},
            lambda keys, there: self.confirm([named[key] for key in keys], there),
            timeout_s=TIMEOUT_S,
            attempts=ATTEMPTS,
            progress=self.progress,
        )

    def confirm(self, sent: Sequence[ToolEntry], known: int) -> None:
        """Mark what the receiver has; an entry that was written anew meanwhile stays to be sent."""
        if sent:
            try:
                versions = {one.workflow_id_hash: entries.version(one) for one in sent}
                self.files.mark(versions, entries.stamp(dt.datetime.now(dt.UTC)), again=True)
            except ConfigError as problem:
                raise Unsent(
                    f"the receiver has {len(sent)} entries, but that cannot be noted ({problem}); they will be sent "
                    "again, and the receiver keeps one of each"
                ) from None
        self.confirmed += len(sent)
        self.pending -= sum(1 for one in sent if one.synced_at is None)
        self.known += known

    def result(self) -> Synced:
        """What became of it."""
        return dataclasses.replace(
            self.kept,
            confirmed=self.confirmed,
            known=self.known,
            refused=tuple(self.refused),
            pending=self.pending,
            problem=self.problem,
        )


def _refused(answer: Any, count: int) -> dict[int, tuple[str, str]] | None:
    """What a collector refuses, (field, reason) by place; None when the answer has another form. Its words are cut."""
    listed = answer.get("refused") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        return None
    found: dict[int, tuple[str, str]] = {}
    for one in listed:
        at = one.get("index") if isinstance(one, dict) else None
        if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < count:
            return None
        field, reason = (shortened(str(one.get(name, "")), 200) for name in ("field", "reason"))
        found[at] = field, reason
    return found


def told(problem: TransportError | Unsent) -> str:
    """What went wrong on the way and what to do, in a sentence or two."""
    words = str(problem)
    words += "" if words.endswith((".", "?")) else "."
    advice = "" if isinstance(problem, Unsent) else f" {_advice(problem)}"
    return f"{words}{advice} Everything unconfirmed stays queued."


def _advice(problem: TransportError) -> str:
    from feedback_lib import limits

    code, wait = problem.status, problem.retry_after_s
    if code == 429 or (code == 403 and (wait is not None or limits.limit(403, {}, problem.body))):
        return f"That is a rate limit, no refusal: run it again {_when(wait)}."
    if code == 401:
        return "The token is not accepted: look at its variable, or make a new one."
    if code == 403:
        return "The receiver takes nothing from this sender: ask its owner, or look at what the token may do."
    if code == 404:
        return "Nobody takes feedback at this address: look at feedback_endpoint, or at what the token may do."
    if code == 413:
        return "A single entry is too large for the receiver: shorten its words."
    if code == 422:
        return "The receiver does not know this form: update the package."
    if code is not None and code >= 500:
        return f"The receiver has a fault of its own: run it again {_when(wait)}."
    if code is None:
        return "The receiver could not be reached, or gave no answer: run it again when it can; nothing is sent twice."
    return "Run it again later."


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "in some minutes"
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=min(seconds, 366 * 86_400))
    return f"after {at:%Y-%m-%d %H:%M} UTC"
