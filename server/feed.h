/*
 * Feed: changes of jobs for the clients that follow them, as Server-Sent Events (WHATWG HTML,
 * 9.2). One thread waits at the store for all of them; what a client has not taken yet lies in a
 * small buffer of its own, and one that takes too slowly is ended: it comes back with the id of the
 * last event that it saw, and goes on from there.
 *
 *   event: begin    {"lost": false}; true: list the jobs anew, what changed meanwhile is not known
 *   event: job      medfusion.job/1, when the job is new, goes on or ends
 *
 * Events of a job that changed several times meanwhile are one. Streams end by themselves after
 * five minutes, so that whoever lost the right to read does not read on.
 */
#ifndef MF_SERVER_FEED_H
#define MF_SERVER_FEED_H

#include "server/request.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_feed;
struct mf_subscription;

/* most: subscriptions at once; one tenant has at most half of them. */
struct mf_feed *mf_feed_new(const char *directory, int patience_ms, size_t most,
                            struct mf_error *err) MF_CHECK_RESULT;
/* Ends all streams now and every later one at once (draining). */
void mf_feed_stop(struct mf_feed *feed);
/* Stops it; no subscription may be left. */
void mf_feed_free(struct mf_feed *feed);

/* Follows the jobs of a tenant after change number `after` (−1: from now on; store_changes.h), or
 * one job from its present state to its end (`job` not NULL). MF_ERR_BUSY: too many. */
struct mf_subscription *mf_feed_subscribe(struct mf_feed *feed, const char *tenant, const char *job,
                                          int64_t after, struct mf_error *err) MF_CHECK_RESULT;
void mf_feed_unsubscribe(struct mf_subscription *subscription);

/* For mf_respond_follow(); the context is the subscription. */
ssize_t mf_subscription_follow(void *subscription, const struct mf_rest *rest, char *out,
                               size_t max);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_feed, struct mf_feed *, mf_feed_free(*p))

#endif
