"""The DICOM objects of a result, read back with pydicom, highdicom, dciodvfy and dcmtk: what they say, refer to and show."""
import io
import json
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

import bad_input
import bundles
import daemon as daemons

MODEL = bundles.ROOT / "models/thorax-nih"
SAMPLE = sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))
SOP_CLASSES = {
    "sr": "1.2.840.10008.5.1.4.1.1.88.34", "seg": "1.2.840.10008.5.1.4.1.1.66.4",
    "sc": "1.2.840.10008.5.1.4.1.1.7", "gsps": "1.2.840.10008.5.1.4.1.1.11.1",
    "kos": "1.2.840.10008.5.1.4.1.1.88.59",
}


class Study:
    """A result with its objects and the images it was made of (the newest last)."""

    def __init__(self, directory, result, images):
        self.result = result
        self.objects = {f.stem: pydicom.dcmread(f) for f in directory.glob("*.dcm")}
        self.files = {f.stem: f for f in directory.glob("*.dcm")}
        masks = directory / "masks.json"
        self.masks = json.loads(masks.read_text()) if masks.exists() else None
        by_uid = {d.SOPInstanceUID: d for d in images}
        self.images = [by_uid[f["sop_instance_uid"]] for f in result["study"]["frames"]]
        self.current = [d for d, f in zip(self.images, result["study"]["frames"]) if f["role"] == "current"]


def predict(directory, images, *arguments, model=MODEL):
    """Runs the program over data sets; {study UID: Study}."""
    source, target = directory / "in", directory / "out"
    source.mkdir(parents=True)
    for i, image in enumerate(images):
        image.save_as(source / f"{i}.dcm")
    command = [bundles.PROGRAM, "predict", "--model", model, "--artifacts", target, *arguments, source]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {r["study"]["study_instance_uid"]: Study(target / r["study"]["study_instance_uid"], r, images)
            for r in results}


def newest(**attributes):
    """The newest image of the sample as an object of its own."""
    return pydicom.dcmread(io.BytesIO(bad_input.changed(**attributes)))


def one(directory, image, *arguments, **options):
    return next(iter(predict(directory, [image], *arguments, **options).values()))


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    directory = tmp_path_factory.mktemp("artifacts") / "sample"
    return list(predict(directory, [pydicom.dcmread(f) for f in SAMPLE]).values())


def problems(file):
    """What dciodvfy calls an error."""
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, timeout=60)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def check_all(study):
    for name, file in study.files.items():
        assert problems(file) == [], name


# --- pixels ---


def stretch(mask, rows, columns):
    """A mask at the size of the image, bilinear in exact arithmetic, set from one half on."""
    def axis(n, m):
        at = np.clip((2 * np.arange(n, dtype=np.int64) + 1) * m - n, 0, (m - 1) * 2 * n)
        low, rest = at // (2 * n), at % (2 * n)
        return low, np.minimum(low + 1, m - 1), rest
    y0, y1, v = axis(rows, mask.shape[0])
    x0, x1, h = axis(columns, mask.shape[1])
    wide = mask.astype(np.int64)
    column = wide[y0] * (2 * rows - v)[:, None] + wide[y1] * v[:, None]
    total = column[:, x0] * (2 * columns - h) + column[:, x1] * h
    return 2 * total >= 4 * rows * columns


def mask_of(entry):
    runs = entry["runs"]
    flat = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    return flat.reshape(entry["rows"], entry["columns"])


def expected_masks(study, size):
    """{(SOP Instance UID, structure): pixels} of the current frames."""
    frames = study.result["study"]["frames"]
    return {(frames[m["frame"]]["sop_instance_uid"], m["structure"]): stretch(mask_of(m), *size)
            for m in study.masks["masks"] if frames[m["frame"]]["role"] == "current"}


# --- all objects ---


