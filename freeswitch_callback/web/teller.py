"""The engine's end of the pipe: tells the pages what has changed, and answers what they ask.

Nothing piles up for a reader who does not read: the next comparison is made when the last news were taken.
"""

from __future__ import annotations

import time

import gevent
import structlog
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from gevent.pool import Pool

from freeswitch_callback.errors import CallbackError, EngineAway
from freeswitch_callback.web.changes import Changes
from freeswitch_callback.web.live import Live
from freeswitch_callback.web.messages import Answer, Failed, News, Question, Started, Taken, Word
from freeswitch_callback.web.pipe import Pipe

log = structlog.get_logger(__name__)

TELL_EVERY = 0.1
"""Seconds between two comparisons."""

WORD_EVERY = 1.0
"""Seconds after which something is told even if nothing has changed: that the engine is there."""

_AT_WORK = 32
"""Questions that are worked at; one more is told that there are too many."""


class Teller:
    """For one process of pages. `started`: what that has said of its start."""

    def __init__(self, pipe: Pipe, live: Live, changes: Changes) -> None:
        self.started: AsyncResult[Started | Failed] = AsyncResult()
        self._pipe = pipe
        self._live = live
        self._changes = changes
        self._work = Pool(_AT_WORK)
        self._taken = Flag()
        self._waits = False

    @property
    def waits(self) -> bool:
        """Whether it waits for news to be taken."""
        return self._waits

    def run(self) -> None:
        """Until the pipe ends at either end."""
        telling = gevent.spawn(self._tell)
        try:
            while (message := self._pipe.receive()) is not None:
                self._heard(message)
        except (OSError, ValueError) as error:
            log.warning("pages_not_understood", error=str(error))
        finally:
            telling.kill()
            self._work.kill(block=False)

    def _tell(self) -> None:
        said = 0.0
        try:
            while True:
                for news in self._changes.look():
                    self._give(news)
                    said = time.monotonic()
                if time.monotonic() - said >= WORD_EVERY:
                    self._give(News())
                    said = time.monotonic()
                gevent.sleep(TELL_EVERY)
        except (OSError, ValueError) as error:
            log.debug("pages_not_told", error=str(error))
            self._pipe.close()

    def _give(self, news: News) -> None:
        self._taken.clear()
        self._waits = True
        self._pipe.send(news)
        self._taken.wait()
        self._waits = False

    def _heard(self, message: object) -> None:
        match message:
            case Taken():
                self._taken.set()
            case Word.WAKE:
                self._live.wake()
            case Word.LOOK_WHO_HAS_A_PAGE:
                if self._work.free_count():  # else at the next poll
                    self._work.spawn(self._live.look_who_has_a_page)
            case Question():
                if self._work.free_count():
                    self._work.spawn(self._answer, message)
                else:
                    busy = EngineAway("the engine is asked too much at once; try again")
                    self._pipe.send(Answer(message.number, error=busy))
            case Started() | Failed():
                self.started.set(message)

    def _answer(self, question: Question) -> None:
        try:
            answer = Answer(question.number, getattr(self._live, question.ask)(*question.given))
        except CallbackError as error:
            answer = Answer(question.number, error=error)
        except Exception as error:  # a defect: it must not be silence for those who ask
            log.error("question_failed", ask=str(question.ask), error=repr(error), exc_info=error)
            answer = Answer(
                question.number, error=EngineAway("the engine could not answer; its log tells why")
            )
        try:
            self._pipe.send(answer)
        except OSError as error:
            log.debug("answer_not_sent", error=str(error))
