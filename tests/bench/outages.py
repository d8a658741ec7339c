#!/usr/bin/env python3
"""100 database crashes and 1,000 SIGKILLs of any process under load, nothing lost or doubled: in rounds that add up.

    MEDFUSION=build/release/medfusion build/venv/bin/python tests/bench/outages.py [--crashes 100] [--kills 1000] [--ledger FILE]

Each round is tests/integration/test_postgres.py's test with a seed of its own. The ledger (build/outages.json) keeps what has been
done, so the command may be stopped at any time and goes on where it was. A round that fails is told, kept beside the ledger, and ends it."""
import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEST = "tests/integration/test_postgres.py::test_kills_and_database_crashes_lose_nothing_and_double_nothing"
ROUND = (5, 50)


def read(path):
    return json.loads(path.read_text()) if path.exists() else {"rounds": 0, "crashes": 0, "kills": 0, "failed": 0}


def play(seed, crashes, kills, log):
    """Whether a round held. What it printed is in the log."""
    environment = os.environ | {"MEDFUSION_TEST_CRASHES": str(crashes), "MEDFUSION_TEST_DATABASE_KILLS": str(kills), "MEDFUSION_TEST_SEED": str(seed)}
    with open(log, "w") as out:
        return subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", TEST], cwd=ROOT, env=environment, stdout=out, stderr=out).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crashes", type=int, default=100)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--ledger", type=pathlib.Path, default=ROOT / "build/outages.json")
    wanted = parser.parse_args()
    done = read(wanted.ledger)
    while done["crashes"] < wanted.crashes or done["kills"] < wanted.kills:
        crashes = min(ROUND[0], max(wanted.crashes - done["crashes"], 0))
        kills = min(ROUND[1], max(wanted.kills - done["kills"], 0))
        done["rounds"] += 1
        held = play(done["rounds"], crashes, kills, wanted.ledger.with_suffix(f".{done['rounds']}.log"))
        done["crashes"] += crashes if held else 0
        done["kills"] += kills if held else 0
        done["failed"] += not held
        wanted.ledger.write_text(json.dumps(done) + "\n")
        print(f"round {done['rounds']}: {'held' if held else 'FAILED'}; {done['crashes']} database crashes, {done['kills']} SIGKILLs so far", flush=True)
        if not held:
            return 1
    print(f"0 lost, 0 doubled in {done['crashes']} database crashes and {done['kills']} SIGKILLs ({done['rounds']} rounds, {done['failed']} failed)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