def test_no_object_has_an_error_and_each_is_of_its_class(sample):
    assert {name for s in sample for name in s.objects} == set(SOP_CLASSES)
    for study in sample:
        check_all(study)
        for name, ds in study.objects.items():
            assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == SOP_CLASSES[name]
            assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
            assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_patient_study_and_model_are_named(sample):
    for study in sample:
        source = study.current[-1]
        for name, ds in study.objects.items():
            for keyword in ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
                            "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
                            "ReferringPhysicianName", "StudyDescription", "PatientAge"):
                assert ds[keyword].value == source[keyword].value, (name, keyword)
            assert ds.SpecificCharacterSet == "ISO_IR 192"
            assert ds.Manufacturer == "MedFusion"
            assert ds.ManufacturerModelName == "thorax-nih"
            assert ds.DeviceSerialNumber == study.result["model"]["digest"][:16]
            assert study.result["model"]["version"] in ds.SoftwareVersions
            equipment = ds.ContributingEquipmentSequence[0]
            assert study.result["model"]["digest"] in equipment.ContributionDescription
            assert study.result["model"]["model_hash"] in equipment.ContributionDescription


def test_every_object_has_uids_of_its_own(sample):
    objects = [ds for study in sample for ds in study.objects.values()]
    images = {d.SeriesInstanceUID for s in sample for d in s.images}
    assert len({d.SOPInstanceUID for d in objects}) == len({d.SeriesInstanceUID for d in objects}) == len(objects)
    assert not images & {d.SeriesInstanceUID for d in objects}
    assert all(d.SOPInstanceUID.is_valid and d.SOPInstanceUID.startswith("2.25.") for d in objects)


def test_a_repeat_gives_the_same_objects(sample, tmp_path):
    again = predict(tmp_path, [pydicom.dcmread(f) for f in SAMPLE])
    times = {"InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
             "PresentationCreationDate", "PresentationCreationTime", "DateOfSecondaryCapture", "TimeOfSecondaryCapture",
             "ContributingEquipmentSequence"}
    for study in sample:
        other = again[study.result["study"]["study_instance_uid"]]
        assert other.objects.keys() == study.objects.keys()
        for name, ds in study.objects.items():
            left, right = ds.copy(), other.objects[name].copy()
            for keyword in times & {e.keyword for e in ds}:
                delattr(left, keyword)
                delattr(right, keyword)
            assert left == right, name


# --- the report ---

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


def test_the_report_is_a_tree_of_tid_1500(sample):
    for study in sample:
        check_report(study)
    assert any(len(s.images) > len(s.current) for s in sample)  # with priors


def test_highdicom_reads_the_report(sample):
    for study in sample:
        report = highdicom.sr.srread(study.files["sr"])
        assert isinstance(report, highdicom.sr.Comprehensive3DSR)
        assert isinstance(report.content, highdicom.sr.MeasurementReport)
        groups = report.content.get_image_measurement_groups()
        assert [g.tracking_identifier for g in groups] == [p["display"] for p in study.result["predictions"]]
        planar = report.content.get_planar_roi_measurement_groups()
        assert [g.roi.value.shape[1] for g in planar] == [2] * len(planar)
        assert len(planar) == 2


def test_dcmtk_reads_the_documents(sample):
    for name in ("sr", "kos"):
        for study in sample:
            if name in study.files:
                done = subprocess.run(["dsrdump", "-Ee", str(study.files[name])], capture_output=True, text=True)
                assert (done.returncode, done.stderr.count("E:")) == (0, 0), done.stderr


# --- the segmentation ---


def test_the_segmentation_is_the_mask_pixel_by_pixel(sample):
    for study in sample:
        seg = study.objects["seg"]
        expected = expected_masks(study, (seg.Rows, seg.Columns))
        assert len(expected) == seg.NumberOfFrames == 2
        for plane, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence):
            source = groups.DerivationImageSequence[0].SourceImageSequence[0]
            number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            structure = "image_left" if number == 1 else "image_right"
            assert np.array_equal(plane.astype(bool), expected[source.ReferencedSOPInstanceUID, structure])
            assert 0.02 < plane.mean() < 0.5


def test_the_segmentation_names_the_lungs_as_the_image_lies(sample, tmp_path):
    def sides(seg):
        return [s.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning
                for s in seg.SegmentSequence]
    assert sides(sample[-1].objects["seg"]) == ["Right", "Left"]
    mirrored = one(tmp_path / "mirrored", newest(PatientOrientation=["R", "F"])).objects["seg"]
    assert sides(mirrored) == ["Left", "Right"]
    unknown = one(tmp_path / "unknown", newest(PatientOrientation=None)).objects["seg"]
    types = [s.SegmentedPropertyTypeCodeSequence[0] for s in unknown.SegmentSequence]
    assert all(t.CodeValue == "39607008" and "SegmentedPropertyTypeModifierCodeSequence" not in t for t in types)
    assert unknown.SegmentSequence[0].SegmentLabel == "Lung at the left of the image"


