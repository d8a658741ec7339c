/* Audit messages: which event of PS3.16 CID 400 a row is, and its XML. */
#include "server/audit_message.h"

#include "core/auto.h"
#include "core/clock.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = 256, NOTICE = 85, WARNING = 84 /* facility 10, severity 5 and 4 */ };
enum { SUCCESS = 0, MINOR_FAILURE = 4, SERIOUS_FAILURE = 8 };

/* Event identifiers (PS3.16 CID 400) with their meanings. */
#define ACTIVITY "110100", "Application Activity"
#define LOG_USED "110101", "Audit Log Used"
#define ACCESSED "110103", "DICOM Instances Accessed"
#define TRANSFERRED "110104", "DICOM Instances Transferred"
#define EXPORTED "110106", "Export"
#define PATIENT_RECORD "110110", "Patient Record"
#define PROCEDURE_RECORD "110111", "Procedure Record"
#define QUERY "110112", "Query"

struct event {
    const char *code, *meaning;
    char action; /* C create, R read, U update, D delete, E execute */
    int outcome;
};

static const struct {
    const char *name;
    struct event event;
} EVENTS[] = {
    {"job.submitted", {PROCEDURE_RECORD, 'C', SUCCESS}},
    {"job.succeeded", {PROCEDURE_RECORD, 'U', SUCCESS}},
    {"job.failed", {PROCEDURE_RECORD, 'U', SERIOUS_FAILURE}},
    {"job.cancelled", {PROCEDURE_RECORD, 'U', SUCCESS}},
    {"job.crashed", {PROCEDURE_RECORD, 'U', SERIOUS_FAILURE}},
    {"job.cancel_requested", {PROCEDURE_RECORD, 'U', SUCCESS}},
    {"job.purged", {PROCEDURE_RECORD, 'D', SUCCESS}},
    {"feedback.given", {PROCEDURE_RECORD, 'U', SUCCESS}},
    {"instances.stored", {TRANSFERRED, 'C', SUCCESS}},
    {"result.delivered", {EXPORTED, 'R', SUCCESS}},
    {"result.not_delivered", {EXPORTED, 'R', SERIOUS_FAILURE}},
    {"ups.claimed", {PROCEDURE_RECORD, 'U', SUCCESS}},
    {"ups.completed", {PROCEDURE_RECORD, 'U', SUCCESS}},
    {"ups.canceled", {PROCEDURE_RECORD, 'U', MINOR_FAILURE}},
    {"ups.withdrawn", {PROCEDURE_RECORD, 'U', MINOR_FAILURE}},
    {"ups.lost", {PROCEDURE_RECORD, 'U', MINOR_FAILURE}},
    {"delivery.retried", {EXPORTED, 'E', SUCCESS}},
    {"delivery.dropped", {EXPORTED, 'D', SUCCESS}},
    {"audit.purged", {LOG_USED, 'D', SUCCESS}},
};

/* --- what happened --- */

/* A request as its row tells it: "METHOD PATH STATUS". */
struct asked {
    char action, path[PATH];
    int status; /* 0 = the row is no request's */
};

static struct asked read_asked(const struct mf_audit_row *row)
{
    struct asked a = {.action = 'E'};
    const char *at = row->detail ? strchr(row->detail, ' ') : NULL;
    const char *end = at ? strrchr(row->detail, ' ') : NULL;
    if (strcmp(row->event, "request") != 0 || !end || end == at || end - at > PATH)
        return a;
    switch (row->detail[0]) {
    case 'G': /* GET */
    case 'H': /* HEAD */
        a.action = 'R';
        break;
    case 'D': /* DELETE */
        a.action = 'D';
        break;
    default: /* POST, PUT */
        a.action = row->detail[1] == 'U' ? 'U' : 'C';
        break;
    }
    snprintf(a.path, sizeof a.path, "%.*s", (int)(end - at - 1), at + 1);
    a.status = (int)strtol(end + 1, NULL, 10);
    return a;
}

/* Whether a DICOMweb path is a search: it ends with what is searched for. */
static bool is_search(const char *path)
{
    static const char *const names[] = {"/studies", "/series", "/instances"};
    const char *last = strrchr(path, '/');
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(last ? last : "", names[i]) == 0)
            return true;
    return false;
}

static struct event judge_request(const struct asked *a)
{
    const int outcome = a->status >= 500   ? SERIOUS_FAILURE
                        : a->status >= 400 ? MINOR_FAILURE
                                           : SUCCESS;
    if (strncmp(a->path, "/dicom-web/", strlen("/dicom-web/")) == 0)
        return a->action != 'R'     ? (struct event){TRANSFERRED, a->action, outcome}
               : is_search(a->path) ? (struct event){QUERY, 'E', outcome}
                                    : (struct event){ACCESSED, 'R', outcome};
    return (struct event){PATIENT_RECORD, a->action, outcome};
}

static struct event judge(const struct mf_audit_row *row, const struct asked *a)
{
    if (a->status)
        return judge_request(a);
    for (size_t i = 0; i < sizeof EVENTS / sizeof *EVENTS; i++)
        if (strcmp(row->event, EVENTS[i].name) == 0)
            return EVENTS[i].event;
    return (struct event){ACTIVITY, 'E', SUCCESS};
}

/* --- XML --- */

struct message {
    struct mf_buffer *out;
    struct mf_error *err;
};

#define PUT(m, ...) mf_buffer_printf((m)->out, (m)->err, __VA_ARGS__)

