/* Web client: one libcurl handle per exchange; of a pool, which keeps its connections, or a new
 * one. */
#include "server/web_client.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER_BYTES = 16 << 10, POOLED = 32 };

struct exchange {
    const struct mf_web_request *request;
    CURL *curl;
    uint64_t received, most;
    uint64_t sent; /* of the file */
    struct mf_error *err;
};

struct mf_web_pool {
    pthread_mutex_t lock;
    CURL *idle[POOLED];
    size_t count;
};

/* --- connections --- */

struct mf_web_pool *mf_web_pool_new(struct mf_error *err)
{
    struct mf_web_pool *pool = calloc(1, sizeof *pool);
    if (pool)
        pthread_mutex_init(&pool->lock, NULL);
    else
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for connections");
    return pool;
}

void mf_web_pool_free(struct mf_web_pool *pool)
{
    if (!pool)
        return;
    for (size_t i = 0; i < pool->count; i++)
        curl_easy_cleanup(pool->idle[i]);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static CURL *take_handle(struct mf_web_pool *pool)
{
    CURL *handle = NULL;
    if (pool) {
        pthread_mutex_lock(&pool->lock);
        handle = pool->count ? pool->idle[--pool->count] : NULL;
        pthread_mutex_unlock(&pool->lock);
    }
    return handle ? handle : curl_easy_init();
}

static void give_handle(struct mf_web_pool *pool, CURL *handle)
{
    if (pool) {
        curl_easy_reset(handle); /* its connections stay */
        pthread_mutex_lock(&pool->lock);
        if (pool->count < POOLED) {
            pool->idle[pool->count++] = handle;
            handle = NULL;
        }
        pthread_mutex_unlock(&pool->lock);
    }
    if (handle)
        curl_easy_cleanup(handle);
}

/* --- what comes and goes --- */

static size_t on_field(char *line, size_t size, size_t n, void *context)
{
    struct exchange *x = context;
    const size_t len = size * n;
    char text[HEADER_BYTES];
    if (len >= sizeof text)
        return len;
    memcpy(text, line, len);
    text[len] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    char *colon = strchr(text, ':');
    if (!colon)
        return len;
    *colon = '\0';
    x->request->field(x->request->context, text, colon + 1 + strspn(colon + 1, " \t"));
    return len;
}

static size_t on_read(char *out, size_t size, size_t n, void *context)
{
    struct exchange *x = context;
    const struct mf_web_request *r = x->request;
    const uint64_t left = r->body_len - x->sent;
    const size_t want = size * n < left ? size * n : (size_t)left;
    const ssize_t got = pread(r->file, out, want, (off_t)(r->file_offset + x->sent));
    if (got < 0 || (got == 0 && want > 0))
        return CURL_READFUNC_ABORT;
    x->sent += (uint64_t)got;
    return (size_t)got;
}

/* For a request that is sent again on another connection. */
static int on_seek(void *context, curl_off_t offset, int origin)
{
    struct exchange *x = context;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > x->request->body_len)
        return CURL_SEEKFUNC_CANTSEEK;
    x->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t on_data(char *data, size_t size, size_t n, void *context)
{
    struct exchange *x = context;
    const struct mf_web_request *r = x->request;
    long status = 0;
    char *type = NULL;
    size_t len = size * n;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(x->curl, CURLINFO_CONTENT_TYPE, &type);
    x->received += len;
    if (x->received > x->most) {
        mf_error_set(x->err, MF_ERR_TOO_LARGE,
                     "the server's answer has more than %" PRIu64 " bytes", x->most);
        return 0;
    }
    if (status / 100 != 2 || !r->data)
        return len;
    return r->data(r->context, type ? type : "", data, len, x->err) ? len : 0;
}

static struct curl_slist *add_field(struct curl_slist *list, const char *field)
{
    struct curl_slist *longer = curl_slist_append(list, field);
    return longer ? longer : list;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *name, const char *value)
{
    char text[HEADER_BYTES];
    if (!value || snprintf(text, sizeof text, "%s: %s", name, value) >= (int)sizeof text)
        return list;
    return add_field(list, text);
}

/* --- where requests may go --- */

static bool is_loopback(const char *host)
{
    static const char *const NAMES[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        size_t len = strlen(NAMES[i]);
        if (strncmp(host, NAMES[i], len) == 0 && strchr(":/", host[len]))
            return true;
    }
    return false;
}

bool mf_web_url_plain(const char *url)
{
    const char *host = strncmp(url, "https://", 8) == 0  ? url + 8
                       : strncmp(url, "http://", 7) == 0 ? url + 7
                                                         : NULL;
    return host && *host && *host != '/' && !strpbrk(url, "@#? \\\"<>");
}

bool mf_web_url_protected(const char *url)
{
    return strncmp(url, "https://", 8) == 0 ||
           (strncmp(url, "http://", 7) == 0 && is_loopback(url + strlen("http://")));
}

static bool allowed_v4(const unsigned char a[4])
{
    return a[0] != 0 && !(a[0] == 169 && a[1] == 254) && a[0] < 224;
}

bool mf_web_address_allowed(const struct sockaddr *address)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    static const unsigned char compatible[12] = {0}, translated[12] = {0, 0x64, 0xFF, 0x9B};
    if (address->sa_family == AF_INET)
        return allowed_v4(
            (const unsigned char *)&((const struct sockaddr_in *)(const void *)address)->sin_addr);
    if (address->sa_family != AF_INET6)
        return false;
    const unsigned char *a =
        ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr;
    if (memcmp(a, mapped, 12) == 0 || memcmp(a, translated, 12) == 0)
        return allowed_v4(a + 12);
    if (memcmp(a, compatible, 12) == 0) /* of these only ::1 */
        return a[12] == 0 && a[13] == 0 && a[14] == 0 && a[15] == 1;
    return a[0] != 0xFF && !(a[0] == 0xFE && (a[1] & 0xC0) == 0x80);
}

