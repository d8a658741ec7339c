"""The JSON Schemas in schemas/ against the documents that the C tests hold us to, and against wrong ones."""

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {path.name.split(".")[0]: json.loads(path.read_text()) for path in (ROOT / "schemas").glob("*.schema.json")}
REGISTRY = Registry().with_resources([(s["$id"], Resource.from_contents(s)) for s in SCHEMAS.values()])


def errors(name, document):
    return [f"{e.json_path}: {e.message}" for e in Draft202012Validator(SCHEMAS[name], registry=REGISTRY).iter_errors(document)]


def load(path):
    return json.loads((ROOT / path).read_text())


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schema_is_a_schema(name):
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("name, path", [
    ("result", "tests/core/result/full.json"),
    ("result", "tests/core/result/bare.json"),
    ("problem", "tests/core/result/problem.json"),
    ("features", "tests/fhir/vitals/ehr/features.json"),
])
def test_documents_are_valid(name, path):
    assert errors(name, load(path)) == []


@pytest.mark.parametrize("path", [str(p.relative_to(ROOT)) for p in [*ROOT.glob("models/*/ehr/features.json"), *ROOT.glob("tests/golden/bundles/*/ehr/features.json")]])
def test_shipped_definitions_are_valid(path):
    assert errors("features", load(path)) == []


RESULT = load("tests/core/result/full.json")


