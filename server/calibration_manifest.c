/* The manifest of `medfusion calibrate`: see calibration_manifest.h. */
#include "server/calibration_manifest.h"

#include "core/arena.h"
#include "server/csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct mf_manifest {
    struct mf_csv *csv;
    struct mf_arena *arena; /* everything below */
    struct mf_manifest_row *rows;
    size_t row_count;
    struct mf_manifest_patient *patients;
    size_t patient_count;
};

/* Column numbers; −1 = absent. */
struct columns {
    long path, patient_id, ehr, group;
    long *labels; /* one per label of the bundle */
};

static bool is_known(const char *name, const struct mf_bundle *bundle)
{
    static const char *const FIXED[] = {"path", "patient_id", "ehr", "group"};
    for (size_t i = 0; i < sizeof FIXED / sizeof *FIXED; i++)
        if (strcmp(name, FIXED[i]) == 0)
            return true;
    for (size_t i = 0; i < mf_bundle_label_count(bundle); i++)
        if (strcmp(name, mf_bundle_labels(bundle)[i].id) == 0)
            return true;
    return false;
}

static bool find_columns(const struct mf_manifest *m, const char *file,
                         const struct mf_bundle *bundle, bool unlabelled, struct columns *c,
                         struct mf_error *err)
{
    for (size_t i = 0; i < mf_csv_columns(m->csv); i++)
        if (!is_known(mf_csv_header(m->csv, i), bundle))
            return mf_error_set(
                err, MF_ERR_UNUSABLE,
                "%s: column \"%.40s\" is neither path, patient_id, ehr, group nor a "
                "label of the model",
                file, mf_csv_header(m->csv, i));
    c->path = mf_csv_find(m->csv, "path");
    c->patient_id = mf_csv_find(m->csv, "patient_id");
    c->ehr = mf_csv_find(m->csv, "ehr");
    c->group = mf_csv_find(m->csv, "group");
    if (c->path < 0 || c->patient_id < 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "%s: no column \"%s\"", file,
                            c->path < 0 ? "path" : "patient_id");
    c->labels = mf_arena_alloc(m->arena, mf_bundle_label_count(bundle), sizeof *c->labels, err);
    if (!c->labels)
        return false;
    bool any = false;
    for (size_t i = 0; i < mf_bundle_label_count(bundle); i++) {
        c->labels[i] = mf_csv_find(m->csv, mf_bundle_labels(bundle)[i].id);
        any |= c->labels[i] >= 0;
    }
    return any || unlabelled ||
           mf_error_set(err, MF_ERR_UNUSABLE, "%s: no label of the model", file);
}

/* A path of the CSV, seen from here. */
static char *resolve(struct mf_manifest *m, const char *file, const char *path,
                     struct mf_error *err)
{
    const char *slash = strrchr(file, '/');
    if (*path == '/' || !slash)
        return mf_arena_strdup(m->arena, path, err);
    return mf_arena_printf(m->arena, err, "%.*s/%s", (int)(slash - file), file, path);
}

static bool read_truth(const char *text, int8_t *ret)
{
    if (strcmp(text, "1") == 0 || strcmp(text, "1.0") == 0)
        *ret = 1;
    else if (strcmp(text, "0") == 0 || strcmp(text, "0.0") == 0)
        *ret = 0;
    else if (!*text)
        *ret = -1;
    else
        return false;
    return true;
}

static bool read_row(struct mf_manifest *m, const char *file, const struct columns *c, size_t i,
                     size_t label_count, struct mf_error *err)
{
    struct mf_manifest_row *row = &m->rows[i];
    const char *path = mf_csv_field(m->csv, i, (size_t)c->path);
    const char *ehr = c->ehr < 0 ? "" : mf_csv_field(m->csv, i, (size_t)c->ehr);
    const char *group = c->group < 0 ? "" : mf_csv_field(m->csv, i, (size_t)c->group);
    row->number = i + 1;
    row->group = *group ? group : NULL;
    row->patient_id = mf_csv_field(m->csv, i, (size_t)c->patient_id);
    row->truth = mf_arena_alloc(m->arena, label_count, 1, err);
    if (!*path || !*row->patient_id)
        return mf_error_set(err, MF_ERR_MALFORMED, "%s: row %zu: %s is blank", file, i + 1,
                            *path ? "patient_id" : "path");
    if (!row->truth || !(row->path = resolve(m, file, path, err)) ||
        (*ehr && !(row->ehr = resolve(m, file, ehr, err))))
        return false;
    for (size_t k = 0; k < label_count; k++) {
        row->truth[k] = -1;
        if (c->labels[k] >= 0 &&
            !read_truth(mf_csv_field(m->csv, i, (size_t)c->labels[k]), &row->truth[k]))
            return mf_error_set(err, MF_ERR_MALFORMED, "%s: row %zu, column %s: not 1, 0 or blank",
                                file, i + 1, mf_csv_header(m->csv, (size_t)c->labels[k]));
    }
    return true;
}

