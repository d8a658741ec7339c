/*
 * Intake: from objects in a pack to stored instances, for everything that receives (STOW-RS,
 * C-STORE, fetching).
 *
 * First mf_intake_describe(): a sandboxed decoder says what each object is. Then the pack is made
 * durable, and mf_intake_commit() stores in one transaction what can be stored. Each object ends
 * with a DICOM status; only success means that it is kept.
 */
#ifndef MF_SERVER_INTAKE_H
#define MF_SERVER_INTAKE_H

#include "server/blobs.h"
#include "server/describe.h"
#include "server/store_instances.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Statuses of C-STORE and failure reasons of STOW-RS (PS3.4 B.2.3, PS3.7 C, PS3.18 I.2.2). */
enum mf_dicom_status {
    MF_DICOM_SUCCESS = 0x0000,
    MF_DICOM_PROCESSING_FAILURE = 0x0110,
    MF_DICOM_DUPLICATE = 0x0111, /* other bytes are stored under this SOP Instance UID */
    MF_DICOM_CLASS_NOT_SUPPORTED = 0x0122,
    MF_DICOM_NOT_AUTHORIZED = 0x0124,
    MF_DICOM_OUT_OF_RESOURCES = 0xA700,
    MF_DICOM_MISMATCH = 0xA900, /* not what was announced; another patient's study */
    MF_DICOM_CANNOT_UNDERSTAND = 0xC000,
    MF_DICOM_SYNTAX_NOT_SUPPORTED = 0xC122
};

/* Describes objects; mf_describe() with its decoder, or a test's stand-in. */
struct mf_describer {
    bool (*describe)(void *context, const char *sender, const struct mf_part *parts, size_t n,
                     struct mf_arena *arena, struct mf_description *ret, struct mf_error *err);
    void *context;
};

/* A describer's function whose context is a struct mf_decoder. */
bool mf_intake_describe_by_decoder(void *decoder, const char *sender, const struct mf_part *parts,
                                   size_t n, struct mf_arena *arena, struct mf_description *ret,
                                   struct mf_error *err);

struct mf_decoder;
struct mf_deidentify_rules;

struct mf_intake {
    struct mf_describer describer;
    const struct mf_blobs *blobs;
    struct mf_store *store;
    const char *tenant, *source; /* source: struct mf_stored */
    const char *sender;          /* mf_describe(): whose objects they are */
    int64_t quiet_ms; /* a study is complete when nothing came for so long; MF_STORE_NOT_DUE */
    /* Objects are de-identified before they are stored; NULL: they are stored as they came. */
    const struct mf_deidentify_rules *deidentify;
    struct mf_decoder *decoder; /* that does it */
};

struct mf_intake_item {
    struct mf_pack_member place;
    struct mf_description description; /* its problem says why the status is what it is */
    enum mf_dicom_status status;
};

/* Fills the descriptions of objects that lie in `fd` (their pack, flushed), and the status of those
 * that cannot be stored. False only when none could be described. */
bool mf_intake_describe(const struct mf_intake *intake, int fd, struct mf_intake_item *items,
                        size_t n, struct mf_arena *arena, struct mf_error *err) MF_CHECK_RESULT;

/* Stores what has the status success; with `deidentify` other objects, made of them in a pack of
 * their own, while the items tell what came. The pack `locator` must be durable; it must be kept
 * when *ret_kept says so (something of it is stored), or when this fails with MF_ERR_IO (it may
 * be). */
bool mf_intake_commit(const struct mf_intake *intake, const char *locator,
                      struct mf_intake_item *items, size_t n, bool *ret_kept,
                      struct mf_error *err) MF_CHECK_RESULT;

/* Private: appends the objects with the status success, de-identified, to `pack` and makes it
 * durable; ret[i] is the i-th of them as it lies there. An object that cannot be de-identified gets
 * its status and problem, and so does ret[i]. Memory of the arena. */
bool mf_intake_deidentify(const struct mf_intake *intake, const char *locator,
                          struct mf_intake_item *items, size_t n, struct mf_pack *pack,
                          struct mf_arena *arena, struct mf_intake_item *ret,
                          struct mf_error *err) MF_CHECK_RESULT;

/* The status that tells a sender about an error. */
enum mf_dicom_status mf_intake_status(enum mf_code code);

#ifdef __cplusplus
}
#endif

#endif