def members(value, path=()):
    """The path of every member of every object inside a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield path + (key,)
            yield from members(inner, path + (key,))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from members(inner, path + (i,))


def parent(document, path):
    for step in path[:-1]:
        document = document[step]
    return document


BY_LABEL = ("adaptation", "levels", "labels")  # its members are labels, as many as have levels


@pytest.mark.parametrize("path", [p for p in members(RESULT) if p[:-1] != BY_LABEL], ids=lambda p: ".".join(map(str, p)))
def test_no_member_of_a_result_may_be_left_out(path):
    document = copy.deepcopy(RESULT)
    del parent(document, path)[path[-1]]
    assert errors("result", document)


@pytest.mark.parametrize("path, value", [
    (("schema",), "medfusion.result/2"),
    (("alpha",), 1.5),
    (("extra",), 1),
    (("predictions", 0, "state"), "maybe"),
    (("predictions", 0, "state"), "absent"),  # contradicts its prediction set
    (("predictions", 0, "set_size"), 2),
    (("predictions", 0, "probability"), 1.01),
    (("predictions", 0, "guarantee"), "certain"),
    (("study", "frames", 0, "segmentation", "box"), [0, 0, 1]),
    (("study", "study_instance_uid"), "1.2/../3"),
    (("ehr", "features", 0, "status"), "unused"),
    (("finding_set", "labels"), ["Mass", "Mass"]),
])
def test_wrong_results_are_refused(path, value):
    document = copy.deepcopy(RESULT)
    parent(document, path)[path[-1]] = value
    assert errors("result", document)


JOB = {"schema": "medfusion.job/1", "id": "0123456789abcdef", "state": "failed", "priority": "routine", "model": "thorax-nih",
       "position": None, "eta_s": None, "progress": 0.5, "attempts": 1, "created": "2026-11-22T13:24:00.123Z", "started": "2026-11-22T13:24:01.000Z",
       "finished": "2026-11-22T13:24:02.000Z", "cancel_requested": False, "purged": False,
       "problem": load("tests/core/result/problem.json")}


def test_jobs():
    assert errors("job", JOB) == []
    assert errors("job", JOB | {"state": "queued", "position": 1, "eta_s": 0.5, "started": None, "finished": None, "problem": None}) == []
    for wrong in ({"state": "done"}, {"position": 0}, {"progress": 2}, {"created": None}, {"problem": {"title": "x"}}):
        assert errors("job", JOB | wrong), wrong
    for key in JOB:
        assert errors("job", {k: v for k, v in JOB.items() if k != key}), key


@pytest.mark.parametrize("change", [
    {"type": "about:blank"}, {"type": "urn:medfusion:problem:unknown"}, {"status": 200}, {"detail": ""}, {"patient": "Miller"},
])
def test_wrong_problems_are_refused(change):
    assert errors("problem", load("tests/core/result/problem.json") | change)


FEEDBACK = {"schema": "medfusion.feedback/1", "job": "0123456789abcdef", "agreed": {"Mass": "absent"},
            "feedback": [{"reader": "anna", "time": "2026-11-22T13:24:00.123Z", "labels": {"Mass": "absent", "Effusion": "present"}},
                         {"reader": "anonymous", "time": "2026-11-22T14:00:00.000Z", "labels": {"Effusion": "absent"}}]}
COVERAGE = {"n": 4, "covered": 3, "coverage": 0.75, "low": 0.19, "high": 0.99, "promised": 0.9}
QUALITY = {"schema": "medfusion.quality/1", "models": [{
    "model": "thorax-nih", "version": "1.0.0", "model_hash": "0" * 64, "site": "north",
    "window": {"last": 1000, "results": 60, "with_feedback": 4, "other_versions": 1, "from": "2026-11-22T13:24:00.123Z", "to": "2026-11-22T14:24:00.123Z"},
    "labels": [{"label": "Mass", "scores": {"n": 60, "reference": 230, "psi": 0.31, "psi_noise": 0.05, "ks": 0.4, "p_value": 0.001},
                "sets": {"present": 0.2, "absent": 0.5, "uncertain": 0.3, "empty": 0.0, "mean_size": 1.3},
                "coverage": {"present": COVERAGE, "absent": COVERAGE | {"n": 0, "covered": 0, "coverage": None, "promised": None}},
                "calibration": {"n": 4, "positives": 1, "observed": 0.25, "low": 0.05, "high": 0.7, "predicted": 0.3, "brier": 0.2}}],
    "coverage_by_alpha": [{"alpha": 0.05, "present": 1.0, "absent": 0.75}, {"alpha": 0.1, "present": None, "absent": 0.5}],
    "calibration_curve": [{"n": 2, "predicted": 0.1, "observed": 0.0, "low": 0.0, "high": 0.66}, {"n": 2, "predicted": 0.7, "observed": 0.5, "low": 0.09, "high": 0.91}],
    "features": [{"id": "age", "used": 58, "missing": 2, "psi": 0.1, "psi_noise": 0.04}],
    "outliers": {"n": 60, "share_0_05": 0.1, "low": 0.04, "high": 0.2, "ks": 0.1, "p_value": 0.5},
    "flags": {"blank": 1}, "alarms": [{"kind": "score_drift", "name": "Mass", "detail": "scores have moved: PSI 0.31, KS 0.40 over 60 results"}]}]}
OPEN = {"labels", "agreed", "flags"}  # objects whose members are labels or flags


@pytest.mark.parametrize("name, document, path", [
    (name, document, path) for name, document in (("feedback", FEEDBACK), ("quality", QUALITY))
    for path in members(document) if len(path) < 2 or path[-2] not in OPEN], ids=lambda v: ".".join(map(str, v)) if isinstance(v, tuple) else "")
def test_no_member_of_feedback_and_quality_may_be_left_out_or_added(name, document, path):
    assert errors(name, document) == []
    changed = copy.deepcopy(document)
    inner = parent(changed, path)
    inner["stranger"] = inner[path[-1]]
    assert errors(name, changed)
    del inner["stranger"], inner[path[-1]]
    assert errors(name, changed)


def test_a_quiet_model_is_described_with_nulls():
    model = copy.deepcopy(QUALITY["models"][0])
    model |= {"site": None, "outliers": None, "flags": {}, "alarms": [], "features": [], "calibration_curve": []}
    model["labels"][0] |= {"scores": None, "sets": None, "calibration": None}
    model["window"] |= {"results": 0, "from": None, "to": None}
    assert errors("quality", {"schema": "medfusion.quality/1", "models": [model]}) == []


@pytest.mark.parametrize("name, path, value", [
    ("feedback", ("feedback", 0, "labels", "Mass"), "unknown"),
    ("feedback", ("feedback", 0, "time"), "yesterday"),
    ("feedback", ("agreed", "Mass"), 1),
    ("quality", ("models", 0, "alarms", 0, "kind"), "fire"),
    ("quality", ("models", 0, "labels", 0, "sets", "mean_size"), 3),
    ("quality", ("models", 0, "labels", 0, "coverage", "present", "covered"), -1),
    ("quality", ("models", 0, "window", "last"), 0),
    ("quality", ("models", 0, "flags", "blank"), "often"),
    ("quality", ("models", 0, "outliers", "share_0_05"), 1.5),
    ("quality", ("models", 0, "calibration_curve", 0, "n"), 0),
    ("quality", ("models", 0, "calibration_curve", 1, "high"), 1.01),
])
def test_wrong_feedback_and_quality_are_refused(name, path, value):
    document = copy.deepcopy({"feedback": FEEDBACK, "quality": QUALITY}[name])
    parent(document, path)[path[-1]] = value
    assert errors(name, document)


def test_statements_of_readers():
    statement = {"$ref": "urn:medfusion:feedback:1#/$defs/statement"}
    valid = Draft202012Validator(statement, registry=REGISTRY).is_valid
    assert valid({"labels": {"Mass": "unknown"}}) and valid({"reader": "anna", "labels": {}})
    assert not valid({"reader": "anna"}) and not valid({"reader": "", "labels": {}}) and not valid({"labels": {"Mass": True}})
