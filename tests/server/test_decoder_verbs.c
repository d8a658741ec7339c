/* What decoders decode, in the program that ships: scanning, frames, frames asked for ahead. */
#include "tests/server/decoder_fixture.h"

#include "core/json.h"
#include "server/upload.h"

#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mf_part part_of(const char *path, enum mf_part_kind kind)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    return (struct mf_part){kind, fd, 0, (uint64_t)st.st_size};
}

#define SAMPLE MF_SOURCE_DIR "/tests/data/sample/"

static void a_study_is_scanned_and_its_frames_decoded(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_part parts[] = {part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM),
                              part_of(SAMPLE "ehr.json", MF_PART_EHR),
                              part_of(SAMPLE "dicom/2016-07-08.dcm", MF_PART_DICOM)};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    mf_buffer_init(&text, 16 << 20);
    if (!mf_decoder_scan(f->decoder, parts, 3, &text, &err) ||
        !mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(upload.index->object_count, 2);
    assert_int_equal(upload.index->objects[1].input, 1);
    assert_int_equal(upload.ehr_problem.code, MF_OK);
    assert_int_equal(mf_fhir_patient_count(upload.ehr), 1);

    MF_AUTO(mf_json) json_t *json = mf_index_to_json(upload.index);
    MF_AUTO(mf_mem) char *index = mf_json_text(json, 0);
    const int fds[] = {parts[0].fd, parts[2].fd};
    const struct mf_frame_request wanted[] = {{1, 0}, {0, 0}};
    const struct mf_frames_wanted request = {fds, 2, index, strlen(index), wanted, 2};
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    if (!mf_decoder_frames(f->decoder, &request, &frames, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(frames.count, 2);
    assert_int_equal(frames.frames[0].rows, upload.index->objects[1].rows);
    assert_int_equal(frames.frames[1].columns, upload.index->objects[0].columns);
    for (int i = 0; i < 3; i++)
        close(parts[i].fd);
}

static void fhir_of_another_patient_is_noted_in_the_index(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    const char other[] =
        "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[{\"resource\":"
        "{\"resourceType\":\"Patient\",\"id\":\"x\",\"identifier\":[{\"value\":"
        "\"somebody-else\"}]}}]}";
    int fd = memfd_create("ehr", MFD_CLOEXEC);
    assert_int_equal(write(fd, other, sizeof other - 1), sizeof other - 1);
    struct mf_part parts[] = {part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM),
                              {MF_PART_EHR, fd, 0, sizeof other - 1}};
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    mf_buffer_init(&text, 16 << 20);
    if (!mf_decoder_scan(f->decoder, parts, 2, &text, &err) ||
        !mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(upload.ehr_problem.code, MF_ERR_UNUSABLE);
    assert_null(upload.ehr);
    assert_null(strstr(text.data, "somebody-else")); /* what is not needed is not kept */
    close(parts[0].fd);
    close(fd);
}

static void a_truncated_file_is_malformed(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_part part = part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM);
    part.size /= 2;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, 16 << 20);
    assert_false(mf_decoder_scan(f->decoder, &part, 1, &text, &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
    assert_int_equal(text.len, 0);
    close(part.fd);
}

static void a_frame_that_is_not_there_is_refused(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_part part = part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM);
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    mf_buffer_init(&text, 16 << 20);
    assert_true(mf_decoder_scan(f->decoder, &part, 1, &text, &err));
    assert_true(mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err));
    MF_AUTO(mf_json) json_t *json = mf_index_to_json(upload.index);
    MF_AUTO(mf_mem) char *index = mf_json_text(json, 0);
    const struct mf_frame_request wanted = {0, 1};
    const struct mf_frames_wanted request = {&part.fd, 1, index, strlen(index), &wanted, 1};
    assert_false(mf_decoder_frames(f->decoder, &request, &frames, &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
    close(part.fd);
}

/* A scanned file whose decoder stayed, and what to ask for. */
struct scanned {
    struct mf_part part;
    char *index;
    int connection;
    struct mf_frame_request frame;
    struct mf_frames_wanted wanted;
};

static void scan_and_stay(struct fixture *f, struct scanned *s)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    mf_buffer_init(&text, 16 << 20);
    s->part = part_of(SAMPLE "dicom/2015-03-16.dcm", MF_PART_DICOM);
    s->frame = (struct mf_frame_request){0, 0};
    if (!mf_decoder_scan_and_stay(f->decoder, &s->part, 1, NULL, &text, &s->connection, &err) ||
        !mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err))
        fail_msg("%s", err.msg);
    MF_AUTO(mf_json) json_t *json = mf_index_to_json(upload.index);
    s->index = mf_json_text(json, 0);
    s->wanted = (struct mf_frames_wanted){&s->part.fd, 1, s->index, strlen(s->index), &s->frame, 1};
}

static void end_scanned(struct scanned *s)
{
    free(s->index);
    close(s->part.fd);
}

