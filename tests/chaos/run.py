"""Do harm to Redis, the network and server processes; check the promises of topics: `run.py --minutes 30`.

Several server processes share their topics over Redis. Each reaches Redis through a proxy of its own. Clients follow
the topics at any process, slowly or fast, and come back after each end of their connection; others publish until they
have an acknowledgement, or are present. Redis, the proxies and the processes are killed, stopped, cut, stalled and
flushed by chance. In between there is peace, in which everything must be right again.

It exits with 1 if a promise was broken. The seed decides which harm is done, but not how it meets the clients.
"""

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from chaos.phases import LARGE, SMALL, Phase
from chaos.record import Record
from chaos.redis_servers import PERSISTENCE


async def run(options: argparse.Namespace, seed: int, record: Record, folder: Path) -> None:
    """Run the phases one after the other."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    seconds = options.minutes * 60 / len(options.phases)
    for place, name in enumerate(options.phases):
        size = SMALL if options.small else LARGE
        phase = Phase(name, size, folder / name, random.Random(f"{seed} {place}"), record)
        await phase.run(seconds, options.round)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="the time of all phases together (default: 5)")
    parser.add_argument("--phases", nargs="+", choices=[*PERSISTENCE], default=[*PERSISTENCE], help="(default: all)")
    parser.add_argument("--round", type=float, default=20, help="the seconds between two times of peace (default: 20)")
    parser.add_argument("--seed", type=int, default=None, help="the seed of the random choices")
    parser.add_argument("--small", action="store_true", help="with few processes and clients")
    parser.add_argument("--keep", type=Path, help="a folder for the logs, which is kept")
    options = parser.parse_args(arguments)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    record = Record()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="streamws-chaos-"))
    folder.mkdir(exist_ok=True)
    try:
        asyncio.run(run(options, seed, record, folder))
    finally:
        if not options.keep:
            shutil.rmtree(folder)
        print(record.table(f"{options.minutes:g} minutes, seed {seed}: {', '.join(options.phases)}"))
        for fault, times in record.faults.items():
            print(f"FAULT, {times} times, with seed {seed}: {fault}", flush=True)
    return 1 if record.faults else 0


if __name__ == "__main__":
    sys.exit(main())
