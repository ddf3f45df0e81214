"""`readers.py` for Genesis, in whose own environment it runs: nothing of ours is imported here."""

import asyncio
import json
import logging
import resource
import sys
import time

from genesis import Consumer


async def main(port: int, events: int) -> None:
    logging.disable(logging.CRITICAL)
    client = Consumer("127.0.0.1", port, "ClueCon")
    left, done = events, asyncio.Event()

    @client.handle("*")
    async def look(event: dict) -> None:  # type: ignore[type-arg]
        nonlocal left
        event.get("Event-Name")
        event.get("Unique-ID")
        left -= 1
        if not left:
            done.set()

    running = asyncio.create_task(client.start())
    await asyncio.sleep(2.0)  # it has subscribed
    cpu, began = time.process_time(), time.monotonic()
    print("ready", flush=True)
    await done.wait()
    used = {"cpu": time.process_time() - cpu, "seconds": time.monotonic() - began}
    print(json.dumps(used | {"kB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), flush=True)
    running.cancel()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