static int by_patient(const void *a, const void *b)
{
    const struct mf_manifest_row *x = a, *y = b;
    int order = strcmp(x->patient_id, y->patient_id);
    return order ? order : (x->number > y->number) - (x->number < y->number);
}

static bool group_rows(struct mf_manifest *m, struct mf_error *err)
{
    m->patients = mf_arena_alloc(m->arena, m->row_count, sizeof *m->patients, err);
    if (!m->patients)
        return false;
    qsort(m->rows, m->row_count, sizeof *m->rows, by_patient);
    for (size_t i = 0; i < m->row_count; i++) {
        if (i && strcmp(m->rows[i].patient_id, m->rows[i - 1].patient_id) == 0)
            m->patients[m->patient_count - 1].row_count++;
        else
            m->patients[m->patient_count++] = (struct mf_manifest_patient){&m->rows[i], 1};
    }
    return true;
}

static bool read_all(struct mf_manifest *m, const char *path, const struct mf_bundle *bundle,
                     bool unlabelled, struct mf_error *err)
{
    struct columns columns = {-1, -1, -1, -1, NULL};
    if (!find_columns(m, path, bundle, unlabelled, &columns, err) || !columns.labels)
        return false;
    m->row_count = mf_csv_rows(m->csv);
    if (m->row_count == 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "%s: no rows", path);
    m->rows = mf_arena_alloc(m->arena, m->row_count, sizeof *m->rows, err);
    for (size_t i = 0; m->rows && i < m->row_count; i++)
        if (!read_row(m, path, &columns, i, mf_bundle_label_count(bundle), err))
            return false;
    return m->rows && group_rows(m, err);
}

struct mf_manifest *mf_manifest_read(const char *path, const struct mf_bundle *bundle,
                                     bool unlabelled, struct mf_error *err)
{
    struct mf_manifest *m = calloc(1, sizeof *m);
    if (!m || !(m->arena = mf_arena_new(1U << 30)))
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    else if ((m->csv = mf_csv_read(path, err)) && read_all(m, path, bundle, unlabelled, err))
        return m;
    mf_manifest_free(m);
    return NULL;
}

void mf_manifest_free(struct mf_manifest *m)
{
    if (!m)
        return;
    mf_arena_free(m->arena);
    mf_csv_free(m->csv);
    free(m);
}

const struct mf_manifest_patient *mf_manifest_patients(const struct mf_manifest *m, size_t *count)
{
    *count = m->patient_count;
    return m->patients;
}

static bool take_prevalence(const struct mf_csv *csv, const char *path, size_t row, long columns[2],
                            const struct mf_bundle *bundle, double *ret, struct mf_error *err)
{
    const char *label = mf_csv_field(csv, row, (size_t)columns[0]);
    const char *text = mf_csv_field(csv, row, (size_t)columns[1]);
    size_t i = 0;
    char *end;
    while (i < mf_bundle_label_count(bundle) && strcmp(mf_bundle_labels(bundle)[i].id, label) != 0)
        i++;
    if (i == mf_bundle_label_count(bundle))
        return mf_error_set(err, MF_ERR_UNUSABLE, "%s: row %zu: \"%.40s\" is no label of the model",
                            path, row + 1, label);
    double value = strtod(text, &end);
    if (!*text || *end || !(value > 0 && value < 1))
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "%s: row %zu, column prevalence: not a number above 0 and below 1",
                            path, row + 1);
    ret[i] = value;
    return true;
}

bool mf_manifest_read_prevalence(const char *path, const struct mf_bundle *bundle, double *ret,
                                 struct mf_error *err)
{
    struct mf_csv *csv = mf_csv_read(path, err);
    if (!csv)
        return false;
    long columns[2] = {mf_csv_find(csv, "label"), mf_csv_find(csv, "prevalence")};
    bool ok = columns[0] >= 0 && columns[1] >= 0;
    if (!ok)
        mf_error_set(err, MF_ERR_UNUSABLE, "%s: no column \"%s\"", path,
                     columns[0] < 0 ? "label" : "prevalence");
    for (size_t i = 0; i < mf_bundle_label_count(bundle); i++)
        ret[i] = NAN;
    for (size_t row = 0; ok && row < mf_csv_rows(csv); row++)
        ok = take_prevalence(csv, path, row, columns, bundle, ret, err);
    mf_csv_free(csv);
    return ok;
}
