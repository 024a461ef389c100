/*
 * jailmap-loader: turns one source into one image and ends. Started by the monitor for each load,
 * inside an empty chroot, without capabilities, with its bridge as descriptor 3. It may read the
 * source and write the memfd that come with LOAD; it can open, connect to and execute nothing. It
 * is not trusted: the monitor seals the image after it has exited, and readers bounds-check it.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/profile.h"
#include "server/loader/image_write.h"
#include "server/loader/source.h"

#define LOCK_RETRY_MS 5

static const struct source_ops *const sources[] = {&source_hash, &source_btree};

struct image_sink {
    struct sink sink;
    struct image_writer *writer;
    enum bridge_reveal reveal;
    int error;
};

/* Applies `reveal`, so that what is not to be known never reaches a worker. */
static int add_to_image(struct sink *sink, struct slice key, bool stored_nul, struct slice value)
{
    struct image_sink *is = (struct image_sink *)sink;

    if (is->reveal == REVEAL_EXISTENCE)
        value = key;
    if (image_writer_add(is->writer, key, stored_nul, value) == 0)
        return 0;
    is->error = errno;
    sink->failed = true;
    return -1;
}

static _Noreturn void fail(int error, const char *why)
{
    struct msg_failed body = {(uint32_t)error};
    size_t len = strlen(why);

    bridge_send(BRIDGE_FD, MSG_FAILED, &body, why, len < BRIDGE_TEXT_MAX ? len : BRIDGE_TEXT_MAX,
                NULL);
    exit(EXIT_FAILURE);
}

/* Waits for whoever is rewriting the file, as postmap(1) does under an exclusive lock. */
static void lock_shared(int fd, uint32_t limit_ms)
{
    const struct timespec pause = {0, LOCK_RETRY_MS * 1000000L};

    for (uint32_t waited = 0; flock(fd, LOCK_SH | LOCK_NB) != 0; waited += LOCK_RETRY_MS) {
        if (errno != EWOULDBLOCK)
            fail(errno, "cannot lock the file");
        if (waited >= limit_ms)
            fail(EWOULDBLOCK, "locked by another process for too long");
        nanosleep(&pause, NULL);
    }
}

static const struct source_ops *source_of(uint32_t type)
{
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        if (sources[i]->type == type)
            return sources[i];
    fail(0, "no loader for this table type");
}

static void load(const struct msg_load *order, int source_fd, int image_fd)
{
    const struct source_ops *source = source_of(order->type);
    struct image_sink sink = {.sink.add = add_to_image,
                              .reveal = (enum bridge_reveal)order->reveal};
    struct msg_loaded loaded;
    char why[512] = "";

    if (source->flock)
        lock_shared(source_fd, order->lock_ms);
    sink.writer = image_writer_start(image_fd);
    if (sink.writer == NULL)
        fail(errno, "cannot begin the image");
    if (source->load(source_fd, &sink.sink, why, sizeof why) != 0 && !sink.sink.failed)
        fail(0, why);
    if (!sink.sink.failed && image_writer_finish(sink.writer, &loaded.entries) != 0)
        sink.error = errno;
    if (sink.error != 0) {
        snprintf(why, sizeof why, "cannot write the image: %s%s", strerror(sink.error),
                 sink.error == EFBIG ? "; 64 MB and 16 times its source, or 4 GB, is the most"
                                     : "");
        fail(sink.error, why);
    }
    if (bridge_send(BRIDGE_FD, MSG_LOADED, &loaded, NULL, 0, NULL) != 0)
        exit(EXIT_FAILURE);
}

int main(void)
{
    static _Alignas(8) char buf[BRIDGE_SMALL];
    struct pollfd bridge = {.fd = BRIDGE_FD, .events = POLLIN};
    struct bridge_msg msg;
    const char *why;

    profile_enter(&profile_loader);
    while (poll(&bridge, 1, -1) < 0)
        if (errno != EINTR)
            return EXIT_FAILURE;
    if (bridge_receive(BRIDGE_FD, buf, sizeof buf, ROLE_MONITOR, ROLE_LOADER, STATE_BEGIN, &msg,
                       &why) != BRIDGE_OK)
        return EXIT_FAILURE;
    load(&msg.body.LOAD, msg.fds[0], msg.fds[1]);
    return EXIT_SUCCESS;
}
