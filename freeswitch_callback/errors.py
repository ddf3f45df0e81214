"""Every error that leaves a room of this program.

    CallbackError                  exit status 1
    ├── UsageError                 2  what was asked for makes no sense
    ├── ConfigurationError         3  the configuration file, with the key and what to write instead
    ├── FreeSwitchError            4
    │   ├── FreeSwitchUnreachable     no connection, or it went away, or it did not answer in time
    │   │   └── NotSent               … and the command surely never reached it
    │   ├── FreeSwitchRefused         wrong password, or refused by its ACL
    │   ├── ProtocolError             what came over the socket is not the Event Socket protocol
    │   └── CommandFailed             FreeSWITCH answered -ERR
    ├── DatabaseError              5
    │   ├── DatabaseUnreachable       away, or it did not answer in time
    │   │   ├── DatabaseReadOnly      … it can be read, but not written
    │   │   └── DiskFull              … there is no room where it keeps its data
    │   ├── NotOurDatabase            a file or a database of somebody else
    │   ├── SchemaTooNew              written by a newer release than this one
    │   └── SchemaTooOld              `freeswitch-callback migrate` was not run
    ├── EngineAway                 1  the engine did not answer the process that serves its pages
    ├── NotFound                   1  no such missed call
    ├── IllegalMove                1  a recall cannot go from this state to that one; nothing was changed
    └── UnsafeValue                1  a value that must never reach a FreeSWITCH command

A message says what was wrong, where, and what to do.
"""


class CallbackError(Exception):
    """The root; `exit_status` is what the command line ends with."""

    exit_status = 1


class UsageError(CallbackError):
    exit_status = 2


class ConfigurationError(CallbackError):
    exit_status = 3


class FreeSwitchError(CallbackError):
    exit_status = 4


class FreeSwitchUnreachable(FreeSwitchError):
    pass


class NotSent(FreeSwitchUnreachable):
    pass


class FreeSwitchRefused(FreeSwitchError):
    pass


class ProtocolError(FreeSwitchError):
    pass


class CommandFailed(FreeSwitchError):
    pass


class DatabaseError(CallbackError):
    exit_status = 5


class DatabaseUnreachable(DatabaseError):
    pass


class DatabaseReadOnly(DatabaseUnreachable):
    pass


class DiskFull(DatabaseUnreachable):
    pass


class NotOurDatabase(DatabaseError):
    pass


class SchemaTooNew(DatabaseError):
    pass


class SchemaTooOld(DatabaseError):
    pass


class EngineAway(CallbackError):
    pass


class NotFound(CallbackError):
    pass


class IllegalMove(CallbackError):
    pass


class UnsafeValue(CallbackError):
    pass
