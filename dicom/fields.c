/* The table of indexed attributes (PS3.6). */
#include "dicom/fields.h"

#include <string.h>

#define FIELD(group, element, vr, kind, member)                                                    \
    {                                                                                              \
#member, (uint32_t)(group) << 16 | (element), #vr, MF_FIELD_##kind,                        \
            offsetof(struct mf_index_object, member)                                               \
    }

const struct mf_field mf_fields[] = {
    {"transfer_syntax", 0, "UI", MF_FIELD_UID, offsetof(struct mf_index_object, transfer_syntax)},
    FIELD(0x0008, 0x0008, CS, CODE, image_type),
    FIELD(0x0008, 0x0016, UI, UID, sop_class_uid),
    FIELD(0x0008, 0x0018, UI, UID, sop_instance_uid),
    FIELD(0x0008, 0x0020, DA, CODE, study_date),
    FIELD(0x0008, 0x0021, DA, CODE, series_date),
    FIELD(0x0008, 0x0022, DA, CODE, acquisition_date),
    FIELD(0x0008, 0x0023, DA, CODE, content_date),
    FIELD(0x0008, 0x002A, DT, CODE, acquisition_datetime),
    FIELD(0x0008, 0x0030, TM, CODE, study_time),
    FIELD(0x0008, 0x0031, TM, CODE, series_time),
    FIELD(0x0008, 0x0032, TM, CODE, acquisition_time),
    FIELD(0x0008, 0x0033, TM, CODE, content_time),
    FIELD(0x0008, 0x0050, SH, TEXT, accession_number),
    FIELD(0x0008, 0x0060, CS, CODE, modality),
    FIELD(0x0008, 0x0068, CS, CODE, presentation_intent),
    FIELD(0x0008, 0x0201, SH, CODE, timezone_offset),
    FIELD(0x0008, 0x0090, PN, TEXT, referring_physician),
    FIELD(0x0008, 0x1030, LO, TEXT, study_description),
    FIELD(0x0008, 0x103E, LO, TEXT, series_description),
    FIELD(0x0010, 0x0010, PN, TEXT, patient_name),
    FIELD(0x0010, 0x0020, LO, TEXT, patient_id),
    FIELD(0x0010, 0x0021, LO, TEXT, patient_id_issuer),
    FIELD(0x0010, 0x0030, DA, CODE, patient_birth_date),
    FIELD(0x0010, 0x0040, CS, CODE, patient_sex),
    FIELD(0x0010, 0x1010, AS, CODE, patient_age),
    FIELD(0x0018, 0x0015, CS, CODE, body_part),
    FIELD(0x0018, 0x5101, CS, CODE, view_position),
    FIELD(0x0020, 0x000D, UI, UID, study_instance_uid),
    FIELD(0x0020, 0x000E, UI, UID, series_instance_uid),
    FIELD(0x0020, 0x0010, SH, TEXT, study_id),
    FIELD(0x0020, 0x0011, IS, INT, series_number),
    FIELD(0x0020, 0x0013, IS, INT, instance_number),
    FIELD(0x0020, 0x0020, CS, CODE, patient_orientation),
    FIELD(0x0020, 0x0052, UI, UID, frame_of_reference_uid),
    FIELD(0x0020, 0x0060, CS, CODE, laterality),
    FIELD(0x0020, 0x0062, CS, CODE, laterality),
    FIELD(0x0028, 0x0002, US, U16, samples_per_pixel),
    FIELD(0x0028, 0x0004, CS, CODE, photometric),
    FIELD(0x0028, 0x0006, US, U16, planar_configuration),
    FIELD(0x0028, 0x0010, US, U16, rows),
    FIELD(0x0028, 0x0011, US, U16, columns),
    FIELD(0x0028, 0x0100, US, U16, bits_allocated),
    FIELD(0x0028, 0x0101, US, U16, bits_stored),
    FIELD(0x0028, 0x0102, US, U16, high_bit),
    FIELD(0x0028, 0x0103, US, U16, pixel_representation),
    FIELD(0x0028, 0x1056, CS, CODE, voi_function),
    FIELD(0x0028, 0x2110, CS, CODE, lossy),
    FIELD(0x0028, 0x2112, DS, CODE, lossy_ratio),
    FIELD(0x0028, 0x2114, CS, CODE, lossy_method),
    FIELD(0x0032, 0x1060, LO, TEXT, requested_procedure),
    FIELD(0x0040, 0x0009, SH, TEXT, scheduled_step_id),
    FIELD(0x0040, 0x1001, SH, TEXT, requested_procedure_id),
    FIELD(0x0040, 0x2016, LO, TEXT, placer_order),
    FIELD(0x0040, 0x2017, LO, TEXT, filler_order),
    FIELD(0x2050, 0x0020, CS, CODE, presentation_lut_shape),
};

const size_t mf_field_count = sizeof mf_fields / sizeof *mf_fields;

bool mf_uid_valid(const char *uid)
{
    size_t n = strlen(uid);
    return n >= 1 && n <= 64 && strspn(uid, "0123456789.") == n;
}
