/*
 * Fuzz target proxymap: proto/proxymap on what a client may send, and its replies. Run by
 * tests/fuzz/run; touches memory only. Input: one byte for the size of the pieces, then the stream.
 * What the worker holds is moved before every call to memory of its exact length, as in the unit
 * tests, and every request that comes out must come out again of what a client would write for it.
 */
#include "proto/proxymap.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/common.h"

/* A connection, and what came of it in words. */
struct client {
    struct pm_decoder decoder;
    char *held;
    size_t held_len;
    FILE *seen;
    bool plain; /* nothing but whole requests so far, and nothing that is skipped */
};

static void see(struct client *c, const char *name, struct slice s)
{
    fprintf(c->seen, " %s=%zu:", name, s.len);
    if (s.len > 0)
        fwrite(s.ptr, 1, s.len, c->seen);
}

static void see_request(struct client *c, const struct pm_request *r)
{
    fprintf(c->seen, "%d %d %u %u %u", r->op, r->dialect, r->instance_flags, r->flags, r->function);
    see(c, "table", r->table);
    see(c, "key", r->key);
    see(c, "value", r->value);
    fputc('\n', c->seen);
}

static void check_borrowed(const struct client *c, struct slice s)
{
    CHECK(s.ptr >= c->held && s.len <= c->held_len && s.ptr + s.len <= c->held + c->held_len,
          "a slice of %zu bytes lies outside of the %zu held", s.len, c->held_len);
}

/* ---- what a client writes ---- */

static const char *const op_names[] = {"open", "lookup", "update", "delete", "sequence"};

static char *write_request(char *end, const struct pm_request *r)
{
    end = attr_put(end, "request", text_slice(op_names[r->op]));
    end = attr_put(end, "table", r->table);
    if (r->dialect == PM_NEW)
        end = attr_put_number(end, "instance_flags", r->instance_flags);
    if (r->dialect == PM_OLD || r->op != PM_OPEN)
        end = attr_put_number(end, "flags", r->flags);
    if (r->op == PM_LOOKUP || r->op == PM_UPDATE || r->op == PM_DELETE)
        end = attr_put(end, "key", r->key);
    if (r->op == PM_UPDATE)
        end = attr_put(end, "value", r->value);
    if (r->op == PM_SEQUENCE)
        end = attr_put_number(end, "function", r->function);
    *end++ = '\0';
    return end;
}

static void check_again(const struct pm_request *r)
{
    char *bytes = need_memory(r->table.len + r->key.len + r->value.len + 256);
    size_t len = (size_t)(write_request(bytes, r) - bytes), used = 0;
    struct pm_decoder decoder = {0};
    struct pm_request again;

    REQUIRE(pm_decode(&decoder, bytes, len, &again, &used) == PM_REQUEST && used == len,
            "a request that was understood is not when it is written again");
    CHECK(again.op == r->op && again.dialect == r->dialect && again.flags == r->flags &&
              again.instance_flags == r->instance_flags && again.function == r->function,
          "numbers of a request written again");
    CHECK(slice_same(again.table, r->table) && slice_same(again.key, r->key) &&
              slice_same(again.value, r->value),
          "strings of a request written again");
    CHECK(!decoder.skipping, "a request written again has a rest");
    free(bytes);
}

/* ---- replies ---- */

static void expect_attribute(struct attr_scan *scan, const char *buf, size_t len, const char *name,
                             struct slice value)
{
    struct slice token;

    CHECK(attr_next(scan, buf, len, &token) && slice_is(token, name), "%s is expected", name);
    CHECK(attr_next(scan, buf, len, &token) && slice_same(token, value), "the value of %s", name);
}

static void expect_number(struct attr_scan *scan, const char *buf, size_t len, const char *name,
                          uint32_t value)
{
    char digits[16];

    snprintf(digits, sizeof digits, "%u", value);
    expect_attribute(scan, buf, len, name, text_slice(digits));
}

static void check_reply(const struct pm_request *r, enum pm_status status)
{
    const struct pm_reply reply = {.op = r->op,
                                   .dialect = r->dialect,
                                   .status = status,
                                   .flags = r->flags & PM_FLAG_KNOWN,
                                   .key = r->key,
                                   .value = r->table};
    const struct slice none = {"", 0};
    char *bytes = need_memory(pm_reply_bound(&reply));
    size_t len = (size_t)(pm_encode(bytes, &reply) - bytes);
    struct attr_scan scan = {0, 0};
    struct slice last;

    CHECK(len <= pm_reply_bound(&reply), "a reply of %zu bytes", len);
    expect_number(&scan, bytes, len, "status", status);
    if (r->op == PM_OPEN || (r->op != PM_UNKNOWN && r->dialect == PM_NEW))
        expect_number(&scan, bytes, len, "flags", reply.flags);
    if (r->op == PM_SEQUENCE)
        expect_attribute(&scan, bytes, len, "key", status == PM_OK ? reply.key : none);
    if (r->op == PM_SEQUENCE || r->op == PM_LOOKUP)
        expect_attribute(&scan, bytes, len, "value", status == PM_OK ? reply.value : none);
    CHECK(attr_next(&scan, bytes, len, &last) && last.len == 0 && scan.pos == len,
          "the end of a reply");
    free(bytes);
}

