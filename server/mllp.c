/* MLLP: connecting, sending, reading the acknowledgement, all within one deadline. */
#include "server/mllp.h"

#include "core/auto.h"
#include "core/buffer.h"
#include "core/clock.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { ANSWER_BYTES = 64 << 10, PIECE = 4096 };

static const char START = 0x0B, END = 0x1C, RETURN = 0x0D;

/* --- addresses --- */

/* The text up to one of `until`, or all of it; false when it is empty or does not fit. */
static bool take(const char **at, const char *until, char *out, size_t size)
{
    size_t len = strcspn(*at, until);
    if (len == 0 || len >= size)
        return false;
    memcpy(out, *at, len);
    out[len] = '\0';
    *at += len;
    return true;
}

bool mf_mllp_address(const char *address, struct mf_mllp_peer *ret)
{
    static const char scheme[] = "mllp://";
    const char *at = address + strlen(scheme);
    *ret = (struct mf_mllp_peer){.host = ""};
    if (strncmp(address, scheme, strlen(scheme)) != 0)
        return false;
    bool six = *at == '[';
    at += six;
    if (!take(&at, six ? "]" : ":/", ret->host, sizeof ret->host))
        return false;
    at += six && *at == ']';
    if (*at++ != ':' || strspn(at, "0123456789") != strcspn(at, "/"))
        return false;
    if (!take(&at, "/", ret->port, sizeof ret->port))
        return false;
    if (*at == '/' && *++at && !take(&at, "/", ret->application, sizeof ret->application))
        return false;
    if (*at == '/' && *++at && !take(&at, "/", ret->facility, sizeof ret->facility))
        return false;
    return !*at;
}

/* --- the connection --- */

/* Waits for the socket; false when the deadline has passed. */
static bool wait_for(int fd, short events, uint64_t deadline_ns, struct mf_error *err)
{
    for (;;) {
        uint64_t now = mf_clock_monotonic_ns();
        struct pollfd p = {.fd = fd, .events = events};
        if (now >= deadline_ns)
            return mf_error_set(err, MF_ERR_TIMEOUT, "the receiver has not answered in time");
        int n = poll(&p, 1, (int)((deadline_ns - now) / 1000000 + 1));
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return mf_error_set(err, MF_ERR_IO, "poll: %s", strerror(errno));
    }
}

/* Whether the connection that was begun is there. */
static bool finish_connect(int fd, uint64_t deadline_ns, struct mf_error *err)
{
    int problem = 0;
    socklen_t len = sizeof problem;
    if (!wait_for(fd, POLLOUT, deadline_ns, err))
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &len) != 0)
        problem = errno;
    return problem == 0 ||
           mf_error_set(err, MF_ERR_IO, "the receiver cannot be reached (%s)", strerror(problem));
}

static int connect_one(const struct addrinfo *to, uint64_t deadline_ns, struct mf_error *err)
{
    int fd = socket(to->ai_family, to->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->ai_protocol);
    bool begun = fd >= 0 && (connect(fd, to->ai_addr, to->ai_addrlen) == 0 || errno == EINPROGRESS);
    if (!begun)
        mf_error_set(err, MF_ERR_IO, "the receiver cannot be reached (%s)", strerror(errno));
    if (begun && finish_connect(fd, deadline_ns, err))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* The first of the host's addresses that answers. */
static int connect_peer(const struct mf_mllp_peer *peer, uint64_t deadline_ns, struct mf_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    struct mf_error problem = MF_ERROR_INIT;
    int fd = -1;
    if (getaddrinfo(peer->host, peer->port, &hints, &list) != 0) {
        mf_error_set(err, MF_ERR_IO, "the receiver's name cannot be resolved");
        return -1;
    }
    for (const struct addrinfo *to = list; to && fd < 0; to = to->ai_next) {
        mf_error_clear(&problem);
        fd = connect_one(to, deadline_ns, &problem);
    }
    freeaddrinfo(list);
    if (fd < 0)
        mf_error_set(err, problem.code, "%s", problem.msg);
    return fd;
}

static bool send_all(int fd, const char *data, size_t len, uint64_t deadline_ns,
                     struct mf_error *err)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            return mf_error_set(err, MF_ERR_IO, "the receiver broke off (%s)", strerror(errno));
        } else if (!wait_for(fd, POLLOUT, deadline_ns, err)) {
            return false;
        }
    }
    return true;
}

