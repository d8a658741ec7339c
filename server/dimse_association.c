/*
 * DIMSE: one association. Objects are received straight into a pack, one after the other; after
 * each the pack is made durable while the object is hashed and a decoder says what it is, then it
 * is committed, and only then answered with success. Objects of one association share packs of
 * moderate size. A request for storage commitment is answered from the store.
 */
#include "server/dimse.h"

#include "core/log.h"
#include "dicom/net.h"
#include "dicom/part10.h"
#include "server/courier_commit.h"
#include "server/deidentify.h"
#include "server/dimse_commitment.h"
#include "server/intake.h"

#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, ADDRESS = 64, ARENA_BYTES = 16 << 20, HEADER_BYTES = 4096 };

static const uint64_t PACK_BYTES = UINT64_C(256) << 20; /* a larger one is not appended to */

struct association {
    const struct mf_config *config;
    char address[ADDRESS], calling[MF_NET_AE], source[2 * MF_NET_AE + 8];
    struct mf_decoder *decoder;
    struct mf_blobs *blobs;
    struct mf_intake intake;
    struct mf_deidentify_rules rules; /* when deidentify.stored is on */
    struct mf_pack *pack;             /* NULL = none is open */
    bool kept;                        /* the pack holds something that is stored */
    size_t objects;                   /* in the pack, whole ones */

    struct mf_net_object object; /* the one being received */
    uint64_t received;
    struct mf_error problem; /* why it cannot be stored */
    int64_t stored, refused;
};

/* --- allow-list --- */

bool mf_dimse_allowed(const struct mf_string_list *allow, const char *ae, const char *address)
{
    for (size_t i = 0; i < allow->count; i++) {
        const char *entry = allow->items[i];
        size_t name = strcspn(entry, "@");
        if (strcmp(entry, "*") == 0)
            return true;
        if (strlen(ae) == name && memcmp(ae, entry, name) == 0 &&
            (!entry[name] || strcmp(entry + name + 1, address) == 0))
            return true;
    }
    return false;
}

/* The parts of an AE title that are printable, for the log and the audit trail. */
static void copy_title(char out[MF_NET_AE], const char *title)
{
    size_t n = 0;
    for (const char *s = title; *s && n + 1 < MF_NET_AE; s++)
        if (*s >= ' ' && *s < 127 && *s != '\\')
            out[n++] = *s;
    out[n] = '\0';
}

static bool is_listed(const struct mf_string_list *list, const char *title)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], title) == 0)
            return true;
    return false;
}

static enum mf_net_admission admit(void *context, const char *calling, const char *called)
{
    struct association *a = context;
    copy_title(a->calling, calling);
    bool main = strcmp(called, a->config->dimse.ae_title) == 0;
    snprintf(a->source, sizeof a->source, "dimse:%s%s%s", a->calling, main ? "" : "\\",
             main ? "" : called); /* one of ours, see routing.h */
    if (!main && !is_listed(&a->config->dimse.called, called))
        return MF_NET_REJECT_CALLED;
    return mf_dimse_allowed(&a->config->dimse.allow, calling, a->address) ? MF_NET_ADMIT
                                                                          : MF_NET_REJECT_CALLING;
}

/* --- receiving --- */

static void close_pack(struct association *a)
{
    if (a->pack && a->kept)
        mf_pack_keep(a->pack);
    mf_pack_free(a->pack);
    a->pack = NULL;
    a->kept = false;
}

static bool begin(struct association *a, const struct mf_net_object *object, struct mf_error *err)
{
    struct mf_part10 meta = {object->sop_class, object->sop_instance, object->transfer_syntax,
                             a->calling};
    MF_AUTO(mf_buffer) struct mf_buffer header;
    mf_buffer_init(&header, HEADER_BYTES);
    if (!mf_blobs_have_room(a->blobs, 0, err))
        return false;
    if (!a->pack) {
        if (!(a->pack = mf_pack_new(a->blobs, err)))
            return false;
        mf_pack_hash_apart(a->pack);
        a->objects = 0;
    }
    return mf_pack_begin(a->pack, err) && mf_part10_header(&meta, &header, err) &&
           mf_pack_write(a->pack, header.data, header.len, err);
}

static void store_begin(void *context, const struct mf_net_object *object)
{
    struct association *a = context;
    mf_error_clear(&a->problem);
    a->object = *object;
    a->received = 0;
    /* What a request of ours has fetched by C-MOVE becomes that request's job, and no other. */
    a->intake.quiet_ms = strcmp(object->move_originator, a->config->dimse.ae_title) == 0
                             ? MF_STORE_NOT_DUE
                             : a->config->intake.quiet_s * 1000;
    (void)begin(a, object, &a->problem); /* its failure is the object's problem */
}

