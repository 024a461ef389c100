/*
 * What the fuzz targets share: see common.h. Linked into every target, and the parts of it that
 * stand in for main.c of the unit tests let their recorder be used. It may make anonymous files
 * and memory; it must never let a failed check pass.
 *
 * Files are mapped here so that they end where a page without access begins, because the pages of
 * a real mapping end in zeros behind the file, where a read too far would go unseen; and of a
 * buffer that is read into, what was not filled must not be read. Random numbers are always the
 * same, so that an input that ends a target today does so tomorrow.
 */
#include "server/text.h"
#include "tests/fuzz/common.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__has_feature) && __has_feature(address_sanitizer)
#include <sanitizer/allocator_interface.h>
#include <sanitizer/asan_interface.h>
#endif

/* ---- what the unit tests' program has ---- */

bool unit_check(bool ok, bool fatal, const char *file, unsigned line, const char *format, ...)
{
    va_list ap;

    (void)fatal;
    if (ok)
        return true;
    fprintf(stderr, "%s:%u: does not hold: ", file, line);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

/* ---- system calls that the linker leads here ---- */

void *__real_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t len);
int __wrap_munmap(void *at, size_t len);
int __real_text_append(struct text *text, struct slice bytes);
int __wrap_text_append(struct text *text, struct slice bytes);
ssize_t __real_pread(int fd, void *bytes, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *bytes, size_t len, off_t offset);
ssize_t __wrap_getrandom(void *bytes, size_t len, unsigned flags);

#define MAPPINGS 4

static struct mapping {
    char *pages, *begin;
    size_t len;
} mappings[MAPPINGS];

static size_t whole_pages(size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (len + page - 1) / page * page;
}

/* Only a file that is mapped to be read, which is how libcdb maps one. */
void *__wrap_mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    size_t pages = whole_pages(len), guard = whole_pages(1);
    struct mapping *m = mappings;

    if (fd < 0 || prot != PROT_READ || len == 0)
        return __real_mmap(at, len, prot, flags, fd, offset);
    while (m->pages != NULL)
        REQUIRE(++m < mappings + MAPPINGS, "a mapping was not released");
    m->pages = __real_mmap(NULL, pages + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                           -1, 0);
    REQUIRE(m->pages != MAP_FAILED, "mmap: %s", strerror(errno));
    m->begin = m->pages + pages - len;
    m->len = pages + guard;
    REQUIRE(pread(fd, m->begin, len, offset) == (ssize_t)len, "a file is mapped beyond its end");
    mprotect(m->pages, pages, PROT_READ);
    mprotect(m->pages + pages, guard, PROT_NONE);
    return m->begin;
}

int __wrap_munmap(void *at, size_t len)
{
    for (struct mapping *m = mappings; m < mappings + MAPPINGS; m++)
        if (m->begin == at && m->pages != NULL) {
            int rc = __real_munmap(m->pages, m->len);

            *m = (struct mapping){0};
            return rc;
        }
    return __real_munmap(at, len);
}

/* Marks memory as not to be read; it may be written, by what stands here, and freed. */
static void forbid(const char *from, const char *to)
{
#if defined(__has_feature) && __has_feature(address_sanitizer)
    if (from < to)
        ASAN_POISON_MEMORY_REGION(from, (size_t)(to - from));
#else
    (void)from;
    (void)to;
#endif
}

static void permit(const char *from, const char *to)
{
#if defined(__has_feature) && __has_feature(address_sanitizer)
    ASAN_UNPOISON_MEMORY_REGION(from, (size_t)(to - from));
#else
    (void)from;
    (void)to;
#endif
}

/* Where the memory ends that begins there, if any does. */
static const char *end_of_memory(const char *bytes, size_t len)
{
#if defined(__has_feature) && __has_feature(address_sanitizer)
    if (__sanitizer_get_ownership(bytes))
        len = __sanitizer_get_allocated_size(bytes);
#endif
    return bytes + len;
}

