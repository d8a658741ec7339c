"""Trees of structured reports: their items, what they refer to, and the rows of TID 1500 that a study's report must have."""
import numpy as np
import pytest

from artifact_study import mask_of


def code(item, attribute="ConceptNameCodeSequence"):
    c = item[attribute].value[0]
    return c.get("CodeValue", c.get("LongCodeValue")), c.CodingSchemeDesignator


def children(item, relation=None, value_type=None, name=None):
    return [c for c in item.get("ContentSequence", []) if (relation is None or c.RelationshipType == relation)
            and (value_type is None or c.ValueType == value_type)
            and (name is None or "ConceptNameCodeSequence" in c and code(c) == name)]


def only(item, *arguments):
    found = children(item, *arguments)
    assert len(found) == 1, arguments
    return found[0]


def walk(item):
    yield item
    for child in item.get("ContentSequence", []):
        yield from walk(child)


# PS3.3 A.35.13.3.1.2: what may stand below what in a Comprehensive 3D SR, as far as we use it
RELATIONS = {
    ("CONTAINER", "CONTAINS"): {"CODE", "NUM", "TEXT", "IMAGE", "SCOORD", "CONTAINER"},
    ("CONTAINER", "HAS OBS CONTEXT"): {"TEXT", "CODE", "UIDREF"},
    ("CONTAINER", "HAS CONCEPT MOD"): {"TEXT", "CODE"},
    ("IMAGE", "HAS ACQ CONTEXT"): {"CODE", "TEXT", "NUM", "DATE"},
    ("CODE", "HAS CONCEPT MOD"): {"CODE"},
    ("SCOORD", "SELECTED FROM"): {"IMAGE"},
}


def check_relations(item):
    for child in item.get("ContentSequence", []):
        assert child.ValueType in RELATIONS[item.ValueType, child.RelationshipType]
        check_relations(child)


def references(item):
    """All (class, instance) that a tree refers to."""
    found = {(r.ReferencedSOPClassUID, r.ReferencedSOPInstanceUID) for r in item.get("ReferencedSOPSequence", [])}
    return found.union(*(references(c) for c in item.get("ContentSequence", [])))


def evidence(ds, keyword):
    return {(study.StudyInstanceUID, series.SeriesInstanceUID, r.ReferencedSOPClassUID, r.ReferencedSOPInstanceUID)
            for study in ds.get(keyword, []) for series in study.ReferencedSeriesSequence
            for r in series.ReferencedSOPSequence}


def check_report(study):
    """The tree of TID 1500, row by row."""
    sr = study.objects["sr"]
    assert code(sr) == ("126000", "DCM")
    template = sr.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    check_relations(sr)
    assert code(only(sr, "HAS CONCEPT MOD", "CODE", ("121049", "DCM")), "ConceptCodeSequence") == ("en", "RFC5646")
    observer = only(sr, "HAS OBS CONTEXT", "CODE", ("121005", "DCM"))
    assert code(observer, "ConceptCodeSequence") == ("121007", "DCM")
    only(sr, "HAS OBS CONTEXT", "UIDREF", ("121012", "DCM"))
    serial = only(sr, "HAS OBS CONTEXT", "TEXT", ("121016", "DCM"))
    assert serial.TextValue == study.result["model"]["digest"]
    only(sr, "HAS CONCEPT MOD", "CODE", ("121058", "DCM"))
    library = only(sr, "CONTAINS", "CONTAINER", ("111028", "DCM"))
    entries = children(only(library, "CONTAINS", "CONTAINER", ("126200", "DCM")), "CONTAINS", "IMAGE")
    assert [e.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for e in entries] == \
        [d.SOPInstanceUID for d in study.images]
    measurements = only(sr, "CONTAINS", "CONTAINER", ("126010", "DCM"))
    groups = children(measurements, "CONTAINS", "CONTAINER", ("125007", "DCM"))
    by_template = {t: [g for g in groups if g.ContentTemplateSequence[0].TemplateIdentifier == t] for t in ("1501", "1410")}
    assert len(by_template["1501"]) + len(by_template["1410"]) == len(groups) == len(measurements.ContentSequence)
    check_findings(study, by_template["1501"])
    check_lungs(study, by_template["1410"])
    only(sr, "CONTAINS", "CONTAINER", ("C0034375", "UMLS"))
    check_evidence(study)


