"""Catch-up while calls go on: some of the stories that `make chaos` tells a thousand of."""

from __future__ import annotations

import logging

import structlog

from tests.chaos import catching_up


def test_nobody_is_told_who_was_served_and_nobody_twice_and_whoever_gave_up_is_told():
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    counts, found = catching_up.play(seed=1, stories=12)
    assert not counts.notes
    assert counts.recorded == counts.missed > 0
    assert found["caught up"]
    assert found["heard"]