def test_highdicom_reads_the_segmentation(sample):
    for study in sample:
        seg = highdicom.seg.segread(study.files["seg"])
        assert seg.segmentation_type == highdicom.seg.SegmentationTypeValues.BINARY
        assert seg.number_of_segments == 2
        description = seg.get_segment_description(1)
        assert description.segmented_property_type == pydicom.sr.codedict.codes.SCT.Lung
        assert description.algorithm_identification.name == "thorax-nih"
        uid = study.current[-1].SOPInstanceUID
        pixels = seg.get_pixels_by_source_instance([uid])
        expected = expected_masks(study, (seg.Rows, seg.Columns))
        for k, structure in enumerate(("image_left", "image_right")):
            assert np.array_equal(pixels[0, :, :, k].astype(bool), expected[uid, structure])


def placed_stack(n):
    """The newest image as `n` slices of a CT with positions."""
    study, series, frame_of_reference = (generate_uid(entropy_srcs=["stack", str(i)]) for i in range(3))
    for i in range(n):
        yield newest(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID=generate_uid(entropy_srcs=["slice", str(i)]),
                     Modality="CT", StudyInstanceUID=study, SeriesInstanceUID=series, FrameOfReferenceUID=frame_of_reference,
                     ImagePositionPatient=[-100, -120.5, 10 + 2.5 * i], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                     PixelSpacing=[0.7, 0.8], InstanceNumber=i + 1, PatientOrientation=None,
                     AcquisitionTime=f"0900{i:02d}")


def test_slices_with_positions_make_one_segmentation_in_their_frame_of_reference(tmp_path):
    import shutil
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    document = json.loads((model / "bundle.json").read_text())
    document["accepts"] = {"modalities": ["CT"], "views": [], "body_parts": [], "require": []}
    (model / "bundle.json").write_text(json.dumps(document))
    bundles.write_manifest(model)
    study = next(iter(predict(tmp_path / "stack", list(placed_stack(3)), model=model).values()))
    check_all(study)
    check_report_of_stack(study)
    seg = study.objects["seg"]
    assert "seg-2" not in study.objects
    assert seg.FrameOfReferenceUID == study.images[0].FrameOfReferenceUID
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.7, 0.8]
    positions = {d.SOPInstanceUID: list(d.ImagePositionPatient) for d in study.images}
    assert seg.NumberOfFrames == 6
    for groups in seg.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert list(groups.PlanePositionSequence[0].ImagePositionPatient) == positions[source]
    volume = highdicom.seg.segread(study.files["seg"])
    pixels = volume.get_pixels_by_source_instance([d.SOPInstanceUID for d in study.images])
    expected = expected_masks(study, (seg.Rows, seg.Columns))
    for i, image in enumerate(study.images):
        assert np.array_equal(pixels[i, :, :, 0].astype(bool), expected[image.SOPInstanceUID, "image_left"])


def check_report_of_stack(study):
    check_relations(study.objects["sr"])
    check_evidence(study)


# --- pictures ---


def test_the_presentation_state_shows_the_image_as_it_was_analysed(sample):
    for study in sample:
        state, image = study.objects["gsps"], study.current[-1]
        series = state.ReferencedSeriesSequence[0]
        assert series.SeriesInstanceUID == image.SeriesInstanceUID
        assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
        window = state.SoftcopyVOILUTSequence[0]
        assert (window.WindowCenter, window.WindowWidth) == (image.WindowCenter, image.WindowWidth)
        area_shown = state.DisplayedAreaSelectionSequence[0]
        assert area_shown.DisplayedAreaBottomRightHandCorner == [image.Columns, image.Rows]
        graphics = state.GraphicAnnotationSequence[0]
        box, *outlines = graphics.GraphicObjectSequence
        x0, y0, x1, y1 = study.result["study"]["frames"][-1]["segmentation"]["box"]
        assert list(box.GraphicData) == [x0, y0, x1, y0, x1, y1, x0, y1, x0, y0]
        report = study.objects["sr"]
        regions = [c.GraphicData for c in walk(report) if c.ValueType == "SCOORD"]
        assert [list(o.GraphicData) for o in outlines] == [list(r) for r in regions]
        text = graphics.TextObjectSequence[0].UnformattedTextValue
        for p in study.result["predictions"]:
            assert (p["display"] in text) == (p["state"] != "absent")


