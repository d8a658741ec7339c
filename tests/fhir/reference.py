"""Feature values computed a second time, in Python and from the rules in fhir/extract.h alone: what the C code must find.

Not a port: resources are read with the json module, times with datetime, and every rule is written as the sentence it is.
Only what real files need: no contained resources, no reduction.
"""

import gzip
import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

UCUM = "http://unitsofmeasure.org"
DAY = timedelta(days=1)


def resources(path):
    """All resources of a Bundle or NDJSON file, gzipped or not."""
    raw = Path(path).read_bytes()
    text = (gzip.decompress(raw) if str(path).endswith(".gz") else raw).decode()
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return [e["resource"] for e in whole["entry"]] if whole["resourceType"] == "Bundle" else [whole]


def interval(text):
    """A FHIR date or dateTime as [begin, end) in UTC."""
    if "T" in text:
        begin = datetime.fromisoformat(text.replace("Z", "+00:00"))
        begin = begin if begin.tzinfo else begin.replace(tzinfo=timezone.utc)
        return begin, begin + timedelta(seconds=1)
    parts = [int(p) for p in text.split("-")]
    begin = datetime(*(parts + [1, 1])[:3], tzinfo=timezone.utc)
    if len(parts) == 1:
        return begin, begin.replace(year=begin.year + 1)
    if len(parts) == 2:
        return begin, (begin + 31 * DAY).replace(day=1)
    return begin, begin + DAY


def middle(begin, end):
    """The day that stands for an interval: its first, or the middle of a month or year."""
    return begin + (end - begin) / 2 if end - begin > DAY else begin


def duration(text):
    if text is None:
        return None
    years, months, weeks, days, hours, minutes = (
        int(v or 0) for v in re.fullmatch(r"P(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(?:T(\d+H)?(\d+M)?)?", text)
        .expand(r"\1|\2|\3|\4|\5|\6").replace("Y", "").replace("M", "").replace("W", "").replace("D", "").replace("H", "").split("|"))
    return timedelta(days=365.25 * years + 365.25 / 12 * months + 7 * weeks + days, hours=hours, minutes=minutes)


def plain(unit):
    unit = re.sub(r"\{[^}]*\}", "", unit or "")
    return "" if unit == "1" else unit[1:] if unit.startswith("1/") else unit


# What UCUM says of the units in the data: (what it measures, factor, offset) to a common unit of its own.
UNITS = {"Cel": ("temperature", 1, 0), "[degF]": ("temperature", 5 / 9, -160 / 9), "K": ("temperature", 1, -273.15),
         "kg": ("mass", 1, 0), "g": ("mass", 0.001, 0), "[lb_av]": ("mass", 0.45359237, 0),
         "m": ("length", 1, 0), "cm": ("length", 0.01, 0), "[in_i]": ("length", 0.0254, 0),
         "mm[Hg]": ("pressure", 0.133322, 0), "kPa": ("pressure", 1, 0), "": ("number", 1, 0), "%": ("number", 0.01, 0),
         "mmol/L": ("amount per volume", 1, 0), "umol/L": ("amount per volume", 0.001, 0),
         "mg/dL": ("mass per volume", 0.01, 0), "g/dL": ("mass per volume", 10, 0), "g/L": ("mass per volume", 1, 0),
         "/min": ("rate", 1, 0), "a": ("time", 365.25, 0), "mo": ("time", 30.4375, 0), "d": ("time", 1, 0)}


def through_ucum(value, unit, to):
    (measure, factor, offset), (wanted, divisor, shift) = UNITS.get(unit, (None, 1, 0)), UNITS.get(to, (None, 1, 0))
    return (value * factor + offset - shift) / divisor if measure and measure == wanted else None


def convert(feature, value, unit):
    unit, rules = plain(unit), feature.get("conversions") or {}
    if unit == plain(feature["unit"]):
        return value
    for reach in (lambda other: value if plain(other) == unit else None, lambda other: through_ucum(value, unit, plain(other))):
        for other, rule in rules.items():
            reached = reach(other)
            if reached is not None:
                factor, offset = rule if isinstance(rule, list) else (rule, 0)
                return reached * factor + offset
    return through_ucum(value, unit, plain(feature["unit"]))


def number(feature, value, unit):
    converted = convert(feature, value, unit)
    if converted is None:
        return {"status": "implausible", "value": value, "unit": unit or "1"}
    low, high = feature.get("range") or (float("-inf"), float("inf"))
    return {"status": "used" if low <= converted <= high else "implausible", "value": converted, "unit": feature["unit"]}


def category(feature, spellings, shown):
    for s in spellings:
        if s in feature["categories"]:
            return {"status": "used", "value": s, "unit": None}
        if s in (feature.get("map") or {}):
            return {"status": "used", "value": feature["map"][s], "unit": None}
    return {"status": "implausible", "value": shown if shown and len(shown.encode()) <= 80 else None, "unit": None}


