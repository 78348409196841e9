"""What a run is given beside the store: people's decisions, releases, how much the product was used.

It is small and recorded with the run, so that the run can be computed again when the files have moved on.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from feedback_lib import decisions, exposure, performance, specs
from feedback_lib.analysis.registry import Decision
from feedback_lib.analysis.trends import Deploy
from feedback_lib.config import Config


@dataclasses.dataclass(frozen=True)
class Given:
    """Everything about a run that stands in files of its own.

    Attributes:
        decisions: about topics.
        deploys: of all services, oldest first.
        exposure: as `exposure.read` gives it; None where it is not known.
        per: what the exposure counts.
        notes: what was wrong with the files, a sentence each.
    """

    decisions: tuple[Decision, ...] = ()
    deploys: tuple[Deploy, ...] = ()
    exposure: pl.DataFrame | None = None
    per: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a run records it."""
        used = (
            self.exposure.with_columns(pl.col("day").cast(pl.String)).to_dicts() if self.exposure is not None else None
        )
        return {
            "decisions": decisions.to_json(self.decisions),
            "deploys": [(d.at.isoformat(), d.version, d.service) for d in self.deploys],
            "exposure": used,
            "per": self.per,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, recorded: Mapping[str, Any]) -> Given:
        """As a run recorded it."""
        used = recorded.get("exposure")
        return cls(
            decisions=decisions.from_json(recorded.get("decisions", ())),
            deploys=tuple(
                Deploy(dt.datetime.fromisoformat(at), version, service)
                for at, version, service in recorded.get("deploys", ())
            ),
            exposure=_exposure(used) if used is not None else None,
            per=recorded.get("per", ""),
            notes=tuple(recorded.get("notes", ())),
        )


def _exposure(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    types = {"day": pl.String, "exposure": pl.Float64}
    columns = {name: types.get(name, pl.String) for name in rows[0]}
    return pl.DataFrame(rows, schema=columns).with_columns(pl.col("day").str.to_date())


def read(config: Config) -> Given:
    """Read the files a configuration names.

    Raises:
        ConfigError: one of them is wrong; names the file and what to do.
    """
    marks: list[Deploy] = []
    for spec_id in specs.ids(config.specs) if config.specs else ():
        plan = specs.load(spec_id, config.specs)
        marks += [Deploy(at, version, plan.service) for at, version in performance.deploys(plan).iter_rows()]
    used = exposure.read(config.exposure) if config.exposure else None
    return Given(
        decisions=decisions.load(config.registry).decisions if config.registry else (),
        deploys=tuple(sorted(marks, key=lambda d: (d.at, d.version or "", d.service or ""))),
        exposure=used.frame if used else None,
        per=used.per if used else "",
        notes=tuple(f"{r.where}: {r.reason}" for r in used.rejected) if used else (),
    )
