/* The listening socket of the front: "address:port" with IPv4, IPv6 in brackets, or a name. */
#include "server/front.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024, HOST_BYTES = 256, PORT_BYTES = 16 };

/* "host:port" or "[host]:port" */
static bool split(const char *listen, char host[HOST_BYTES], char port[PORT_BYTES])
{
    const char *colon = strrchr(listen, ':');
    if (!colon || strlen(colon + 1) >= PORT_BYTES || colon == listen)
        return false;
    const char *begin = listen, *end = colon;
    if (*begin == '[') {
        if (end[-1] != ']')
            return false;
        begin++;
        end--;
    } else if (memchr(begin, ':', (size_t)(end - begin))) {
        return false; /* IPv6 needs its brackets */
    }
    snprintf(host, HOST_BYTES, "%.*s", (int)(end - begin), begin);
    snprintf(port, PORT_BYTES, "%s", colon + 1);
    return *port && strspn(port, "0123456789") == strlen(port);
}

static int open_socket(const struct addrinfo *a)
{
    int on = 1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int reason = errno;
    if (fd >= 0)
        close(fd);
    errno = reason;
    return -1;
}

static bool write_url(int fd, const char *scheme, char *url, size_t size)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof address;
    char host[HOST_BYTES], port[PORT_BYTES];
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0 ||
        getnameinfo((const struct sockaddr *)&address, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return false;
    bool v6 = address.ss_family == AF_INET6;
    int n = snprintf(url, size, "%s://%s%s%s:%s", scheme, v6 ? "[" : "", host, v6 ? "]" : "", port);
    return n > 0 && (size_t)n < size;
}

int mf_listen(const char *key, const char *scheme, const char *where, char *url, size_t url_size,
              struct mf_error *err)
{
    char host[HOST_BYTES], port[PORT_BYTES];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    if (!split(where, host, port)) {
        mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\" is not \"address:port\"", key, where);
        return -1;
    }
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0) {
        mf_error_set(err, MF_ERR_USAGE, "%s: \"%s\": %s", key, where, gai_strerror(rc));
        return -1;
    }
    int fd = open_socket(list);
    if (fd < 0) {
        mf_error_set(err, MF_ERR_IO, "%s: \"%s\": %s", key, where, strerror(errno));
    } else if (!write_url(fd, scheme, url, url_size)) {
        mf_error_set(err, MF_ERR_INTERNAL, "%s: \"%s\": its address is not known", key, where);
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    return fd;
}

bool mf_listens_on_loopback(int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        return false;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
        return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
    return address.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}