/* Text between quotes. */
static bool put_text(const struct message *m, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool ok = strchr("<>&\"'", c)     ? PUT(m, "&#%d;", c)
                  : c >= 0x20 && c < 0x7F ? mf_buffer_append(m->out, text, 1, m->err)
                                          : PUT(m, "%%%02X", c);
        if (!ok)
            return false;
    }
    return true;
}

static bool put_base64(const struct message *m, const void *data, size_t len)
{
    MF_AUTO(mf_mem) unsigned char *text = malloc(len / 3 * 4 + 5);
    if (!text)
        return mf_error_set(m->err, MF_ERR_NO_MEMORY, "out of memory for an audit message");
    EVP_EncodeBlock(text, data, (int)len);
    return mf_buffer_append_str(m->out, (const char *)text, m->err);
}

static bool put_event(const struct message *m, const struct mf_audit_row *row,
                      const struct event *e)
{
    char time[MF_TIME_TEXT];
    return PUT(m,
               "<EventIdentification EventActionCode=\"%c\" EventDateTime=\"%s\" "
               "EventOutcomeIndicator=\"%d\"><EventID csd-code=\"%s\" codeSystemName=\"DCM\" "
               "originalText=\"%s\"/><EventTypeCode csd-code=\"",
               e->action, mf_clock_format_ms(row->time_ms, time), e->outcome, e->code,
               e->meaning) &&
           put_text(m, row->event) && PUT(m, "\" codeSystemName=\"99MEDFUSION\" originalText=\"") &&
           put_text(m, row->event) && PUT(m, "\"/></EventIdentification>");
}

/* Who asked, if anybody did, and this program. */
static bool put_participants(const struct message *m, const struct mf_audit_row *row,
                             const char *host)
{
    if (row->actor && !(PUT(m, "<ActiveParticipant UserID=\"") && put_text(m, row->actor) &&
                        PUT(m, "\" UserIsRequestor=\"true\"/>")))
        return false;
    return PUT(m,
               "<ActiveParticipant UserID=\"medfusion\" UserIsRequestor=\"%s\" "
               "NetworkAccessPointID=\"",
               row->actor ? "false" : "true") &&
           put_text(m, host) &&
           PUT(m, "\" NetworkAccessPointTypeCode=\"1\"><RoleIDCode csd-code=\"110150\" "
                  "codeSystemName=\"DCM\" originalText=\"Application\"/></ActiveParticipant>");
}

static bool put_source(const struct message *m, const struct mf_audit_row *row, const char *host)
{
    return PUT(m, "<AuditSourceIdentification ") &&
           (!row->tenant[0] ||
            (PUT(m, "AuditEnterpriseSiteID=\"") && put_text(m, row->tenant) && PUT(m, "\" "))) &&
           PUT(m, "AuditSourceID=\"medfusion@") && put_text(m, host) &&
           PUT(m, "\"><AuditSourceTypeCode csd-code=\"4\"/></AuditSourceIdentification>");
}

/* An object with a URI; what it is called ends its beginning. */
static bool put_object(const struct message *m, const char *prefix, const char *id, int role,
                       const char *name)
{
    return PUT(m, "<ParticipantObjectIdentification ParticipantObjectID=\"%s", prefix) &&
           put_text(m, id) &&
           PUT(m,
               "\" ParticipantObjectTypeCode=\"2\" ParticipantObjectTypeCodeRole=\"%d\">"
               "<ParticipantObjectIDTypeCode csd-code=\"12\" codeSystemName=\"RFC-3881\" "
               "originalText=\"URI\"/><ParticipantObjectName>%s</ParticipantObjectName>",
               role, name);
}

static bool put_detail(const struct message *m, const char *type, const void *data, size_t len)
{
    return PUT(m, "<ParticipantObjectDetail type=\"%s\" value=\"", type) &&
           put_base64(m, data, len) && PUT(m, "\"/>");
}

static bool put_objects(const struct message *m, const struct mf_audit_row *row,
                        const struct asked *a)
{
    enum { JOB = 20, SECURITY_RESOURCE = 13, DATA_SOURCE = 25 };
    static const char end[] = "</ParticipantObjectIdentification>";
    char number[24];
    snprintf(number, sizeof number, "%" PRId64, row->seq);
    return (!row->job[0] ||
            (put_object(m, "/v1/jobs/", row->job, JOB, "job") && PUT(m, "%s", end))) &&
           (!a->status || (put_object(m, "", a->path, DATA_SOURCE, "path") && PUT(m, "%s", end))) &&
           put_object(m, "urn:medfusion:audit:", number, SECURITY_RESOURCE, "row of the trail") &&
           put_detail(m, "hash", row->hash, sizeof row->hash) &&
           (!row->detail || put_detail(m, "detail", row->detail, strlen(row->detail))) &&
           PUT(m, "%s", end);
}

bool mf_audit_message(const struct mf_audit_row *row, const char *host, struct mf_buffer *out,
                      struct mf_error *err)
{
    const struct message m = {out, err};
    const struct asked a = read_asked(row);
    const struct event e = judge(row, &a);
    char time[MF_TIME_TEXT];
    return PUT(&m, "<%d>1 %s ", e.outcome == SUCCESS ? NOTICE : WARNING,
               mf_clock_format_ms(row->time_ms, time)) &&
           put_text(&m, host) &&
           PUT(&m, " medfusion - DICOM+RFC3881 - <?xml version=\"1.0\" encoding=\"UTF-8\"?>"
                   "<AuditMessage>") &&
           put_event(&m, row, &e) && put_participants(&m, row, host) && put_source(&m, row, host) &&
           put_objects(&m, row, &a) && PUT(&m, "</AuditMessage>");
}
