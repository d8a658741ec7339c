/* A store behind its server, in a thread of its own: f.store is a client over the socket. */
#ifndef MF_TESTS_SERVER_SERVED_FIXTURE_H
#define MF_TESTS_SERVER_SERVED_FIXTURE_H

#include "store_fixture.h"

#include <pthread.h>
#include <unistd.h>

struct served_fixture {
    struct store_fixture f;
    struct mf_store_server server;
    int stop[2];
    pthread_t thread;
};

static inline void *served_run(void *server)
{
    struct mf_error err = MF_ERROR_INIT;
    return mf_store_server_run(server, &err) ? server : NULL;
}

static inline void served_start(struct served_fixture *v)
{
    struct mf_error err = MF_ERROR_INIT;
    fixture_start(&v->f);
    mf_store_free(v->f.store);
    assert_int_equal(pipe(v->stop), 0);
    v->server = (struct mf_store_server){.directory = v->f.directory,
                                         .settings = v->f.settings,
                                         .listen_fd = mf_store_listen(v->f.directory, &err),
                                         .stop_fd = v->stop[0],
                                         .ready_fd = -1};
    assert_no_error(&err);
    assert_int_equal(pthread_create(&v->thread, NULL, served_run, &v->server), 0);
    v->f.store = mf_store_connect(v->f.directory, 10000, &err);
    assert_non_null(v->f.store);
}

static inline void served_end(struct served_fixture *v)
{
    void *ended = NULL;
    close(v->stop[1]);
    pthread_join(v->thread, &ended);
    assert_non_null(ended);
    close(v->stop[0]);
    close(v->server.listen_fd);
    fixture_end(&v->f);
}

#endif
