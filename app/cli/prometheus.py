"""``rules`` and ``grafana``: what Prometheus and Grafana are given.  No server is asked."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.output import write
from app.errors import UsageError
from app.prometheus.rules import DASHBOARD_URL, RUNBOOK_URL

commands = typer.Typer(rich_markup_mode=None)


@commands.command()
def rules(
    runbook_url: Annotated[
        str,
        typer.Option("--runbook-url", help="The page of runbooks; #ALERT is added.", metavar="URL"),
    ] = RUNBOOK_URL,
    dashboard_url: Annotated[
        str, typer.Option("--dashboard-url", help="The dashboard in Grafana.", metavar="URL")
    ] = DASHBOARD_URL,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            help="A label of the targets that tells clusters apart, if one Prometheus scrapes several.",
            metavar="LABEL",
        ),
    ] = None,
) -> None:
    """Print the Prometheus rules as YAML.

    For `rule_files`: each alert of the program, with the recorded figures that it reads, and with the
    durations of the settings.
    """
    from app.cli.settings import load_settings
    from app.prometheus.rules import rules_document
    from app.prometheus.yaml_text import to_yaml

    labels = by or []
    for label in labels:
        if not (label.isascii() and label.isidentifier()):
            raise UsageError("is not the name of a label", field="--by", fix="use letters, digits and _")
    settings, _ = load_settings(None)
    document = rules_document(
        runbook_url=runbook_url,
        dashboard_url=dashboard_url,
        labels=labels,
        thresholds=settings.thresholds,
    )
    write(to_yaml(document))


@commands.command()
def grafana() -> None:
    """Print the Grafana dashboard as JSON, to import or to provision."""
    from app.prometheus.grafana import dashboard_json

    write(dashboard_json())
