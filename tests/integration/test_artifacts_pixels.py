"""The objects of a result that show something, segmentation, presentation state and secondary capture: pixel by pixel."""
import json
import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

import bundles
from artifact_study import MODEL, check_all, expected_masks, newest, one, predict
from report_tree import check_evidence, check_relations, walk

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
    model = tmp_path / "model"
    shutil.copytree(MODEL, model)
    document = json.loads((model / "bundle.json").read_text())
    document["accepts"] = {"modalities": ["CT"], "views": [], "body_parts": [], "require": []}
    (model / "bundle.json").write_text(json.dumps(document))
    bundles.write_manifest(model)
    study = next(iter(predict(tmp_path / "stack", list(placed_stack(3)), model=model).values()))
    check_all(study)
    check_relations(study.objects["sr"])
    check_evidence(study)
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