static void store_data(void *context, const void *data, size_t len)
{
    struct association *a = context;
    uint64_t most = (uint64_t)a->config->dimse.max_object_bytes;
    a->received += len;
    if (a->problem.code != MF_OK)
        return; /* the rest is read and dropped, so that the peer hears the status */
    if (a->received > most)
        mf_error_set(&a->problem, MF_ERR_TOO_LARGE, "the object has more than %" PRIu64 " bytes",
                     most);
    else if (!mf_pack_write(a->pack, data, len, &a->problem))
        return; /* noted in the problem */
}

/* --- storing --- */

/* What the command announced is what the data set is (PS3.4 B.2.3, status A900). */
static void check_announced(const struct association *a, struct mf_intake_item *item)
{
    const char *const *v = item->description.instance.values;
    if (item->status != MF_DICOM_SUCCESS ||
        (strcmp(v[MF_SOP_CLASS_UID], a->object.sop_class) == 0 &&
         strcmp(v[MF_SOP_INSTANCE_UID], a->object.sop_instance) == 0))
        return;
    mf_error_set(&item->description.problem, MF_ERR_UNUSABLE,
                 "the data set is not the object that the command announced");
    item->status = MF_DICOM_MISMATCH;
}

static bool store(struct association *a, struct mf_intake_item *item, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(ARENA_BYTES);
    bool kept = false;
    int fd;
    if (!arena)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an object");
    if (!mf_pack_end(a->pack, &item->place, err) || (fd = mf_pack_flush(a->pack, err)) < 0)
        return false;
    mf_pack_begin_sync(a->pack); /* it goes to the disk while a decoder reads it */
    bool described = mf_intake_describe(&a->intake, fd, item, 1, arena, err);
    if (!mf_pack_digest(a->pack, a->objects++, item->place.sha256, err) ||
        !mf_pack_sync(a->pack, err) || !described)
        return false;
    check_announced(a, item);
    struct mf_error failure = MF_ERROR_INIT;
    bool ok = mf_intake_commit(&a->intake, mf_pack_name(a->pack), item, 1, &kept, &failure);
    if (kept || failure.code == MF_ERR_IO) /* IO: it may be committed, the sweep decides later */
        a->kept = true;
    if (!ok)
        return mf_error_set(err, failure.code, "%s", failure.msg);
    if (item->status != MF_DICOM_SUCCESS)
        return mf_error_set(err, item->description.problem.code, "%s",
                            item->description.problem.msg);
    return true;
}

static uint16_t store_end(void *context, bool whole, const char **ret_reason)
{
    struct association *a = context;
    struct mf_intake_item item = {.status = MF_DICOM_SUCCESS};
    bool ok = whole && a->problem.code == MF_OK && store(a, &item, &a->problem);
    if (ok) {
        a->stored++;
    } else {
        a->refused++;
        *ret_reason = a->problem.msg;
        mf_log(MF_LOG_WARN, "dimse.refused", MF_LOG_S("calling", a->calling),
               MF_LOG_S("reason", whole ? a->problem.msg : "the association broke"));
    }
    bool disk = a->problem.code == MF_ERR_IO || a->problem.code == MF_ERR_UNAVAILABLE;
    bool half = item.place.size == 0; /* something unfinished lies at its end */
    bool full = item.place.offset + item.place.size > PACK_BYTES;
    if (a->pack && (half || disk || full || !mf_pack_goes_on(a->pack)))
        close_pack(a);
    return (uint16_t)(ok                                ? MF_DICOM_SUCCESS
                      : item.status != MF_DICOM_SUCCESS ? item.status
                                                        : mf_intake_status(a->problem.code));
}

/* --- storage commitment --- */

static bool commit(void *context, struct mf_commitment *commitment)
{
    struct association *a = context;
    struct mf_error err = MF_ERROR_INIT;
    bool ok =
        mf_dimse_commit(a->intake.store, a->intake.tenant, a->intake.deidentify, commitment, &err);
    size_t failed = 0;
    for (size_t i = 0; i < commitment->count; i++)
        failed += commitment->items[i].reason != MF_COMMITTED;
    mf_log(ok ? MF_LOG_INFO : MF_LOG_WARN, "dimse.commitment", MF_LOG_S("calling", a->calling),
           MF_LOG_I("objects", (int64_t)commitment->count),
           MF_LOG_I("missing", ok ? (int64_t)failed : -1), MF_LOG_S("reason", err.msg));
    return ok;
}

