"""Peers of tests/bench/ehr_input.py, each in a process of its own: reads FHIR files whole and keeps what it read, as programs do that look things up.

    python ehr_input.py json|models FILE...      Python's json alone | fhir.resources' R4B models, a resource at a time

Prints {"resources", "seconds", "refused"}: processor seconds of reading alone, without starting Python and importing the models.
"""

import functools
import importlib
import json
import pathlib
import sys
import time


def texts(path):
    """The resources of a file, each as text."""
    text = path.read_text()
    if path.suffix == ".ndjson":
        return text.splitlines()
    return [json.dumps(entry["resource"]) for entry in json.loads(text)["entry"]]


def parse(path):
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".ndjson" else json.loads(text)["entry"]


@functools.cache
def model_of(kind):
    return getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)


def validate(rows):
    kept, refused = [], 0
    for model, text in rows:
        try:
            kept.append(model.model_validate_json(text))
        except ValueError:
            refused += 1
    return kept, refused


def main(how, paths):
    if how == "models":  # the type of each resource is found, and its model loaded, before the clock runs
        rows = [(model_of(json.loads(text)["resourceType"]), text) for path in paths for text in texts(path)]
    start = time.process_time()
    kept, refused = validate(rows) if how == "models" else ([resource for path in paths for resource in parse(path)], 0)
    seconds = time.process_time() - start
    print(json.dumps({"resources": len(kept) + refused, "seconds": seconds, "refused": refused}))


if __name__ == "__main__":
    main(sys.argv[1], [pathlib.Path(name) for name in sys.argv[2:]])
