"""What people decided about topics, in one readable YAML file under version control: read, checked, written.

The file has four parts. ``decisions:`` is people's, and never rewritten: commands add to its end. ``proposals:``,
``topics:`` and ``centres:`` are written anew by every run; the last is for machines, so that a run with an empty store
knows the topics again.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import fcntl
import math
import os
import re
import tempfile
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedback_lib import records
from feedback_lib.analysis.registry import Decision, DecisionKind, Proposal, ProposalKind
from feedback_lib.errors import ConfigError, nearest

if TYPE_CHECKING:
    import polars as pl

KINDS: tuple[DecisionKind, ...] = typing.get_args(DecisionKind)
SECOND = {
    "rename": "to",
    "merge": "into",
    "split": "into",
    "move": "to",
}  # the key beside the kind, where one is needed
COMMON = ("by", "on", "reason", "number", "evidence")  # the last two come along when a proposal is moved up by hand
HEAD = """\
# Topics: what people decided, what the last run proposes, what topics there are. Keep this file in version control.
#
# decisions: yours. A run never changes this part. Later ones win. Topics are named by id, texts by uid or its first
# eight characters. To take a decision back, delete it. What can be decided (by, on and reason may follow each):
#   - rename: 17                      - merge: [17, 23]              - split: 12
#     to: Login fails after update      into: 4                        into: {31: [75597bc7, 1f0a22d4]}
#   - move: [75597bc7, 1f0a22d4]      - pin: 17                      - forbid: 9
#     to: 17                          - retire: 8                    - apart: [4, 17]
# "to: none" moves texts out of every topic. A pinned topic is left alone by proposals; a forbidden one is no subject:
# its texts have no topic, and it never comes back; topics kept apart are never proposed for merging.
decisions:
"""
PARTS = ("decisions", "proposals", "topics", "centres")
MARK = "# ---- From here on every run writes this file anew; edits below are lost. ----\n"
_CENTRES = "# Where the topics lie, for a run whose store is empty: on another machine topics keep their ids.\n"
_PROPOSALS = """\
# Nothing below is done until it stands above: feedback topics accept 1 (or reject 1), or move the entry up by hand.
"""


@dataclasses.dataclass(frozen=True)
class Registry:
    """The file, read.

    Attributes:
        path: Where it is.
        head: Its text up to the part that runs write.
        decisions: What people decided, in order.
        proposals: Number → open proposal.
        topics: One mapping per topic: id, name, theme, words, size, born, retired, pinned, parents, examples.
        encoder: The name of the encoder that the centres are of.
        centres: Topic → the least score of its texts and its centre, see `_packed`.
    """

    path: Path
    head: str = HEAD
    decisions: tuple[Decision, ...] = ()
    proposals: Mapping[int, Proposal] = dataclasses.field(default_factory=dict)
    topics: tuple[Mapping[str, Any], ...] = ()
    encoder: str = ""
    centres: Mapping[int, tuple[float, str]] = dataclasses.field(default_factory=dict)

    @property
    def next_id(self) -> int:
        """The first topic id that was never used."""
        parts = [part for d in self.decisions for part, _ in d.parts]
        return max([0, *(int(t["id"]) for t in self.topics), *parts]) + 1


def load(path: str | Path) -> Registry:
    """Read the file; one that is not there is empty.

    Raises:
        ConfigError: it is broken, or a decision cannot be followed: names file and line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")  # ends of lines as they are
    except FileNotFoundError:
        return Registry(path)
    except (OSError, UnicodeDecodeError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "not UTF-8"
        raise ConfigError(f"{path}: {what}. Name a file of topics under registry in the params file.") from None
    return _read(path, text)


def save(path: str | Path, topics: pl.DataFrame, proposals: Sequence[Proposal], encoder: str = "") -> Registry:
    """Write what a run found; the decisions stay as they are in the file now, byte for byte.

    A proposal that was open before keeps its number. Centres are written with the name of their ``encoder``.

    Raises:
        ConfigError: the file cannot be written.
    """
    with _alone(Path(path)):
        before = load(path)
        numbers = {(p.kind, p.about): n for n, p in before.proposals.items()}
        free = max([0, *numbers.values()])
        numbered: dict[int, Proposal] = {}
        for proposal in proposals:
            number = numbers.get((proposal.kind, proposal.about))
            if number is None:
                number = free = free + 1
            numbered[number] = proposal
        rows = topics.sort("topic_id").to_dicts()
        centres = {
            row["topic_id"]: (round(row["least"] or 0.0, 6), _packed(row["centroid"]))
            for row in rows
            if encoder and row["centroid"]
        }
        return _written(
            dataclasses.replace(
                before,
                proposals=dict(sorted(numbered.items())),
                topics=tuple(_shown(row) for row in rows),
                encoder=encoder,
                centres=centres,
            )
        )


def add(registry: Registry, decisions: Sequence[Decision], without: Iterable[int] = ()) -> Registry:
    """Write decisions to the end of people's part; open proposals named in ``without`` are taken out.

    What others wrote into the file since it was read stays.

    Raises:
        ConfigError: a decision cannot be followed, or the file cannot be written; nothing has changed.
    """
    settled = [registry.proposals[n] for n in without]
    out = {(p.kind, p.about) for p in settled}
    with _alone(registry.path):
        now = load(registry.path)
        head = re.sub(r"(?m)^decisions:\s*\[\s*\]", "decisions:", _ended(now.head))
        entries = "".join(_entry(_fields(d), _indent(now)) for d in decisions)
        left = {n: p for n, p in now.proposals.items() if (p.kind, p.about) not in out}
        return _written(dataclasses.replace(now, head=head + entries, proposals=left))


def accepted(
    registry: Registry, numbers: Iterable[int], *, by: str | None, on: dt.date, reason: str | None = None
) -> list[Decision]:
    """The decisions that open proposals become when they are accepted."""
    made, free = [], registry.next_id
    for proposal in (registry.proposals[number] for number in numbers):
        parts = tuple((free + i, texts) for i, texts in enumerate(proposal.parts))
        free += len(parts)
        made.append(
            Decision(
                kind=proposal.kind,
                topics=proposal.topics,
                into=proposal.into,
                parts=parts,
                by=by,
                on=on,
                reason=reason or proposal.reason,
            )
        )
    return made


def rejected(
    registry: Registry, numbers: Iterable[int], *, by: str | None, on: dt.date, reason: str | None = None
) -> list[Decision]:
    """The decisions that open proposals become when they are turned down."""
    return [
        Decision(
            kind="keep",
            proposal=p.kind,
            topics=tuple(sorted(p.about)),
            evidence=p.evidence,
            by=by,
            on=on,
            reason=reason,
        )
        for p in (registry.proposals[number] for number in numbers)
    ]


def known(registry: Registry, encoder: str = "") -> pl.DataFrame:
    """The topics of the file as a table ``topics``, for a store that has none yet; with the centres of this encoder."""
    centres = registry.centres if encoder and encoder == registry.encoder else {}
    themes = {name: i for i, name in enumerate(dict.fromkeys(t["theme"] for t in registry.topics if t.get("theme")), 1)}
    rows = [
        dict.fromkeys(records.schema("topics"))
        | {
            "topic_id": t["id"],
            "name": t["name"],
            "named_by": next((d.by or "someone" for d in registry.decisions if _renames(d, t["id"])), None),
            "pinned": bool(t.get("pinned")),
            "theme_id": themes.get(t.get("theme")),
            "theme": t.get("theme"),
            "words": tuple(str(t.get("words") or "").split(", ")) if t.get("words") else (),
            "examples": tuple(t.get("examples") or ()),
            "dissenting": (),
            "born_on": t["born"],
            "retired_on": t.get("retired"),
            "parents": tuple(t.get("parents") or ()),
            "size": 0,
            "centroid": _unpacked(centres[t["id"]][1]) if t["id"] in centres else (),
            "least": centres[t["id"]][0] if t["id"] in centres else None,
        }
        for t in registry.topics
    ]
    return records.frame("topics", rows)


def gone(decisions: Iterable[Decision]) -> dict[int, int | None]:
    """Topics that people ended → the topic each is part of now; None of those forbidden or retired."""
    merged: dict[int, int | None] = {}
    ended: set[int | None] = set()
    for d in decisions:
        if d.kind == "merge":
            merged |= {t: d.into for t in d.topics if t != d.into}
        elif d.kind in ("forbid", "retire"):
            ended |= set(d.topics)

    def now(topic: int | None) -> int | None:
        while topic in merged:
            topic = merged[topic]
        return None if topic in ended else topic

    return {t: now(t) for t in sorted({*merged, *(t for t in ended if t is not None)})}


def to_json(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Decisions as a run records them."""
    return [dataclasses.asdict(d) | {"on": d.on.isoformat() if d.on else None} for d in decisions]


def from_json(rows: Iterable[Mapping[str, Any]]) -> tuple[Decision, ...]:
    """Decisions as a run recorded them."""
    return tuple(
        Decision(
            **{
                **row,
                "topics": tuple(row["topics"]),
                "texts": tuple(row["texts"]),
                "parts": tuple((int(part), tuple(texts)) for part, texts in row["parts"]),
                "on": dt.date.fromisoformat(row["on"]) if row["on"] else None,
            }
        )
        for row in rows
    )


def topics_text(topics: Iterable[Mapping[str, Any]]) -> str:
    """The part of the file that lists topics; equal topics are equal text."""
    return "topics:\n" + "".join(_entry(t, "") for t in topics)


def table_text(topics: pl.DataFrame) -> str:
    """The same, of the table."""
    return topics_text(_shown(row) for row in topics.sort("topic_id").iter_rows(named=True))


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(path: Path, text: str) -> Registry:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # ten times as fast where PyYAML has it
    try:
        node = loader.get_single_node()
        values = loader.construct_document(node) if node is not None else {}
    except (yaml.YAMLError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML ({getattr(problem, 'problem', problem)}).") from None
    finally:
        loader.dispose()
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path} line 1: expected decisions:, proposals: and topics:.")
    parts = {key.value: child for key, child in node.value} if node is not None else {}
    for key, _ in node.value if node is not None else ():
        if key.value not in PARTS:
            hint = nearest(key.value, [*PARTS])
            raise ConfigError(f"{path} line {key.start_mark.line + 1}: unknown part {key.value!r}; {hint}")
    head = re.split(rf"(?m)^(?:{re.escape(MARK.strip())}|proposals:|topics:|centres:)", text, maxsplit=1)[0]
    topics = tuple(values.get("topics") or ())
    try:
        there = {int(t["id"]): t for t in topics}
    except (TypeError, KeyError, ValueError):
        line = parts["topics"].start_mark.line + 1
        raise ConfigError(f"{path} line {line}: a topic without id; restore this part from version control.") from None
    found = tuple(_decision(path, item) for item in _items(path, parts.get("decisions"), "decisions"))
    _check(path, found, there)
    proposals: dict[int, Proposal] = {}
    for item in _items(path, parts.get("proposals"), "proposals"):
        d = _decision(path, item)
        fields = {key.value: child for key, child in item.value}
        number = _whole(path, fields["number"]) if "number" in fields else max([0, *proposals]) + 1
        proposals[number] = Proposal(
            kind=typing.cast(ProposalKind, d.kind),
            topics=d.topics,
            into=d.into,
            parts=tuple(texts for _, texts in d.parts),
            evidence=d.evidence,
            reason=d.reason or "",
        )
    encoder, centres = _centres(path, values.get("centres") or {}, parts.get("centres"))
    return Registry(path, head, found, proposals, topics, encoder, centres)


def _centres(path: Path, written: Any, node: Any) -> tuple[str, dict[int, tuple[float, str]]]:
    try:
        encoder = str(written.get("encoder", ""))
        centres = {int(t): (float(v[0]), str(v[1])) for t, v in written.items() if t != "encoder"}
        for _, packed in centres.values():
            _unpacked(packed)
    except (AttributeError, TypeError, ValueError, LookupError):
        line = node.start_mark.line + 1
        raise ConfigError(f"{path} line {line}: centres are no centres; delete this part, a run writes it.") from None
    return encoder, centres


def _items(path: Path, node: Any, part: str) -> list[Any]:
    import yaml

    if node is None or (isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~")):
        return []
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for item in items:
        if not isinstance(item, yaml.MappingNode):
            raise ConfigError(f"{path} line {item.start_mark.line + 1}: {part} are a list, such as\n- pin: 17")
    return items


def _decision(path: Path, node: Any) -> Decision:
    line = node.start_mark.line + 1
    fields = {key.value: child for key, child in node.value}
    kinds = [key for key in fields if key in KINDS]
    if len(kinds) != 1:
        others = [key for key in fields if key not in (*COMMON, "to", "into", "topics")]
        what = f"both {kinds[0]} and {kinds[1]}; write two entries" if kinds else ""
        what = (
            what
            or f"unknown decision {others[0] if others else ''!r}; {nearest(others[0] if others else '', [*KINDS])}"
        )
        raise ConfigError(f"{path} line {line}: {what}")
    kind = typing.cast(DecisionKind, kinds[0])
    second = SECOND.get(kind)
    allowed = [kind, *([second] if second else []), *(["topics"] if kind == "keep" else []), *COMMON]
    for key, child in fields.items():
        if key not in allowed:
            at = child.start_mark.line + 1
            raise ConfigError(f"{path} line {at}: {kind} has no key {key!r}; {nearest(key, allowed)}")
    if second and second not in fields:
        raise ConfigError(f"{path} line {line}: {kind} needs a line '{second}:', see the top of the file.")
    value: Any = fields[kind]
    other: Any = fields.get(second or "")
    made: dict[str, Any] = {"kind": kind, "line": line, **_common(path, fields)}
    if kind == "move":
        made["texts"] = _texts(path, value)
        made["into"] = None if other.value in ("none", "null", "~", "") else _whole(path, other)
    elif kind == "keep":
        if value.value not in typing.get_args(ProposalKind) or "topics" not in fields:
            raise ConfigError(f"{path} line {line}: keep names the kind of a proposal, and its topics: [4, 17]")
        made |= {"proposal": value.value, "topics": _wholes(path, fields["topics"])}
    else:
        made["topics"] = _wholes(path, value)
        if kind in ("rename", "split") and len(made["topics"]) != 1:
            raise ConfigError(f"{path} line {line}: {kind} takes one topic.")
    if kind == "rename":
        if not isinstance(other.value, str) or not other.value.strip():
            raise ConfigError(f"{path} line {line}: rename needs a name under 'to:'.")
        made["name"] = " ".join(other.value.split())
    elif kind == "merge":
        made["into"] = _whole(path, other)
    elif kind == "split":
        pairs = other.value if isinstance(other.value, list) and other.tag.endswith(":map") else None
        if not pairs:
            raise ConfigError(f"{path} line {line}: write the parts as into: {{31: [uid, uid]}}.")
        made["parts"] = tuple((_whole(path, key), _texts(path, child)) for key, child in pairs)
    return Decision(**made)


def _common(path: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {key: fields[key].value for key in ("by", "reason") if key in fields}
    if "evidence" in fields:
        found["evidence"] = _whole(path, fields["evidence"])
    if "on" in fields:
        try:
            found["on"] = dt.date.fromisoformat(fields["on"].value)
        except (ValueError, TypeError):
            at = fields["on"].start_mark.line + 1
            raise ConfigError(f"{path} line {at}: on is a day, such as 2026-11-20") from None
    return found


def _whole(path: Path, node: Any) -> int:
    if not isinstance(node.value, str) or not re.fullmatch(r"\d{1,9}", node.value):
        raise ConfigError(f"{path} line {node.start_mark.line + 1}: expected the number of a topic, such as 17")
    return int(node.value)


def _wholes(path: Path, node: Any) -> tuple[int, ...]:
    return tuple(_whole(path, child) for child in (node.value if isinstance(node.value, list) else [node]))


def _texts(path: Path, node: Any) -> tuple[str, ...]:
    """Uids as they are written: YAML would read some as numbers."""
    found = []
    for child in node.value if isinstance(node.value, list) else [node]:
        if not isinstance(child.value, str) or not re.fullmatch(r"[0-9a-f]{4,32}", child.value):
            line = child.start_mark.line + 1
            raise ConfigError(
                f"{path} line {line}: expected a uid or its first characters (0-9, a-f), such as 75597bc7"
            )
        found.append(child.value)
    return tuple(found)


def _check(path: Path, decisions: Sequence[Decision], there: Mapping[int, Mapping[str, Any]]) -> None:
    """That topics exist, that new ids are new, and that merges end somewhere."""
    named = dict.fromkeys(there)
    cut: dict[int, int] = {}
    merged: dict[int, int] = {}
    for d in decisions:
        for part, _ in d.parts:
            if part in there and d.topics[0] not in (there[part].get("parents") or ()):
                raise ConfigError(
                    f"{path} line {d.line}: topic {part} is there already; take {max(there) + 1} or higher"
                )
            if cut.setdefault(part, d.line) != d.line:
                raise ConfigError(
                    f"{path} line {d.line}: line {cut[part]} makes a topic {part}, too; take another number"
                )
            named[part] = None
        for topic in (*d.topics, d.into):
            if topic is not None and topic not in named:
                hint = f"there are {min(named)} to {max(named)}" if named else "no run has made topics yet"
                raise ConfigError(f"{path} line {d.line}: there is no topic {topic}; {hint}")
        if d.kind == "merge" and d.into is not None:
            for topic in d.topics:
                end = d.into
                while end in merged and end != topic:
                    end = merged[end]
                if end == topic:
                    raise ConfigError(
                        f"{path} line {d.line}: {topic} would be merged into itself; delete one of the merges"
                    )
                merged[topic] = d.into


# --- writing ----------------------------------------------------------------------------------------------------------


def _ended(text: str) -> str:
    """People's part, with an end of line before what follows, and its key when somebody deleted it."""
    text = text if text.endswith("\n") or not text else text + "\n"
    return text if re.search(r"(?m)^decisions:", text) else text + "decisions:\n"


def _renames(decision: Decision, topic: int) -> bool:
    return decision.kind == "rename" and decision.topics[0] == topic


def _packed(centroid: Sequence[float]) -> str:
    """A direction in 256 steps a number, as text."""
    most = max(abs(x) for x in centroid) or 1.0
    return base64.b64encode(bytes(round(x / most * 127) % 256 for x in centroid)).decode()


def _unpacked(packed: str) -> tuple[float, ...]:
    steps = [b - 256 if b > 127 else b for b in base64.b64decode(packed, validate=True)]
    length = math.hypot(*steps) or 1.0
    return tuple(x / length for x in steps)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A topic as the file lists it; what is usual is left out."""
    shown = {
        "id": row["topic_id"],
        "name": row["name"],
        "theme": row["theme"],
        "words": ", ".join(row["words"] or ()),
        "size": row["size"],
        "born": row["born_on"],
        "retired": row["retired_on"],
        "pinned": row["pinned"] or None,
        "parents": list(row["parents"] or ()) or None,
        "examples": list(row["examples"] or ()) or None,
    }
    return {key: value for key, value in shown.items() if value is not None}


def _fields(d: Decision) -> dict[str, Any]:
    made: dict[str, Any] = {}
    one: Any = d.topics[0] if len(d.topics) == 1 else list(d.topics)
    if d.kind == "move":
        made = {"move": list(d.texts), "to": "none" if d.into is None else d.into}
    elif d.kind == "keep":
        made = {"keep": d.proposal, "topics": list(d.topics), "evidence": d.evidence}
    else:
        made = {d.kind: one}
        if d.kind == "rename":
            made["to"] = d.name
        elif d.kind == "merge":
            made["into"] = d.into
        elif d.kind == "split":
            made["into"] = {part: [text[:12] for text in texts] for part, texts in d.parts}
    return made | {key: getattr(d, key) for key in ("by", "on", "reason") if getattr(d, key)}


def _indent(registry: Registry) -> str:
    """How far the entries of the decisions are set in."""
    lines = registry.head.splitlines()
    first = next((lines[d.line - 1] for d in registry.decisions if d.line <= len(lines)), "")
    return first[: len(first) - len(first.lstrip())] if first.lstrip().startswith("-") else ""


def _entry(fields: Mapping[str, Any], indent: str) -> str:
    lines = [f"{key}: {_scalar(value)}" for key, value in fields.items()]
    return "".join(f"{indent}{'- ' if i == 0 else '  '}{line}\n" for i, line in enumerate(lines))


def _scalar(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the folder while the file is read and written: of two writers the second sees what the first wrote."""
    handle = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.parent, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)  # freed with the handle, also of a process that is killed
    except OSError as problem:
        if handle is not None:
            os.close(handle)
        raise _unwritable(path, problem) from None
    try:
        yield
    finally:
        os.close(handle)


def _unwritable(path: Path, problem: OSError) -> ConfigError:
    return ConfigError(f"{path}: {problem.strerror}. Name another file under registry in the params file.")


def _written(registry: Registry) -> Registry:
    """The registry as it stands in the file now."""
    entries, free = [], registry.next_id
    for number, p in registry.proposals.items():
        fields: dict[str, Any] = {"number": number, p.kind: p.topics[0] if len(p.topics) == 1 else list(p.topics)}
        if p.kind == "merge":
            fields["into"] = p.into
        elif p.kind == "split":
            fields["into"] = {free + i: [text[:12] for text in texts] for i, texts in enumerate(p.parts)}
            free += len(p.parts)
        entries.append(_entry(fields | {"evidence": p.evidence, "reason": p.reason}, ""))
    text = (
        _ended(registry.head)
        + MARK
        + _PROPOSALS
        + "proposals:\n"
        + "".join(entries)
        + "\n"
        + topics_text(registry.topics)
    )
    if registry.centres:
        text += f"\n{_CENTRES}centres:\n  encoder: {_scalar(registry.encoder)}\n"
        text += "".join(f"  {t}: {_scalar(list(centre))}\n" for t, centre in registry.centres.items())
    made = _read(registry.path, text)  # what cannot be read again is not written
    path = registry.path
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            if path.exists():
                Path(temporary).chmod(path.stat().st_mode & 0o777)
            else:
                Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as problem:
        raise _unwritable(path, problem) from None
    return made
