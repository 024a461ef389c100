/*
 * A sink that writes down what a source yields: see recorder.h. Part of the unit test program; it
 * may make anonymous files and nothing else.
 */
#include "tests/unit/unit.h"
#include "tests/unit/recorder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/image.h"

static struct slice slice_copy(struct slice s)
{
    return (struct slice){exact_copy(s.ptr, s.len), s.len};
}

static int record_entry(struct sink *sink, struct slice key, unsigned forms, struct slice value)
{
    struct loaded *l = (struct loaded *)((char *)sink - offsetof(struct loaded, sink));

    if (l->count == l->refuse_at) {
        sink->failed = true;
        return -1;
    }
    CHECK(!sink->failed, "an entry after the sink has failed");
    if (l->count == l->cap) {
        l->cap = l->cap > 0 ? l->cap * 2 : 16;
        l->records = realloc(l->records, l->cap * sizeof *l->records);
        REQUIRE(l->records != NULL, "out of memory");
    }
    l->records[l->count++] = (struct record){forms, slice_copy(key), slice_copy(value)};
    return 0;
}

static int record_default(struct sink *sink, struct slice value)
{
    struct loaded *l = (struct loaded *)((char *)sink - offsetof(struct loaded, sink));

    CHECK(!l->has_default, "a second default");
    l->has_default = true;
    l->default_value = slice_copy(value);
    return 0;
}

static int file_of(struct slice bytes)
{
    int fd = memfd_create("source", MFD_CLOEXEC);

    REQUIRE(fd >= 0, "memfd_create: %s", strerror(errno));
    REQUIRE(bytes.len == 0 || write(fd, bytes.ptr, bytes.len) == (ssize_t)bytes.len, "write: %s",
            strerror(errno));
    return fd;
}

static void start(struct loaded *l)
{
    size_t refuse_at = l->refuse_at;
    uint32_t reveal = l->reveal;

    *l = (struct loaded){.refuse_at = refuse_at > 0 ? refuse_at : SIZE_MAX};
    l->sink = (struct sink){.add = record_entry, .add_default = record_default};
    l->source =
        (struct source){.sink = &l->sink, .fd = -1, .nsswitch = -1, .answered_by = KIND_IMAGE};
    l->source.reveal = reveal != REVEAL_EXISTENCE ? reveal : REVEAL_ALL;
}

void load_file(struct loaded *l, const struct source_ops *ops, struct slice file,
               const struct slice *nsswitch)
{
    start(l);
    l->source.fd = file_of(file);
    if (nsswitch != NULL)
        l->source.nsswitch = file_of(*nsswitch);
    l->rc = ops->load(&l->source);
    close(l->source.fd);
    if (nsswitch != NULL)
        close(l->source.nsswitch);
}

void load_name(struct loaded *l, const struct source_ops *ops, struct slice name)
{
    struct slice copy = slice_copy(name);

    start(l);
    l->source.name = copy;
    l->rc = ops->load(&l->source);
    free((char *)copy.ptr);
}

void load_fd(struct loaded *l, const struct source_ops *ops, int fd)
{
    start(l);
    l->source.fd = fd;
    l->rc = ops->load(&l->source);
}

void unload(struct loaded *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free((char *)l->records[i].key.ptr);
        free((char *)l->records[i].value.ptr);
    }
    free(l->records);
    free((char *)l->default_value.ptr);
    *l = (struct loaded){0};
}

bool loaded_find(const struct loaded *l, struct slice key, unsigned forms, struct slice *value)
{
    for (unsigned form = 1; form < 16; form <<= 1)
        for (size_t i = 0; i < l->count; i++)
            if ((l->records[i].forms & forms & form) && slice_same(l->records[i].key, key)) {
                *value = l->records[i].value;
                return true;
            }
    return false;
}

static void print_record(FILE *out, const struct record *r)
{
    static const char letters[] = "EUAF";

    for (unsigned bit = 0; bit < 4; bit++)
        if (r->forms & (1u << bit))
            putc(letters[bit], out);
    putc(' ', out);
    fwrite(r->key.ptr, 1, r->key.len, out);
    putc('=', out);
    fwrite(r->value.ptr, 1, r->value.len, out);
    putc('\n', out);
}

void expect_loaded(const struct loaded *l, const char *entries, const char *warning)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    REQUIRE(out != NULL, "out of memory");
    for (size_t i = 0; i < l->count; i++)
        print_record(out, &l->records[i]);
    fclose(out);
    CHECK(l->rc == 0, "it does not load: %s", l->source.why);
    CHECK_TEXT(text, entries, "entries");
    if (warning != NULL) {
        CHECK_TEXT(l->source.warning, warning, "warning");
        CHECK((l->source.ignored > 0) == (warning[0] != '\0'), "%u ignored", l->source.ignored);
    }
    free(text);
}

void expect_failed(const struct loaded *l, const char *why)
{
    CHECK(l->rc == -1, "it loads, instead of \"%s\"", why);
    CHECK(strstr(l->source.why, why) != NULL, "the reason is \"%s\", expected \"%s\"",
          l->source.why, why);
    CHECK(l->source.error == 0, "error %d", l->source.error);
}

void expect_sane(const struct loaded *l)
{
    CHECK(l->rc == 0 || l->rc == -1, "rc %d", l->rc);
    CHECK(l->rc == 0 || l->source.why[0] != '\0', "it fails without a reason");
    CHECK((l->source.ignored > 0) == (l->source.warning[0] != '\0'), "%u ignored, \"%s\"",
          l->source.ignored, l->source.warning);
    for (size_t i = 0; i < l->count; i++) {
        const struct record *r = &l->records[i];

        CHECK(r->forms > 0 && r->forms < 16, "entry %zu: forms %u", i, r->forms);
        if (r->forms & (IMAGE_FORM_ASCII | IMAGE_FORM_UNICODE) && r->forms != IMAGE_FORM_ANY)
            for (size_t at = 0; at < r->key.len; at++)
                CHECK(r->key.ptr[at] < 'A' || r->key.ptr[at] > 'Z', "entry %zu is not folded", i);
        for (size_t j = 0; j < i; j++)
            CHECK(!(l->records[j].forms & r->forms) || !slice_same(l->records[j].key, r->key),
                  "entries %zu and %zu are the same", j, i);
    }
}

size_t mutate(char *bytes, size_t len, size_t cap, const char *alphabet, size_t letters,
              uint64_t *random)
{
    for (unsigned n = 1 + random_next(random) % 6; n > 0; n--) {
        uint64_t what = random_next(random) % 8;
        size_t at = len > 0 ? random_next(random) % len : 0;

        if (what < 4 && len > 0) {
            bytes[at] = alphabet[random_next(random) % letters];
        } else if (what < 6 && len < cap) {
            memmove(bytes + at + 1, bytes + at, len - at);
            bytes[at] = alphabet[random_next(random) % letters];
            len++;
        } else if (what == 6) {
            len = at;
        } else if (len < cap) {
            size_t more = len - at < cap - len ? len - at : cap - len;

            memcpy(bytes + len, bytes + at, more);
            len += more;
        }
    }
    return len;
}

void expect_same(const struct loaded *a, const struct loaded *b)
{
    CHECK(a->count == b->count, "%zu entries, not %zu", a->count, b->count);
    for (size_t i = 0; i < a->count && i < b->count; i++)
        CHECK(a->records[i].forms == b->records[i].forms &&
                  slice_same(a->records[i].key, b->records[i].key) &&
                  slice_same(a->records[i].value, b->records[i].value),
              "entry %zu is another", i);
}
