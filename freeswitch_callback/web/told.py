"""What the pages' process knows of the engine: what that has told, and what it answers when asked."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.queue import Full, Queue

from freeswitch_callback.core.facts import Decision, Due
from freeswitch_callback.core.gates import GateRules, Verdict
from freeswitch_callback.engine.alarms import Alarm
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.engine.figures import Figures
from freeswitch_callback.errors import EngineAway
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.web.live import Live
from freeswitch_callback.web.messages import Answer, Ask, News, Question, Rules, Start, Taken, Word
from freeswitch_callback.web.pipe import Pipe

ANSWERED_WITHIN = 5.0
"""Seconds for an answer; whoever has asked stands before a page."""

SILENT_AFTER = 5.0
"""Seconds without a word after which an engine, that says one each second, is not there."""

_MOST_WAITING = 100
"""Messages to an engine that does not read."""


class Told(Live):
    """`hear` takes in what comes, until the pipe ends. `complete` is called when all has been told once."""

    def __init__(self, start: Start, pipe: Pipe) -> None:
        self._start = start
        self._pipe = pipe
        self._picture = _Picture()
        self._agents: dict[str, dict[str, Agent]] = {node: {} for node in start.nodes}
        self._tiers: dict[str, dict[str, tuple[str, ...]]] = {node: {} for node in start.nodes}
        self._callers: dict[str, int] = {}
        self._figures = Figures()
        self._rules = Rules({}, {})
        self._heard_at = time.monotonic()
        self._numbers = count()
        self._asked: dict[int, AsyncResult[Answer]] = {}
        self._to_say: Queue[object] = Queue(_MOST_WAITING)
        self._saying = gevent.spawn(self._say_all)

    # --- what is told --------------------------------------------------------------------------------------

    def hear(self) -> News | None:
        """The next news, which are taken in already; None at the end."""
        while (message := self._pipe.receive()) is not None:
            self._heard_at = time.monotonic()
            if isinstance(message, News):
                self._take(message)
                self._to_say.put(Taken())
                return message
            if isinstance(message, Answer) and message.number in self._asked:
                self._asked[message.number].set(message)
        return None

    def _take(self, news: News) -> None:
        self._picture.take(news)
        if news.rules is not None:
            self._rules = news.rules
        _apply(self._callers, news.callers)
        for node, agents in news.agents.items():
            given = {
                name: None if seen is None else Agent(name=name, **seen._asdict())
                for name, seen in agents.items()
            }
            _apply(self._agents[node], given)
        for node, tiers in news.tiers.items():
            _apply(self._tiers[node], tiers)
        for name, counts in news.counts.items():
            dict.update(getattr(self._figures, name), counts)  # a Counter's own would add
        for name, histogram in news.histograms.items():
            setattr(self._figures, name, histogram)

    @property
    def engine(self) -> str:
        return self._start.engine

    @property
    def pid(self) -> int:
        return self._start.pid

    @property
    def nodes(self) -> list[str]:
        return list(self._start.nodes)

    @property
    def ready(self) -> bool:
        return self._picture.ready and self.silent < SILENT_AFTER

    @property
    def database(self) -> bool:
        return self._picture.database

    @property
    def silent(self) -> float:
        return time.monotonic() - self._heard_at

    @property
    def figures(self) -> Figures:
        return self._figures

    def gates(self, queue: str | None) -> GateRules:
        rules = self._rules.gates
        return rules[queue if queue in rules else None]

    def recall(self, queue: str) -> RecallRules:
        rules = self._rules.recall
        return rules[queue if queue in rules else None]

    def node_rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self._picture.nodes]

    def agents(self) -> Mapping[str, Mapping[str, Agent]]:
        return self._agents

    def tiers(self) -> Mapping[str, Mapping[str, Collection[str]]]:
        return self._tiers

    def callers(self) -> Mapping[str, int]:
        return self._callers

    def alarms(self) -> list[Alarm]:
        return list(self._picture.alarms)

    # --- what is said and asked ----------------------------------------------------------------------------

    def wake(self) -> None:
        self._say(Word.WAKE)

    def look_who_has_a_page(self) -> None:
        self._say(Word.LOOK_WHO_HAS_A_PAGE)

    def decide(self, agent: str, decision: Decision) -> bool:
        return bool(self._ask(Ask.DECIDE, agent, decision))

    def judged(self, recall: Due, now: datetime) -> tuple[list[Verdict], str]:
        found: tuple[list[Verdict], str] = self._ask(Ask.JUDGED, recall, now)
        return found

    def _say(self, word: Word) -> None:
        """Lost where the engine does not read: it looks by itself at every poll."""
        try:
            self._to_say.put_nowait(word)
        except Full:
            pass

    def _ask(self, ask: Ask, *given: Any) -> Any:
        number = next(self._numbers)
        self._asked[number] = answered = AsyncResult()
        try:
            self._to_say.put_nowait(Question(number, ask, given))
            answer = answered.get(timeout=ANSWERED_WITHIN)
        except (Full, gevent.Timeout) as error:
            raise EngineAway(
                "the engine does not answer; what you said it may still hear: look before you say it again"
            ) from error
        finally:
            del self._asked[number]
        if answer.error is not None:
            raise answer.error
        return answer.value

    def _say_all(self) -> None:
        """A greenlet of its own: whoever gives up waiting must not leave half a message."""
        while True:
            message = self._to_say.get()
            try:
                self._pipe.send(message)
            except OSError:
                return  # the engine is gone; who reads notices

    def close(self) -> None:
        self._saying.kill()


@dataclass(slots=True)
class _Picture:
    """What is told as a whole."""

    ready: bool = False
    database: bool = False
    nodes: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)

    def take(self, news: News) -> None:
        for name in ("ready", "database", "nodes", "alarms"):
            if (value := getattr(news, name)) is not None:
                setattr(self, name, value)


def _apply(to: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if value is None:
            to.pop(key, None)
        else:
            to[key] = value
