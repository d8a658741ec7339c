/* De-identification: values in place of others (PS3.15 E.1, E.3.6; UIDs by PS3.5 B.2). */
#include "dicom/deidentify_values.h"

#include "core/digest.h"

#include <stdio.h>
#include <string.h>

enum { LEAST_SECRET = 16, MOST_DAYS = 3650 };

bool mf_deidentify_rules_make(const void *secret, size_t length, const char *dates,
                              bool characteristics, struct mf_deidentify_rules *ret,
                              struct mf_error *err)
{
    static const char *const DATES[] = {"remove", "shift", "keep"};
    int i = 0;
    while (i < 3 && strcmp(dates, DATES[i]) != 0)
        i++;
    if (i == 3)
        return mf_error_set(err, MF_ERR_USAGE, "dates: must be remove, shift or keep");
    if (length < LEAST_SECRET)
        return mf_error_set(err, MF_ERR_USAGE, "the secret has %zu bytes, at least %d are needed",
                            length, LEAST_SECRET);
    *ret = (struct mf_deidentify_rules){.dates = (enum mf_deidentify_dates)i,
                                        .characteristics = characteristics};
    mf_sha256(secret, length, ret->key);
    return true;
}

/* ---- the table ---- */

bool mf_deidentify_foreign(uint32_t tag)
{
    const uint32_t group = tag >> 16, repeating = group & 0xFF00;
    return group < 0x0008 || group % 2 == 1 || (tag & 0xFFFF) == 0 || repeating == 0x5000 ||
           repeating == 0x6000;
}

char mf_deidentify_action(uint32_t tag)
{
    size_t low = 0, high = mf_deidentify_action_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (mf_deidentify_actions[middle].tag == tag)
            return mf_deidentify_actions[middle].action;
        if (mf_deidentify_actions[middle].tag < tag)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

static bool is_listed(const uint32_t *tags, size_t count, uint32_t tag)
{
    for (size_t i = 0; i < count; i++)
        if (tags[i] == tag)
            return true;
    return false;
}

bool mf_deidentify_identifier(uint32_t tag)
{
    /* accession, institution, study, admission, requested procedure, step, orders */
    static const uint32_t TAGS[] = {0x00080050, 0x00080080, 0x00080081, 0x00200010, 0x00380010,
                                    0x00401001, 0x00400009, 0x00402016, 0x00402017};
    return tag >> 16 == 0x0010 || is_listed(TAGS, sizeof TAGS / sizeof *TAGS, tag);
}

bool mf_deidentify_characteristic(uint32_t tag)
{
    /* PS3.15 E.3.8: those with K or C under Rtn. Pat. Chars. that are no free text */
    static const uint32_t TAGS[] = {0x00100040, 0x00101010, 0x00101020, 0x00101021,
                                    0x00101022, 0x00101023, 0x00101024, 0x00101030,
                                    0x00102160, 0x001021A0, 0x001021C0, 0x00102203};
    return is_listed(TAGS, sizeof TAGS / sizeof *TAGS, tag);
}

/* ---- keyed values ---- */

/* HMAC over the digests of the three strings: no choice of strings makes those of another. */
static bool keyed(const struct mf_deidentify_rules *rules, const char *purpose, const char *first,
                  const char *second, unsigned char out[MF_SHA256_BYTES])
{
    const char *strings[3] = {purpose, first ? first : "", second ? second : ""};
    unsigned char message[3 * MF_SHA256_BYTES];
    for (size_t i = 0; i < 3; i++)
        mf_sha256(strings[i], strlen(strings[i]), message + i * MF_SHA256_BYTES);
    return mf_hmac_sha256(rules->key, sizeof rules->key, message, sizeof message, out);
}

bool mf_deidentify_preload(struct mf_error *err)
{
    const struct mf_deidentify_rules rules = {.dates = MF_DATES_REMOVE};
    unsigned char digest[MF_SHA256_BYTES];
    return keyed(&rules, "", NULL, NULL, digest) ||
           mf_error_set(err, MF_ERR_NO_MEMORY, "OpenSSL could not be started");
}

bool mf_deidentify_uid(const struct mf_deidentify_rules *rules, const char *uid,
                       char out[MF_DEIDENTIFY_UID])
{
    static const char STANDARD[] = "1.2.840.10008.";
    unsigned char digest[MF_SHA256_BYTES];
    char digits[40];
    int n = 0;
    if (!*uid || strncmp(uid, STANDARD, sizeof STANDARD - 1) == 0) {
        snprintf(out, MF_DEIDENTIFY_UID, "%s", uid);
        return true;
    }
    if (!keyed(rules, "uid", uid, NULL, digest))
        return false;
    digest[6] = (digest[6] & 0x0F) | 0x80; /* a UUID of version 8, of this program's making */
    digest[8] = (digest[8] & 0x3F) | 0x80;
    unsigned __int128 value = 0;
    for (int i = 0; i < 16; i++)
        value = value << 8 | digest[i];
    for (; value; value /= 10)
        digits[n++] = (char)('0' + (int)(value % 10));
    int at = snprintf(out, MF_DEIDENTIFY_UID, "2.25.");
    while (n > 0)
        out[at++] = digits[--n];
    out[at] = '\0';
    return true;
}

bool mf_deidentify_patient(const struct mf_deidentify_rules *rules, const char *issuer,
                           const char *id, char out[MF_DEIDENTIFY_NAME])
{
    unsigned char digest[MF_SHA256_BYTES];
    char hex[MF_SHA256_HEX];
    if (!keyed(rules, "patient", issuer, id, digest))
        return false;
    snprintf(out, MF_DEIDENTIFY_NAME, "ANON-%.16s", mf_sha256_to_hex(digest, hex));
    return true;
}

bool mf_deidentify_days(const struct mf_deidentify_rules *rules, const char *issuer, const char *id,
                        int *ret)
{
    unsigned char digest[MF_SHA256_BYTES];
    if (!keyed(rules, "days", issuer, id, digest))
        return false;
    *ret = 1 + (digest[0] << 16 | digest[1] << 8 | digest[2]) % MOST_DAYS;
    return true;
}

/* ---- dates ---- */

/* Days since 1 March 0000 of the proleptic Gregorian calendar, and back: years begin in March, so
 * that the leap day is their last. */
static long day_number(int year, int month, int day)
{
    long y = year - (month <= 2), m = (month + 9) % 12;
    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
}

static void date_of(long number, int *year, int *month, int *day)
{
    long y = (10000 * number + 14780) / 3652425, rest = number - day_number((int)y, 3, 1);
    if (rest < 0)
        rest = number - day_number((int)--y, 3, 1);
    long m = (100 * rest + 52) / 3060;
    *month = (int)((m + 2) % 12) + 1;
    *year = (int)(y + (m + 2) / 12);
    *day = (int)(rest - (m * 306 + 5) / 10) + 1;
}

static int digits(const char *text, size_t n)
{
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

bool mf_deidentify_shift(const char *value, int days, char *out, size_t size)
{
    *out = '\0';
    if (strlen(value) < 8)
        return false;
    int year = digits(value, 4), month = digits(value + 4, 2), day = digits(value + 6, 2);
    if (year < 100 || month < 1 || month > 12 || day < 1 || day > 31)
        return false;
    date_of(day_number(year, month, day) - days, &year, &month, &day);
    snprintf(out, size, "%04d%02d%02d%s", year, month, day, value + 8);
    return true;
}