/* One block, without its frame. */
static bool receive(int fd, struct mf_buffer *answer, uint64_t deadline_ns, struct mf_error *err)
{
    static const char end[] = {END, RETURN, '\0'};
    char piece[PIECE];
    for (;;) {
        const char *at = answer->data ? strstr(answer->data, end) : NULL;
        if (at) {
            answer->len = (size_t)(at - answer->data);
            answer->data[answer->len] = '\0';
            return true;
        }
        ssize_t n = recv(fd, piece, sizeof piece, 0);
        if (n == 0)
            return mf_error_set(err, MF_ERR_IO, "the receiver broke off without an answer");
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return mf_error_set(err, MF_ERR_IO, "the receiver broke off (%s)", strerror(errno));
        if (n < 0 ? !wait_for(fd, POLLIN, deadline_ns, err)
                  : !mf_buffer_append(answer, piece, (size_t)n, err))
            return false;
    }
}

/* --- the acknowledgement --- */

/* Field `n` of a segment that begins at `at`; its length in *ret_len. */
static const char *field(const char *at, char separator, size_t n, size_t *ret_len)
{
    const char stops[] = {separator, RETURN, '\0'};
    for (; n > 0 && *at && *at != RETURN; n--) {
        at += strcspn(at, stops);
        at += *at == separator;
    }
    *ret_len = strcspn(at, stops);
    return at;
}

bool mf_mllp_accepted(const char *answer, const char *control_id, struct mf_error *err)
{
    const char *text = answer + (answer[0] == START);
    char separator = strncmp(text, "MSH", 3) == 0 ? text[3] : '\0';
    const char *msa = separator && separator != RETURN ? strstr(text, "\rMSA") : NULL;
    size_t code_len = 0, id_len = 0;
    if (!msa || msa[4] != separator)
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "the receiver's answer is not an HL7 acknowledgement");
    const char *code = field(msa + 1, separator, 1, &code_len);
    const char *id = field(msa + 1, separator, 2, &id_len);
    if (code_len != 2 || (code[0] != 'A' && code[0] != 'C') || !strchr("AER", code[1]))
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "the receiver's answer is not an HL7 acknowledgement");
    if (id_len != strlen(control_id) || memcmp(id, control_id, id_len) != 0)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "the receiver acknowledged another message");
    return code[1] == 'A' || mf_error_set(err, MF_ERR_UNUSABLE, "the receiver answered %.2s", code);
}

bool mf_mllp_send(const struct mf_mllp_peer *peer, const char *message, const char *control_id,
                  int timeout_s, struct mf_error *err)
{
    static const char begin[] = {START}, end[] = {END, RETURN};
    uint64_t deadline_ns = mf_clock_monotonic_ns() + (uint64_t)timeout_s * 1000000000;
    MF_AUTO(mf_buffer) struct mf_buffer block, answer;
    mf_buffer_init(&block, strlen(message) + sizeof begin + sizeof end);
    mf_buffer_init(&answer, ANSWER_BYTES);
    if (!mf_buffer_append(&block, begin, sizeof begin, err) ||
        !mf_buffer_append_str(&block, message, err) ||
        !mf_buffer_append(&block, end, sizeof end, err))
        return false;
    MF_AUTO(mf_fd) int fd = connect_peer(peer, deadline_ns, err);
    return fd >= 0 && send_all(fd, block.data, block.len, deadline_ns, err) &&
           receive(fd, &answer, deadline_ns, err) && mf_mllp_accepted(answer.data, control_id, err);
}
