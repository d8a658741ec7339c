"""Golden volumes: the series of tests/integration/volume_series.py as SimpleITK reads and resamples them.

    pip install SimpleITK numpy pydicom
    python tests/golden/make_volumes.py

Finer grids are SimpleITK's Resample with its Lanczos windowed sinc (radius 5). Its weights do not sum to one (a constant of
1 becomes 0.996 to 1.004 between samples), ours do: its result is divided by what it makes of ones. SimpleITK has no
antialiased resampling: for a grid three times coarser the stretched kernel is given to its Convolution, separable, and every third sample is taken.
Grids keep the extents edge to edge (dicom/volume.h).
"""
import pathlib
import sys
import tempfile

import numpy
import SimpleITK

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
import volume_series  # noqa: E402

RADIUS = 5


def read(series):
    """Through files and GDCM's ordering, as anybody would."""
    with tempfile.TemporaryDirectory() as directory:
        for k, d in enumerate(reversed(volume_series.single_frames(series))):
            volume_series.save(d, f"{directory}/{k:03}.dcm")
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(directory))
        return SimpleITK.Cast(reader.Execute(), SimpleITK.sitkFloat64)


def finer(image, voxel):
    size, spacing = numpy.array(image.GetSize()), numpy.array(image.GetSpacing())
    count = numpy.floor(size * spacing / voxel[::-1] + 0.5).astype(int)
    made = size * spacing / count
    direction = numpy.array(image.GetDirection()).reshape(3, 3)
    origin = numpy.array(image.GetOrigin()) + direction @ ((made - spacing) / 2)

    def resample(volume):
        return SimpleITK.Resample(
            volume, count.tolist(), SimpleITK.Transform(), SimpleITK.sitkLanczosWindowedSinc, origin.tolist(), made.tolist(),
            image.GetDirection(), 0.0, SimpleITK.sitkFloat64,
        )  # fmt: skip

    return resample(image) / resample(image * 0 + 1)


def coarser(image, factor):
    assert factor % 2 == 1 and all(n % factor == 0 for n in image.GetSize())
    x = numpy.arange(-RADIUS * factor, RADIUS * factor + 1) / factor
    taps = numpy.sinc(x) * numpy.sinc(x / RADIUS)
    taps /= taps.sum()
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = len(taps)
        kernel = SimpleITK.GetImageFromArray(taps.reshape(shape))
        image = SimpleITK.Convolution(
            image, kernel, False, SimpleITK.ConvolutionImageFilter.ZERO_FLUX_NEUMANN_PAD, SimpleITK.ConvolutionImageFilter.SAME
        )
    first = factor // 2
    return image[first::factor, first::factor, first::factor]


def main():
    (HERE / "volumes").mkdir(exist_ok=True)
    for name, (series, voxel) in volume_series.CASES.items():
        image = read(series)
        made = coarser(image, 3) if name.endswith("coarser") else finer(image, voxel)
        array = SimpleITK.GetArrayFromImage(made)
        numpy.save(HERE / "volumes" / f"{name}.npy", array.astype(numpy.float32))
        print(name, array.shape, array.min(), array.max())


if __name__ == "__main__":
    main()