/* ---- names and keys ---- */

static void check_names(struct slice table)
{
    struct slice name = pm_canonical(table), again = pm_canonical(name);
    char *folded = need_memory(table.len), *twice = need_memory(table.len);

    CHECK(name.ptr + name.len == table.ptr + table.len && slice_same(name, again),
          "a canonical name is the end of the name, and its own");
    CHECK(!pm_names_table(name) || memchr(name.ptr, ':', name.len) != NULL, "no colon");
    CHECK(pm_fold(folded, table).len == table.len, "folding changes the length");
    for (size_t i = 0; i < table.len; i++)
        CHECK(folded[i] == table.ptr[i] || (folded[i] ^ table.ptr[i]) == 0x20, "byte %zu", i);
    pm_fold(twice, (struct slice){folded, table.len});
    CHECK(memcmp(folded, twice, table.len) == 0, "folding twice is another thing");
    free(folded);
    free(twice);
}

/* ---- the worker's side ---- */

static void hold(struct client *c, const char *more, size_t len)
{
    char *moved = need_memory(c->held_len + len);

    if (c->held_len > 0)
        memcpy(moved, c->held, c->held_len);
    if (len > 0)
        memcpy(moved + c->held_len, more, len);
    free(c->held);
    c->held = moved;
    c->held_len += len;
}

static void forget(struct client *c, size_t used)
{
    char *rest;

    REQUIRE(used <= c->held_len, "%zu of %zu bytes consumed", used, c->held_len);
    rest = exact_copy(c->held + used, c->held_len - used);
    free(c->held);
    c->held = rest;
    c->held_len -= used;
}

static void take_result(struct client *c, enum pm_result result, const struct pm_request *r)
{
    c->plain &= result == PM_REQUEST && !c->decoder.skipping;
    if (result != PM_REQUEST && result != PM_MALFORMED)
        return;
    CHECK(r->op <= PM_UNKNOWN && r->dialect <= PM_NEW, "op %d, dialect %d", r->op, r->dialect);
    check_borrowed(c, r->table);
    check_borrowed(c, r->key);
    check_borrowed(c, r->value);
    for (unsigned status = PM_OK; status <= PM_CONFIG; status++)
        check_reply(r, (enum pm_status)status);
    if (result == PM_MALFORMED)
        return;
    CHECK(r->op < PM_UNKNOWN && r->function <= PM_FUNCTION_NEXT, "a request of no kind");
    check_again(r);
    check_names(r->table);
    see_request(c, r);
}

static void arrive(struct client *c, const char *bytes, size_t len)
{
    enum pm_result result = PM_SILENT;

    hold(c, bytes, len);
    while (result != PM_MORE && c->held_len > 0) {
        struct pm_request r;
        size_t used = SIZE_MAX;

        result = pm_decode(&c->decoder, c->held, c->held_len, &r, &used);
        CHECK(used <= c->held_len && (result == PM_MORE || used > 0), "%zu bytes consumed", used);
        if (result != PM_MORE)
            take_result(c, result, &r);
        forget(c, used);
    }
    CHECK(pm_decode_partial(&c->decoder, c->held_len) == (!c->decoder.skipping && c->held_len > 0),
          "in the middle of a request, or not");
}

/* The whole connection in pieces of that size. Returns what was seen, for the caller to free. */
static char *converse(struct slice stream, size_t step, bool *plain)
{
    struct client c = {.plain = true};
    struct pm_request r;
    enum pm_result result;
    char *text = NULL;
    size_t len = 0;

    c.seen = open_memstream(&text, &len);
    REQUIRE(c.seen != NULL, "out of memory");
    for (size_t at = 0; at < stream.len; at += step)
        arrive(&c, stream.ptr + at, stream.len - at < step ? stream.len - at : step);
    result = pm_decode_eof(&c.decoder, &r);
    CHECK(result == PM_SILENT || (result == PM_MALFORMED && c.held_len > 0), "an end of %d",
          result);
    fprintf(c.seen, "%d\n", result);
    *plain = c.plain;
    fclose(c.seen);
    free(c.held);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    size_t step = take_byte(&input) % 64 + 1;
    struct slice stream = {(const char *)input.at, input.left};
    bool plain, plain_in_pieces;
    char *whole = converse(stream, stream.len + 1, &plain);
    char *pieces = converse(stream, step, &plain_in_pieces);

    /* What is malformed or has more than is expected may depend on the pieces, as with Postfix. */
    CHECK(!plain || (plain_in_pieces && strcmp(whole, pieces) == 0),
          "in pieces of %zu bytes:\n%sat once:\n%s", step, pieces, whole);
    free(whole);
    free(pieces);
    return 0;
}
