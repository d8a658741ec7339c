/*
 * What the report's forms (report.h) have in common: which frames, their pictures, how dates and
 * names are written.
 */
#ifndef MF_SERVER_REPORT_PARTS_H
#define MF_SERVER_REPORT_PARTS_H

#include "server/report.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The result's frames, borrowed. */
const json_t *mf_report_frames(const struct mf_report *report);

/* DICOM's or ISO's date as 2016-07-08; "no date" for NULL. */
void mf_report_date(const char *date, char ret[11]);

/* "Doe^Jane^^" as "Doe, Jane", cut to the room there is. */
void mf_report_person(const char *name, char *ret, size_t size);

/* Positions of the predictions in the order in which they are shown: present ones first, then
 * uncertain, empty and absent ones, the most probable first. `ret` has room for all; returns how
 * many there are. */
size_t mf_report_order(const json_t *predictions, size_t *ret);

/* How a state is called: "neither" for "empty", else itself. */
const char *mf_report_state(const char *state);

/* One frame as an 8-bit PNG whose longer side is at most `side`, and how wide a picture of it is
 * for its height, as pixel spacing says. False without an error when the index does not know it. */
bool mf_report_picture(const struct mf_report *report, const json_t *frame, uint32_t side,
                       struct mf_buffer *png, double *ret_aspect, struct mf_error *err);

#ifdef __cplusplus
}
#endif

#endif
