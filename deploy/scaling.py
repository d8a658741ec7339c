#!/usr/bin/env python3
"""How many studies a day hosts and GPUs carry, where PostgreSQL becomes the limit, and what 1,000 studies cost: by simulation.

    deploy/scaling.py                     the tables of deploy/SCALING.md, which says what is assumed
    deploy/scaling.py --gpu-ms 8 --database-jobs 2000 --tenants 40
    deploy/scaling.py --write             writes the tables into deploy/SCALING.md

A study passes two stages: the database (accept, claim, finish: one server, first come, first served) and a worker. Studies arrive at random (Poisson)
through the busiest hour of a day; the capacity of a fleet is the highest rate at which 99 of 100 have their result within the limit."""
import argparse
import dataclasses
import heapq
import math
import pathlib
import random
import sys

DOCUMENT = pathlib.Path(__file__).parent / "SCALING.md"
BEGIN, END = "<!-- deploy/scaling.py writes from here -->", "<!-- to here -->"
HOUR_S = 3600


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Workers of one kind, `seconds` a study each, over `shards` databases."""
    name: str
    workers: int
    seconds: float
    price_hour: float
    shards: int = 1


def times_to_result(rate, fleet, options):
    """Sorted seconds from arrival to result of a busy hour's studies at `rate` a second in all, in one of the shards.

    Where there are more studies than events each event stands for several that come together, and workers are joined as well: the load is the same, and it
    comes in larger pieces, so that waits are not underrated."""
    rate, workers = rate / fleet.shards, max(1, round(fleet.workers / fleet.shards))
    piece = max(1.0, rate * HOUR_S / options.events)
    servers = max(1, round(workers / piece))
    service, database = fleet.seconds * piece * servers / workers, piece / options.database_jobs
    chance = random.Random(options.seed)
    free = [0.0] * servers
    now = database_free = 0.0
    taken = []
    for _ in range(min(options.events, max(1, round(rate * HOUR_S)))):
        now += chance.expovariate(rate / piece)
        database_free = max(now, database_free) + database
        ended = max(database_free, free[0]) + service * chance.lognormvariate(0, options.spread)
        heapq.heapreplace(free, ended)
        taken.append(ended - now)
    return sorted(taken)


def carries(rate, fleet, options):
    taken = times_to_result(rate, fleet, options)
    return taken[math.ceil(0.99 * len(taken)) - 1] <= options.limit_s


def capacity(fleet, options):
    """Studies a second in the busiest hour."""
    low, high = 0.0, 2 * bound(fleet, options)
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if carries(middle, fleet, options) else (low, middle)
    return low


def mean_service(fleet, options):
    return fleet.seconds * math.exp(options.spread ** 2 / 2)  # of the lognormal times, whose median is `seconds`


def bound(fleet, options):
    """What no queue can exceed: the smaller of both stages' rates."""
    return min(fleet.workers / mean_service(fleet, options), fleet.shards * options.database_jobs)


def limited_by(fleet, options):
    return "workers" if fleet.workers / mean_service(fleet, options) < fleet.shards * options.database_jobs else "database"


def a_day(rate, options):
    return rate * HOUR_S / options.busiest_hour


def cost(fleet, day, options):
    """Of 1,000 studies: machines around the clock, databases and fronts, storage until retention ends."""
    hourly = fleet.workers * fleet.price_hour + fleet.shards * options.database_price
    kept = options.study_mb / 1000 * options.storage_price * options.retention_days / 30
    return 1000 * (24 * hourly / day + kept)


def shards_needed(fleet, options):
    """So that databases are at most at 70 % when the workers are busy; no more than there are tenants, for a tenant is never split."""
    wanted = math.ceil(fleet.workers / mean_service(fleet, options) / (0.7 * options.database_jobs))
    return max(1, min(wanted, options.tenants))


def fleets(options):
    host, gpu = options.host_ms / 1000, options.gpu_ms / 1000
    plain = [Fleet("one host, 2 cores (measured)", 1, host, options.core_price * 2),
             Fleet("one host, 16 cores", 8, host, options.core_price * 2),
             Fleet("10 GPUs", 10, gpu, options.gpu_price),
             Fleet("1,000 GPUs", 1000, gpu, options.gpu_price)]
    for fleet in plain:
        yield fleet
        if (shards := shards_needed(fleet, options)) > 1:
            yield dataclasses.replace(fleet, name=f"{fleet.name}, {shards} shards", shards=shards)


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def tables(options):
    lines = ["| | studies a second | studies a day | workers or database full first | Gbit/s that come in | cost of 1,000 studies, $ |", "|---|--:|--:|---|--:|--:|"]
    for fleet in fleets(options):
        rate = capacity(fleet, options)
        day = a_day(rate, options)
        lines.append(f"| {fleet.name} | {number(rate)} | {number(day)} | {limited_by(fleet, options)} | {number(rate * options.study_mb * 8 / 1000)} | "
                     f"{number(cost(fleet, day, options))} |")
    workers = options.database_jobs * options.gpu_ms / 1000
    return "\n".join(lines) + (
        f"\n\nOne database of {number(options.database_jobs)} jobs a second is full at {number(a_day(options.database_jobs, options))} studies a day, which is "
        f"{number(workers)} GPUs at {options.gpu_ms:g} ms a study or {number(options.database_jobs * options.host_ms / 1000 * 2)} cores.\n")


def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = lambda name, default, help: parser.add_argument(name, type=type(default), default=default, help=help)
    add("--host-ms", 40.4, "ms a study on 2 cores, whole service (tests/bench/RESULTS.md: 24.75 studies/s, thorax-nih, one frame)")
    add("--spread", 0.204, "sigma of the lognormal service time (RESULTS.md: median 36.66 ms, 99th percentile 58.88 ms)")
    add("--gpu-ms", 3.0, "ms a study on one GPU: NOT measured, the aim of the design")
    add("--database-jobs", 2337.0, "jobs/s of one PostgreSQL (RESULTS.md, on two busy cores)")
    add("--limit-s", 60.0, "99 of 100 results within")
    add("--busiest-hour", 0.10, "share of a day's studies in its busiest hour")
    add("--tenants", 1000, "tenants, each wholly in one shard")
    add("--study-mb", 16.0, "MB a study")
    add("--retention-days", 30.0, "days that payloads are kept")
    add("--core-price", 0.05, "$ a core and hour")
    add("--gpu-price", 3.0, "$ a GPU and hour, its host included")
    add("--database-price", 1.0, "$ an hour for a database, its standby and two fronts")
    add("--storage-price", 0.02, "$ a GB and month")
    add("--events", 20000, "events of a simulated hour")
    add("--seed", 1, "of the simulation")
    parser.add_argument("--write", action="store_true", help="write the tables into deploy/SCALING.md")
    options = parser.parse_args(arguments)
    for name, value in vars(options).items():
        if name not in ("seed", "write") and not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0")
    return options


def main():
    options = read_options(sys.argv[1:])
    text = tables(options)
    if not options.write:
        print(text, end="")
        return 0
    document = DOCUMENT.read_text()
    before, rest = document.split(BEGIN)
    DOCUMENT.write_text(before + BEGIN + "\n" + text + END + rest.split(END)[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
