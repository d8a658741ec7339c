/* S3: elements of XML answers. */
#include "server/s3_xml.h"

#include <string.h>

/* The first place of "<name>" or "</name>" in [at, end), or NULL. */
static const char *find_tag(const char *at, const char *end, const char *open, const char *name)
{
    const size_t opening = strlen(open), len = strlen(name);
    for (; (size_t)(end - at) > opening + len; at++) {
        const char *hit = memchr(at, '<', (size_t)(end - at) - opening - len);
        if (!hit)
            return NULL;
        if (memcmp(hit, open, opening) == 0 && memcmp(hit + opening, name, len) == 0 &&
            hit[opening + len] == '>')
            return hit;
        at = hit;
    }
    return NULL;
}

bool mf_s3_xml_next(struct mf_s3_xml *whole, const char *name, struct mf_s3_xml *ret)
{
    const char *begin = find_tag(whole->at, whole->end, "<", name);
    if (!begin)
        return false;
    begin += strlen(name) + 2;
    const char *end = find_tag(begin, whole->end, "</", name);
    if (!end)
        return false;
    *ret = (struct mf_s3_xml){begin, end};
    whole->at = end + strlen(name) + 3;
    return true;
}

/* One character of a text: itself, or what an entity stands for. Returns how many bytes it took; 0:
 * none that is known. */
static size_t read_character(const char *at, size_t left, char *ret)
{
    static const struct {
        const char *entity;
        char is;
    } ENTITIES[] = {{"&amp;", '&'},  {"&lt;", '<'},    {"&gt;", '>'},  {"&#34;", '"'},
                    {"&quot;", '"'}, {"&apos;", '\''}, {"&#39;", '\''}};
    *ret = *at;
    if (*at != '&')
        return *at == '\0' || *at == '<' ? 0 : 1;
    for (size_t i = 0; i < sizeof ENTITIES / sizeof *ENTITIES; i++) {
        const size_t len = strlen(ENTITIES[i].entity);
        if (len <= left && memcmp(at, ENTITIES[i].entity, len) == 0) {
            *ret = ENTITIES[i].is;
            return len;
        }
    }
    return 0;
}

bool mf_s3_xml_text(struct mf_s3_xml whole, const char *name, char *out, size_t size)
{
    struct mf_s3_xml in;
    size_t n = 0;
    if (!mf_s3_xml_next(&whole, name, &in))
        return false;
    while (in.at < in.end) {
        char c;
        const size_t took = read_character(in.at, (size_t)(in.end - in.at), &c);
        if (took == 0 || n + 1 >= size)
            return false;
        out[n++] = c;
        in.at += took;
    }
    out[n] = '\0';
    return true;
}