def read(feature, holder):
    """The value[x] of an Observation or component, or None."""
    if "dataAbsentReason" in holder:
        return None
    if "value" in holder.get("valueQuantity", {}):
        q = holder["valueQuantity"]
        return number(feature, q["value"], q["code"] if "code" in q and q.get("system", UCUM) == UCUM else q.get("unit"))
    if "valueCodeableConcept" in holder:
        concept = holder["valueCodeableConcept"]
        codings = concept.get("coding", [])
        spellings = [c["code"] for c in codings if "code" in c] + [c["display"] for c in codings if "display" in c]
        return category(feature, spellings + [concept.get("text")], concept.get("text") or (spellings or [None])[0])
    if holder.get("valueString"):
        text = holder["valueString"]
        if feature["kind"] == "categorical":
            return category(feature, [text], text)
        if re.fullmatch(r" *-?\d+(\.\d+)?([eE][+-]?\d+)? *", text):
            return number(feature, float(text), None)
        return {"status": "implausible", "value": text if len(text.encode()) <= 80 else None, "unit": feature["unit"]}
    return None


def ask(feature, source, observations, at):
    """One source of codings: the value found, or None."""
    wanted = {(c["system"], c["code"]) for c in source["fhir"]}
    window = duration(feature.get("window"))
    inside, older = [], []
    for o in observations:
        if o.get("status") in ("entered-in-error", "cancelled") or "effectiveDateTime" not in o:
            continue
        begin, end = interval(o["effectiveDateTime"])
        if begin >= at[1] or end > at[1] + DAY:
            continue
        old = window is not None and (end <= at[0] - window or begin < at[0] - window - DAY)
        known = tuple(interval(t)[0].timestamp() if t else float("-inf") for t in (o.get("issued"), o.get("meta", {}).get("lastUpdated")))
        for part, holder in enumerate([o] + o.get("component", [])):
            if wanted & {(c.get("system"), c.get("code")) for c in holder["code"].get("coding", [])}:
                value = read(feature, holder)
                if value:
                    value |= {"source": "Observation/" + o["id"], "time": o["effectiveDateTime"]}
                    (older if old else inside).append(((begin + (end - begin) / 2, *known, o["id"], part), (begin, end), value))
    pick = feature.get("pick") or "last"
    usable = [c for c in inside if c[2]["status"] == "used"]
    key = lambda c: c[0]
    if usable:
        usable.sort(key=key)
        if pick in ("min", "max"):
            best = (min if pick == "min" else max)(c[2]["value"] for c in usable)
            return [c for c in usable if c[2]["value"] == best][-1][2]
        chosen = usable[0 if pick == "first" else -1][2]
        if pick == "mean":
            distinct = {(c[1], c[2]["value"]) for c in usable}
            chosen = chosen | {"value": sum(v for _, v in distinct) / len(distinct)}
        return chosen
    if inside:
        inside.sort(key=key)
        return inside[0 if pick == "first" else -1][2]
    if older:
        older = [c for c in older if c[2]["status"] == "used"] or older
        older.sort(key=key)
        return older[-1][2] | {"status": "stale"}
    return None


def age(feature, patient, at):
    if not patient or "birthDate" not in patient:
        return None
    born, now = (middle(*i) for i in (interval(patient["birthDate"]), at))
    years = now.year - born.year - ((now.month, now.day) < (born.month, born.day))
    return number(feature, years, "a") | {"source": "Patient/" + patient["id"], "time": None}


def features(definition, patient, observations, at):
    """The values of one patient at a reference time, as a result's ehr.features lists them."""
    out = []
    for f in definition["features"]:
        found = None
        for source in f["sources"]:
            if source == "fhir:Patient.birthDate":
                here = age(f, patient, at)
            elif source == "fhir:Patient.gender":
                gender = (patient or {}).get("gender", "unknown")
                here = None if gender == "unknown" else category(f, [gender], gender) | {"source": "Patient/" + patient["id"], "time": None}
            elif isinstance(source, dict):
                here = ask(f, source, observations, at)
            else:
                here = None
            if here and (found is None or here["status"] in ("used", "implausible")):
                found = here
            if found and found["status"] in ("used", "implausible"):
                break
        out.append({"id": f["id"]} | (found or {"value": None, "unit": f.get("unit"), "status": "missing", "source": None, "time": None}) | {"policy": None})
    return out


READ = {"Observation", "Encounter", "Condition", "Procedure", "MedicationRequest", "MedicationStatement", "MedicationAdministration",
        "AllergyIntolerance", "ServiceRequest", "ImagingStudy", "DiagnosticReport"}


def patients(all_resources):
    """(reference, Patient or None, Observations) in the order of the file: Patients first, then subjects that are not in it."""
    table = {}
    for r in all_resources:
        if r["resourceType"] == "Patient":
            table[r["id"]] = ["Patient/" + r["id"], r, []]
    for r in all_resources:
        subject = (r.get("patient" if r["resourceType"] == "AllergyIntolerance" else "subject") or {}).get("reference")
        if r["resourceType"] in READ and subject:
            key = subject.removeprefix("Patient/").removeprefix("urn:uuid:")
            known = table.setdefault(key, ["Patient/" + key, None, []])[2]
            if r["resourceType"] == "Observation":
                known.append(r)
    return list(table.values())


def latest(observations):
    times = [o["effectiveDateTime"] for o in observations
             if "effectiveDateTime" in o and o.get("status") not in ("entered-in-error", "cancelled")]
    return max(times, key=lambda t: interval(t)[1], default=None)
