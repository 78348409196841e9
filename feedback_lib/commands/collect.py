"""``feedback collect``: the maintainers' side of sync."""

from __future__ import annotations

from collections.abc import Mapping

import click


@click.command("collect")
@click.option(
    "--port", default=8787, show_default=True, type=click.IntRange(0, 65535), metavar="N", help="0 takes a free one."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen; 127.0.0.1: only this machine.",
)
@click.option(
    "--data", default="collected.sqlite", show_default=True, type=click.Path(), metavar="FILE", help="The file to fill."
)
@click.option(
    "--rate",
    default=60,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Requests a minute of one sender.",
)
@click.option(
    "--max-kb", default=512, show_default=True, type=click.IntRange(1, 65536), metavar="N", help="Of one request."
)
@click.option("--max-mb", default=4096, show_default=True, type=click.IntRange(1), metavar="N", help="Of the file.")
@click.option("--forwarded", is_flag=True, help="Behind a proxy: the sender is the last in X-Forwarded-For.")
@click.pass_obj
def collect(
    obj: Mapping[str, bool], *, port: int, host: str, data: str, rate: int, max_kb: int, max_mb: int, forwarded: bool
) -> None:
    """Receive tool feedback from many installations until stopped by Ctrl-C or SIGTERM.

    Senders name http://ADDRESS:PORT/submit as their feedback_endpoint. With a token in COLLECTOR_TOKEN they must show
    it (their FEEDBACK_SYNC_TOKEN). It speaks plain HTTP: for other machines put a proxy with TLS in front.

    `feedback review --tool --all-users --data FILE` shows what they say together, from five installations on.
    """
    import logging
    from pathlib import Path

    from feedback_lib.workflows import collector

    if not obj["quiet"]:
        logging.getLogger(collector.__name__).setLevel(logging.INFO)  # a line per request, also without --verbose
    collector.serve(
        Path(data),
        host,
        port,
        limits=collector.Limits(rate=rate, max_kb=max_kb, max_mb=max_mb, forwarded=forwarded),
        token=collector.token_of_environment(),
        tell=lambda line: None if obj["quiet"] else click.echo(line),
    )
