"""CT series for tests: smooth structures with edges and noise in Hounsfield units, written with pydicom slice by slice or as
one enhanced multi-frame object. tests/golden/make_volumes.py reads the same series with SimpleITK."""
import dataclasses
import pathlib

import numpy
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1, 0, 0, 0, 1, 0)
# Rows and columns turned about two axes: nothing is parallel to anything.
OBLIQUE = (0.936117, 0.350000, -0.035050, -0.325, 0.901388, 0.286)


@dataclasses.dataclass
class Series:
    shape: tuple  # slices, rows, columns
    spacing: tuple  # mm, in the same order
    orientation: tuple = AXIAL
    origin: tuple = (-12.5, 40.25, 7.75)
    seed: int = 1

    def directions(self):
        """Unit vectors of rows, columns and the normal; columns made exactly perpendicular."""
        row = numpy.array(self.orientation[:3], float)
        row /= numpy.linalg.norm(row)
        column = numpy.array(self.orientation[3:], float)
        column -= row * (row @ column)
        column /= numpy.linalg.norm(column)
        return row, column, numpy.cross(row, column)

    def values(self):
        """Hounsfield units, (slices, rows, columns): a body, two dark lungs, a bright bar, noise."""
        z, y, x = numpy.meshgrid(*[(numpy.arange(n) + 0.5) / n for n in self.shape], indexing="ij")
        body = ((x - 0.5) / 0.45) ** 2 + ((y - 0.5) / 0.42) ** 2 < 1
        values = numpy.where(body, 40.0, -1000.0)
        for centre in (0.3, 0.7):
            lung = ((x - centre) / 0.14) ** 2 + ((y - 0.5) / 0.25) ** 2 + ((z - 0.5) / 0.45) ** 2 < 1
            values[lung] = -850
        values[(abs(x - 0.5) < 0.05) & (abs(y - 0.75) < 0.06)] = 900 + 300 * numpy.sin(9 * z[(abs(x - 0.5) < 0.05) & (abs(y - 0.75) < 0.06)])
        noise = numpy.random.default_rng(self.seed).normal(0, 30, self.shape)
        return numpy.clip(numpy.round(values + noise), -1024, 3071).astype(numpy.int16)

    def position(self, slice_number):
        return numpy.array(self.origin) + slice_number * self.spacing[0] * self.directions()[2]


def decimals(values):
    """DS values: at most 16 characters each."""
    return [f"{float(v):.10g}"[:16] for v in values]


def base(sop_class, study, series):
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = sop_class, generate_uid()
    d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = study, series, study + ".9"
    d.PatientID, d.PatientName, d.PatientSex = "CT1", "Volume^Test", "O"
    d.StudyDate, d.StudyTime, d.Modality, d.BodyPartExamined = "20240105", "101500", "CT", "CHEST"
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, 12, 11
    return d


def save(dataset, path):
    dataset.save_as(path, enforce_file_format=True)
    return pathlib.Path(path)


def single_frames(series, study="1.2.826.0.1.3680043.10.1.1", number="1"):
    """One data set a slice, ascending; stored values are HU + 1024."""
    row, column, _ = series.directions()
    stored = (series.values().astype(int) + 1024).astype("<u2")
    made = []
    for k in range(series.shape[0]):
        d = base(CTImageStorage, study, f"{study}.{number}")
        d.SeriesNumber, d.InstanceNumber = number, k + 1
        d.Rows, d.Columns = series.shape[1:]
        d.PixelSpacing = decimals(series.spacing[1:])
        d.ImageOrientationPatient = decimals([*row, *column])
        d.ImagePositionPatient = decimals(series.position(k))
        d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "-1024", "1", "HU"
        d.PixelData = stored[k].tobytes()
        made.append(d)
    return made


def item(**attributes):
    d = Dataset()
    for name, value in attributes.items():
        setattr(d, name, value)
    return Sequence([d])


def enhanced(series, order, study="1.2.826.0.1.3680043.10.1.2"):
    """One Enhanced CT object with the slices as frames in this order (PS3.3 A.38)."""
    row, column, _ = series.directions()
    stored = (series.values().astype(int) + 1024).astype("<u2")
    d = base(EnhancedCTImageStorage, study, study + ".1")
    d.Rows, d.Columns, d.NumberOfFrames = *series.shape[1:], len(order)
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=decimals(series.spacing[1:]), SliceThickness=str(series.spacing[0]))
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=decimals([*row, *column]))
    shared.PixelValueTransformationSequence = item(RescaleIntercept="-1024", RescaleSlope="1", RescaleType="HU")
    d.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=decimals(series.position(k)))
        frames.append(frame)
    d.PerFrameFunctionalGroupsSequence = Sequence(frames)
    d.PixelData = stored[list(order)].tobytes()
    return d


def enhanced_mr(series, order, study="1.2.826.0.1.3680043.10.1.3"):
    """One Enhanced MR object (PS3.3 A.36.2) whose frames each say where and how they lie and what their samples mean: every other one has
    its samples doubled and the slope halved. Real world values are another scale, which is not the modality's (PS3.3 C.7.6.16.2.11)."""
    row, column, _ = series.directions()
    d = base(EnhancedMRImageStorage, study, study + ".1")
    d.Modality, d.ImageType, d.VolumetricProperties = "MR", ["ORIGINAL", "PRIMARY", "T1", "NONE"], "VOLUME"
    d.BitsStored, d.HighBit = 14, 13
    d.Rows, d.Columns, d.NumberOfFrames = *series.shape[1:], len(order)
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=decimals(series.spacing[1:]), SliceThickness=str(series.spacing[0]))
    shared.MRTimingAndRelatedParametersSequence = item(RepetitionTime=500.0, FlipAngle=90.0, EchoTrainLength=1)
    d.SharedFunctionalGroupsSequence = Sequence([shared])
    frames, pixels = [], []
    for at, k in enumerate(order):
        factor = 1 + at % 2
        frame = Dataset()
        frame.FrameContentSequence = item(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[1, k + 1])
        frame.PlanePositionSequence = item(ImagePositionPatient=decimals(series.position(k)))
        frame.PlaneOrientationSequence = item(ImageOrientationPatient=decimals([*row, *column]))
        frame.PixelValueTransformationSequence = item(RescaleIntercept="-1024", RescaleSlope=str(1 / factor), RescaleType="US")
        unit = item(CodeValue="ms", CodingSchemeDesignator="UCUM", CodeMeaning="ms")
        frame.RealWorldValueMappingSequence = item(
            RealWorldValueFirstValueMapped=0, RealWorldValueLastValueMapped=16383, RealWorldValueSlope=100.0, RealWorldValueIntercept=7.0,
            LUTLabel="T1", LUTExplanation="T1", MeasurementUnitsCodeSequence=unit)
        frames.append(frame)
        pixels.append(((series.values()[k].astype(int) + 1024) * factor).astype("<u2"))
    d.PerFrameFunctionalGroupsSequence = Sequence(frames)
    d.PixelData = numpy.stack(pixels).tobytes()
    return d


# What the golden files were made of: the series and the voxel it is resampled to.
CASES = {
    "oblique-finer": (Series((14, 20, 26), (2.0, 0.8, 0.7), OBLIQUE), (1.5, 0.65, 0.55)),
    "axial-thick": (Series((9, 24, 22), (5.0, 0.9, 0.9), AXIAL, seed=2), (2.0, 0.9, 0.75)),
    "axial-coarser": (Series((15, 33, 30), (1.0, 0.5, 0.5), AXIAL, seed=3), (3.0, 1.5, 1.5)),
}
