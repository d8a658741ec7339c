"""Every one of the 6,300 vital signs of the MIMIC-IV demo, alone, against pandas: each becomes the only record of a patient of
its own, so each value, unit conversion (°F, mmHg, %, per minute), absent value and implausible value is compared, not a selection.

The expectation is computed with data frames from the JSON alone and knows nothing of the program but the definition's numbers.
"""

import gzip
import json
import subprocess
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from test_real_files import MEDFUSION, SHARED, Path, needs_data, needs_program

MODEL = Path(__file__).parent / "each"
FEATURES = {f["id"]: f for f in json.loads((MODEL / "ehr" / "features.json").read_text())["features"]}
CODES = {"8480-6": "systolic", "8462-4": "diastolic", "2708-6": "saturation", "9279-1": "respiration", "8867-4": "heart_rate", "8310-5": "temperature"}


@pytest.fixture(scope="module")
def vitals():
    text = gzip.decompress((SHARED / "mimic_iv_demo" / "MimicObservationVitalSignsED.ndjson.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def to_target(row):
    """The measured number in the definition's unit, by the textbook."""
    value, unit = row["value"], row["unit"]
    assert (row["feature"], unit) in {("systolic", "mm[Hg]"), ("diastolic", "mm[Hg]"), ("saturation", "%"), ("respiration", "/min"),
                                      ("heart_rate", "/min"), ("temperature", "[degF]")}
    return {"systolic": value * 0.133322, "diastolic": value, "saturation": value / 100, "respiration": value / 60,
            "heart_rate": value, "temperature": (value - 32) * 5 / 9}[row["feature"]]


def frame(vitals):
    """A row for every Observation and component that could feed a feature, absent values left in as NaN."""
    rows = [{"observation": o["id"], "time": o["effectiveDateTime"], "code": h["code"]["coding"][0]["code"],
             "value": h.get("valueQuantity", {}).get("value", np.nan), "unit": h.get("valueQuantity", {}).get("code"), "status": o["status"]}
            for o in vitals for h in [o, *o.get("component", [])]]
    df = pd.DataFrame(rows)
    df["feature"] = df["code"].map(CODES)
    df = df[df["feature"].notna()].copy()
    df["time"] = pd.to_datetime(df["time"], utc=True)
    measured = df["value"].notna()
    df.loc[measured, "number"] = df[measured].apply(to_target, axis=1)
    bounds = df["feature"].map(lambda f: FEATURES[f]["range"])
    df["plausible"] = (df["number"] >= bounds.str[0]) & (df["number"] <= bounds.str[1])
    return df


def statuses(df, at):
    """Status of every row at a moment (NaT: its own time)."""
    moment = df["time"] if at is None else pd.Series(pd.Timestamp(at), index=df.index)
    after = df["time"] > moment
    old = df["time"] < moment - pd.Timedelta(days=3650)
    return pd.Series(np.select([df["value"].isna() | after, old, df["plausible"]], ["missing", "stale", "used"], "implausible"), index=df.index)


def mean_pressure(df):
    """(systolic + 2 diastolic) / 3 of the pairs, in mmHg."""
    wide = df[df["feature"].isin(["systolic", "diastolic"])].pivot(index="observation", columns="feature", values="value")
    return ((wide["systolic"] + 2 * wide["diastolic"]) / 3).dropna()


def extract(tmp_path, vitals, at):
    """{observation: {feature: printed value}}, every Observation as a patient's only one."""
    path = tmp_path / "each.ndjson"
    path.write_text("".join(json.dumps(o | {"subject": {"reference": "Patient/" + o["id"]}}) + "\n" for o in vitals))
    command = [MEDFUSION, "fhir", "features", "--model", str(MODEL), "--format", "json", *(["--at", at] if at else []), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = map(json.loads, done.stdout.splitlines())
    return {line["patient"].removeprefix("Patient/"): {f["id"]: f for f in line["features"]} for line in lines}


@needs_program
@needs_data
@pytest.mark.parametrize("at", [None, "2145-01-01T00:00:00Z"])
def test_every_vital_sign(tmp_path, vitals, at):
    assert len(vitals) == 6300
    got, df = extract(tmp_path, vitals, at), frame(vitals)
    df["expected"] = statuses(df, at)
    seen = Counter()
    for row in df.itertuples():
        mine = got[row.observation][row.feature]
        assert mine["status"] == row.expected, (row, mine)
        if row.expected != "missing":
            assert mine["value"] == pytest.approx(row.number, rel=1e-7), (row, mine)
            assert (mine["unit"], mine["source"]) == (FEATURES[row.feature]["unit"], "Observation/" + row.observation)
        else:
            assert (mine["value"], mine["source"]) == (None, None)
        seen[row.feature, row.expected] += 1
    assert sum(seen.values()) == len(df) == 7560  # 6,300 Observations, 1,260 of them two pressures
    totals = Counter()
    for (_, status), n in seen.items():
        totals[status] += n
    print(f"\nat {at or 'their own time'}: {dict(totals)}")
    print(pd.Series(seen).unstack(fill_value=0).to_string())
    assert totals["used"] > 500 and totals["missing"] > 700 and totals["implausible"] > 20
    assert (totals["stale"] > 500) == (at is not None)


@needs_program
@needs_data
def test_derived_mean_pressure(tmp_path, vitals):
    got, expected = extract(tmp_path, vitals, None), mean_pressure(frame(vitals))
    low, high = FEATURES["mean_pressure"]["range"]
    assert len(expected) == 1197
    for observation, number in expected.items():
        mine = got[observation]["mean_pressure"]
        assert mine["value"] == pytest.approx(number, rel=1e-7)
        assert mine["status"] == ("used" if low <= number <= high else "implausible")
        assert mine["source"] == "Observation/" + observation
    others = set(got) - set(expected.index)
    assert all(got[o]["mean_pressure"]["status"] == "missing" for o in others)
