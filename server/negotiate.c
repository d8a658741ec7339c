/* Content negotiation: Accept = ranges with weights; the most specific range that fits an offer
 * gives its weight. */
#include "server/negotiate.h"

#include <string.h>
#include <strings.h>

static const char BLANK[] = " \t";

/* qvalue of RFC 9110, 12.4.2, in thousandths; −1 when it is none. */
static int parse_weight(const char *s, size_t len)
{
    if (len == 0 || len > 5 || (s[0] != '0' && s[0] != '1') || (len > 1 && s[1] != '.'))
        return -1;
    int value = (s[0] - '0') * 1000;
    for (size_t i = 2, unit = 100; i < len; i++, unit /= 10) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        value += (s[i] - '0') * (int)unit;
    }
    return value <= 1000 ? value : -1;
}

/* The weight among the parameters behind a range; 1000 without one. */
static int range_weight(const char *s, size_t len)
{
    const char *end = s + len;
    while (s < end) {
        const char *next = memchr(s, ';', (size_t)(end - s));
        const char *stop = next ? next : end;
        while (s < stop && strchr(BLANK, *s))
            s++;
        while (stop > s && strchr(BLANK, stop[-1]))
            stop--;
        if (stop - s >= 2 && (s[0] == 'q' || s[0] == 'Q') && s[1] == '=')
            return parse_weight(s + 2, (size_t)(stop - s - 2));
        s = next ? next + 1 : end;
    }
    return 1000;
}

/* 3: the very type, 2: type/ *, 1: * / *, 0: does not fit */
static int fits(const char *range, size_t len, const char *offer)
{
    const char *slash = strchr(offer, '/');
    size_t type = (size_t)(slash - offer);
    if (len == strlen(offer) && strncasecmp(range, offer, len) == 0)
        return 3;
    if (len == type + 2 && strncasecmp(range, offer, type + 1) == 0 && range[type + 1] == '*')
        return 2;
    return len == 3 && memcmp(range, "*/*", 3) == 0;
}

static int offer_weight(const char *accept, const char *offer)
{
    int best_fit = 0, weight = 0;
    for (const char *s = accept; *s;) {
        s += strspn(s, " \t,");
        size_t len = strcspn(s, ",");
        size_t range = strcspn(s, ";, \t");
        int fit = range ? fits(s, range, offer) : 0;
        int w = range_weight(s + range, len - range);
        if (fit > best_fit && w >= 0) {
            best_fit = fit;
            weight = w;
        }
        s += len;
    }
    return weight;
}

int mf_negotiate(const char *accept, const char *const offers[], size_t count)
{
    if (!accept || !accept[strspn(accept, " \t,")])
        return count ? 0 : -1;
    int best = -1, best_weight = 0;
    for (size_t i = 0; i < count; i++) {
        int weight = offer_weight(accept, offers[i]);
        if (weight > best_weight) {
            best_weight = weight;
            best = (int)i;
        }
    }
    return best;
}

bool mf_media_type_is(const char *content_type, const char *type)
{
    if (!content_type)
        return false;
    content_type += strspn(content_type, BLANK);
    size_t len = strcspn(content_type, "; \t");
    return len == strlen(type) && strncasecmp(content_type, type, len) == 0;
}
