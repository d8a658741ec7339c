"""De-identification (PS3.15 annex E): nothing that says who the patient is survives, in files and in what is forwarded."""
import datetime
import hashlib
import io
import pathlib
import subprocess

import numpy
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

import bundles
import daemon as daemons
from dicom_net import JSON, part10, radiograph, related
from fhir_server import wait_until

SHARED = bundles.ROOT / "../shared/data/dicom"
NAMES = ("Mustermann", "Änne-Sophie", "Hausarzt", "Radiologin", "Klinikum", "KH-4711", "PAT-00815", "ACC-98765", "Hauptstr")


def run(*arguments):
    return subprocess.run([str(bundles.PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    file = tmp_path_factory.mktemp("secret") / "secret"
    file.write_text("a secret of more than sixteen bytes\n")
    return file


def item(**attributes):
    d = Dataset()
    for name, value in attributes.items():
        setattr(d, name, value)
    return d


def telling(study=None, instance=1):
    """A radiograph that says who the patient is wherever it can."""
    ds = radiograph(patient="PAT-00815", study=study, InstanceNumber=instance, AccessionNumber="ACC-98765", StudyID="KH-4711")
    ds.PatientName, ds.PatientBirthDate, ds.PatientAge = "Mustermann^Änne-Sophie", "19610317", "062Y"
    ds.IssuerOfPatientID, ds.OtherPatientNames = "Klinikum", "Mustermann-Alt^Änne"
    ds.PatientAddress, ds.PatientTelephoneNumbers = "Hauptstr. 5", "+49 555 12345"
    ds.ReferringPhysicianName, ds.InstitutionName = "Hausarzt^Dr", "Klinikum Nord"
    ds.StudyDescription = "Thorax Mustermann"
    ds.DeviceSerialNumber, ds.StationName = "SN-99", "KH-4711-CR"
    ds.AcquisitionDate, ds.ContentDate = "20240102", "20240102"
    ds.AcquisitionDateTime = "20240102101500.5"
    ds.ReferencedImageSequence = Sequence([item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=generate_uid())])
    ds.RequestAttributesSequence = Sequence(
        [item(RequestedProcedureID="ACC-98765", RequestedProcedureDescription="für Frau Mustermann", RequestingPhysician="Hausarzt^Dr")]
    )
    # text that the table does not name, and a code whose meaning it is
    ds.ImageLaterality = "U"
    ds.AnatomicRegionSequence = Sequence([item(CodeValue="51185008", CodingSchemeDesignator="SCT", CodeMeaning="Chest")])
    ds.ViewCodeSequence = Sequence([item(CodeValue="X", CodingSchemeDesignator="99KH", CodeMeaning="pa, PAT-00815")])
    ds.Manufacturer, ds.AcquisitionDeviceProcessingCode = "Mustermann GmbH", "KH"
    block = ds.private_block(0x0029, "KLINIKUM", create=True)
    block.add_new(0x10, "LO", "Mustermann^Änne-Sophie")
    nested = item(PersonName="Radiologin^R", UID=ds.StudyInstanceUID)
    nested.private_block(0x0029, "KLINIKUM", create=True).add_new(0x10, "LO", "PAT-00815")
    ds.ContentSequence = Sequence([nested])
    ds.add_new(0x60000010, "US", 2)
    ds.add_new(0x60004000, "LT", "Mustermann")
    ds.add_new(0x50000030, "SH", "PAT-00815")
    ds.file_meta.SourceApplicationEntityTitle = "KH-4711"
    ds.preamble = b"Mustermann".ljust(128, b"\0")
    return ds


def identifiers(ds):
    """What must not be found: names, numbers, UIDs that are not the standard's."""
    uids = set()

    def see(dataset, element):
        if element.VR == "UI":
            values = element.value if isinstance(element.value, (list, pydicom.multival.MultiValue)) else [element.value]
            uids.update(str(v) for v in values if v and not str(v).startswith("1.2.840.10008."))

    ds.walk(see)
    return [name.encode() for name in NAMES] + [uid.encode() for uid in uids]


def clean(tmp_path, secret, *datasets, options=()):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir(exist_ok=True)
    for k, ds in enumerate(datasets):
        (source / f"{k}.dcm").write_bytes(part10(ds))
    done = run("dicom", "deidentify", "--secret", secret, *options, "-o", out, source)
    assert done.returncode == 0, done.stderr
    made = [pydicom.dcmread(file) for file in sorted(out.glob("*.dcm"))]
    return sorted(made, key=lambda d: d.InstanceNumber)


def codes(ds):
    return [c.CodeValue for c in ds.DeidentificationMethodCodeSequence]


def test_no_identifier_survives_anywhere(tmp_path, secret):
    original = telling()
    made = clean(tmp_path, secret, original)[0]
    data = pathlib.Path(made.filename).read_bytes()
    assert [i for i in identifiers(original) if i in data] == []
    assert b"19610317" not in data and b"20240102" not in data and b"555 12345" not in data
    assert made.PatientIdentityRemoved == "YES" and codes(made) == ["113100"]
    assert made.LongitudinalTemporalInformationModified == "REMOVED"
    assert made.PatientID == str(made.PatientName) and made.PatientID.startswith("ANON-")
    assert pathlib.Path(made.filename).stem == made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID
    assert not any(e.tag.is_private or e.tag.group in (0x6000, 0x5000) for e in made.iterall())
    assert made.AnatomicRegionSequence[0].CodeMeaning == "Chest"  # vocabulary stays
    assert made.ViewCodeSequence[0].CodeMeaning == "REMOVED" and made.Manufacturer == "REMOVED"
    assert "PatientAge" not in made and made.PatientSex == ""
    assert made.PixelData == original.PixelData and made.ViewPosition == "PA"


def test_objects_of_one_patient_still_belong_together(tmp_path, secret):
    one = telling()
    two = telling(study=one.StudyInstanceUID, instance=2)
    two.ReferencedImageSequence[0].ReferencedSOPInstanceUID = one.SOPInstanceUID
    other = radiograph(patient="PAT-2", InstanceNumber=3)
    a, b, c = clean(tmp_path, secret, one, two, other)
    assert a.StudyInstanceUID == b.StudyInstanceUID != c.StudyInstanceUID
    assert b.ReferencedImageSequence[0].ReferencedSOPInstanceUID == a.SOPInstanceUID
    assert a.PatientID == b.PatientID != c.PatientID
    another = tmp_path / "another"
    another.write_text("another secret of sixteen bytes")
    (tmp_path / "again").mkdir()
    again = clean(tmp_path / "again", another, one)[0]
    assert again.PatientID != a.PatientID and again.StudyInstanceUID != a.StudyInstanceUID


def test_dates_are_shifted_together_or_kept(tmp_path, secret):
    one, two = telling(), telling(instance=2)
    two.StudyDate, two.AcquisitionDateTime = "20240312", "20240312090000"
    a, b = clean(tmp_path, secret, one, two, options=("--dates", "shift"))

    def day(text):
        return datetime.datetime.strptime(text[:8], "%Y%m%d")

    assert a.StudyDate != "20240102" and (day(b.StudyDate) - day(a.StudyDate)).days == 70
    assert a.AcquisitionDateTime == a.StudyDate + "101500.5" and a.StudyTime == "101500"
    assert codes(a) == ["113100", "113107"] and a.LongitudinalTemporalInformationModified == "MODIFIED"
    assert a.PatientBirthDate == ""
    (tmp_path / "kept").mkdir()
    kept = clean(tmp_path / "kept", secret, one, options=("--dates", "keep", "--characteristics", "keep"))[0]
    assert kept.StudyDate == "20240102" and kept.PatientBirthDate == "" and kept.PatientAge == "062Y" and kept.PatientSex == "F"
    assert codes(kept) == ["113100", "113106", "113108"]


def test_overlays_in_unused_bits_are_masked(tmp_path, secret):
    ds = telling()
    pixels = numpy.frombuffer(ds.PixelData, "<u2")
    ds.PixelData = (pixels | 0xF000).astype("<u2").tobytes()
    ds.add_new(0x60000102, "US", 12)
    made = clean(tmp_path, secret, ds)[0]
    assert made.PixelData == pixels.tobytes()


REFUSED = {
    "burned in": (dict(BurnedInAnnotation="YES"), "it says that its pixels hold identifying text (Burned In Annotation)"),
    "document": (dict(EncapsulatedDocument=b"%PDF"), "an encapsulated document cannot be cleaned"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_cleaned_is_refused(tmp_path, secret, what):
    attributes, reason = REFUSED[what]
    file = tmp_path / "x.dcm"
    file.write_bytes(part10(radiograph(**attributes)))
    done = run("dicom", "deidentify", "--secret", secret, "-o", tmp_path / "out", file)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"medfusion dicom: {file}: {reason}", "medfusion dicom: 1 of 1 objects were not written"]
    assert list((tmp_path / "out").iterdir()) == []


def test_usage_is_told(tmp_path, secret):
    short = tmp_path / "short"
    short.write_text("short\n")
    for arguments, reason in (
        (["-o", "x", "y"], "deidentify takes --secret FILE, -o DIR and at least one PATH, see --help"),
        (["--secret", short, "-o", "x", "y"], "the secret has 5 bytes, at least 16 are needed"),
        (["--secret", secret, "--dates", "blur", "-o", "x", "y"], "dates: must be remove, shift or keep"),
        (["--secret", secret, "--characteristics", "no", "-o", "x", "y"], "characteristics: must be remove or keep"),
    ):
        done = run("dicom", "deidentify", *arguments)
        assert (done.returncode, done.stderr) == (2, f"medfusion dicom: {reason}\n")


def test_real_files_of_every_kind_lose_their_identifiers(tmp_path, secret):
    if not SHARED.exists():
        pytest.skip("skipped: no ../shared/data")
    done = run("dicom", "deidentify", "--secret", secret, "-o", tmp_path / "out", SHARED)
    made = {file.stem: file for file in (tmp_path / "out").glob("*.dcm")}
    assert len(made) > 60 and "not written" in done.stderr  # truncated and nameless ones are refused
    for file in made.values():
        ds = pydicom.dcmread(file, stop_before_pixels=True)
        assert ds.PatientIdentityRemoved == "YES" and not any(e.tag.is_private for e in ds.iterall())
        names = [e for e in ds.iterall() if e.VR == "PN" and str(e.value) not in ("", "REMOVED", ds.PatientID)]
        assert names == []


# --- what is forwarded ---



def stored(server):
    """Everything that the destination has, as bytes."""
    answer = requests.get(server.url + "/dicom-web/instances", headers={"Accept": JSON}, timeout=60)
    if answer.status_code == 204:
        return []
    files = []
    for i in answer.json():
        path = "/dicom-web/studies/{}/series/{}/instances/{}".format(*(i[t]["Value"][0] for t in ("0020000D", "0020000E", "00080018")))
        body = requests.get(server.url + path, headers={"Accept": 'multipart/related; type="application/dicom"'}, timeout=60)
        files.append(body.content[body.content.index(b"\r\n\r\n") + 4 : body.content.rindex(b"\r\n--")])
    return files


def test_forwarded_results_name_nobody(tmp_path, frontal_bundle, secret):
    pacs = daemons.Daemon(tmp_path / "pacs", frontal_bundle).start()
    address = pacs.url + "/dicom-web"
    sender = daemons.Daemon(tmp_path / "sender", frontal_bundle, **{
        "intake.quiet_s": 0, "outbox.destinations": address, "outbox.deidentify": address,
        "deidentify.secret_file": secret, "deidentify.dates": "shift"}).start()  # fmt: skip
    try:
        original = telling()
        body, kind = related([part10(original)])
        requests.post(sender.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60).raise_for_status()
        files = wait_until(lambda: len(f := stored(pacs)) >= 3 and f, seconds=60)
        wanted = identifiers(original)
        for data in files:
            assert [i for i in wanted if i in data] == [], pydicom.dcmread(io.BytesIO(data))
            assert b"20240102" not in data and b"2024-01-02" not in data
        objects = {ds.Modality: ds for ds in (pydicom.dcmread(io.BytesIO(data)) for data in files)}
        assert len({ds.StudyInstanceUID for ds in objects.values()}) == 1
        assert len({ds.PatientID for ds in objects.values()}) == 1
        report = objects["SR"]
        assert codes(report) == ["113100", "113104", "113107"]
        # the report still says what was found, and of which (new) image
        assert sum(1 for e in report.iterall() if e.keyword == "NumericValue") > 4
        image = report.CurrentRequestedProcedureEvidenceSequence[0]
        assert image.StudyInstanceUID == report.StudyInstanceUID != original.StudyInstanceUID
    finally:
        assert sender.stop() == 0 and pacs.stop() == 0


BAD = {
    "elsewhere": ({"outbox.destinations": "http://a/d", "outbox.deidentify": "http://b/d"},
                  'outbox.deidentify: "http://b/d" is not in outbox.destinations'),
    "no DICOM": ({"outbox.destinations": "mllp://a:1", "outbox.deidentify": "mllp://a:1"},
                 'outbox.deidentify: "mllp://a:1" gets no DICOM objects: only these can be de-identified'),
    "no secret": ({"outbox.destinations": "http://a/d", "outbox.deidentify": "http://a/d"},
                  "deidentify.secret_file: is needed with outbox.deidentify"),
    "no file": ({"outbox.destinations": "http://a/d", "outbox.deidentify": "http://a/d", "deidentify.secret_file": "/nowhere"},
                "deidentify: /nowhere: No such file or directory"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_configuration_that_cannot_hold_is_refused_at_the_start(tmp_path, frontal_bundle, what):
    keys, reason = BAD[what]
    options = [a for key, value in keys.items() for a in (f"--{key}", value)]
    done = run("serve", "--data.directory", tmp_path / "d", "--models.directories", frontal_bundle, *options)
    assert done.returncode != 0 and done.stderr.strip().endswith(reason)


# --- the table ---

TABLE = bundles.ROOT / "dicom/deidentify.txt"
# Rows of PS3.15 Table E.1-1 as scraped from the standard's page of September 2024 (2024d), single tags only: their number, and a digest of
# "TAG ACTION" lines in order of tags. What came into the table since is listed by name.
ROWS_2024, DIGEST_2024 = 619, "0b03248ee7f3f2ee4befc62d0013d50ea95bff83115fde4cfb788b969867bfcc"
SINCE_2024 = """00081301 00081302 00081303 00081304 00100011 00100012 00100013 00100014 00100015 00100016 00100041 00100042 00100043 00100044
    00100045 00100046 00100047 00102162 00181010 00181011 003A0020 003A0203 003A020C 00400556 0040A034 0040A035 0040B020 0040B034 0040B036
    0040B03B 0040B03F 0040E012 00700006""".split()


def table():
    rows = (line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#"))
    return {tag.upper(): action for tag, action, _ in rows}


def test_the_table_is_the_standards():
    actions = table()
    old = sorted((tag, action) for tag, action in actions.items() if tag not in SINCE_2024)
    assert len(old) == ROWS_2024 and len(actions) == ROWS_2024 + len(SINCE_2024)
    assert hashlib.sha256("".join(f"{tag} {action}\n" for tag, action in old).encode()).hexdigest() == DIGEST_2024


def example(tag):
    """An element with a value that names the patient, or None for what has its own rules (UIDs of the file itself, commands, documents)."""
    name = pydicom.datadict.keyword_for_tag(tag)
    if not name or tag >> 16 in (0x0000, 0x0002, 0x0004) or tag in (0x00080018, 0x0020000D, 0x0020000E, 0x00100010, 0x00100020, 0x00420011):
        return None
    vr = pydicom.datadict.dictionary_VR(tag)
    values = {"SQ": Sequence([item(PatientID="PAT-00815", CodeMeaning="Mustermann")]), "UI": "1.2.3.4.5", "DA": "20240102", "TM": "101112",
              "DT": "20240102101112", "AS": "062Y", "IS": "4711", "DS": "4711", "OB": b"Mustermann", "UN": b"Mustermann", "OW": b"Mustermann",
              "FD": 4711.5, "FL": 4711.5, "US": 4711, "SS": 4711, "UL": 4711, "SL": 4711, "AT": 0x00100010, "CS": "MUSTERMANN"}
    return pydicom.DataElement(tag, vr, values.get(vr.split(" ")[0], "Mustermann"))


def told(element):
    """Whether an element still has its value."""
    if element.VR == "SQ":
        return any("PatientID" in i and i.PatientID == "PAT-00815" for i in element.value)
    return element.value == example(element.tag).value


@pytest.mark.parametrize("nested", [False, True])
def test_every_attribute_of_the_table_is_treated(tmp_path, secret, nested):
    ds = radiograph(patient="PAT-00815")
    inner = item() if nested else ds
    actions = {int(tag, 16): action for tag, action in table().items()}
    made_of = {tag for tag in actions if (element := example(tag)) is not None and not inner.add(element)}
    if nested:
        ds.ReferencedSeriesSequence = Sequence([inner])
    assert len(made_of) > 560
    made = clean(tmp_path, secret, ds)[0]
    outer = made.ReferencedSeriesSequence[0] if nested else made
    wrong = []
    for tag in sorted(made_of):
        action, element = actions[tag], outer.get(tag)
        if action == "X":
            right = element is None
        elif action.endswith("Z"):
            right = element is not None and element.is_empty
        elif action.endswith(("D", "U", "U*")):
            right = element is not None and not element.is_empty and not told(element)
        if not right:
            wrong.append((f"{tag:08X}", action, element))
    assert not wrong, "\n".join(map(str, wrong))