def walk(item):
    yield item
    for child in item.get("ContentSequence", []):
        yield from walk(child)


def test_the_presentation_state_of_an_image_without_window_has_the_one_that_was_used(tmp_path):
    image = newest(WindowCenter=None, WindowWidth=None, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2,
                   RescaleIntercept=-100)
    study = one(tmp_path, image)
    check_all(study)
    state = study.objects["gsps"]
    low, high = np.percentile(image.pixel_array * 2.0 - 100, [0.5, 99.5])
    window = state.SoftcopyVOILUTSequence[0]
    assert float(window.WindowCenter) - 0.5 - (float(window.WindowWidth) - 1) / 2 == pytest.approx(low)
    assert float(window.WindowWidth) - 1 == pytest.approx(high - low)
    assert (state.RescaleSlope, state.RescaleIntercept, state.PresentationLUTShape) == (2, -100, "INVERSE")


def test_luts_of_the_image_are_in_the_presentation_state(tmp_path):
    def lut(first, values):
        item = Dataset()
        item.add_new(0x00283002, "SS", [len(values), first, 16])
        item.add_new(0x00283006, "OW", np.array(values, "<u2").tobytes())
        return item
    image = newest(WindowCenter=None, WindowWidth=None, RescaleSlope=None, RescaleIntercept=None, RescaleType=None)
    modality = lut(-8, range(0, 65536, 257))
    modality.ModalityLUTType = "US"
    image.ModalityLUTSequence = Sequence([modality])
    image.VOILUTSequence = Sequence([lut(0, range(0, 65536, 16))])
    study = one(tmp_path, image)
    check_all(study)
    state = study.objects["gsps"]
    shown = state.ModalityLUTSequence[0]
    assert (list(shown.LUTDescriptor), shown.LUTData) == ([256, -8, 16], image.ModalityLUTSequence[0].LUTData)
    voi = state.SoftcopyVOILUTSequence[0].VOILUTSequence[0]
    assert (list(voi.LUTDescriptor), voi.LUTData) == ([4096, 0, 16], image.VOILUTSequence[0].LUTData)


def test_the_secondary_capture_is_the_image_with_outlines_and_a_panel(sample, tmp_path):
    for study in sample:
        sc, image = study.objects["sc"], study.current[-1]
        picture = sc.pixel_array
        shown = tmp_path / f"{image.StudyInstanceUID}.npy"
        file = tmp_path / "image.dcm"
        image.save_as(file)
        subprocess.run([bundles.PROGRAM, "dicom", "frame", file, "-o", shown], check=True)
        grey = np.load(shown)
        rows, columns = grey.shape[:2]
        assert picture.shape[1] == columns and picture.shape[0] > rows
        same = (picture[:rows] == grey.reshape(rows, columns, 1)).all(axis=2)
        coloured = (picture[:rows].max(axis=2) != picture[:rows].min(axis=2))
        assert np.array_equal(same, ~coloured) or (same | coloured).all()
        assert 0.002 < coloured.mean() < 0.1
        assert (picture[rows:].max(axis=2) > 0).mean() > 0.01  # text
        assert sc.SourceImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert sc.LossyImageCompression == image.LossyImageCompression


