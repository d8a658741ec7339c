/* See dicom_row.h. */
#include "server/dicom_row.h"

const json_t *mf_dicom_row_values(const json_t *object, const char *tag)
{
    return json_object_get(json_object_get(object, tag), "Value");
}

const char *mf_dicom_row_text(const json_t *object, const char *tag)
{
    const char *text = json_string_value(json_array_get(mf_dicom_row_values(object, tag), 0));
    return text ? text : "";
}

const json_t *mf_dicom_row_item(const json_t *object, const char *tag, size_t n)
{
    const json_t *item = json_array_get(mf_dicom_row_values(object, tag), n);
    return json_is_object(item) ? item : NULL;
}