/* Called with the very address that the connection will be made to, after every resolution: a name
 * that changes its mind (DNS rebinding) gains nothing. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)context;
    if (purpose != CURLSOCKTYPE_IPCXN || !mf_web_address_allowed(&address->addr))
        return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void set_body(struct exchange *x)
{
    const struct mf_web_request *r = x->request;
    CURL *c = x->curl;
    const bool head = r->method && strcmp(r->method, "HEAD") == 0;
    if (head) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (r->file > 0) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_len);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(c, CURLOPT_READDATA, x);
        curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
    } else if (r->content_type) {
        curl_easy_setopt(c, CURLOPT_POST, 1L);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
    }
    if (r->method && !head)
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
}

static void set_options(struct exchange *x, struct curl_slist *headers)
{
    const struct mf_web_request *r = x->request;
    CURL *c = x->curl;
    curl_easy_setopt(c, CURLOPT_URL, r->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)r->timeout_s);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (r->ca_file)
        curl_easy_setopt(c, CURLOPT_CAINFO, r->ca_file);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "MedFusion/" MF_VERSION);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    if (r->field) {
        curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_field);
        curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    }
    set_body(x);
}

bool mf_web_encode(struct mf_buffer *out, const char *text, struct mf_error *err)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    for (; *text; text++)
        if (strchr(plain, *text) ? !mf_buffer_append(out, text, 1, err)
                                 : !mf_buffer_printf(out, err, "%%%02X", (unsigned char)*text))
            return false;
    return true;
}

bool mf_web_keep(void *context, const char *content_type, const void *data, size_t len,
                 struct mf_error *err)
{
    (void)content_type;
    return mf_buffer_append(context, data, len, err);
}

bool mf_web_send(const struct mf_web_request *r, long *ret_status, struct mf_error *err)
{
    struct mf_error stopped = MF_ERROR_INIT;
    struct exchange x = {.request = r,
                         .curl = take_handle(r->pool),
                         .most = r->max_bytes ? r->max_bytes : UINT64_C(16) << 20,
                         .err = &stopped};
    if (!x.curl)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a request");
    struct curl_slist *headers = add_header(NULL, "Accept", r->accept);
    headers = add_header(headers, "Content-Type", r->content_type);
    headers = add_header(headers, "Authorization", r->authorization);
    headers = add_header(headers, "Expect", ""); /* no 100-continue */
    for (size_t i = 0; r->fields && r->fields[i]; i++)
        headers = add_field(headers, r->fields[i]);
    set_options(&x, headers);
    CURLcode code = curl_easy_perform(x.curl);
    curl_easy_getinfo(x.curl, CURLINFO_RESPONSE_CODE, ret_status);
    give_handle(r->pool, x.curl);
    curl_slist_free_all(headers);
    if (stopped.code)
        return mf_error_set(err, stopped.code, "%s", stopped.msg);
    if (code == CURLE_OK)
        return true;
    return mf_error_set(err, code == CURLE_OPERATION_TIMEDOUT ? MF_ERR_TIMEOUT : MF_ERR_IO,
                        "the server cannot be reached (%s)", curl_easy_strerror(code));
}
