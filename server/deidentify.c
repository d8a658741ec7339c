/* De-identification: the client's side, and the configuration. The answers come from a process that
 * hostile bytes may own: a file descriptor whose bytes are copied, never mapped. */
#include "server/deidentify.h"

#include "server/courier_push.h"
#include "server/courier_webhook.h"
#include "server/decoder_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECRET_BYTES = 4096 };

/* ---- the call ---- */

static bool copy_answer(int fd, struct mf_buffer *ret, struct mf_error *err)
{
    enum { PIECE = 1 << 20 };
    MF_AUTO(mf_mem) char *piece = malloc(PIECE);
    if (!piece)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an object");
    for (off_t at = 0;;) {
        ssize_t n = pread(fd, piece, PIECE, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mf_error_set(err, MF_ERR_CRASHED, "the decoder's answer cannot be read");
        if (n == 0)
            return at > 0 || mf_error_set(err, MF_ERR_CRASHED, "the decoder's answer is empty");
        if (!mf_buffer_append(ret, piece, (size_t)n, err))
            return false;
        at += n;
    }
}

bool mf_deidentify_part(struct mf_decoder *decoder, const struct mf_part *part,
                        const struct mf_deidentify_rules *rules, struct mf_buffer *ret,
                        struct mf_error *err)
{
    const struct mf_decoder_call call = {.verb = MF_VERB_DEIDENTIFY,
                                         .parts = part,
                                         .part_count = 1,
                                         .index = (const char *)rules,
                                         .index_len = sizeof *rules};
    MF_AUTO(mf_message) struct mf_message answer;
    if (!mf_decoder_do(decoder, &call, &answer, err))
        return false;
    if (answer.fd_count != 1)
        return mf_error_set(err, MF_ERR_CRASHED, "the decoder's answer is incomplete");
    return copy_answer(answer.fds[0], ret, err);
}

bool mf_deidentify_buffer(struct mf_decoder *decoder, const struct mf_deidentify_rules *rules,
                          struct mf_buffer *file, struct mf_error *err)
{
    MF_AUTO(mf_fd) int fd = memfd_create("object", MFD_CLOEXEC);
    size_t done = 0;
    while (fd >= 0 && done < file->len) {
        ssize_t n = write(fd, file->data + done, file->len - done);
        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    if (fd < 0 || done < file->len)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for an object");
    const struct mf_part part = {MF_PART_DICOM, fd, 0, file->len};
    file->len = 0;
    return mf_deidentify_part(decoder, &part, rules, file, err);
}

/* ---- the configuration ---- */

bool mf_deidentify_load(const char *secret_file, const char *dates, const char *characteristics,
                        struct mf_deidentify_rules *ret, struct mf_error *err)
{
    char secret[SECRET_BYTES];
    MF_AUTO(mf_fd) int fd = open(secret_file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, secret, sizeof secret);
    if (n < 0)
        return mf_error_set(err, errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO, "%s: %s",
                            secret_file, strerror(errno));
    bool keep = strcmp(characteristics, "keep") == 0;
    if (!keep && strcmp(characteristics, "remove") != 0)
        return mf_error_set(err, MF_ERR_USAGE, "characteristics: must be remove or keep");
    while (n > 0 && (secret[n - 1] == '\n' || secret[n - 1] == '\r'))
        n--;
    bool ok = mf_deidentify_rules_make(secret, (size_t)n, dates, keep, ret, err);
    explicit_bzero(secret, sizeof secret);
    return ok;
}

/* Whether a list of addresses between spaces holds this one. */
static bool is_listed(const char *list, const char *address)
{
    size_t len = strlen(address);
    for (const char *at = list; *(at += strspn(at, " ")); at += strcspn(at, " "))
        if (strcspn(at, " ") == len && memcmp(at, address, len) == 0)
            return true;
    return false;
}

bool mf_deidentify_wants(const struct mf_config *config, const char *destination)
{
    return strcmp(config->outbox.deidentify, "off") != 0 &&
           is_listed(config->outbox.deidentify, destination);
}

/* Without the tenant's name, which may stand before an address of outbox.destinations. */
static bool is_destination(const char *list, const char *address)
{
    for (const char *at = list; *(at += strspn(at, " ")); at += strcspn(at, " ")) {
        char entry[MF_DESTINATION];
        snprintf(entry, sizeof entry, "%.*s", (int)strcspn(at, " "), at);
        size_t name = strcspn(entry, "=:/");
        if (strcmp(entry[name] == '=' ? entry + name + 1 : entry, address) == 0)
            return true;
    }
    return false;
}

bool mf_deidentify_configure(const struct mf_config *config, struct mf_deidentify_rules *ret,
                             struct mf_error *err)
{
    const char *list = config->outbox.deidentify;
    if (strcmp(list, "off") == 0)
        return true;
    for (const char *at = list; *(at += strspn(at, " ")); at += strcspn(at, " ")) {
        char address[MF_DESTINATION];
        snprintf(address, sizeof address, "%.*s", (int)strcspn(at, " "), at);
        if (mf_courier_push_wants(address) || mf_courier_webhook_wants(address))
            return mf_error_set(err, MF_ERR_USAGE,
                                "outbox.deidentify: \"%.100s\" gets no DICOM objects: only these "
                                "can be de-identified",
                                address);
        if (!is_destination(config->outbox.destinations, address))
            return mf_error_set(err, MF_ERR_USAGE,
                                "outbox.deidentify: \"%.100s\" is not in outbox.destinations",
                                address);
    }
    if (strcmp(config->deidentify.secret_file, "off") == 0)
        return mf_error_set(err, MF_ERR_USAGE,
                            "deidentify.secret_file: is needed with outbox.deidentify");
    return mf_deidentify_configured(config, ret, err);
}

/* ---- what is stored ---- */

bool mf_deidentify_stores(const struct mf_config *config)
{
    return strcmp(config->deidentify.stored, "on") == 0;
}

bool mf_deidentify_configured(const struct mf_config *config, struct mf_deidentify_rules *ret,
                              struct mf_error *err)
{
    if (strcmp(config->deidentify.secret_file, "off") == 0)
        return mf_error_set(err, MF_ERR_USAGE,
                            "deidentify.secret_file: is needed to de-identify what is stored");
    return mf_deidentify_load(config->deidentify.secret_file, config->deidentify.dates,
                              config->deidentify.characteristics, ret, err) ||
           mf_error_prefix(err, "deidentify");
}

/* Whoever is asked about a patient or a study by name would not know whom is meant. */
static const char *contradiction(const struct mf_config *config)
{
    return strcmp(config->ups.manager, "off") != 0   ? "ups.manager"
           : strcmp(config->fhir.source, "off") != 0 ? "fhir.source"
           : strstr(config->fetch.sources, "?move")  ? "a source of fetch.sources with ?move"
                                                     : NULL;
}

bool mf_deidentify_stored_check(const struct mf_config *config, struct mf_error *err)
{
    struct mf_deidentify_rules rules;
    bool on = mf_deidentify_stores(config);
    if (!on && strcmp(config->deidentify.stored, "off") != 0)
        return mf_error_set(err, MF_ERR_USAGE, "deidentify.stored: must be off or on");
    const char *with = on ? contradiction(config) : NULL;
    if (with)
        return mf_error_set(err, MF_ERR_USAGE, "deidentify.stored: on does not go with %s", with);
    bool any = on || strcmp(config->deidentify.secret_file, "off") != 0;
    return !any || mf_deidentify_configured(config, &rules, err);
}
