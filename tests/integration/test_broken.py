"""Files that are broken in common ways are read, with the numbers of the intact one and a flag in the result; text of every
character set comes out as UTF-8."""
import json
import struct
import subprocess

import pydicom
import pytest

import bundles
from dicom_net import part10, radiograph

FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundles.make_bundle(tmp_path_factory.mktemp("model") / "frontal", name="frontal", accepts=FRONTAL)


def run(*arguments):
    return subprocess.run([str(bundles.PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=300)


def predict(model, file):
    done = run("predict", "--model", model, file)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def data_set(file):
    """Where the data set begins: behind the preamble, the prefix and group 2."""
    return 132 + 12 + struct.unpack("<I", file[140:144])[0]


def element(file, tag, vr):
    """Where this explicit element with a short length begins."""
    return file.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr, data_set(file))


def without_meta(file):
    return file[data_set(file) :]


def without_syntax(file):
    """Group 2 without its Transfer Syntax UID, and with a length that is right."""
    start = file.index(struct.pack("<HH", 2, 0x10) + b"UI")
    end = start + 8 + struct.unpack("<H", file[start + 6 : start + 8])[0]
    group = struct.unpack("<I", file[140:144])[0] - (end - start)
    return file[:140] + struct.pack("<I", group) + file[144:start] + file[end:]


def with_zeros_behind(file):
    return file + b"\0" * 40


def with_an_odd_length(file):
    """Study Description "Chest" without the space that makes it even."""
    at = element(file, 0x00081030, b"LO")
    assert file[at + 6 : at + 14] == struct.pack("<H", 6) + b"Chest "
    return file[: at + 6] + struct.pack("<H", 5) + b"Chest" + file[at + 14 :]


def with_an_implicit_element(file):
    """Study ID as implicit VR has it, in an explicit data set."""
    at = element(file, 0x00200010, b"SH")
    length = struct.unpack("<H", file[at + 6 : at + 8])[0]
    return file[: at + 4] + struct.pack("<I", length) + file[at + 8 :]


def as_text(tag, vr):
    """Another value representation with a length of two bytes, LO, in the place of its own."""

    def fault(file):
        at = element(file, tag, vr)
        return file[: at + 4] + b"LO" + file[at + 6 :]

    return fault


BROKEN = {
    "file_meta_missing": (without_meta, without_syntax),
    "file_trailing_bytes": (with_zeros_behind,),
    "file_odd_lengths": (with_an_odd_length,),
    "file_vr_missing": (with_an_implicit_element,),
    "file_vr_wrong": (as_text(0x00080018, b"UI"), as_text(0x00185101, b"CS"), as_text(0x00280101, b"US"), as_text(0x00280030, b"DS")),
}


@pytest.mark.parametrize("flag", BROKEN)
def test_common_faults_are_read_and_flagged(tmp_path, model, flag):
    intact = tmp_path / "intact.dcm"
    intact.write_bytes(part10(radiograph()))
    want = predict(model, intact)
    assert not any(f.startswith("file_") for f in want["quality"]["flags"])
    for fault in BROKEN[flag]:
        file = tmp_path / "broken.dcm"
        file.write_bytes(fault(intact.read_bytes()))
        assert file.read_bytes() != intact.read_bytes()
        result = predict(model, file)
        assert [f for f in result["quality"]["flags"] if f.startswith("file_")] == [flag]
        assert result["predictions"] == want["predictions"]


def test_sequences_and_items_of_undefined_length_are_plain(tmp_path, model):
    ds = radiograph()
    inner = pydicom.Dataset()
    inner.CodeValue, inner.CodingSchemeDesignator, inner.CodeMeaning = "51185008", "SCT", "Chest"
    inner.is_undefined_length_sequence_item = True
    ds.AnatomicRegionSequence = pydicom.Sequence([inner])
    ds["AnatomicRegionSequence"].is_undefined_length = True
    file = tmp_path / "x.dcm"
    file.write_bytes(part10(ds))
    assert struct.pack("<HH", 0xFFFE, 0xE0DD) in file.read_bytes()
    assert not any(f.startswith("file_") for f in predict(model, file)["quality"]["flags"])


CHARACTER_SETS = {
    "latin": ("ISO_IR 100", "Müller^Änne"),
    "latin 2": ("ISO_IR 101", "Łukasz^Żółć"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг^Ю"),
    "greek": ("ISO_IR 126", "Διονυσιος^Α"),
    "arabic": ("ISO_IR 127", "قباني^نزار"),
    "hebrew": ("ISO_IR 138", "שרון^דבורה"),
    "turkish": ("ISO_IR 148", "Çavuş^İğdır"),
    "thai": ("ISO_IR 166", "นาม^สกุล"),
    "kanji": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "hangul": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "gb18030": ("GB18030", "Wang^XiaoDong=王^小东="),
    "gbk": ("GBK", "Wang^XiaoDong=王^小东="),
    "utf-8": ("ISO_IR 192", "Wang^XiaoDong=王^小東=Änne"),
}


@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_text_becomes_utf_8(tmp_path, name):
    charset, text = CHARACTER_SETS[name]
    ds = radiograph(SpecificCharacterSet=charset, PatientName=text)
    ds.StudyDescription = text.split("=")[-1 if charset == ["", "ISO 2022 IR 149"] else 0]
    file = tmp_path / "x.dcm"
    file.write_bytes(part10(ds))
    assert str(pydicom.dcmread(file).PatientName).rstrip("=") == text.rstrip("=")
    done = run("dicom", "info", file)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["objects"][0]
    assert told["patient_name"].rstrip("=") == text.rstrip("=") and told["study_description"] == ds.StudyDescription


# What pydicom cannot write: the bytes are those of PS3.5 annexes H and K.
RAW = {
    "katakana": ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    "katakana and kanji": ("ISO 2022 IR 13\\ISO 2022 IR 87", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
    "hanzi": ("\\ISO 2022 IR 58", b"Zhang^Xiao=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1=", "Zhang^Xiao=张^小="),
}


# Terms that are none, or text without the escape sequences that its terms call for.
MUELLER = "Müller^Änne"
MISSPELT = {
    **{term: (term, MUELLER.encode("latin-1"), MUELLER) for term in (
        "ISO IR 100", "ISO-IR 100", "iso_ir 100", "ISO 2022 IR 100", "\\ISO 2022 IR 100", "ISO 2022 IR 6\\ISO 2022 IR 100", "latin1")},
    **{term: (term, MUELLER.encode(), MUELLER) for term in ("UTF-8", "ISO IR 192")},
    "ISO_IR 13 beside another": ("ISO_IR 13\\ISO 2022 IR 87", *RAW["katakana and kanji"][1:]),
}
RAW.update(MISSPELT)


@pytest.mark.parametrize("name", RAW)
def test_text_that_others_wrote_becomes_utf_8(tmp_path, name):
    charset, raw, text = RAW[name]
    raw += b" " * (len(raw) % 2)
    file = tmp_path / "x.dcm"
    ds = radiograph(SpecificCharacterSet=charset, PatientName="N" * len(raw))
    file.write_bytes(part10(ds).replace(b"N" * len(raw), raw))
    told = json.loads(run("dicom", "info", file).stdout)["objects"][0]
    assert told["patient_name"].rstrip("=") == text.rstrip("=")
