#!/usr/bin/env python3
"""Writes docs/reference.md: every configuration key and every metric, as the program itself tells them.

    docs/reference.py [PROGRAM]        needs the tests' environment (tests/run setup)
"""
import pathlib
import re
import subprocess
import sys
import tempfile

import requests

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))
import bundles  # noqa: E402
import daemon as daemons  # noqa: E402

OUT = ROOT / "docs/reference.md"
HEAD = """# Reference

Every configuration key and every metric, written by `docs/reference.py` from what the program says of itself; a test compares. The same keys: `medfusion serve --help-config`,
`man medfusion-config`; as a file: [deploy/config.example.json](../deploy/config.example.json). The routes are in [openapi.yaml](../openapi.yaml), options of commands in `--help` and the manual.

## Configuration
A key of the JSON file (`--config`) is stronger than its default, the environment variable stronger than the file, `--section.key VALUE` stronger than both.
"""


def configuration():
    """The rows of --help-config, a table for each section."""
    text = subprocess.run([bundles.PROGRAM, "serve", "--help-config"], capture_output=True, text=True, check=True).stdout
    head, line, *rows = text.splitlines()
    parts, section = [], None
    for row in rows:
        name = re.match(r"\| `(\w+)\.", row)[1]
        if name != section:
            section = name
            parts += ["", f"### {name}", head, line]
        parts.append(row)
    return "\n".join(parts)


def metrics(text):
    """A row for each # HELP and # TYPE of what GET /metrics answers."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    rows = [f"| `{name}` | {kinds[name]} | {meaning} |" for name, meaning in sorted(re.findall(r"^# HELP (\S+) (.+)$", text, re.M))]
    return "\n".join(["| metric | type | meaning |", "|---|---|---|", *rows])


def exported():
    """Of a daemon that shows all of them: those of work items are there where a manager of work items is."""
    with tempfile.TemporaryDirectory() as directory:
        bundle, nobody = bundles.make_bundle(pathlib.Path(directory) / "bundle"), "http://127.0.0.1:9"
        options = {"ups.manager": nobody, "fetch.sources": f"pacs={nobody}", "ups.outputs": nobody, "ups.codes": "CHEST^99TEST"}
        running = daemons.Daemon(directory, bundle, **options).start()
        try:
            return requests.get(running.url + "/metrics", timeout=30).text
        finally:
            running.stop()


def document():
    return f"{HEAD}{configuration()}\n\n## Metrics\n`GET /metrics`, for Prometheus. Histograms and summaries have `_sum` and `_count`.\n\n{metrics(exported())}\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        bundles.PROGRAM = pathlib.Path(sys.argv[1]).resolve()
    OUT.write_text(document())
    print(OUT)