def check_findings(study, groups):
    states = {"present": "52101004", "absent": "272519000", "uncertain": "373068000", "empty": "373068000"}
    assert len(groups) == len(study.result["predictions"])
    for group, p in zip(groups, study.result["predictions"]):
        schemes = {"http://snomed.info/sct": "SCT", "http://www.radlex.org": "RADLEX"}
        name = next(((c["code"], schemes[c["system"]]) for c in p["coding"]), (p["label"], "99MEDFUSION"))
        assert only(group, "HAS OBS CONTEXT", "TEXT", ("112039", "DCM")).TextValue == p["display"]
        only(group, "HAS OBS CONTEXT", "UIDREF", ("112040", "DCM"))
        assert code(only(group, "CONTAINS", "CODE", name), "ConceptCodeSequence") == (states[p["state"]], "SCT")
        findings = children(group, "CONTAINS", "CODE", ("121071", "DCM"))
        assert [code(f, "ConceptCodeSequence") for f in findings] == ([name] if p["state"] == "present" else [])
        certainty = only(group, "CONTAINS", "NUM", ("111012", "DCM")).MeasuredValueSequence[0]
        assert float(certainty.NumericValue) == pytest.approx(100 * p["probability"], rel=1e-5)
        assert code(certainty, "MeasurementUnitsCodeSequence") == ("%", "UCUM")
        for concept, key in (("P_PRESENT", "p_present"), ("P_ABSENT", "p_absent")):
            found = children(group, "CONTAINS", "NUM", (concept, "99MEDFUSION"))
            values = [float(f.MeasuredValueSequence[0].NumericValue) for f in found]
            assert values == ([] if p[key] is None else [pytest.approx(p[key], rel=1e-5)])
        coverage = only(group, "CONTAINS", "TEXT", ("121106", "DCM")).TextValue
        assert ("at least 90 %" in coverage) == (p["guarantee"] == "valid")
        assert ("nothing is guaranteed" in coverage) == (p["guarantee"] != "valid")
        assert only(group, "HAS CONCEPT MOD", "TEXT", ("111001", "DCM")).TextValue == study.result["model"]["name"]
        assert only(group, "HAS CONCEPT MOD", "TEXT", ("111003", "DCM")).TextValue == study.result["model"]["version"]
        parameters = " ".join(c.TextValue for c in children(group, "HAS CONCEPT MOD", "TEXT", ("111002", "DCM")))
        assert study.result["model"]["digest"] in parameters and study.result["model"]["model_hash"] in parameters
        sources = children(group, "CONTAINS", "IMAGE", ("121112", "DCM"))
        assert [s.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for s in sources] == \
            [d.SOPInstanceUID for d in study.current]


def area(points):
    x, y = points[::2], points[1::2]
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def check_lungs(study, groups):
    shown = [m for m in (study.masks or {"masks": []})["masks"] if m["frame"] == len(study.images) - 1]
    assert len(groups) == len(shown)
    for group, entry in zip(groups, shown):
        region = only(group, "CONTAINS", "SCOORD", ("111030", "DCM"))
        points = np.array(region.GraphicData, float)
        image = study.current[-1]
        assert (region.GraphicType, list(points[:2])) == ("POLYLINE", list(points[-2:]))
        mask = mask_of(entry)
        scale = np.array([image.Columns / mask.shape[1], image.Rows / mask.shape[0]])
        rows, columns = np.nonzero(mask)
        box = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) * scale
        assert np.allclose([points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)], box, atol=1e-3)
        assert area(points) >= mask.sum() * scale.prod() * 0.999  # the outline takes holes in
        selected = region.ContentSequence[0]
        assert selected.RelationshipType == "SELECTED FROM"
        assert selected.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID


def check_evidence(study):
    def of(images):
        return {(d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPClassUID, d.SOPInstanceUID) for d in images}
    sr = study.objects["sr"]
    current, priors = of(study.current), of(study.images) - of(study.current)
    assert evidence(sr, "CurrentRequestedProcedureEvidenceSequence") == current
    assert evidence(sr, "PertinentOtherEvidenceSequence") == priors
    assert references(sr) == {e[2:] for e in current | priors}
