/* Dead letters as JSON. */
#include "server/dead_letter_json.h"

#include "core/clock.h"

#include <string.h>

enum { MOST_DIGITS = 16 };

bool mf_dead_letter_id(const char *text, int64_t *ret)
{
    const size_t len = strlen(text);
    int64_t n = 0;
    if (len == 0 || len > MOST_DIGITS || strspn(text, "0123456789") != len)
        return false;
    for (size_t i = 0; i < len; i++)
        n = 10 * n + (text[i] - '0');
    *ret = n;
    return n >= 1 && n < INT64_C(1) << 53;
}

json_t *mf_dead_letter_to_json(const struct mf_dead_letter *letter)
{
    char id[24], time[MF_TIME_TEXT];
    snprintf(id, sizeof id, "%lld", (long long)letter->id);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:o}", "id", id, "tenant", letter->tenant,
                     "job", letter->job, "destination", letter->destination, "attempts",
                     (json_int_t)letter->attempts, "failed",
                     mf_clock_format_ms(letter->failed_ms, time), "reason",
                     mf_json_string(letter->reason));
}
