"""`python -m tests.live --freeswitch /path/to/freeswitch [--only WORD]`: the engine on a real FreeSWITCH."""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import shutil  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from contextlib import ExitStack  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from tests.live import faults, hook, reaction, recalls, recording  # noqa: E402
from tests.live.centre import Centre  # noqa: E402
from tests.live.suite import Play, Result, play, table  # noqa: E402
from tests.live.switch import Switch  # noqa: E402
from tests.postgres import server  # noqa: E402

RECALLS = [*map(recalls.plays, recalls.MODES), recalls.CONNECT, recalls.PAGED]
SIDE_BY_SIDE = {
    "SQLite": [recording.OF_ONE_QUEUE, recording.ELSEWHERE, *RECALLS],
    "PostgreSQL": RECALLS,
}
"""By database; of different queues, so that none disturbs another. Then the times, when nothing else goes on;
then these, one after the other on each of the two."""
ALONE = {
    "SQLite": [*hook.PLAYS, *faults.CATCHING_UP, *faults.PLAYS],
    "PostgreSQL": [*faults.PLAYS, *faults.CATCHING_UP],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.live", description=__doc__)
    parser.add_argument("--freeswitch", default="", help="the program of a FreeSWITCH 1.10")
    parser.add_argument("--only", default="", help="plays whose text holds this")
    asked = parser.parse_args()
    binary = Path(asked.freeswitch)
    if not asked.freeswitch or not binary.is_file():
        print(
            f"skipped: no FreeSWITCH at {asked.freeswitch!r}; make test-live FREESWITCH=/path/to/freeswitch"
        )
        return 0
    folder = Path(tempfile.mkdtemp(prefix="live-"))
    began = time.monotonic()
    results = run(binary, folder, asked.only)
    failed = [result for result in results if not result.kept]
    print(f"\n{table(results)}\n")
    print(f"{len(results)} plays in {time.monotonic() - began:.0f} s, {len(failed)} failed")
    if failed:
        print(f"what is left of it: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failed or not results else 0


def run(binary: Path, folder: Path, only: str) -> list[Result]:
    """Two FreeSWITCH servers, each with an engine of its own: on SQLite, and on PostgreSQL."""
    with ExitStack() as ends:
        (folder / "sqlite").mkdir()
        (folder / "postgresql").mkdir()
        postgres = server()
        centres = [
            begun(ends, binary, folder / "sqlite", 0, f"sqlite://{folder}/callback.db"),
            begun(ends, binary, folder / "postgresql", 1, postgres.url(postgres.create())),
        ]
        lanes = [
            gevent.spawn(one_by_one, lane, centre, only)
            for centre in centres
            for lane in SIDE_BY_SIDE[centre.database]
        ]
        results = [result for lane in lanes for result in lane.get()]
        for centre in centres:
            results += alone(reaction.PLAYS, centre, only)
        lanes = [gevent.spawn(alone, ALONE[centre.database], centre, only) for centre in centres]
        return results + [result for lane in lanes for result in lane.get()]


def begun(ends: ExitStack, binary: Path, folder: Path, number: int, database: str) -> Centre:
    switch = Switch(binary, folder, number)
    ends.callback(switch.node.stop)
    ends.callback(switch.end)
    switch.start()
    centre = Centre(switch, folder, database)
    ends.callback(centre.close)
    centre.start()
    status, said = centre.check()
    print(said if status else f"{centre.database}, {switch.api('version')}", flush=True)
    return centre


def one_by_one(plays: list[Play], centre: Centre, only: str) -> list[Result]:
    return [play(one, centre) for one in plays if only in one.what]


def alone(plays: list[Play], centre: Centre, only: str) -> list[Result]:
    return [play(one, centre, alone=True) for one in plays if only in one.what]


if __name__ == "__main__":
    raise SystemExit(main())