static void frames_asked_for_ahead_are_taken_over(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct scanned s;
    scan_and_stay(f, &s);
    assert_true(mf_decoder_frames_ahead(s.connection, &s.wanted, &err));
    /* The address leads nowhere: whatever is not taken over cannot be had. */
    MF_AUTO(mf_decoder) struct mf_decoder *other = mf_decoder_new("@nobody", 1, NULL, &err);
    mf_decoder_adopt(other, s.connection);
    MF_AUTO(mf_frame_set) struct mf_frame_set ahead = {0};
    MF_AUTO(mf_frame_set) struct mf_frame_set fresh = {0};
    MF_AUTO(mf_frame_set) struct mf_frame_set none = {0};
    if (!mf_decoder_frames(other, &s.wanted, &ahead, &err) ||
        !mf_decoder_frames(f->decoder, &s.wanted, &fresh, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(ahead.count, 1);
    assert_int_equal(ahead.map_size, fresh.map_size);
    assert_memory_equal(ahead.map, fresh.map, fresh.map_size);
    assert_false(mf_decoder_frames(other, &s.wanted, &none, &err)); /* once only */
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
    end_scanned(&s);
}

static void other_frames_than_those_asked_for_ahead_are_decoded_anew(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct scanned s;
    scan_and_stay(f, &s);
    const struct mf_frame_request twice[] = {{0, 0}, {0, 0}};
    struct mf_frames_wanted wanted = s.wanted;
    wanted.frames = twice;
    wanted.frame_count = 2;
    assert_true(mf_decoder_frames_ahead(s.connection, &s.wanted, &err));
    mf_decoder_adopt(f->decoder, s.connection);
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    assert_true(mf_decoder_frames(f->decoder, &wanted, &frames, &err));
    assert_int_equal(frames.count, 2);
    end_scanned(&s);
}

static void a_decoder_that_is_lost_ahead_costs_nothing(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct scanned s;
    scan_and_stay(f, &s);
    shutdown(s.connection, SHUT_RDWR);
    mf_decoder_adopt(f->decoder, s.connection);
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    if (!mf_decoder_frames(f->decoder, &s.wanted, &frames, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(frames.count, 1);
    end_scanned(&s);
}

static void a_bad_frame_asked_for_ahead_is_refused_when_it_is_needed(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct scanned s;
    scan_and_stay(f, &s);
    s.frame.frame = 1; /* there is only one */
    assert_true(mf_decoder_frames_ahead(s.connection, &s.wanted, &err));
    mf_decoder_adopt(f->decoder, s.connection);
    MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
    assert_false(mf_decoder_frames(f->decoder, &s.wanted, &frames, &err));
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
    end_scanned(&s);
}

/* Scans one file and decodes the first frame of each of its objects; refusals are fine, deaths are
 * not. */
static void decode_file(struct fixture *f, const char *path)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_part part = part_of(path, MF_PART_DICOM);
    MF_AUTO(mf_buffer) struct mf_buffer text;
    MF_AUTO(mf_upload) struct mf_upload upload = {0};
    mf_buffer_init(&text, 16 << 20);
    if (mf_decoder_scan(f->decoder, &part, 1, &text, &err)) {
        assert_true(mf_upload_parse(text.data, text.len, MF_UPLOAD_ALL, &upload, &err));
        MF_AUTO(mf_json) json_t *json = mf_index_to_json(upload.index);
        MF_AUTO(mf_mem) char *index = mf_json_text(json, 0);
        for (uint32_t i = 0; i < upload.index->object_count && err.code == MF_OK; i++) {
            MF_AUTO(mf_frame_set) struct mf_frame_set frames = {0};
            const struct mf_frame_request wanted = {i, 0};
            const struct mf_frames_wanted request = {&part.fd, 1, index, strlen(index), &wanted, 1};
            bool ok = mf_decoder_frames(f->decoder, &request, &frames, &err);
            assert_true(ok || err.code != MF_OK);
        }
    }
    if (err.code == MF_ERR_CRASHED || err.code == MF_ERR_TIMEOUT || err.code == MF_ERR_INTERNAL)
        fail_msg("%s: %s", path, err.msg);
    close(part.fd);
}

static void every_kind_of_file_is_decoded_or_refused_inside_the_sandbox(void **state)
{
    static char root[] = MF_SHARED_DATA "/dicom";
    char *const roots[] = {root, NULL};
    FTS *tree = access(root, R_OK) == 0 ? fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL) : NULL;
    int files = 0;
    if (!tree) {
        print_message("skipped: no ../shared/data\n");
        return;
    }
    for (FTSENT *e; (e = fts_read(tree));)
        if (e->fts_info == FTS_F) {
            decode_file(*state, e->fts_path);
            files++;
        }
    fts_close(tree);
    assert_true(files > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_study_is_scanned_and_its_frames_decoded),
        cmocka_unit_test(fhir_of_another_patient_is_noted_in_the_index),
        cmocka_unit_test(a_truncated_file_is_malformed),
        cmocka_unit_test(a_frame_that_is_not_there_is_refused),
        cmocka_unit_test(frames_asked_for_ahead_are_taken_over),
        cmocka_unit_test(other_frames_than_those_asked_for_ahead_are_decoded_anew),
        cmocka_unit_test(a_decoder_that_is_lost_ahead_costs_nothing),
        cmocka_unit_test(a_bad_frame_asked_for_ahead_is_refused_when_it_is_needed),
        cmocka_unit_test(every_kind_of_file_is_decoded_or_refused_inside_the_sandbox),
    };
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_zygote_set_program(MF_PROGRAM, &err))
        return 1;
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
