"""A FreeSWITCH that speaks the Event Socket and mod_callcenter as the recordings do."""

from freeswitch_callback.simulator.calls import Call, Talk
from freeswitch_callback.simulator.clock import Clock, ManualClock, RealClock
from freeswitch_callback.simulator.dial import Dialled
from freeswitch_callback.simulator.phones import Ring
from freeswitch_callback.simulator.simulator import Simulator
from freeswitch_callback.simulator.stories import (
    Answers,
    Behaviour,
    Busy,
    Congested,
    Declines,
    EarlyMediaOnly,
    Refuses,
    Silent,
    Unallocated,
    Unregistered,
)

__all__ = [
    "Answers",
    "Behaviour",
    "Busy",
    "Call",
    "Clock",
    "Congested",
    "Declines",
    "Dialled",
    "EarlyMediaOnly",
    "ManualClock",
    "RealClock",
    "Refuses",
    "Ring",
    "Silent",
    "Simulator",
    "Talk",
    "Unallocated",
    "Unregistered",
]
