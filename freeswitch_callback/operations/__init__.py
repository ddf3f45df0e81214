"""What people ask for, whoever asks: the command line, the pages, the dialplan's hook."""

from freeswitch_callback.operations.checks import (
    Finding,
    Level,
    agent_rows,
    check_breakers,
    check_calling_hours,
    check_database,
    check_disks,
    check_node,
    check_spools,
    check_stranded,
    check_unknown,
)
from freeswitch_callback.operations.donotcall import BadLine, entry_of, forget, read_list
from freeswitch_callback.operations.recalls import MANUAL_NODE, Gates, add, replay
from freeswitch_callback.operations.times import LOCAL, age, ago, ahead, later, moment
from freeswitch_callback.operations.verdicts import Asked, ask, open_by_gate, with_gates

__all__ = [
    "LOCAL",
    "MANUAL_NODE",
    "Asked",
    "BadLine",
    "Finding",
    "Gates",
    "Level",
    "add",
    "age",
    "agent_rows",
    "ago",
    "ahead",
    "ask",
    "check_breakers",
    "check_calling_hours",
    "check_database",
    "check_disks",
    "check_node",
    "check_spools",
    "check_stranded",
    "check_unknown",
    "entry_of",
    "forget",
    "later",
    "moment",
    "open_by_gate",
    "read_list",
    "replay",
    "with_gates",
]
