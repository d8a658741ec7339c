/* S3: where a bucket is and with which credentials. */
#include "server/s3_settings.h"

#include "server/web_client.h"

#include "core/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES = 16 << 10 };

static const char PLAIN[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";

/* --- the bucket --- */

static bool wrong_place(const char *text, struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_USAGE,
                        "payloads.s3: \"%.200s\" is not https://host/bucket or "
                        "https://host/bucket/prefix of letters, digits, '-', '.' and '_' (http on "
                        "this machine only)",
                        text);
}

/* Segments of plain characters between slashes, none of them empty, "." or "..". */
static bool is_plain_path(const char *path)
{
    while (*path == '/') {
        size_t len = strspn(++path, PLAIN);
        if (len == 0 || strspn(path, ".") >= len)
            return false;
        path += len;
    }
    return *path == '\0';
}

bool mf_s3_place_parse(const char *text, struct mf_s3_place *ret, struct mf_error *err)
{
    char whole[MF_S3_URL];
    if ((size_t)snprintf(whole, sizeof whole, "%s", text) >= sizeof whole)
        return wrong_place(text, err);
    size_t len = strlen(whole);
    if (len > 0 && whole[len - 1] == '/')
        whole[--len] = '\0';
    if (!mf_web_url_plain(whole) || !mf_web_url_protected(whole))
        return wrong_place(text, err);
    const char *host = strstr(whole, "://") + 3, *path = host + strcspn(host, "/");
    if (!*path || !is_plain_path(path) || (size_t)(path - host) >= sizeof ret->host)
        return wrong_place(text, err);
    const size_t bucket = 1 + strcspn(path + 1, "/");
    snprintf(ret->url, sizeof ret->url, "%.*s", (int)(path - whole), whole);
    snprintf(ret->host, sizeof ret->host, "%.*s", (int)(path - host), host);
    snprintf(ret->bucket, sizeof ret->bucket, "%.*s", (int)bucket, path);
    snprintf(ret->prefix, sizeof ret->prefix, "%s%s", path[bucket] ? path + bucket + 1 : "",
             path[bucket] ? "/" : "");
    return true;
}

/* --- credentials --- */

/* The text without blanks at its ends; it is cut in place. */
static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r", text[len - 1]))
        text[--len] = '\0';
    return text;
}

static bool take(const char *name, const char *value, struct mf_sigv4_key *key)
{
    char *to = strcmp(name, "aws_access_key_id") == 0       ? key->id
               : strcmp(name, "aws_secret_access_key") == 0 ? key->secret
               : strcmp(name, "aws_session_token") == 0     ? key->token
                                                            : NULL;
    const size_t size = to == key->token ? sizeof key->token : sizeof key->id;
    return !to || (size_t)snprintf(to, size, "%s", value) < size;
}

static bool read_lines(char *text, struct mf_sigv4_key *key)
{
    bool mine = true;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save)) {
        char *at = trim(line), *equals = strchr(at, '=');
        if (*at == '[')
            mine = strcmp(at, "[default]") == 0;
        if (*at == '[' || *at == '#' || *at == ';' || !*at || !mine)
            continue;
        if (!equals)
            return false;
        *equals = '\0';
        if (!take(trim(at), trim(equals + 1), key))
            return false;
    }
    return true;
}

static bool read_file(const char *path, struct mf_sigv4_key *key, struct mf_error *err)
{
    char text[FILE_BYTES];
    MF_AUTO(mf_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (n < 0)
        return mf_error_set(err, MF_ERR_USAGE, "payloads.s3_credentials: %s: %s", path,
                            strerror(errno));
    text[n] = '\0';
    const bool ok =
        (size_t)n < sizeof text - 1 && strlen(text) == (size_t)n && read_lines(text, key);
    explicit_bzero(text, sizeof text);
    return ok ||
           mf_error_set(err, MF_ERR_USAGE,
                        "payloads.s3_credentials: %s: it is no file of name = value lines", path);
}

static bool from_environment(const char *variable, char *out, size_t size)
{
    const char *value = getenv(variable);
    return (size_t)snprintf(out, size, "%s", value ? value : "") < size;
}

static bool is_printable(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

bool mf_s3_credentials(const struct mf_config *config, struct mf_sigv4_key *ret,
                       struct mf_error *err)
{
    const char *path = config->payloads.s3_credentials;
    const bool file = strcmp(path, "off") != 0;
    memset(ret, 0, sizeof *ret);
    if (file && !read_file(path, ret, err))
        return false;
    if (!file && (!from_environment("AWS_ACCESS_KEY_ID", ret->id, sizeof ret->id) ||
                  !from_environment("AWS_SECRET_ACCESS_KEY", ret->secret, sizeof ret->secret) ||
                  !from_environment("AWS_SESSION_TOKEN", ret->token, sizeof ret->token)))
        return mf_error_set(err, MF_ERR_USAGE,
                            "payloads.s3: the credentials of the environment are too long");
    if (*ret->id && *ret->secret && is_printable(ret->id) && is_printable(ret->token))
        return true;
    if (file)
        return mf_error_set(err, MF_ERR_USAGE,
                            "payloads.s3_credentials: %s: it has no aws_access_key_id and "
                            "aws_secret_access_key",
                            path);
    return mf_error_set(err, MF_ERR_USAGE,
                        "payloads.s3 needs payloads.s3_credentials, or AWS_ACCESS_KEY_ID and "
                        "AWS_SECRET_ACCESS_KEY in the environment");
}
