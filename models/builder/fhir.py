"""Features of studies from FHIR, made by the C program that serves: training sees what serving sees."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd


@contextmanager
def readable(definition: dict) -> Iterator[Path]:
    """A folder that `medfusion fhir features --model` takes: the definition, and where mean and std
    are not known yet (training finds them) 0 and 1, which no value that is printed depends on."""
    plain = [
        {"mean": 0, "std": 1, **f} if f["kind"] == "numeric" else f for f in definition["features"]
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ehr" / "features.json"
        path.parent.mkdir()
        path.write_text(json.dumps({**definition, "features": plain}))
        yield Path(folder)


def of_study(program: Path, model: Path, file: Path | str, at: str) -> dict[str, dict]:
    """What the program finds of the file's one patient at that time, by feature id."""
    command = [program, "fhir", "features", "--model", model, "--at", at, "--format", "json", file]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    patients = [json.loads(line) for line in done.stdout.splitlines()]
    if len(patients) != 1:
        raise ValueError(f"{file}: {len(patients)} patients, a study has one")
    return {feature["id"]: feature for feature in patients[0]["features"]}


def values(program: Path, definition: dict, files: list, times: list[str]) -> pd.DataFrame:
    """A row a study, a column a feature: the value where the program says `used`, else None.
    `files` names each study's FHIR (not a string or path: nothing is known), `times` when it was made
    as FHIR writes it."""
    rows = []
    with readable(definition) as model:
        for file, at in zip(files, times, strict=True):
            known = isinstance(file, (str, Path))
            rows.append(of_study(program, model, file, at) if known else {})
    used = {
        f["id"]: [
            row[f["id"]]["value"] if row and row[f["id"]]["status"] == "used" else None
            for row in rows
        ]
        for f in definition["features"]
    }
    return pd.DataFrame(used, dtype=object)


def add(table: pd.DataFrame, definition: dict, program: Path) -> pd.DataFrame:
    """The table with a column for each feature that it has none of yet, from the file `ehr` of every
    study at its time `order`; `ehr` goes."""
    found = values(program, definition, list(table["ehr"]), [str(at) for at in table["order"]])
    new = {name: found[name].to_numpy() for name in found if name not in table}
    return table.drop(columns="ehr").assign(**new)
