/* Syslog client: a libcurl handle that only connects. */
#include "server/syslog_client.h"

#include "core/clock.h"
#include "server/web_client.h"

#include <curl/curl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { URL_BYTES = 512, COUNT_BYTES = 24 };

static const char TLS[] = "tls://", TCP[] = "tcp://";

struct mf_syslog {
    CURL *curl;
    int timeout_s;
};

/* The address as libcurl is told it: it connects, and speaks no HTTP. */
static bool make_url(const char *address, char out[URL_BYTES])
{
    const bool tls = strncmp(address, TLS, strlen(TLS)) == 0;
    if (!tls && strncmp(address, TCP, strlen(TCP)) != 0)
        return false;
    const char *host = address + strlen(TLS), *colon = strrchr(host, ':');
    if (strlen(address) > URL_BYTES - 8 || strchr(host, '/') || !colon || colon == host ||
        !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return false;
    snprintf(out, URL_BYTES, "%s://%s/", tls ? "https" : "http", host);
    return mf_web_url_plain(out);
}

bool mf_syslog_check(const char *address, struct mf_error *err)
{
    char url[URL_BYTES];
    if (!make_url(address, url))
        return mf_error_set(err, MF_ERR_USAGE,
                            "audit.syslog: \"%.100s\" is no tls://host:port or tcp://host:port",
                            address);
    return mf_web_url_protected(url) ||
           mf_error_set(err, MF_ERR_USAGE, "audit.syslog: tcp:// is for this machine only");
}

/* As in web_client.c: the very address that the connection will be made to. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)context;
    if (purpose != CURLSOCKTYPE_IPCXN || !mf_web_address_allowed(&address->addr))
        return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool is_set(const char *path)
{
    return path && strcmp(path, "off") != 0;
}

static void set_options(CURL *c, const struct mf_syslog_peer *peer, const char *url)
{
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)peer->timeout_s);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(c, CURLOPT_SSL_ENABLE_ALPN, 0L);
    if (is_set(peer->ca_file)) {
        curl_easy_setopt(c, CURLOPT_CAINFO, peer->ca_file);
        curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    if (is_set(peer->certificate)) {
        curl_easy_setopt(c, CURLOPT_SSLCERT, peer->certificate);
        curl_easy_setopt(c, CURLOPT_SSLKEY, peer->key);
    }
}

struct mf_syslog *mf_syslog_connect(const struct mf_syslog_peer *peer, struct mf_error *err)
{
    char url[URL_BYTES];
    MF_AUTO(mf_syslog) struct mf_syslog *s = calloc(1, sizeof *s);
    if (!s || !(s->curl = curl_easy_init())) {
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a syslog connection");
        return NULL;
    }
    s->timeout_s = peer->timeout_s;
    if (!make_url(peer->address, url)) {
        mf_error_set(err, MF_ERR_USAGE, "audit.syslog is no address");
        return NULL;
    }
    set_options(s->curl, peer, url);
    CURLcode code = curl_easy_perform(s->curl);
    if (code == CURLE_OK)
        return MF_STEAL(s);
    mf_error_set(err, code == CURLE_OPERATION_TIMEDOUT ? MF_ERR_TIMEOUT : MF_ERR_IO,
                 "the syslog server cannot be reached (%s)", curl_easy_strerror(code));
    return NULL;
}

void mf_syslog_close(struct mf_syslog *s)
{
    if (!s)
        return;
    if (s->curl)
        curl_easy_cleanup(s->curl);
    free(s);
}

/* Waits until more can be written; false when the time is over. */
static bool wait_writable(struct mf_syslog *s, uint64_t deadline_ns)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    uint64_t now = mf_clock_monotonic_ns();
    if (now >= deadline_ns || curl_easy_getinfo(s->curl, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK ||
        fd < 0)
        return false;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    return poll(&p, 1, (int)((deadline_ns - now) / 1000000 + 1)) >= 0;
}

static bool send_all(struct mf_syslog *s, const char *data, size_t len, struct mf_error *err)
{
    const uint64_t deadline = mf_clock_monotonic_ns() + (uint64_t)s->timeout_s * 1000000000;
    while (len > 0) {
        size_t n = 0;
        CURLcode code = curl_easy_send(s->curl, data, len, &n);
        if (code == CURLE_AGAIN && !wait_writable(s, deadline))
            return mf_error_set(err, MF_ERR_TIMEOUT, "the syslog server takes nothing");
        if (code != CURLE_OK && code != CURLE_AGAIN)
            return mf_error_set(err, MF_ERR_IO, "the syslog connection broke (%s)",
                                curl_easy_strerror(code));
        data += n;
        len -= n;
    }
    return true;
}

bool mf_syslog_send(struct mf_syslog *s, const char *message, size_t len, struct mf_error *err)
{
    char count[COUNT_BYTES];
    snprintf(count, sizeof count, "%zu ", len);
    return send_all(s, count, strlen(count), err) && send_all(s, message, len, err);
}

bool mf_syslog_alive(struct mf_syslog *s)
{
    char dropped[256];
    size_t n = 0;
    CURLcode code;
    while ((code = curl_easy_recv(s->curl, dropped, sizeof dropped, &n)) == CURLE_OK && n > 0) {
    }
    return code == CURLE_AGAIN;
}
