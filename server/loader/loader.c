/*
 * jailmap-loader: turns one source into one image and ends. Started by the monitor for each load,
 * inside an empty chroot, without capabilities, with its bridge as descriptor 3. It may read
 * what comes with INPUT and write the memfd that comes with LOAD; it can open, connect to and
 * execute nothing. It is not trusted: the monitor seals the image after it has exited, and readers
 * bounds-check it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "privsep/bridge.h"
#include "privsep/hear.h"
#include "privsep/profile.h"
#include "server/image.h"
#include "server/loader/image_write.h"
#include "server/loader/source.h"
#include "server/text.h"

/* By the title that the monitor gives it, the loader knows what it will be asked to do. */
static const struct {
    const char *title;
    const struct source_ops *ops;
    const struct profile *profile;
} sources[] = {
    {"hash:", &source_hash, &profile_loader_db},
    {"btree:", &source_btree, &profile_loader_db},
    {"cdb:", &source_cdb, &profile_loader_cdb},
    {"lmdb:", &source_lmdb, &profile_loader_lmdb},
    {"texthash:", &source_texthash, &profile_loader_text},
    {"inline:", &source_inline, &profile_loader_name},
    {"static:", &source_static, &profile_loader_name},
    {"environ:", &source_environ, &profile_loader_name},
    {"unix:passwd.", &source_passwd, &profile_loader_text},
    {"unix:group.", &source_group, &profile_loader_text},
};
#define SOURCES (sizeof sources / sizeof sources[0])

struct image_sink {
    struct sink sink;
    struct image_writer *writer;
    const struct msg_load *order;
    struct source *source;
    int error;
};

static int result_of(struct image_sink *is, int rc)
{
    if (rc == 0)
        return 0;
    is->error = errno;
    is->sink.failed = true;
    return -1;
}

/* The same key in other letters is left out without a word. */
static void leave_out(struct image_sink *is, struct slice key, unsigned forms)
{
    struct text_quoted quoted;

    if (forms & IMAGE_FORMS_WRITTEN)
        source_ignore(is->source, 0, "the key \"%s\" (%zu bytes) is not within max-key and keys",
                      text_quote(&quoted, key), key.len);
}

/* Applies `reveal`, so that what is not to be known never reaches a worker; and the limit of keys,
 * so that a worker that looks for no other key tells the truth. */
static int add_to_image(struct sink *sink, struct slice key, unsigned forms, struct slice value)
{
    struct image_sink *is = (struct image_sink *)sink;

    if (!key_limit_passes(&is->order->limit, key)) {
        leave_out(is, key, forms);
        return 0;
    }
    if (is->order->reveal == REVEAL_EXISTENCE)
        value = key;
    return result_of(is, image_writer_add(is->writer, key, forms, value));
}

/* The policy refuses `reveal` for what has such a value: its name says it. */
static int add_default_to_image(struct sink *sink, struct slice value)
{
    struct image_sink *is = (struct image_sink *)sink;

    return result_of(is, image_writer_default(is->writer, value));
}

static _Noreturn void fail(int error, const char *why)
{
    struct msg_failed body = {(uint32_t)error};

    bridge_send(BRIDGE_FD, MSG_FAILED, &body, why, strlen(why), NULL);
    exit(EXIT_FAILURE);
}

/* The source that the title names, behind its filter. */
static const struct source_ops *enter_profile(const char *title)
{
    const char *name = strstr(title, ": ");

    for (size_t i = 0; name != NULL && i < SOURCES; i++)
        if (strncmp(name + 2, sources[i].title, strlen(sources[i].title)) == 0) {
            profile_enter(sources[i].profile);
            return sources[i].ops;
        }
    exit(EXIT_FAILURE);
}

static void load(const struct source_ops *ops, const struct msg_load *order, struct source *source,
                 int image_fd)
{
    static struct image_sink is = {
        .sink = {.add = add_to_image, .add_default = add_default_to_image}};
    struct msg_loaded loaded = {0};

    if (order->type != ops->type)
        fail(0, "it was started for another type of table");
    is.order = order;
    is.source = source;
    source->sink = &is.sink;
    source->reveal = order->reveal;
    source->answered_by = KIND_IMAGE;
    is.writer = image_writer_start(image_fd);
    if (is.writer == NULL)
        fail(errno, "cannot begin the image");
    if (ops->load(source) != 0 && !is.sink.failed)
        fail(source->error, source->why);
    if (!is.sink.failed && image_writer_finish(is.writer, &loaded.entries) != 0)
        is.error = errno;
    if (is.error != 0) {
        snprintf(source->why, sizeof source->why, "cannot write the image: %s", strerror(is.error));
        fail(is.error, source->why);
    }
    loaded.answered_by = source->answered_by;
    loaded.ignored = source->ignored;
    if (bridge_send(BRIDGE_FD, MSG_LOADED, &loaded, source->warning, strlen(source->warning),
                    NULL) != 0)
        exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    const struct source_ops *ops = enter_profile(argc > 0 ? argv[0] : "");
    struct source source = {.fd = -1, .nsswitch = -1};
    struct bridge_msg msg;

    for (msg = hear_next(ROLE_LOADER, STATE_BEGIN); msg.type == MSG_INPUT;
         msg = hear_next(ROLE_LOADER, STATE_BEGIN)) {
        if (msg.body.INPUT.input == INPUT_SOURCE)
            source.fd = msg.fds[0];
        else
            source.nsswitch = msg.fds[0];
    }
    source.name = (struct slice){msg.tail, msg.tail_len};
    load(ops, &msg.body.LOAD, &source, msg.fds[0]);
    return EXIT_SUCCESS;
}
