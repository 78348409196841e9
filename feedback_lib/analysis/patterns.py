"""Patterns over the feedback of many workflows: repeated errors, skipped items, missing reviews, phases that grow."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

PatternKind = Literal[
    "error", "skip", "reviews", "parallel", "challenge", "guidance", "phase", "went_well", "confusing"
]


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """When a pattern is one. The defaults are the workflow tool's own; every field stands in params/example.yaml."""

    error_workflows: int = 2
    skip_share: float = 0.8
    skip_workflows: int = 3
    reviews_missing: float = 0.5
    parallel_share: float = 0.3
    challenge_workflows: int = 2
    challenge_similarity: float = 0.6
    drift_level: float = 0.95
    k: int = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Something that holds for several workflows.

    Args:
        kind: of the pattern; ``key`` identifies it within its kind and stays the same from review to review.
        warns: someone should act; False for what is fine or only told.
        title: in words, such as ``Common error: "…"``.
        count: workflows it holds for, of ``of``; each once, however often it happened there.
        workflows: their ids (hashes when nothing else is known): the evidence.
        advice: what the workflow tool's own review suggests; "" for none.
        facts: the numbers behind the title (medians, intervals, examples), JSON-like.
    """

    kind: PatternKind
    key: str
    warns: bool
    title: str
    count: int
    of: int
    workflows: tuple[str, ...]
    advice: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
