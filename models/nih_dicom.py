"""NIH ChestX-ray14 images (8-bit JPEG) as DX DICOM objects.

The NIH set has no dates: the dates written here are invented, at follow-up number × 30 days after a
fixed first day, and said to be so in StudyDescription and ImageComments.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import chest_dicom
from chest_dicom import uid  # noqa: F401
from PIL import Image

FIRST_DAY = date(2015, 1, 15)
NOTICE = "NIH ChestX-ray14 research image; all dates and times are invented"


def study_day(follow_up: int) -> date:
    return FIRST_DAY + timedelta(days=30 * int(follow_up))


def birth_date(row) -> date:
    """An invented birth date that makes the age of `row` (a line of labels.csv) true on its
    invented day.
    """
    day = study_day(row.follow_up)
    return date(day.year - int(row.age), 1, 1)


def write(image: Path, row, born: date, target: Path) -> None:
    """One DX object from one line of labels.csv."""
    cols, rows = Image.open(image).size
    spacing = row.pixel_spacing_mm * row.original_height / rows, row.pixel_spacing_mm * row.original_width / cols
    patient = f"{row.patient_id:08d}"
    chest_dicom.write(
        chest_dicom.Radiograph(
            image=image,
            patient=patient,
            issuer="NIH-CXR14",
            name=f"NIH^{patient}",
            sex=row.sex,
            view=row.view,
            day=study_day(row.follow_up),
            time="090000",
            study=f"{row.follow_up}",
            institution="NIH Clinical Center",
            notice=NOTICE,
            deidentified="Published de-identified by the NIH Clinical Center",
            derivation="Reduced to 512 x 512, 8 bit",
            compression_ratio="10",
            born=born,
            age=int(row.age),
            spacing=spacing,
        ),
        target,
    )
