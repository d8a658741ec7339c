/* See worker_report.h. */
#include "server/worker_report.h"

#include "core/json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char KEY[] = "gauges", NAME[] = "worker", DEVICE[] = "device";

static const struct {
    const char *key;
    size_t at;
} FIELDS[] = {
    {"computing_ns", offsetof(struct mf_worker_gauges, computing_ns)},
    {"batches", offsetof(struct mf_worker_gauges, batches)},
    {"studies", offsetof(struct mf_worker_gauges, studies)},
    {"batch_most", offsetof(struct mf_worker_gauges, batch_most)},
    {"memory_total", offsetof(struct mf_worker_gauges, memory_total)},
    {"memory_available", offsetof(struct mf_worker_gauges, memory_available)},
    {"memory_taken", offsetof(struct mf_worker_gauges, memory_taken)},
};

static bool is_plain(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '-';
}

void mf_worker_name(size_t place, char out[MF_WORKER_NAME])
{
    char host[MF_WORKER_NAME - 16] = "";
    if (gethostname(host, sizeof host - 1) != 0 || !host[0])
        snprintf(host, sizeof host, "unnamed");
    for (char *c = host; *c; c++)
        *c = is_plain(*c) ? *c : '-';
    snprintf(out, MF_WORKER_NAME, "%s-%zu", host, place);
}

char *mf_worker_report(const char *models, const struct mf_worker_gauges *gauges, const char *name)
{
    MF_AUTO(mf_json) json_t *list = json_loads(models, 0, NULL);
    if (!json_is_array(list))
        return NULL;
    json_t *numbers = json_object();
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++) {
        const uint64_t *field = (const void *)((const char *)gauges + FIELDS[i].at);
        json_object_set_new(numbers, FIELDS[i].key, json_integer((json_int_t)MF_GAUGE_GET(*field)));
    }
    json_t *entry = json_pack("{s:s, s:s, s:o}", NAME, name, DEVICE, gauges->device, KEY, numbers);
    return json_array_append_new(list, entry) == 0 ? mf_json_text(list, 0) : NULL;
}

bool mf_worker_reported(const char *models, struct mf_worker_gauges *ret, char name[MF_WORKER_NAME])
{
    MF_AUTO(mf_json) json_t *list = json_loads(models, 0, NULL);
    const json_t *entry = json_array_get(list, json_array_size(list) - 1);
    const json_t *numbers = json_object_get(entry, KEY);
    const char *said = mf_json_get_string(entry, NAME, "");
    *ret = (struct mf_worker_gauges){.taken = 1};
    if (!json_is_object(numbers) || !*said || strlen(said) >= MF_WORKER_NAME)
        return false;
    for (const char *c = said; *c; c++)
        if (!is_plain(*c))
            return false;
    snprintf(name, MF_WORKER_NAME, "%s", said);
    snprintf(ret->device, sizeof ret->device, "%s", mf_json_get_string(entry, DEVICE, ""));
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++) {
        const json_t *number = json_object_get(numbers, FIELDS[i].key);
        if (!json_is_integer(number) || json_integer_value(number) < 0)
            return false;
        *(uint64_t *)(void *)((char *)ret + FIELDS[i].at) = (uint64_t)json_integer_value(number);
    }
    return true;
}
