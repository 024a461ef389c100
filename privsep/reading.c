/*
 * Reading the configuration anew. Runs in the monitor, with privilege. It may open the files of the
 * configuration by the safe path rule, each when the reader asks for it by a name beside the main
 * file, and take the policy that the reader makes of them, as a text of numbers; it must never read
 * such a file itself, nor take anything of files that changed while they were read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "policy/policy.h"
#include "privsep/bridge.h"
#include "privsep/child.h"
#include "privsep/fingerprint.h"
#include "privsep/launch.h"
#include "privsep/monitor.h"
#include "privsep/reading.h"

#define READING_MS 60000 /* the name service may be slow */
#define READ_ROOM  4096  /* messages that it may send besides its allowance */

/* A file, or a directory, as it was when it was opened. */
struct file {
    char *name;
    struct fingerprint is;
};

static struct {
    struct child *reader;
    void (*done)(struct policy *policy, const char *why, bool torn);
    struct file *files;
    size_t nfiles;
    char *text;
    size_t len, room;
    bool whole;     /* it says that the text is */
    char bad[2048]; /* what it says is wrong */
    bool fresh;     /* a file was written so lately that the next change could bear the same time */
} reading;

static void forget_all(void)
{
    for (size_t i = 0; i < reading.nfiles; i++)
        free(reading.files[i].name);
    free(reading.files);
    free(reading.text);
    memset(&reading, 0, sizeof reading);
}

/* ---- files ---- */

/* Opens it and remembers what it is like. */
static int open_file(const char *name, char *why, size_t len)
{
    struct file *grown = NULL, file = {.name = strdup(name)};
    struct stat st;
    int64_t age;
    int fd = -1;

    if (reading.nfiles >= CONFIG_FILES_MAX)
        snprintf(why, len, "a configuration has at most %d files", CONFIG_FILES_MAX);
    else if (file.name == NULL ||
             (grown = reallocarray(reading.files, reading.nfiles + 1, sizeof *grown)) == NULL)
        snprintf(why, len, "%s", strerror(ENOMEM));
    else
        fd = monitor_open_config(name, &st, why, len);
    if (grown != NULL)
        reading.files = grown;
    if (fd < 0) {
        free(file.name);
        return -1;
    }
    age = fingerprint_age(st.st_ctim);
    reading.fresh |= age >= 0 && age < TICK_MS;
    file.is = fingerprint(&st);
    reading.files[reading.nfiles++] = file;
    return fd;
}

/* Do the names still lead to what was read? */
static bool is_torn(void)
{
    char why[512];

    for (size_t i = 0; i < reading.nfiles; i++) {
        struct fingerprint now;
        struct stat st;
        int fd = monitor_open_config(reading.files[i].name, &st, why, sizeof why);

        if (fd < 0)
            return true;
        close(fd);
        now = fingerprint(&st);
        if (!fingerprint_same(&now, &reading.files[i].is))
            return true;
    }
    return reading.fresh;
}

/* ---- the reader ---- */

static bool is_component(struct slice part)
{
    return part.len > 0 && memchr(part.ptr, '\0', part.len) == NULL && !slice_is(part, ".") &&
           !slice_is(part, "..");
}

static bool is_fragment(struct slice name)
{
    static const char end[] = ".conf";

    return is_component(name) && name.len >= sizeof end - 1 &&
           memcmp(name.ptr + name.len - (sizeof end - 1), end, sizeof end - 1) == 0 &&
           memchr(name.ptr, '/', name.len) == NULL;
}

/* "DIR" or "DIR/NAME.conf": so nothing else is opened in, above or below the main file's directory.
 */
static bool is_beside(struct slice name)
{
    const char *slash = name.len > 0 ? memchr(name.ptr, '/', name.len) : NULL;
    size_t first = slash != NULL ? (size_t)(slash - name.ptr) : name.len;
    struct slice rest = {name.ptr + first + 1, slash != NULL ? name.len - first - 1 : 0};

    if (!is_component((struct slice){name.ptr, first}))
        return false;
    return slash == NULL || is_fragment(rest);
}

