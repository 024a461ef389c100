/*
 * Fuzz target attr: proto/attr on any bytes, in any pieces. Run by tests/fuzz/run; touches memory
 * only. Input: one byte for the size of the pieces, then the list. What attr.c finds is compared
 * with what a reader finds that has all bytes at once and nothing to save.
 */
#include "proto/attr.h"

#include <stdlib.h>

#include "tests/fuzz/common.h"

/* Tokens must come out as they lie between NULs, however the bytes arrive. */
static void check_tokens(struct slice list, size_t step)
{
    struct attr_scan scan = {0, 0};
    size_t begin = 0;

    for (size_t have = 0; have <= list.len; have += step) {
        char *buf = exact_copy(list.ptr, have);
        struct slice token;

        while (attr_next(&scan, buf, have, &token)) {
            size_t len = strnlen(list.ptr + begin, list.len - begin);

            CHECK(token.ptr == buf + begin && token.len == len && begin + len < have,
                  "a token at %zu of %zu bytes", begin, token.len);
            begin += len + 1;
            CHECK(scan.pos == begin && scan.seen == begin, "the scan is at %u", scan.pos);
        }
        CHECK(begin >= have || memchr(buf + begin, 0, have - begin) == NULL,
              "a whole token at %zu is not found", begin);
        free(buf);
    }
}

/* Where the list ends whose rest this is; SIZE_MAX: not among these bytes. */
static size_t end_of_list(struct slice list, bool in_value)
{
    for (size_t at = 0; at < list.len; in_value = !in_value) {
        size_t len = strnlen(list.ptr + at, list.len - at);

        if (at + len == list.len)
            break;
        at += len + 1;
        if (len == 0 && !in_value)
            return at;
    }
    return SIZE_MAX;
}

static void check_skip(struct slice list, size_t step, bool begins_in_value)
{
    bool in_value = begins_in_value, in_token = false, ended = false;
    size_t end = end_of_list(list, begins_in_value), used = 0;

    while (used < list.len && !ended) {
        size_t len = list.len - used < step ? list.len - used : step;
        char *piece = exact_copy(list.ptr + used, len);
        size_t took = attr_skip(piece, len, &in_value, &in_token, &ended);

        CHECK(took <= len && (ended || took == len), "%zu of %zu bytes skipped", took, len);
        used += took;
        free(piece);
    }
    CHECK(ended == (end != SIZE_MAX), "the list %s", ended ? "has no end" : "ends");
    CHECK(!ended || used == end, "the list ends at %zu, not %zu", end, used);
}

static bool reference_number(struct slice text, uint32_t *number)
{
    uint64_t sum = 0;

    while (text.len > 10 && text.ptr[0] == '0')
        text = (struct slice){text.ptr + 1, text.len - 1};
    for (size_t i = 0; i < text.len && i < 11; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        sum = sum * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *number = (uint32_t)sum;
    return text.len > 0 && sum <= UINT32_MAX;
}

static void check_number(struct slice text)
{
    char *exact = exact_copy(text.ptr, text.len), put[32], *end;
    uint32_t got = 0, want = 0, again = 0;
    bool is_number = attr_number((struct slice){exact, text.len}, &got);

    CHECK(is_number == reference_number(text, &want) && (!is_number || got == want),
          "\"%.*s\" is %s, %u", (int)text.len, text.ptr, is_number ? "a number" : "none", got);
    end = attr_put_number(put, "n", got);
    CHECK(end <= put + 1 + 12 && memcmp(put, "n", 2) == 0 && end[-1] == '\0', "%u is put", got);
    CHECK(attr_number((struct slice){put + 2, (size_t)(end - put) - 3}, &again) && again == got,
          "%u comes back as %u", got, again);
    free(exact);
}

/* A list of tokens that came out of a list is that list. */
static void check_put(struct slice list)
{
    char *put = need_memory(list.len + 2), *end = put;
    struct attr_scan scan = {0, 0};
    struct slice name, value;

    while (attr_next(&scan, list.ptr, list.len, &name)) {
        check_number(name);
        if (!attr_next(&scan, list.ptr, list.len, &value))
            break;
        end = attr_put(end, name.ptr, value);
        CHECK(end == put + scan.pos && memcmp(put, list.ptr, scan.pos) == 0,
              "the first %u bytes are put as others", scan.pos);
    }
    free(put);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    size_t step = take_byte(&input) % 32 + 1;
    struct slice list = {(const char *)input.at, input.left};

    check_tokens(list, step);
    check_skip(list, step, false);
    check_skip(list, step, true);
    check_skip(list, list.len + 1, false);
    check_put(list);
    check_number(list);
    return 0;
}