/* What is left of a buffer behind the bytes that were read holds nothing. */
ssize_t __wrap_pread(int fd, void *bytes, size_t len, off_t offset)
{
    const char *begin = bytes, *end = end_of_memory(bytes, len);
    ssize_t n;

    permit(begin, end);
    n = __real_pread(fd, bytes, len, offset);
    forbid(begin + (n > 0 ? n : 0), end);
    return n;
}

/* What is appended to such a buffer is there from then on. */
int __wrap_text_append(struct text *text, struct slice bytes)
{
    if (text->ptr != NULL)
        permit(text->ptr + text->len, end_of_memory(text->ptr, text->cap));
    return __real_text_append(text, bytes);
}

ssize_t __wrap_getrandom(void *bytes, size_t len, unsigned flags)
{
    (void)flags;
    memset(bytes, 0x5a, len);
    return (ssize_t)len;
}

/* ---- inputs ---- */

uint8_t take_byte(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

uint16_t take_16(struct input *input)
{
    unsigned low = take_byte(input);

    return (uint16_t)(low | (unsigned)take_byte(input) << 8);
}

struct slice take_slice(struct input *input, size_t most)
{
    size_t len = take_byte(input);
    struct slice s = {(const char *)input->at, 0};

    if (len > most)
        len = most;
    s.len = len < input->left ? len : input->left;
    input->at += s.len;
    input->left -= s.len;
    return s;
}

/* ---- files ---- */

int file_of_bytes(const void *bytes, size_t len)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    REQUIRE(fd >= 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len, "no file: %s", strerror(errno));
    return fd;
}

char *bytes_of_file(int fd, size_t *len)
{
    struct stat st;
    char *bytes;

    REQUIRE(fstat(fd, &st) == 0, "fstat: %s", strerror(errno));
    *len = (size_t)st.st_size;
    bytes = need_memory(*len);
    REQUIRE(pread(fd, bytes, *len, 0) == (ssize_t)*len, "pread: %s", strerror(errno));
    return bytes;
}

/* Bytes are added to, not set: a length that is one too large is the better attack. */
void damage(int fd, struct input *input, unsigned most)
{
    struct stat st;

    REQUIRE(fstat(fd, &st) == 0, "fstat: %s", strerror(errno));
    for (unsigned n = 0; n < most && input->left > 0 && st.st_size > 0; n++) {
        off_t at = take_16(input) % st.st_size;
        uint8_t add = take_byte(input), byte;

        if (most > 1 && at % 64 == 63) { /* now and then */
            st.st_size = at;
            REQUIRE(ftruncate(fd, at) == 0, "ftruncate: %s", strerror(errno));
            continue;
        }
        REQUIRE(pread(fd, &byte, 1, at) == 1, "pread: %s", strerror(errno));
        byte = (uint8_t)(byte + add);
        REQUIRE(pwrite(fd, &byte, 1, at) == 1, "pwrite: %s", strerror(errno));
    }
}

/* ---- checks ---- */

bool is_part_of(struct slice part, struct slice whole)
{
    size_t at = 0;

    for (size_t i = 0; i < whole.len && at < part.len; i++)
        at += whole.ptr[i] == part.ptr[at];
    return at == part.len;
}

void expect_refusal(const struct source_ops *ops, struct slice file, struct slice name,
                    size_t count)
{
    struct loaded l = {.refuse_at = count / 2};

    if (l.refuse_at == 0) /* would mean: none */
        return;
    if (name.len > 0)
        load_name(&l, ops, name);
    else
        load_file(&l, ops, file, NULL);
    CHECK(l.rc == -1 && l.sink.failed, "the sink refuses an entry, and the source does not fail");
    CHECK(l.count == count / 2, "%zu entries before the refusal, not %zu", l.count, count / 2);
    unload(&l);
}

uint64_t descriptors(void)
{
    uint64_t open = 0;

    for (int fd = 0; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            open |= UINT64_C(1) << fd;
    return open;
}
