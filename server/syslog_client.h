/*
 * Syslog client: messages to a collector over TLS (RFC 5425) or, within this machine, over plain
 * TCP (RFC 6587, 3.4.1), each with its octet count. A fence around libcurl, which makes the
 * connection. The protocol acknowledges nothing: what was sent just before a connection broke may
 * be lost, so send it again.
 */
#ifndef MF_SERVER_SYSLOG_CLIENT_H
#define MF_SERVER_SYSLOG_CLIENT_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_syslog_peer {
    const char *address;           /* "tls://host:port", "tcp://host:port" */
    const char *ca_file;           /* PEM, or "off": the system's authorities */
    const char *certificate, *key; /* PEM of ours, or "off" */
    int timeout_s;
};

struct mf_syslog;

/* Whether the address is one, and plain TCP only to this machine. MF_ERR_USAGE. */
bool mf_syslog_check(const char *address, struct mf_error *err) MF_CHECK_RESULT;

/* Connects. MF_ERR_IO, MF_ERR_TIMEOUT. */
struct mf_syslog *mf_syslog_connect(const struct mf_syslog_peer *peer,
                                    struct mf_error *err) MF_CHECK_RESULT;
void mf_syslog_close(struct mf_syslog *syslog);
/* Sends one message. After a failure the connection is of no use. */
bool mf_syslog_send(struct mf_syslog *syslog, const char *message, size_t len,
                    struct mf_error *err) MF_CHECK_RESULT;
/* Whether the other side has not closed it, as far as is known here. */
bool mf_syslog_alive(struct mf_syslog *syslog);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_syslog, struct mf_syslog *, mf_syslog_close(*p))

#endif
