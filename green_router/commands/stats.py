"""``green-router stats``: what has happened to the messages of a supervised service, and how its
workers are.

Rules of this file
  1. It asks the supervisor, whose loop runs no code of the application: it gets an answer while all
     workers are blocked.
"""

from __future__ import annotations

import json
from typing import Any

import click

from ..errors import GreenRouterError
from ..messages.ledger import EVENTS, FATES, quantile
from ..processes import control
from .terminal import table


@click.command("stats", short_help="Show what a service with workers is doing.")
@click.argument("service", metavar="[PID|PATH]", required=False)
@click.option("--json", "as_json", is_flag=True, help="As one JSON document.")
def command(service: str | None, as_json: bool) -> None:
    """Ask the supervisor of a service, by its process id or the path of its control socket.

    Without either, the one that this user runs.
    """
    answer = control.ask(_path(service), "stats")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    if "proxy" in answer:
        _show_proxy(answer)
        return
    click.echo(
        f"{' '.join(answer['endpoints']) or '-'}  dispatch {answer['dispatch']}, pid "
        f"{answer['pid']}, {answer['state']} for {_time(answer['uptime'])}"
    )
    table(
        ["worker", "pid", "state", "received", "in flight", "deaths", "loop"],
        [
            [
                "sum",
                str(answer["pid"]),
                answer["state"],
                *_counts(answer["sum"]),
                str(sum(row["deaths"] for row in answer["workers"])),
                "",
            ],
            *(
                [
                    str(row["slot"]),
                    str(row["pid"] or "-"),
                    row["state"],
                    *_counts(row["stats"]),
                    str(row["deaths"]),
                    _loop(row),
                ]
                for row in answer["workers"]
            ),
        ],
    )
    latency = answer["sum"]["latency"]
    fates = [(fate, answer["sum"]["fates"][fate]) for fate in FATES if answer["sum"]["fates"][fate]]
    table(
        ["fate", "messages"],
        [[fate, f"{number:,}"] for fate, number in fates] or [["none yet", ""]],
    )
    events = [
        (event, answer["sum"]["events"][event])
        for event in EVENTS
        if answer["sum"]["events"][event]
    ]
    if events:
        table(["event", "times"], [[event, f"{number:,}"] for event, number in events])
    refused = [
        (cause, times) for cause, times in answer["sum"].get("auth_failures", {}).items() if times
    ]
    if refused:
        table(["not let in", "times"], [[cause, f"{times:,}"] for cause, times in refused])
    click.echo(
        f"half of the replies left within {_time(quantile(latency, 0.5))}, 99 % within "
        f"{_time(quantile(latency, 0.99))}"
    )


def _show_proxy(answer: dict[str, Any]) -> None:
    counts = dict(answer["proxy"])
    workers = counts.pop("workers")
    click.echo(
        f"clients {' '.join(answer['endpoints'])}  servers {' '.join(answer['backend'])}  "
        f"dispatch {counts.pop('dispatch')}, pid {answer['pid']}, {answer['state']} for "
        f"{_time(answer['uptime'])}"
    )
    table(["messages", "number"], [[name, f"{number:,}"] for name, number in counts.items()])
    if workers:
        table(
            ["server", "requests", "in hand", "window", "state"],
            [
                [
                    row["id"],
                    f"{row['requests']:,}",
                    f"{row['in_hand']:,}",
                    f"{row['window']:,}",
                    "leaving" if row["leaving"] else f"heard {_time(row['silent'])} ago",
                ]
                for row in workers
            ],
        )


def _path(service: str | None) -> str:
    if service is None:
        known = control.supervisors()
        if len(known) != 1:
            raise GreenRouterError(
                "no service with workers is running, or its control socket is elsewhere: name it"
                if not known
                else f"several services are running, name one: {' '.join(known)}"
            )
        return known[0]
    return control.path_of(int(service)) if service.isdecimal() else service


def _counts(snapshot: dict[str, Any]) -> list[str]:
    return [
        f"{snapshot['received']:,}",
        f"{snapshot.get('in_flight', 0) + snapshot.get('waiting', 0):,}",
    ]


def _loop(row: dict[str, Any]) -> str:
    if row["state"] not in ("ready", "leaving"):
        return ""
    return "turns" if row["answers"] else f"blocked for {_time(row['silent'])}"


def _time(seconds: float) -> str:
    return (
        f"{min(1000 * seconds, 999):.3g} ms"
        if seconds < 1
        else f"{seconds:.3g} s"
        if seconds < 120
        else f"{seconds / 60:,.1f} min"
    )
