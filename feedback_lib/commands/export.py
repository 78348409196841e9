"""``feedback export``: the store's tables as files, as a database, or in a warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from feedback_lib.commands import AS_JSON, PARAMS, SET, print_json, progress, table

TO = ("parquet", "duckdb", "csv", "warehouse")  # the names of export.WRITERS, which take a second to import


@click.command()
@click.option("--to", type=click.Choice(TO), required=True, help="The form.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder, or with --to duckdb the file, to write.")
@click.option("--table", "tables", multiple=True, metavar="NAME", help="Only this table; may be given several times.")
@click.option("--destination", default="postgres", show_default=True, help="With --to warehouse: dlt's name of it.")
@click.option("--dataset", default="feedback", show_default=True, help="With --to warehouse: its schema or dataset.")
@click.option("--credentials-env", metavar="NAME", help="The environment variable with its address, user and password.")
@PARAMS
@SET
@AS_JSON
@click.pass_obj
def export(
    obj: Mapping[str, bool],
    *,
    to: str,
    out: Path | None,
    tables: Sequence[str],
    destination: str,
    dataset: str,
    credentials_env: str | None,
    params: str,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Write the tables as Parquet, CSV or a DuckDB database, or merge them into a warehouse.

    What an earlier export wrote is replaced, and nothing else. Raw items, quarantine, watermarks and runs leave only
    when named; process feedback never does. docs/export.md has the rest.
    """
    from feedback_lib import config
    from feedback_lib import export as exporting
    from feedback_lib.errors import ConfigError
    from feedback_lib.store import Store

    cfg = config.load(params, overrides)
    store = Store(cfg.store)
    if store.version("signals") is None:
        raise ConfigError(f"no signals in the store {cfg.store} yet. Run: feedback aggregate --params {params}")
    target = exporting.Target(out=out, destination=destination, dataset=dataset, credentials_env=credentials_env)
    done = exporting.write(store, to, target, tables, tell=progress(obj))
    rows = [{"table": name, "rows": count} for name, count in done.rows.items()]
    if as_json:
        print_json({"to": to, "where": done.where, "tables": rows})
        return
    table(rows, ["table", "rows"], as_json=False)
    click.echo(f"Written: {done.where}")
