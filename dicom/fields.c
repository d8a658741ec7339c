/* The table of indexed attributes (PS3.6). */
#include "dicom/fields.h"

#include <string.h>

#define FIELD(group, element, kind, member)                                                        \
    {                                                                                              \
#member, (uint32_t)(group) << 16 | (element), MF_FIELD_##kind,                             \
            offsetof(struct mf_index_object, member)                                               \
    }

const struct mf_field mf_fields[] = {
    {"transfer_syntax", 0, MF_FIELD_UID, offsetof(struct mf_index_object, transfer_syntax)},
    FIELD(0x0008, 0x0008, CODE, image_type),
    FIELD(0x0008, 0x0016, UID, sop_class_uid),
    FIELD(0x0008, 0x0018, UID, sop_instance_uid),
    FIELD(0x0008, 0x0020, CODE, study_date),
    FIELD(0x0008, 0x0021, CODE, series_date),
    FIELD(0x0008, 0x0022, CODE, acquisition_date),
    FIELD(0x0008, 0x0023, CODE, content_date),
    FIELD(0x0008, 0x002A, CODE, acquisition_datetime),
    FIELD(0x0008, 0x0030, CODE, study_time),
    FIELD(0x0008, 0x0031, CODE, series_time),
    FIELD(0x0008, 0x0032, CODE, acquisition_time),
    FIELD(0x0008, 0x0033, CODE, content_time),
    FIELD(0x0008, 0x0050, TEXT, accession_number),
    FIELD(0x0008, 0x0060, CODE, modality),
    FIELD(0x0008, 0x0068, CODE, presentation_intent),
    FIELD(0x0008, 0x0201, CODE, timezone_offset),
    FIELD(0x0008, 0x0090, TEXT, referring_physician),
    FIELD(0x0008, 0x1030, TEXT, study_description),
    FIELD(0x0010, 0x0010, TEXT, patient_name),
    FIELD(0x0010, 0x0020, TEXT, patient_id),
    FIELD(0x0010, 0x0021, TEXT, patient_id_issuer),
    FIELD(0x0010, 0x0030, CODE, patient_birth_date),
    FIELD(0x0010, 0x0040, CODE, patient_sex),
    FIELD(0x0010, 0x1010, CODE, patient_age),
    FIELD(0x0018, 0x0015, CODE, body_part),
    FIELD(0x0018, 0x5101, CODE, view_position),
    FIELD(0x0020, 0x000D, UID, study_instance_uid),
    FIELD(0x0020, 0x000E, UID, series_instance_uid),
    FIELD(0x0020, 0x0010, TEXT, study_id),
    FIELD(0x0020, 0x0011, INT, series_number),
    FIELD(0x0020, 0x0013, INT, instance_number),
    FIELD(0x0020, 0x0020, CODE, patient_orientation),
    FIELD(0x0020, 0x0052, UID, frame_of_reference_uid),
    FIELD(0x0020, 0x0060, CODE, laterality),
    FIELD(0x0020, 0x0062, CODE, laterality),
    FIELD(0x0028, 0x0002, U16, samples_per_pixel),
    FIELD(0x0028, 0x0004, CODE, photometric),
    FIELD(0x0028, 0x0006, U16, planar_configuration),
    FIELD(0x0028, 0x0010, U16, rows),
    FIELD(0x0028, 0x0011, U16, columns),
    FIELD(0x0028, 0x0100, U16, bits_allocated),
    FIELD(0x0028, 0x0101, U16, bits_stored),
    FIELD(0x0028, 0x0102, U16, high_bit),
    FIELD(0x0028, 0x0103, U16, pixel_representation),
    FIELD(0x0028, 0x1056, CODE, voi_function),
    FIELD(0x0028, 0x2110, CODE, lossy),
    FIELD(0x0028, 0x2112, CODE, lossy_ratio),
    FIELD(0x0028, 0x2114, CODE, lossy_method),
    FIELD(0x0032, 0x1060, TEXT, requested_procedure),
    FIELD(0x0040, 0x0009, TEXT, scheduled_step_id),
    FIELD(0x0040, 0x1001, TEXT, requested_procedure_id),
    FIELD(0x0040, 0x2016, TEXT, placer_order),
    FIELD(0x0040, 0x2017, TEXT, filler_order),
    FIELD(0x2050, 0x0020, CODE, presentation_lut_shape),
};

const size_t mf_field_count = sizeof mf_fields / sizeof *mf_fields;

bool mf_uid_valid(const char *uid)
{
    size_t n = strlen(uid);
    return n >= 1 && n <= 64 && strspn(uid, "0123456789.") == n;
}