def test_a_large_image_is_reduced_and_a_small_one_keeps_room_for_the_text(tmp_path):
    image = newest()
    large = np.kron(image.pixel_array, np.ones((5, 3), np.uint8))
    image.Rows, image.Columns, image.PixelData = *large.shape, large.tobytes()
    picture = one(tmp_path / "large", image).objects["sc"]
    assert (picture.Columns, picture.Rows > 2560 // 3) == (512, True)
    small = newest()
    pixels = np.ascontiguousarray(small.pixel_array[::4, ::4])
    small.Rows, small.Columns, small.PixelData = *pixels.shape, pixels.tobytes()
    study = one(tmp_path / "small", small)
    check_all(study)
    assert study.objects["sc"].Columns == 400


# --- key objects ---


def test_key_objects_are_the_images_of_studies_with_a_present_finding(sample, tmp_path):
    kinds = set()
    for study in [*sample, one(tmp_path, newest(), "--alpha", "0.001")]:  # at 0.001 every set holds both
        present = [p["display"] for p in study.result["predictions"] if p["state"] == "present"]
        kinds.add(bool(present))
        assert ("kos" in study.objects) == bool(present)
        if not present:
            continue
        kos = study.objects["kos"]
        assert code(kos) == ("113000", "DCM")
        assert kos.ContentTemplateSequence[0].TemplateIdentifier == "2010"
        images = [(d.SOPClassUID, d.SOPInstanceUID) for d in study.current]
        assert references(kos) == set(images)
        assert {e[2:] for e in evidence(kos, "CurrentRequestedProcedureEvidenceSequence")} == set(images)
        text = only(kos, "CONTAINS", "TEXT", ("113012", "DCM")).TextValue
        assert all(name in text for name in present)
    assert kinds == {True, False}


# --- what comes in ---


def test_order_identifiers_are_carried(tmp_path):
    request = Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepID = "RP-7", "SPS-1"
    request.RequestedProcedureDescription = "Thorax p.a."
    image = newest(AccessionNumber="A-2026-15", RequestAttributesSequence=Sequence([request]),
                   PlacerOrderNumberImagingServiceRequest="P/1", FillerOrderNumberImagingServiceRequest="F/1",
                   ReferringPhysicianName="Who^Doctor")
    study = one(tmp_path, image)
    check_all(study)
    assert all(ds.AccessionNumber == "A-2026-15" for ds in study.objects.values())
    for name in ("sr", "kos"):
        if name in study.objects:
            order = study.objects[name].ReferencedRequestSequence[0]
            assert (order.AccessionNumber, order.RequestedProcedureID) == ("A-2026-15", "RP-7")
            assert order.PlacerOrderNumberImagingServiceRequest == "P/1"
            assert order.FillerOrderNumberImagingServiceRequest == "F/1"
            assert order.RequestedProcedureDescription == "Thorax p.a."
    for name in ("seg", "sc"):
        attributes = study.objects[name].RequestAttributesSequence[0]
        assert (attributes.RequestedProcedureID, attributes.ScheduledProcedureStepID) == ("RP-7", "SPS-1")


NAMES = [
    ("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 144", "Люкceмбypг"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("GB18030", "Wang^XiaoDong=王^小东"), (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"), ("ISO_IR 192", "Zoë^🫁"),
]


@pytest.mark.parametrize("charset, name", NAMES, ids=[n.split("^")[0] for _, n in NAMES])
def test_names_come_out_in_utf_8(tmp_path, charset, name):
    study = one(tmp_path, newest(SpecificCharacterSet=charset, PatientName=name))
    check_all(study)
    for ds in study.objects.values():
        assert (ds.SpecificCharacterSet, str(ds.PatientName)) == ("ISO_IR 192", name)


def test_values_that_do_not_fit_their_attribute_are_cut_or_left_empty(tmp_path):
    with pydicom.config.disable_value_validation():
        image = newest(PatientName="x" * 70 + "^y", PatientID="1\\2", StudyDate="yesterday", PatientSex="female!",
                       StudyID="0123456789abcdefXYZ", StudyDescription="e" * 80, PatientBirthDate="1972.01.01",
                       PatientAge="forty", TimezoneOffsetFromUTC="+0530")
        study = one(tmp_path, image)
    for name, file in study.files.items():
        assert problems(file) == [], name
    ds = study.objects["sr"]
    assert str(ds.PatientName) == "x" * 64
    assert (ds.PatientID, ds.StudyDate, ds.PatientSex, ds.StudyID) == ("1 2", "", "", "0123456789abcdef")
    assert (ds.StudyDescription, ds.PatientBirthDate) == ("e" * 64, "19720101")
    assert ds.TimezoneOffsetFromUTC == "+0530"


def test_odd_uids_are_referred_to_as_they_are(tmp_path):
    with pydicom.config.disable_value_validation():
        study = one(tmp_path, newest(StudyInstanceUID="1.02.3", SeriesInstanceUID="1.2.3.", SOPInstanceUID="0" * 64))
    assert study.objects["sr"].StudyInstanceUID == "1.02.3"
    assert evidence(study.objects["sr"], "CurrentRequestedProcedureEvidenceSequence") == \
        {("1.02.3", "1.2.3.", study.images[0].SOPClassUID, "0" * 64)}


def test_without_the_uids_to_refer_to_there_is_no_object(tmp_path):
    (tmp_path / "in.dcm").write_bytes(bad_input.changed(SeriesInstanceUID=None))
    done = subprocess.run([bundles.PROGRAM, "predict", "--model", MODEL, "--artifacts", tmp_path / "out", tmp_path / "in.dcm"],
                          capture_output=True, text=True)
    problem = json.loads(done.stdout)
    assert (done.returncode, problem["status"]) == (1, 422)
    assert problem["detail"] == ("result: frame 0: its image has no study, series or SOP class UID: no DICOM object can "
                                 "refer to it")


def test_an_image_without_lungs_has_no_segmentation(tmp_path):
    noise = np.random.default_rng(7).integers(0, 256, (512, 512), np.uint8)
    study = one(tmp_path, newest(PixelData=noise.tobytes()))
    assert study.result["study"]["frames"][0]["segmentation"]["status"] == "fallback"
    assert "seg" not in study.objects and study.masks is None
    check_all(study)
    check_report(study)
    graphics = study.objects["gsps"].GraphicAnnotationSequence[0]
    assert "GraphicObjectSequence" not in graphics


# --- command line and service ---


def test_format_sr_is_the_report_of_one_study(tmp_path):
    target = tmp_path / "report.dcm"
    command = [bundles.PROGRAM, "predict", "--model", MODEL, "--format", "sr", "-o", target]
    assert subprocess.run([*command, SAMPLE[-1]]).returncode == 0
    assert pydicom.dcmread(target).SOPClassUID == SOP_CLASSES["sr"]
    assert problems(target) == []
    done = subprocess.run([*command, *SAMPLE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2, "medfusion predict: --format sr is for one study, not 4; use --artifacts DIR\n")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = daemons.Daemon(tmp_path_factory.mktemp("service"), MODEL).start()
    yield running
    assert running.stop() == 0


def test_the_service_lists_and_gives_the_objects(service, tmp_path):
    location = service.post(daemons.sample()).headers["Location"]
    assert service.wait(location)["state"] == "succeeded"
    listed = service.get(location + "/artifacts").json()
    names = [a["name"] for a in listed["artifacts"]]
    assert (listed["schema"], set(SOP_CLASSES) - set(names) <= {"kos"}) == ("medfusion.artifacts/1", True)
    directory = tmp_path / "objects"
    directory.mkdir()
    for artifact in listed["artifacts"]:
        response = service.get(artifact["href"])
        assert (response.status_code, response.headers["Content-Type"]) == (200, artifact["media_type"])
        if artifact["name"] == "masks":
            (directory / "masks.json").write_bytes(response.content)
            continue
        (directory / f"{artifact['name']}.dcm").write_bytes(response.content)
        ds = pydicom.dcmread(io.BytesIO(response.content))
        assert (ds.SOPClassUID, ds.SeriesInstanceUID, ds.SOPInstanceUID) == (
            artifact["sop_class_uid"], artifact["series_instance_uid"], artifact["sop_instance_uid"])
        assert service.get(artifact["href"]).content == response.content  # made again, the same
    study = Study(directory, service.get(location + "/result").json(), [pydicom.dcmread(f) for f in SAMPLE])
    check_all(study)
    check_report(study)


def test_the_service_says_why_there_is_no_object(service):
    accepted = service.post([bad_input.NEWEST.read_bytes()])
    location = accepted.headers["Location"]
    service.wait(location)
    for path, headers, status, detail in (
            ("/artifacts/nothing", {}, 404, "the result has no such artifact"),
            ("/artifacts/seg-2", {}, 404, "the result has no such artifact"),
            ("/artifacts/sr", {"Accept": "application/json"}, 406, "this is given as application/dicom only"),
            ("/artifacts", {"Accept": "application/dicom"}, 406, "this is given as application/json only"),
            ("/artifacts?x=1", {}, 400, None)):
        response = service.get(location + path, headers=headers)
        assert response.status_code == status
        assert detail is None or response.json()["detail"] == detail
    service.delete(location + "/data")
    for path in ("/artifacts", "/artifacts/sr", "/artifacts/masks"):
        assert service.get(location + path).status_code == 410
    assert service.get("/v1/jobs/" + "0" * 32 + "/artifacts/sr").status_code == 404