/* WANT: name. */
static void handle_want(struct child *c, const struct bridge_msg *msg)
{
    struct slice wanted = {msg->tail, msg->tail_len};
    struct msg_config body = {0};
    char name[BRIDGE_TEXT_MAX + 1], why[512];
    bool sent;
    int fd;

    if (!is_beside(wanted)) {
        child_end(c, "it asks for a file that is not beside the configuration");
        return;
    }
    memcpy(name, wanted.ptr, wanted.len);
    name[wanted.len] = '\0';
    fd = open_file(name, why, sizeof why);
    if (fd >= 0) {
        sent = child_send(c, MSG_GIVEN, &body, NULL, 0, &fd);
        close(fd);
    } else {
        sent = child_send(c, MSG_NOT_GIVEN, &body, why, strlen(why), NULL);
    }
    if (!sent)
        child_end(c, "it asks and does not read the answers");
}

/* TEXT: a piece of it. */
static void handle_text(struct child *c, const struct bridge_msg *msg)
{
    size_t room = reading.room;
    char *grown;

    if (msg->tail_len > CONFIG_TEXT_MAX - reading.len) {
        child_end(c, "the policy that it reports is too long");
        return;
    }
    while (room - reading.len < msg->tail_len)
        room = room == 0 ? 64 * 1024 : 2 * room;
    if (room > reading.room) {
        grown = realloc(reading.text, room);
        if (grown == NULL) {
            child_end(c, strerror(ENOMEM));
            return;
        }
        reading.text = grown;
        reading.room = room;
    }
    memcpy(reading.text + reading.len, msg->tail, msg->tail_len);
    reading.len += msg->tail_len;
}

static void reader_message(struct child *c, const struct bridge_msg *msg)
{
    if (msg->type == MSG_WANT) {
        handle_want(c, msg);
    } else if (msg->type == MSG_TEXT) {
        handle_text(c, msg);
    } else if (msg->type == MSG_DONE) {
        c->state = STATE_DONE;
        reading.whole = true;
    } else { /* BAD: what is wrong */
        c->state = STATE_DONE;
        policy_printable((struct slice){msg->tail, msg->tail_len}, reading.bad, sizeof reading.bad);
    }
}

/* Its end is the end of the reading, whatever it has said. */
static void reader_gone(struct child *c, const char *how)
{
    void (*done)(struct policy * policy, const char *why, bool torn) = reading.done;
    struct policy *policy = NULL;
    char why[2048] = "";
    bool torn = how == NULL && is_torn();

    (void)c;

    if (torn)
        snprintf(why, sizeof why, "%s: it, or what it includes, changed while it was read",
                 monitor_config);
    else if (how != NULL || (!reading.whole && reading.bad[0] == '\0'))
        snprintf(why, sizeof why, "%s: its reader ended: %s", monitor_config,
                 how != NULL ? how : "it said nothing");
    else if (reading.bad[0] != '\0')
        snprintf(why, sizeof why, "%s", reading.bad);
    else
        policy =
            policy_parse(reading.text != NULL ? reading.text : "", reading.len, why, sizeof why);
    forget_all();
    done(policy, why, torn);
}

void reading_start(void (*done)(struct policy *policy, const char *why, bool torn))
{
    static const struct child_ops ops = {
        .role = ROLE_READER, .what = "reader", .message = reader_message, .gone = reader_gone};
    static const struct spawn limits = {.descriptors = 256,
                                        .file_size = 0,
                                        .memory = UINT64_C(1) << 30,
                                        .cpu_seconds = READING_MS / 1000};
    struct msg_config body = {0};
    char reason[512], why[2048];
    int fd = open_file("", reason, sizeof reason);

    reading.done = done;
    if (fd >= 0) {
        snprintf(reason, sizeof reason, "no reader can be started");
        reading.reader = child_start(&ops, NULL, HELPER_READER, &limits, "jailmap-reader");
    }
    if (reading.reader == NULL) {
        snprintf(why, sizeof why, "%s: %s", monitor_config, reason);
        forget_all();
        done(NULL, why, false);
    } else {
        if (!child_send(reading.reader, MSG_CONFIG, &body, monitor_config, strlen(monitor_config),
                        &fd))
            child_end(reading.reader, "it could not be sent the configuration");
        reading.reader->state = STATE_SERVE;
        reading.reader->late = "it took longer than 60 s; does the name service answer?";
        reading.reader->kill_at = reading.reader->started + READING_MS;
        child_credit(reading.reader, READ_ROOM + CONFIG_FILES_MAX);
    }
    if (fd >= 0)
        close(fd);
}