static bool report(void *context, const struct mf_commitment *commitment)
{
    struct association *a = context;
    struct mf_dicom_address to;
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_dimse_report_address(a->config, a->calling, &to))
        return false;
    const struct mf_net_peer peer =
        mf_dicom_address_peer(&to, a->config, a->config->dimse.timeout_s);
    bool ok = mf_net_report(&peer, commitment, &err);
    if (!ok)
        mf_log(MF_LOG_WARN, "dimse.report_failed", MF_LOG_S("calling", a->calling),
               MF_LOG_S("reason", err.msg));
    return ok; /* what cannot be reported there is reported here */
}

static void reported(void *context, uint16_t status)
{
    const struct association *a = context;
    if (status != 0)
        mf_log(MF_LOG_WARN, "dimse.report_refused", MF_LOG_S("calling", a->calling),
               MF_LOG_I("status", status));
}

static uint16_t event(void *context, const struct mf_commitment *commitment)
{
    const struct association *a = context;
    struct mf_error err = MF_ERROR_INIT;
    if (mf_courier_commit_report(a->config, a->intake.store, commitment, &err))
        return MF_DICOM_SUCCESS;
    mf_log(MF_LOG_WARN, "dimse.event_refused", MF_LOG_S("calling", a->calling),
           MF_LOG_S("reason", err.msg));
    return err.code == MF_ERR_NOT_FOUND ? MF_COMMITMENT_NO_SUCH_OBJECT : MF_COMMITMENT_FAILURE;
}

/* --- the whole --- */

static bool open_association(struct association *a, const struct mf_dimse_options *o,
                             struct mf_error *err)
{
    const struct mf_config *config = o->config;
    const char *directory = config->data.directory;
    const struct mf_decoder_limits limits = mf_decoder_limits_of(config);
    a->config = config;
    a->intake = (struct mf_intake){
        .tenant = config->dimse.tenant, .source = a->source, .sender = "the peer"};
    if (mf_deidentify_stores(config)) {
        if (!mf_deidentify_configured(config, &a->rules, err))
            return false;
        a->intake.deidentify = &a->rules;
    }
    if (!(a->decoder = mf_decoder_new(o->decoder_address, 1, &limits, err)) ||
        !(a->blobs =
              mf_blobs_open_configured(config, (uint64_t)config->data.min_free_bytes, err)) ||
        !(a->intake.store = mf_store_connect(directory, PATIENCE_MS, err)))
        return false;
    a->intake.blobs = a->blobs;
    a->intake.decoder = a->decoder;
    a->intake.describer = (struct mf_describer){mf_intake_describe_by_decoder, a->decoder};
    return true;
}

static void note_address(struct association *a, int socket)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof address;
    if (getpeername(socket, (struct sockaddr *)&address, &len) != 0 ||
        getnameinfo((const struct sockaddr *)&address, len, a->address, sizeof a->address, NULL, 0,
                    NI_NUMERICHOST) != 0)
        a->address[0] = '\0';
}

static const char *file_or_null(const char *setting)
{
    return strcmp(setting, "off") == 0 ? NULL : setting;
}

bool mf_dimse_association_run(const struct mf_dimse_options *o, int socket, struct mf_error *err)
{
    static const struct mf_net_handler handler = {admit,  store_begin, store_data, store_end,
                                                  commit, report,      reported,   event};
    const struct mf_config *config = o->config;
    const struct mf_net_options options = {.max_pdu = (uint32_t)config->dimse.max_pdu,
                                           .timeout_s = (int)config->dimse.timeout_s,
                                           .min_byte_rate = config->http.min_body_rate,
                                           .tls = {file_or_null(config->dimse.tls_certificate),
                                                   file_or_null(config->dimse.tls_key),
                                                   file_or_null(config->dimse.tls_ca)}};
    struct association a = {.stored = 0};
    signal(SIGPIPE, SIG_IGN);
    note_address(&a, socket);
    bool ok = open_association(&a, o, err);
    if (ok)
        ok = mf_net_serve(socket, &options, &handler, &a, err);
    else
        close(socket);
    mf_log(ok ? MF_LOG_INFO : MF_LOG_WARN, "dimse.association", MF_LOG_S("calling", a.calling),
           MF_LOG_S("address", a.address), MF_LOG_I("stored", a.stored),
           MF_LOG_I("refused", a.refused), MF_LOG_S("end", ok ? "released" : err->msg));
    close_pack(&a);
    mf_store_free(a.intake.store);
    mf_blobs_free(a.blobs);
    mf_decoder_free(a.decoder);
    return ok;
}
