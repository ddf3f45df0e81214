"""What is odd in a configuration that is right: it may be meant, and mostly is not."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from freeswitch_callback.cli.context import Context
from freeswitch_callback.config import STOCK_PASSWORD, Configuration, Recall, secret_of, variable_of
from freeswitch_callback.operations import checks

_LONGEST_POLL = 60.0
"""Seconds between two looks for what is due above which recalls are late for no reason."""


def odd(context: Context, now: datetime, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """One line for each, with what to write instead."""
    configuration = context.configuration
    yield from _of_secrets(configuration, Path(context.path), environ)
    yield from _of_numbers(configuration)
    yield from _of_caps(configuration)
    yield from _of_capture(configuration)
    if configuration.poll > _LONGEST_POLL:
        yield f"recall.poll is {configuration.poll:g} s: what no event tells waits so long; 5s is usual"
    for where, recall in _recalls(configuration):
        yield from _of_recall(where, recall)
    gates = [
        ("recall", context.gates(None)),
        *((_of_queue(queue), context.gates(queue)) for queue in configuration.queues),
    ]
    for finding in checks.check_calling_hours(configuration.numbers.allow, gates, now):
        yield finding.text


def _of_secrets(configuration: Configuration, path: Path, environ: Mapping[str, str]) -> Iterator[str]:
    sections = [("database", configuration.database), *((n.name, n) for n in configuration.freeswitch)]
    in_file = False
    for name, section in sections:
        secret, stands = secret_of(section, name, environ)
        in_file |= secret is not None and not stands
        if stands.startswith("/") and _others_read(Path(stands)):
            yield f"{stands} is readable for everybody: chmod o-r"
    if in_file and _others_read(path):
        yield f"{path} has a password in it and is readable for everybody: chmod o-r, or a password_file"
    for node in configuration.freeswitch:
        if node.password == STOCK_PASSWORD:
            yield (
                f"{node.name} has the password that FreeSWITCH ships with: whoever is on that machine owns "
                "the switch; change it in event_socket.conf.xml"
            )
    known = {variable_of(name) for name, _ in sections}
    for name in sorted(environ):
        if re.fullmatch("FREESWITCH_CALLBACK_.*_PASSWORD", name) and name not in known:
            yield f"${name} is the password of no section here; there are {', '.join(sorted(known))}"


def _others_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _of_numbers(configuration: Configuration) -> Iterator[str]:
    numbers = configuration.numbers
    if not numbers.allow and not numbers.allow_prefixes and not numbers.extensions:
        yield "numbers.allow is empty: nobody is called back"
    elif numbers.default_region not in numbers.allow:
        yield (
            f"numbers.default_region is {numbers.default_region}, and numbers.allow has no such country: who "
            "calls from a number without a country is not called back"
        )
    if not numbers.types and not numbers.allow_prefixes:
        yield "numbers.types is empty: nobody but your own extensions is called back"
    for prefix in sorted(set(numbers.allow_prefixes) & set(numbers.deny_prefixes)):
        yield f"{prefix} is in numbers.allow_prefixes and in numbers.deny_prefixes: it is not called"
    for where, recall in _recalls(configuration):
        caller_id = recall.caller_id_number
        if caller_id.startswith("+") and caller_id not in numbers.own:
            yield (
                f"{where}.caller_id_number {caller_id} is not in numbers.own: a call that seems to come from "
                "it would be called back"
            )


def _of_caps(configuration: Configuration) -> Iterator[str]:
    caps = configuration.caps
    without = [name for name in ("per_number", "per_prefix") if getattr(caps, name) == 0]
    without += [] if caps.breaker["recalls"] else ["breaker.recalls"]
    for name in without:
        yield f"caps.{name} is 0: without a limit, whoever lets your line ring decides what you pay for"
    if caps.prefix_hides == 0:
        yield "caps.prefix_hides is 0: each number is a prefix of its own, and caps.per_prefix is per number"


def _of_capture(configuration: Configuration) -> Iterator[str]:
    capture = configuration.capture
    if not capture.queues and not capture.direct and capture.hook_queue is None:
        yield "capture.queues and capture.direct are empty: nothing is recorded"
    wants = capture.rules().wants
    direct = {direct.queue for direct in capture.direct} | {capture.hook_queue}
    for queue in configuration.queues:
        if not wants(queue) and queue not in direct:
            yield f"{_of_queue(queue)} changes nothing: capture.queues does not have that queue"
    for folders in capture.cdr_folder.values():
        for folder in folders:
            if not os.path.isdir(folder):
                yield f"capture.cdr_folder: {folder} is no folder here"


def _of_recall(where: str, recall: Recall) -> Iterator[str]:
    soonest = min(recall.retry[reason] for reason in ("busy", "no_answer", "failed"))
    if recall.attempts > 1 and recall.expire <= soonest:
        yield (
            f"{where}.expire is over before {where}.retry lets anybody be tried again: only one of "
            f"{recall.attempts} attempts is made"
        )
    if not recall.hours:
        yield f"{where}.hours is empty: nobody is ever called"


def _recalls(configuration: Configuration) -> Iterator[tuple[str, Recall]]:
    """Those of [recall], and of queues what differs from them."""
    yield "recall", configuration.recall
    for queue, recall in configuration.queues.items():
        if recall != configuration.recall:
            yield _of_queue(queue), recall


def _of_queue(queue: str) -> str:
    return f'recall.queues."{queue}"'
