"""`python -m tests.live --freeswitch /path/to/freeswitch [--only WORD]`: the engine on a real FreeSWITCH."""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import shutil  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from tests.live import faults, hook, reaction, recalls, recording  # noqa: E402
from tests.live.centre import Centre  # noqa: E402
from tests.live.suite import Play, Result, play  # noqa: E402
from tests.live.switch import Switch  # noqa: E402

SIDE_BY_SIDE = [
    recording.OF_ONE_QUEUE,
    recording.ELSEWHERE,
    recalls.plays("support"),
    recalls.plays("client"),
    recalls.plays("through"),
    recalls.ASKING,
]
"""Of different queues, so that none disturbs another; then these, one after the other."""
ALONE = [*hook.PLAYS, *reaction.PLAYS, *faults.PLAYS]


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
    print(f"\n{len(results)} plays in {time.monotonic() - began:.0f} s, {len(failed)} failed")
    for result in failed:
        print(result.line())
    if failed:
        print(f"what is left of it: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if failed or not results else 0


def run(binary: Path, folder: Path, only: str) -> list[Result]:
    switch = Switch(binary, folder)
    centre = Centre(switch, folder)
    try:
        switch.start()
        print(switch.api("version"), flush=True)
        centre.start()
        status, said = centre.check()
        print(said if status else said.splitlines()[2], flush=True)
        lanes = [gevent.spawn(one_by_one, lane, centre, only) for lane in SIDE_BY_SIDE]
        results = [result for lane in lanes for result in lane.get()]
        return results + alone(ALONE, centre, only)
    finally:
        centre.close()
        switch.end()
        switch.node.stop()


def one_by_one(plays: list[Play], centre: Centre, only: str) -> list[Result]:
    return [play(one, centre) for one in plays if only in one.what]


def alone(plays: list[Play], centre: Centre, only: str) -> list[Result]:
    """Whatever the play before has left does not disturb the next."""
    results = []
    for one in plays:
        centre.all_off()
        centre.close_recalls()
        results += one_by_one([one], centre, only)
    return results


if __name__ == "__main__":
    raise SystemExit(main())
