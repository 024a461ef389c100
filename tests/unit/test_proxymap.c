/*
 * Tests of proto/proxymap: requests of both dialects byte for byte, malformed input with the answer
 * that Postfix's proxymap(8) was measured to give, whole, in every two pieces and byte by byte, and
 * every reply. Requests are fed through a stand-in for the worker that moves what it holds to other
 * memory of its exact length before every call. Part of the unit test program; touches nothing
 * else.
 */
#include "proto/proxymap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

/* A connection as a server sees it, and what came of it, a line for each request or reply. */
struct client {
    struct pm_decoder decoder;
    bool patient; /* calls again with nothing held; the worker does not, and either is right */
    char *held;
    size_t held_len;
    char seen[8192];
    size_t seen_len;
};

__attribute__((format(printf, 2, 3))) static void see(struct client *c, const char *format, ...)
{
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(c->seen + c->seen_len, sizeof c->seen - c->seen_len, format, ap);
    va_end(ap);
    REQUIRE(n >= 0 && (size_t)n < sizeof c->seen - c->seen_len, "more seen than there is room for");
    c->seen_len += (size_t)n;
}

/* Long ones by their length and a checksum of their content. */
static void see_slice(struct client *c, const char *name, struct slice s)
{
    uint32_t sum = 2166136261u;

    if (s.len <= 100) {
        see(c, " %s=%.*s", name, (int)s.len, s.len > 0 ? s.ptr : "");
        return;
    }
    for (size_t i = 0; i < s.len; i++)
        sum = (sum ^ (unsigned char)s.ptr[i]) * 16777619u;
    see(c, " %s=%zu:%08x", name, s.len, sum);
}

static void see_request(struct client *c, const struct pm_request *r)
{
    static const char *const ops[] = {"open", "lookup", "update", "delete", "sequence", "unknown"};
    static const char dialects[] = "ON";

    see(c, "%s %c", ops[r->op], dialects[r->dialect]);
    see_slice(c, "table", r->table);
    see(c, " i=%u f=%u", r->instance_flags, r->flags);
    if (r->op == PM_LOOKUP || r->op == PM_UPDATE || r->op == PM_DELETE)
        see_slice(c, "key", r->key);
    if (r->op == PM_UPDATE)
        see_slice(c, "value", r->value);
    if (r->op == PM_SEQUENCE)
        see(c, " function=%u", r->function);
    see(c, "\n");
}

/* The reply to a malformed request, on a line, with `|` for NUL. */
static void see_bad(struct client *c, const struct pm_request *r)
{
    struct pm_reply reply = {.op = r->op, .dialect = r->dialect, .status = PM_BAD};
    char bytes[128], *end = pm_encode(bytes, &reply);

    for (const char *at = bytes; at < end; at++)
        see(c, "%c", *at == '\0' ? '|' : *at);
    see(c, "\n");
}

static void check_borrowed(const struct client *c, struct slice s)
{
    CHECK(s.ptr >= c->held && s.ptr + s.len <= c->held + c->held_len,
          "a slice lies outside of the buffer");
}

/* What is held, and more, in new memory. */
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

    if (!CHECK(used <= c->held_len, "%zu of %zu bytes consumed", used, c->held_len))
        used = c->held_len;
    rest = exact_copy(c->held + used, c->held_len - used);
    free(c->held);
    c->held = rest;
    c->held_len -= used;
}

static void arrive(struct client *c, const char *bytes, size_t len)
{
    enum pm_result result = PM_SILENT;

    hold(c, bytes, len);
    while (result != PM_MORE && (c->held_len > 0 || c->patient)) {
        struct pm_request r;
        size_t used = SIZE_MAX;

        result = pm_decode(&c->decoder, c->held, c->held_len, &r, &used);
        if (result == PM_REQUEST || result == PM_MALFORMED) {
            check_borrowed(c, r.table);
            check_borrowed(c, r.key);
            check_borrowed(c, r.value);
        }
        if (result == PM_REQUEST)
            see_request(c, &r);
        else if (result == PM_MALFORMED)
            see_bad(c, &r);
        if (result != PM_MORE)
            CHECK(used > 0, "a result that consumes nothing");
        forget(c, used);
    }
}

static void arrive_text(struct client *c, const char *text)
{
    struct wire w = wire(text);

    arrive(c, w.bytes, w.len);
}

static void end_input(struct client *c)
{
    struct pm_request r;
    enum pm_result result = pm_decode_eof(&c->decoder, &r);

    CHECK(result == PM_MALFORMED || result == PM_SILENT, "the end of input is %d", result);
    if (result == PM_MALFORMED)
        see_bad(c, &r);
}

static void begin(struct client *c, bool patient)
{
    memset(c, 0, offsetof(struct client, seen));
    c->patient = patient;
    c->seen[0] = '\0';
    c->seen_len = 0;
}

/* Compares, and frees what the connection holds. */
static void finish(struct client *c, const char *want, const char *about)
{
    CHECK(strcmp(c->seen, want) == 0, "%s%s:\n%s  expected:\n%s", about,
          c->patient ? "" : " (called only with bytes)", c->seen, want);
    free(c->held);
    c->held = NULL;
}

/* ---- well-formed requests ---- */

static const struct frame {
    const char *bytes, *seen;
} frames[] = {
    /* the old dialect */
    {"request|open|table|hash:/maps/v|flags|0||", "open O table=hash:/maps/v i=0 f=0\n"},
    {"request|lookup|table|hash:/maps/v|flags|524352|key|user0@example.com||",
     "lookup O table=hash:/maps/v i=524352 f=524352 key=user0@example.com\n"},
    {"request|update|table|hash:/maps/w|flags|524353|key|k1|value|v1b||",
     "update O table=hash:/maps/w i=524353 f=524353 key=k1 value=v1b\n"},
    {"request|delete|table|hash:/maps/w|flags|524353|key|k1||",
     "delete O table=hash:/maps/w i=524353 f=524353 key=k1\n"},
    {"request|sequence|table|hash:/maps/w|flags|524353|function|0||",
     "sequence O table=hash:/maps/w i=524353 f=524353 function=0\n"},
    {"request|sequence|table|hash:/maps/w|flags|524353|function|1||",
     "sequence O table=hash:/maps/w i=524353 f=524353 function=1\n"},
    /* the new dialect */
    {"request|open|table|hash:/maps/v|instance_flags|540736||",
     "open N table=hash:/maps/v i=540736 f=0\n"},
    {"request|lookup|table|hash:/maps/v|instance_flags|540736|flags|1589340|"
     "key|User5@Example.com||",
     "lookup N table=hash:/maps/v i=540736 f=1589340 key=User5@Example.com\n"},
    {"request|update|table|hash:/maps/w|instance_flags|590208|flags|590212|key|k|value|v||",
     "update N table=hash:/maps/w i=590208 f=590212 key=k value=v\n"},
    {"request|delete|table|hash:/maps/w|instance_flags|590208|flags|590212|key|k||",
     "delete N table=hash:/maps/w i=590208 f=590212 key=k\n"},
    {"request|sequence|table|hash:/maps/v|instance_flags|540737|flags|1589341|function|0||",
     "sequence N table=hash:/maps/v i=540737 f=1589341 function=0\n"},
    {"request|sequence|table|hash:/maps/v|instance_flags|540737|flags|1589341|function|1||",
     "sequence N table=hash:/maps/v i=540737 f=1589341 function=1\n"},
    /* flags and keys of real clients */
    {"request|lookup|table|btree:/m|flags|526400|key|*||",
     "lookup O table=btree:/m i=526400 f=526400 key=*\n"},
    {"request|lookup|table|hash:/m|flags|64|key|Subject: folded\n\tover lines||",
     "lookup O table=hash:/m i=64 f=64 key=Subject: folded\n\tover lines\n"},
    {"request|lookup|table|hash:/m|instance_flags|64|flags|92|key|X: y||",
     "lookup N table=hash:/m i=64 f=92 key=X: y\n"},
    {"request|lookup|table|hash:/m|flags|524353|key|alice||",
     "lookup O table=hash:/m i=524353 f=524353 key=alice\n"},
    {"request|lookup|table|hash:/m|flags|16449|key|Alice||",
     "lookup O table=hash:/m i=16449 f=16449 key=Alice\n"},
    {"request|lookup|table|hash:/m|instance_flags|16449|flags|16477|key|Alice||",
     "lookup N table=hash:/m i=16449 f=16477 key=Alice\n"},
    {"request|open|table|hash:/m|flags|2097152||", "open O table=hash:/m i=2097152 f=2097152\n"},
    {"request|lookup|table|hash:/m|flags|2621505|key|sni||",
     "lookup O table=hash:/m i=2621505 f=2621505 key=sni\n"},
    {"request|lookup|table|unix:passwd.byname|instance_flags|540736|flags|1589328|key|bob||",
     "lookup N table=unix:passwd.byname i=540736 f=1589328 key=bob\n"},
    {"request|open|table|hash:/m|flags|65536||", "open O table=hash:/m i=65536 f=65536\n"},
    /* unusual and legal */
    {"request|lookup|table|hash:/m|flags|0|key|||", "lookup O table=hash:/m i=0 f=0 key=\n"},
    {"request|update|table|hash:/m|flags|0|key||value|||",
     "update O table=hash:/m i=0 f=0 key= value=\n"},
    {"request|open|table||flags|4294967295||", "open O table= i=4294967295 f=4294967295\n"},
    {"request|open|table|proxy:hash:/m|flags|010||", "open O table=proxy:hash:/m i=10 f=10\n"},
    {"request|lookup|table|nocolon|flags|0|key|\x01\x80\xff\xfe||",
     "lookup O table=nocolon i=0 f=0 key=\x01\x80\xff\xfe\n"},
    {"request|lookup|table|flags|flags|0|key|request||",
     "lookup O table=flags i=0 f=0 key=request\n"},
    {"request|lookup|table|instance_flags|flags|0|key|instance_flags||",
     "lookup O table=instance_flags i=0 f=0 key=instance_flags\n"},
    /* attributes after the last expected one are tolerated */
    {"request|open|table|x:|flags|0|extra|1||", "open O table=x: i=0 f=0\n"},
    {"request|open|table|x:|instance_flags|1|flags|2||", "open N table=x: i=1 f=0\n"},
    {"request|lookup|table|x:|flags|0|key|a|key|b||", "lookup O table=x: i=0 f=0 key=a\n"},
    {"request|lookup|table|x:|instance_flags|1|flags|2|key|a|extra|||",
     "lookup N table=x: i=1 f=2 key=a\n"},
    {"request|update|table|x:|flags|0|key|a|value|b|one|1|two||three|3||",
     "update O table=x: i=0 f=0 key=a value=b\n"},
    {"request|delete|table|x:|flags|0|key|a||value|b||extra||||",
     /* ends after the key; what follows is two lists that get no reply */
     "delete O table=x: i=0 f=0 key=a\n"},
    {"request|sequence|table|x:|flags|0|function|1|key|a||",
     "sequence O table=x: i=0 f=0 function=1\n"},
};

/* ---- malformed input ---- */

static const struct frame malformed[] = {
    /* no reply */
    {"|", ""},
    {"||", ""},
    {"|||||", ""},
    {"table|hash:/maps/v|flags|0||", ""},
    {"REQUEST|open|table|hash:/maps/v|flags|0||", ""},
    {"Request|open||", ""},
    {"requests|open|table|hash:/maps/v|flags|0||", ""},
    {"reques|open|table|hash:/maps/v|flags|0||", ""},
    {" request|open||", ""},
    {"garbage|||", ""},
    {"status|0||", ""},
    {"|garbage|x||", ""},
    /* unknown request */
    {"request|frob||", "status|3||\n"},
    {"request|frob|table|hash:/maps/v|flags|0|key|a||", "status|3||\n"},
    {"request|frob|table|hash:/maps/v|instance_flags|0|key|a||", "status|3||\n"},
    {"request|||", "status|3||\n"},
    {"request|Lookup|table|hash:/maps/v|flags|0|key|a||", "status|3||\n"},
    {"request|lookups|table|hash:/maps/v|flags|0|key|a||", "status|3||\n"},
    {"request|loo|table|hash:/maps/v|flags|0|key|a||", "status|3||\n"},
    {"request|close|table|hash:/maps/v|flags|0||", "status|3||\n"},
    {"request|unknown||", "status|3||\n"},
    /* nothing but the request */
    {"request|open||", "status|3|flags|0||\n"},
    {"request|lookup||", "status|3|value|||\n"},
    {"request|update||", "status|3||\n"},
    {"request|delete||", "status|3||\n"},
    {"request|sequence||", "status|3|key||value|||\n"},
    /* the dialects do not mix */
    {"request|lookup|table|x:|flags|0|instance_flags|0|key|a||", "status|3|value|||\n"},
    {"request|lookup|table|x:|instance_flags|0|key|a||", "status|3|flags|0|value|||\n"},
    {"request|lookup|table|x:|instance_flags|0|instance_flags|0|key|a||",
     "status|3|flags|0|value|||\n"},
    {"request|lookup|instance_flags|0|table|x:|flags|0|key|a||", "status|3|value|||\n"},
    {"request|sequence|table|x:|instance_flags|0|function|0||", "status|3|flags|0|key||value|||\n"},
    {"request|update|table|x:|instance_flags|0|flags|0|key|a||", "status|3|flags|0||\n"},
    {"request|delete|table|x:|instance_flags|0|flags|0||", "status|3|flags|0||\n"},
    {"request|open|table|x:|instance_flags|zero||", "status|3|flags|0||\n"},
    {"request|open|table|x:|Instance_flags|0||", "status|3|flags|0||\n"},
    {"request|open|table|x:|instance_flag|0||", "status|3|flags|0||\n"},
    /* the function of a sequence */
    {"request|sequence|table|x:|flags|0|function|2||", "status|3|key||value|||\n"},
    {"request|sequence|table|x:|flags|0|function|4294967295||", "status|3|key||value|||\n"},
    {"request|sequence|table|x:|flags|0|function|||", "status|3|key||value|||\n"},
    {"request|sequence|table|x:|instance_flags|0|flags|0|function|2||",
     "status|3|flags|0|key||value|||\n"},
    /* names that are prefixes of the expected one, or go beyond it */
    {"request|open|tabl|x:|flags|0||", "status|3|flags|0||\n"},
    {"request|open|tables|x:|flags|0||", "status|3|flags|0||\n"},
    {"request|open|Table|x:|flags|0||", "status|3|flags|0||\n"},
    {"request|lookup|table|x:|flags|0|Key|a||", "status|3|value|||\n"},
    {"request|lookup|table|x:|flags|0|value|a||", "status|3|value|||\n"},
};

static const char next_request[] = "request|lookup|table|hash:/next|flags|7|key|bob||";
static const char next_seen[] = "lookup O table=hash:/next i=7 f=7 key=bob\n";

/* One frame in pieces, first bytes and then step at a time, and then another request. */
static void feed(const struct frame *f, size_t first, size_t step, bool next_at_once, bool patient)
{
    struct wire w = wire(f->bytes);
    struct client c;
    char want[8192], about[2200];
    size_t at = 0;

    begin(&c, patient);
    if (next_at_once) {
        struct wire next = wire(next_request);

        memcpy(w.bytes + w.len, next.bytes, next.len);
        w.len += next.len;
    }
    for (size_t end = first; at < w.len; end += step) {
        if (end > w.len)
            end = w.len;
        arrive(&c, w.bytes + at, end - at);
        at = end;
    }
    if (!next_at_once)
        arrive_text(&c, next_request);
    end_input(&c);
    snprintf(want, sizeof want, "%s%s", f->seen, next_seen);
    snprintf(about, sizeof about, "%s in pieces of %zu and %zu", f->bytes, first, step);
    finish(&c, want, about);
}

static void feed_every_way(const struct frame *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (int way = 0; way < 4; way++) {
            bool at_once = way & 1, patient = way & 2;
            size_t len = strlen(list[i].bytes) + (at_once ? sizeof next_request : 0);

            for (size_t first = 0; first <= len; first++)
                feed(&list[i], first, len, at_once, patient);
            feed(&list[i], 1, 1, at_once, patient);
            feed(&list[i], 2, 3, at_once, patient);
        }
}

static void golden_frames(void)
{
    feed_every_way(frames, COUNT(frames));
}

static void malformed_rows(void)
{
    feed_every_way(malformed, COUNT(malformed));
}

/* ---- every attribute wrong in every way ---- */

struct list {
    const char *attr[8][2]; /* name and value */
    size_t n;
};

static const struct {
    enum pm_op op;
    const char *name;
    struct list list;
} shapes[] = {
    {PM_OPEN, "open", {{{"table", "x:"}, {"flags", "0"}}, 2}},
    {PM_OPEN, "open", {{{"table", "x:"}, {"instance_flags", "0"}}, 2}},
    {PM_LOOKUP, "lookup", {{{"table", "x:"}, {"flags", "0"}, {"key", "a"}}, 3}},
    {PM_LOOKUP,
     "lookup",
     {{{"table", "x:"}, {"instance_flags", "0"}, {"flags", "0"}, {"key", "a"}}, 4}},
    {PM_UPDATE, "update", {{{"table", "x:"}, {"flags", "0"}, {"key", "a"}, {"value", "b"}}, 4}},
    {PM_UPDATE,
     "update",
     {{{"table", "x:"}, {"instance_flags", "0"}, {"flags", "0"}, {"key", "a"}, {"value", "b"}}, 5}},
    {PM_DELETE, "delete", {{{"table", "x:"}, {"flags", "0"}, {"key", "a"}}, 3}},
    {PM_DELETE,
     "delete",
     {{{"table", "x:"}, {"instance_flags", "0"}, {"flags", "0"}, {"key", "a"}}, 4}},
    {PM_SEQUENCE, "sequence", {{{"table", "x:"}, {"flags", "0"}, {"function", "0"}}, 3}},
    {PM_SEQUENCE,
     "sequence",
     {{{"table", "x:"}, {"instance_flags", "0"}, {"flags", "0"}, {"function", "0"}}, 4}},
};

/* The refusal of an operation, by the shape that the request shows up to its second attribute. */
static const char *refusal(enum pm_op op, const struct list *l)
{
    static const char *const texts[][2] = {
        [PM_OPEN] = {"status|3|flags|0||\n", "status|3|flags|0||\n"},
        [PM_LOOKUP] = {"status|3|value|||\n", "status|3|flags|0|value|||\n"},
        [PM_UPDATE] = {"status|3||\n", "status|3|flags|0||\n"},
        [PM_DELETE] = {"status|3||\n", "status|3|flags|0||\n"},
        [PM_SEQUENCE] = {"status|3|key||value|||\n", "status|3|flags|0|key||value|||\n"},
    };
    bool new_dialect = l->n > 1 && strcmp(l->attr[0][0], "table") == 0 &&
                       strcmp(l->attr[1][0], "instance_flags") == 0;

    return texts[op][new_dialect];
}

static void feed_list(const char *name, const struct list *l, const char *want)
{
    char bytes[512];
    struct frame f = {bytes, want};
    int at = snprintf(bytes, sizeof bytes, "request|%s|", name);

    for (size_t i = 0; i < l->n; i++)
        at +=
            snprintf(bytes + at, sizeof bytes - (size_t)at, "%s|%s|", l->attr[i][0], l->attr[i][1]);
    snprintf(bytes + at, sizeof bytes - (size_t)at, "|");
    for (int way = 0; way < 4; way++) {
        feed(&f, sizeof bytes, 1, way & 1, way & 2);
        feed(&f, 1, 1, way & 1, way & 2);
    }
}

static void drop_attribute(struct list *l, size_t i)
{
    memmove(l->attr[i], l->attr[i + 1], (l->n - i - 1) * sizeof l->attr[0]);
    l->n--;
}

static void insert_attribute(struct list *l, size_t i, const char *name, const char *value)
{
    memmove(l->attr[i + 1], l->attr[i], (l->n - i) * sizeof l->attr[0]);
    l->attr[i][0] = name;
    l->attr[i][1] = value;
    l->n++;
}

static void one_attribute_missing(void)
{
    for (size_t s = 0; s < COUNT(shapes); s++)
        for (size_t i = 0; i < shapes[s].list.n; i++) {
            struct list l = shapes[s].list;

            /* Without instance_flags most are well-formed requests of the old dialect. */
            if (strcmp(l.attr[i][0], "instance_flags") == 0 && shapes[s].op != PM_OPEN)
                continue;
            drop_attribute(&l, i);
            feed_list(shapes[s].name, &l, refusal(shapes[s].op, &l));
        }
}

static void one_attribute_too_many(void)
{
    static const char *const names[] = {"unknown", "", "request", "TABLE"};

    for (size_t s = 0; s < COUNT(shapes); s++)
        for (size_t i = 0; i < shapes[s].list.n; i++) {
            struct list l = shapes[s].list;

            insert_attribute(&l, i, l.attr[i][0], l.attr[i][1]); /* the same one twice */
            if (i + 1 < shapes[s].list.n)
                feed_list(shapes[s].name, &l, refusal(shapes[s].op, &l));
            for (size_t n = 0; n < COUNT(names); n++) {
                l = shapes[s].list;
                if (names[n][0] == '\0') /* an empty name ends the list */
                    l.n = i;
                else
                    insert_attribute(&l, i, names[n], "v");
                /* Byte by byte the rest of such a list is a new one: see proxymap.h. */
                if (strcmp(names[n], "request") != 0)
                    feed_list(shapes[s].name, &l, refusal(shapes[s].op, &l));
            }
        }
}

static void attributes_out_of_order(void)
{
    for (size_t s = 0; s < COUNT(shapes); s++)
        for (size_t i = 0; i + 1 < shapes[s].list.n; i++) {
            struct list l = shapes[s].list;
            const char *name = l.attr[i][0], *value = l.attr[i][1];

            drop_attribute(&l, i);
            insert_attribute(&l, i + 1, name, value);
            feed_list(shapes[s].name, &l, refusal(shapes[s].op, &l));
        }
}

static void bad_number_anywhere(void)
{
    static const char *const bad[] = {
        "",    "x",   "0x10", "1.5",        "1 ",         " 1",
        "+1",  "-0",  "-1",   "--1",        "1\n",        "- 1",
        "\t1", "\n1", "0 0",  "4294967296", "8589934593", "18446744073709551616"};

    for (size_t s = 0; s < COUNT(shapes); s++)
        for (size_t i = 1; i < shapes[s].list.n; i++)
            for (size_t n = 0; n < COUNT(bad); n++) {
                struct list l = shapes[s].list;

                if (strcmp(l.attr[i][0], "key") == 0 || strcmp(l.attr[i][0], "value") == 0)
                    continue;
                l.attr[i][1] = bad[n];
                feed_list(shapes[s].name, &l, refusal(shapes[s].op, &l));
            }
}

/* ---- the end of input ---- */

/* What is owed when the input ends after len bytes of a request: as proxymap(8) answers. */
static const char *owed_at_end(const struct wire *w, size_t len, enum pm_op op)
{
    const char *instance = memmem(w->bytes, w->len, "instance_flags", sizeof "instance_flags");
    size_t name_end = strlen("request") + 1, op_end = name_end + strlen(w->bytes + name_end) + 1;
    struct list l = {{{"table", ""}, {"flags", ""}}, 2};

    if (len < op_end || len == w->len)
        return "";
    if (instance != NULL && (size_t)(instance - w->bytes) + sizeof "instance_flags" <= len)
        l.attr[1][0] = "instance_flags";
    return refusal(op, &l);
}

static void end_inside_a_request(void)
{
    for (size_t i = 0; i < 12; i++) { /* each operation in each dialect */
        static const enum pm_op ops[] = {PM_OPEN,   PM_LOOKUP,   PM_UPDATE,
                                         PM_DELETE, PM_SEQUENCE, PM_SEQUENCE};
        struct wire w = wire(frames[i].bytes);

        for (size_t len = 0; len <= w.len; len++)
            for (size_t step = 1; step <= w.len; step += w.len - 1) {
                struct client c;
                char want[512], about[512];

                begin(&c, false);
                for (size_t at = 0; at < len; at += step)
                    arrive(&c, w.bytes + at, at + step < len ? step : len - at);
                end_input(&c);
                snprintf(want, sizeof want, "%s%s", len == w.len ? frames[i].seen : "",
                         owed_at_end(&w, len, ops[i % 6]));
                snprintf(about, sizeof about, "the end after %zu bytes of %s", len,
                         frames[i].bytes);
                finish(&c, want, about);
            }
    }
}

static const struct {
    const char *bytes, *seen;
} ends[] = {
    {"", ""},
    {"req", ""},
    {"request", ""},
    {"request|", ""},
    {"request|look", ""},
    {"request|lookup", ""},
    {"request|lookup|", "status|3|value|||\n"},
    {"request|lookup|tab", "status|3|value|||\n"},
    {"request|lookup|table|hash:/ma", "status|3|value|||\n"},
    {"request|lookup|table|hash:/maps|flags|0|key|alice|", "status|3|value|||\n"},
    {"request|lookup|table|hash:/maps|instance_flags|0|flags|0|key|alice|",
     "status|3|flags|0|value|||\n"},
    /* decided before: nothing more is owed */
    {"request|frob|", "status|3||\n"},
    {"request|frob|table|x", "status|3||\n"},
    {"request|open|flags|", "status|3|flags|0||\n"},
    {"request|open|table|x:|flags|0|extra|", "open O table=x: i=0 f=0\n"},
    {"request|open|table|x:|flags|0|extra|la", "open O table=x: i=0 f=0\n"},
    {"garbage|", ""},
    {"garbage|x|request|op", ""},
    {"request|open|table|x:|flags|0||req", "open O table=x: i=0 f=0\n"},
    {"request|open|table|x:|flags|0||request|open|",
     "open O table=x: i=0 f=0\nstatus|3|flags|0||\n"},
};

static void end_rows(void)
{
    for (size_t i = 0; i < COUNT(ends); i++)
        for (int patient = 0; patient < 2; patient++) {
            struct client c;

            begin(&c, patient);
            arrive_text(&c, ends[i].bytes);
            end_input(&c);
            finish(&c, ends[i].seen, ends[i].bytes);
        }
}

/* ---- many in one write ---- */

static void pipeline(struct wire *w, char *want, size_t room)
{
    size_t used = 0;

    w->len = 0;
    for (size_t i = 0; i < 16; i++) {
        struct wire good = wire(frames[i].bytes), bad = wire(malformed[2 * i + 2].bytes);

        memcpy(w->bytes + w->len, good.bytes, good.len);
        memcpy(w->bytes + w->len + good.len, bad.bytes, bad.len);
        w->len += good.len + bad.len;
        used += (size_t)snprintf(want + used, room - used, "%s%s", frames[i].seen,
                                 malformed[2 * i + 2].seen);
    }
}

static void pipelined_requests(void)
{
    struct wire w;
    char want[4096];

    pipeline(&w, want, sizeof want);
    for (size_t cut = 0; cut <= w.len; cut++) {
        struct client c;

        begin(&c, cut % 2);
        arrive(&c, w.bytes, cut);
        arrive(&c, w.bytes + cut, w.len - cut);
        end_input(&c);
        finish(&c, want, "32 requests in two writes");
    }
}

static void pipelined_in_random_pieces(void)
{
    struct wire w;
    char want[4096];
    uint64_t state = 1;

    pipeline(&w, want, sizeof want);
    for (int round = 0; round < 200; round++) {
        struct client c;

        begin(&c, round % 2);
        for (size_t at = 0; at < w.len;) {
            size_t len = 1 + random_next(&state) % 50;

            len = len < w.len - at ? len : w.len - at;
            arrive(&c, w.bytes + at, len);
            at += len;
        }
        finish(&c, want, "32 requests in random pieces");
    }
}

/* ---- the next request after a list that was never ended ---- */

static const struct {
    const char *about, *pieces[5], *seen;
} unended[] = {
    {"an unknown first attribute", {"garbage||"}, ""},
    {"... in two pieces", {"garbage|", "|"}, ""},
    {"the rest of an unknown first attribute", {"garbage|some", "thing|more|of|it|"}, ""},
    {"an unknown request and attributes", {"request|frob|table|x|"}, "status|3||\n"},
    {"an unknown request, inside a value", {"request|frob|table|x"}, "status|3||\n"},
    {"a bad number and attributes",
     {"request|open|table|x:|flags|zz|more|x|"},
     "status|3|flags|0||\n"},
    {"an extra attribute",
     {"request|open|table|x:|flags|0|extra|value|"},
     "open O table=x: i=0 f=0\n"},
    {"an extra attribute whose rest comes later",
     {"request|open|table|x:|flags|0|extra|", "late||"},
     "open O table=x: i=0 f=0\n"},
    {"an extra attribute whose rest comes later, in pieces",
     {"request|open|table|x:|flags|0|ex", "tra|", "la", "te|", "|"},
     "open O table=x: i=0 f=0\n"},
    {"an extra attribute that begins like a request, but does not go on so",
     {"request|open|table|x:|flags|0|extra|1|", "req", "ue", "sts|1|", "|"},
     "open O table=x: i=0 f=0\n"},
};

/* Lists of which nothing has come behind the token that decided them. */
static const struct {
    const char *bytes, *seen;
} unended_at_once[] = {
    {"garbage|", ""},
    {"request|frob|", "status|3||\n"},
    {"request|open|flags|", "status|3|flags|0||\n"},
    {"request|open|table|x:|flags|zz|", "status|3|flags|0||\n"},
    {"request|open|table|x:|flags|0|extra|", "open O table=x: i=0 f=0\n"},
};

static void resynchronise(void)
{
    for (size_t i = 0; i < COUNT(unended); i++)
        for (int patient = 0; patient < 2; patient++) {
            struct client c;
            char want[256];

            begin(&c, patient);
            for (size_t p = 0; p < COUNT(unended[i].pieces) && unended[i].pieces[p] != NULL; p++)
                arrive_text(&c, unended[i].pieces[p]);
            arrive_text(&c, next_request);
            arrive_text(&c, next_request);
            snprintf(want, sizeof want, "%s%s%s", unended[i].seen, next_seen, next_seen);
            finish(&c, want, unended[i].about);
        }
}

static void resynchronise_after_the_deciding_token(void)
{
    for (size_t i = 0; i < COUNT(unended_at_once); i++)
        for (int patient = 0; patient < 2; patient++) {
            struct client c;
            char want[256];

            begin(&c, patient);
            arrive_text(&c, unended_at_once[i].bytes);
            arrive_text(&c, next_request);
            snprintf(want, sizeof want, "%s%s", unended_at_once[i].seen, next_seen);
            finish(&c, want, unended_at_once[i].bytes);
        }
}

static void resynchronise_in_pieces(void)
{
    struct wire next = wire(next_request);

    for (size_t cut = 1; cut < next.len; cut++)
        for (int patient = 0; patient < 2; patient++) {
            struct client c;

            begin(&c, patient);
            arrive_text(&c, "garbage||");
            arrive(&c, next.bytes, cut);
            arrive(&c, next.bytes + cut, next.len - cut);
            finish(&c, next_seen, "a request in two pieces after an unended list");
        }
}

/* In the same write the rest belongs to the list, whatever it looks like. */
static void rest_of_a_list_is_not_a_request(void)
{
    static const struct frame rows[] = {
        {"request|frob|request|open|table|x:|flags|0||", "status|3||\n"},
        {"garbage|x|request|open||", ""},
        {"request|open|table|x:|flags|0|request|open|table|y:|flags|0||",
         "open O table=x: i=0 f=0\n"},
        {"request|open|table|x:|flags|0|extra|request|open|||", "open O table=x: i=0 f=0\n"},
    };

    for (size_t i = 0; i < COUNT(rows); i++)
        for (int way = 0; way < 4; way++)
            feed(&rows[i], strlen(rows[i].bytes) + sizeof next_request, 1, way & 1, way & 2);
}

/* ---- large ones, and none at all ---- */

static char *put_text(char *end, const char *text)
{
    struct wire w = wire(text);

    memcpy(end, w.bytes, w.len);
    return end + w.len;
}

static void large_names_and_values(void)
{
    static const size_t sizes[] = {5000, 128 << 10, 1 << 20, 3 << 20};

    for (size_t i = 0; i < COUNT(sizes); i++) {
        char *buf = need_memory(2 * sizes[i] + 256), *end = buf;
        char want[512];
        struct client c, whole;

        end = put_text(end, "request|update|table|hash:/m|flags|1|key|");
        memset(end, 'k', sizes[i]);
        end = put_text(end + sizes[i], "|value|v||");
        end = put_text(end, next_request);
        end = put_text(end, "request|open|table|x:|flags|0|");
        memset(end, 'n', sizes[i]);
        end = put_text(end + sizes[i], "|1||");
        begin(&whole, false);
        arrive(&whole, buf, (size_t)(end - buf));
        begin(&c, false);
        for (char *at = buf; at < end; at += 65536)
            arrive(&c, at, end - at < 65536 ? (size_t)(end - at) : 65536);
        snprintf(want, sizeof want, "update O table=hash:/m i=1 f=1 key=%zu:", sizes[i]);
        CHECK(strncmp(c.seen, want, strlen(want)) == 0, "a key of %zu bytes: %s", sizes[i], c.seen);
        snprintf(want, sizeof want, " value=v\n%sopen O table=x: i=0 f=0\n", next_seen);
        CHECK(strstr(c.seen, want) != NULL, "after a key of %zu bytes: %s", sizes[i], c.seen);
        finish(&whole, c.seen, "in one piece and in pieces of 64 KiB");
        finish(&c, c.seen, "");
        free(buf);
    }
}

static void large_garbage_is_passed_over(void)
{
    const size_t len = 4 << 20;
    char *bytes = need_memory(len);
    struct client c;

    memset(bytes, 'x', len);
    begin(&c, false);
    arrive_text(&c, "request|frob|");
    for (size_t at = 0; at < len; at += 65536) {
        arrive(&c, bytes + at, 65536);
        CHECK(c.held_len == 0, "%zu bytes of garbage are held", c.held_len);
    }
    arrive_text(&c, "||");
    arrive_text(&c, next_request);
    finish(&c, "status|3||\nlookup O table=hash:/next i=7 f=7 key=bob\n", "4 MiB of garbage");
    free(bytes);
}

static void partial_is_the_middle_of_a_request(void)
{
    struct wire w = wire(next_request);
    struct client c;

    begin(&c, false);
    CHECK(!pm_decode_partial(&c.decoder, 0), "before the first byte");
    CHECK(pm_decode_between(&c.decoder, 0), "before the first byte");
    for (size_t i = 0; i < w.len; i++) {
        arrive(&c, w.bytes + i, 1);
        CHECK(pm_decode_partial(&c.decoder, c.held_len) == (i + 1 < w.len),
              "after %zu of %zu bytes", i + 1, w.len);
        CHECK(pm_decode_between(&c.decoder, c.held_len) == (i + 1 == w.len),
              "after %zu of %zu bytes", i + 1, w.len);
    }
    arrive_text(&c, "garbage|x|y");
    CHECK(!pm_decode_partial(&c.decoder, c.held_len), "the rest of a decided list");
    CHECK(!pm_decode_between(&c.decoder, c.held_len), "the rest of a decided list");
    arrive_text(&c, "||");
    CHECK(!pm_decode_partial(&c.decoder, c.held_len), "a list that is over");
    arrive_text(&c, next_request);
    arrive_text(&c, "r");
    CHECK(pm_decode_partial(&c.decoder, c.held_len), "one byte of the next request");
    finish(&c,
           "lookup O table=hash:/next i=7 f=7 key=bob\n"
           "lookup O table=hash:/next i=7 f=7 key=bob\n",
           "partial requests");
}

/* Any bytes: nothing but the promises, and the same in one piece however the caller calls. */
static void random_tokens(void)
{
    static const char *const words[] = {
        "request", "open",     "lookup", "sequence", "table", "flags", "instance_flags",
        "key",     "function", "0",      "x:",       "",      "",      ""};
    uint64_t state = 20240229;

    for (int round = 0; round < 3000; round++) {
        char text[512] = "", *end = text;
        struct client one, other, pieces;
        struct wire w;

        for (int i = 0; i < 30; i++)
            end += sprintf(end, "%s|", words[random_next(&state) % COUNT(words)]);
        w = wire(text);
        begin(&one, false);
        begin(&other, true);
        begin(&pieces, round % 2);
        arrive(&one, w.bytes, w.len);
        arrive(&other, w.bytes, w.len);
        for (size_t at = 0, len; at < w.len; at += len) {
            len = 1 + random_next(&state) % 20;
            len = len < w.len - at ? len : w.len - at;
            arrive(&pieces, w.bytes + at, len);
        }
        finish(&other, one.seen, text);
        finish(&one, one.seen, text);
        finish(&pieces, pieces.seen, text);
    }
}

/* ---- replies ---- */

static const struct {
    enum pm_op op;
    const char *old_ok, *old_failed, *new_ok, *new_failed; /* %u: the status */
} replies[] = {
    {PM_OPEN, "status|%u|flags|28||", "status|%u|flags|28||", "status|%u|flags|28||",
     "status|%u|flags|28||"},
    {PM_LOOKUP, "status|%u|value|a value||", "status|%u|value|||",
     "status|%u|flags|28|value|a value||", "status|%u|flags|28|value|||"},
    {PM_UPDATE, "status|%u||", "status|%u||", "status|%u|flags|28||", "status|%u|flags|28||"},
    {PM_DELETE, "status|%u||", "status|%u||", "status|%u|flags|28||", "status|%u|flags|28||"},
    {PM_SEQUENCE, "status|%u|key|a key|value|a value||", "status|%u|key||value|||",
     "status|%u|flags|28|key|a key|value|a value||", "status|%u|flags|28|key||value|||"},
    {PM_UNKNOWN, "status|%u||", "status|%u||", "status|%u||", "status|%u||"},
};

static void check_reply(const struct pm_reply *reply, const char *text)
{
    struct wire want = wire(text);
    char *buf = need_memory(pm_reply_bound(reply)), *end = pm_encode(buf, reply);

    CHECK((size_t)(end - buf) == want.len && memcmp(buf, want.bytes, want.len) == 0,
          "operation %d, dialect %d, status %d: %zu bytes, expected %s", reply->op, reply->dialect,
          reply->status, (size_t)(end - buf), text);
    free(buf);
}

static void every_reply(void)
{
    for (size_t i = 0; i < COUNT(replies); i++)
        for (enum pm_status status = PM_OK; status <= PM_CONFIG; status++)
            for (enum pm_dialect dialect = PM_OLD; dialect <= PM_NEW; dialect++) {
                const char *const forms[2][2] = {{replies[i].old_failed, replies[i].old_ok},
                                                 {replies[i].new_failed, replies[i].new_ok}};
                const char *form = forms[dialect][status == PM_OK];
                const char *digit = strstr(form, "%u");
                char text[128];

                snprintf(text, sizeof text, "%.*s%u%s", (int)(digit - form), form, (unsigned)status,
                         digit + 2);
                check_reply(&(struct pm_reply){replies[i].op, dialect, status, 28,
                                               text_slice("a key"), text_slice("a value")},
                            text);
            }
}

static void documented_replies(void)
{
    const struct slice none = {NULL, 0};

    check_reply(&(struct pm_reply){PM_OPEN, PM_OLD, PM_OK, 28, none, none}, "status|0|flags|28||");
    check_reply(&(struct pm_reply){PM_OPEN, PM_NEW, PM_OK, 1589340, none, none},
                "status|0|flags|1589340||");
    check_reply(
        &(struct pm_reply){PM_LOOKUP, PM_OLD, PM_OK, 0, none, text_slice("dest0@mail.example.org")},
        "status|0|value|dest0@mail.example.org||");
    check_reply(&(struct pm_reply){PM_LOOKUP, PM_OLD, PM_OK, 0, none, none}, "status|0|value|||");
    check_reply(&(struct pm_reply){PM_LOOKUP, PM_NEW, PM_OK, 1589336, none,
                                   text_slice("dest5@mail.example.org")},
                "status|0|flags|1589336|value|dest5@mail.example.org||");
    check_reply(&(struct pm_reply){PM_LOOKUP, PM_NEW, PM_NOKEY, 1589340, none, none},
                "status|1|flags|1589340|value|||");
    check_reply(
        &(struct pm_reply){PM_SEQUENCE, PM_OLD, PM_OK, 0, text_slice("k1"), text_slice("v1b")},
        "status|0|key|k1|value|v1b||");
    check_reply(
        &(struct pm_reply){PM_SEQUENCE, PM_NEW, PM_OK, 1589341, text_slice("@"), text_slice("@")},
        "status|0|flags|1589341|key|@|value|@||");
    check_reply(&(struct pm_reply){PM_SEQUENCE, PM_NEW, PM_DENY, 0, none, none},
                "status|4|flags|0|key||value|||");
}

static void longest_reply_has_room(void)
{
    const size_t len = 3 << 20;
    char *value = need_memory(len), *buf;
    struct pm_reply reply = {PM_SEQUENCE, PM_NEW, PM_OK, UINT32_MAX, {value, len}, {value, len}};
    size_t bound = pm_reply_bound(&reply);

    memset(value, 'v', len);
    buf = need_memory(bound);
    CHECK((size_t)(pm_encode(buf, &reply) - buf) <= bound, "the bound is too low");
    CHECK(memcmp(buf,
                 "status\0"
                 "0\0flags\0"
                 "4294967295\0key\0vvv",
                 31) == 0,
          "the reply's head");
    free(buf);
    free(value);
}

static void greeting(void)
{
    static const unsigned char bytes[28] = {
        0x70, 0x72, 0x6f, 0x74, 0x6f, 0x63, 0x6f, 0x6c, 0x00, 0x70, 0x72, 0x6f, 0x78, 0x79,
        0x6d, 0x61, 0x70, 0x5f, 0x70, 0x72, 0x6f, 0x74, 0x6f, 0x63, 0x6f, 0x6c, 0x00, 0x00};

    CHECK(PM_GREETING_LEN == sizeof bytes && memcmp(PM_GREETING, bytes, sizeof bytes) == 0,
          "the greeting has %zu bytes", PM_GREETING_LEN);
}

/* ---- names and keys ---- */

static void canonical_names(void)
{
    static const struct {
        const char *sent, *canonical;
        bool names_table;
    } rows[] = {
        {"hash:/x", "hash:/x", true},
        {"proxy:hash:/x", "hash:/x", true},
        {"proxy:proxy:proxy:hash:/x", "hash:/x", true},
        {"hash:proxy:/x", "hash:proxy:/x", true},
        {"PROXY:hash:/x", "PROXY:hash:/x", true},
        {" proxy:hash:/x", " proxy:hash:/x", true},
        {"proxyhash:/x", "proxyhash:/x", true},
        {"proxy", "proxy", false},
        {"proxy:", "", false},
        {"proxy:proxy:", "", false},
        {"proxy:proxy", "proxy", false},
        {"proxy:nocolon", "nocolon", false},
        {"proxy::", ":", true},
        {"", "", false},
        {":", ":", true},
        {"unix:", "unix:", true},
        {"a:b:c", "a:b:c", true},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t len = strlen(rows[i].sent);
        char *sent = exact_copy(rows[i].sent, len);
        struct slice canonical = pm_canonical((struct slice){sent, len});

        CHECK(slice_same(canonical, text_slice(rows[i].canonical)), "\"%s\" becomes \"%.*s\"",
              rows[i].sent, (int)canonical.len, canonical.ptr);
        CHECK(canonical.ptr + canonical.len == sent + len, "\"%s\" lost its end", rows[i].sent);
        CHECK(pm_names_table(canonical) == rows[i].names_table, "\"%s\" names a table",
              rows[i].sent);
        free(sent);
    }
    CHECK(!pm_names_table((struct slice){"ab:c", 2}), "a colon behind the end of the slice");
    CHECK(!pm_names_table((struct slice){NULL, 0}), "nothing names a table");
}

static void fold_ascii_only(void)
{
    char src[256], dst[256], *exact;
    struct slice folded;

    for (int i = 0; i < 256; i++)
        src[i] = (char)i;
    folded = pm_fold(dst, (struct slice){src, sizeof src});
    CHECK(folded.ptr == dst && folded.len == sizeof src, "the slice that came back");
    for (int i = 0; i < 256; i++)
        CHECK((unsigned char)dst[i] == (i >= 'A' && i <= 'Z' ? i + 32 : i), "byte %d becomes %d", i,
              (unsigned char)dst[i]);
    exact = need_memory(7);
    folded = pm_fold(exact, (struct slice){"\xc3\x89T\xc3\x89Z", 6}); /* is not in ASCII */
    CHECK(slice_same(folded, text_slice("\xc3\x89t\xc3\x89z")), "letters beyond ASCII changed");
    free(exact);
    CHECK(pm_fold(dst, (struct slice){NULL, 0}).len == 0, "nothing folds to nothing");
}

static const struct unit_test tests[] = {
    {"the greeting is 28 golden bytes", greeting},
    {"golden requests of both dialects at every cut", golden_frames},
    {"malformed requests get the golden refusal at every cut, and the next an answer",
     malformed_rows},
    {"a missing attribute is refused, each of each request", one_attribute_missing},
    {"an additional attribute before the last is refused", one_attribute_too_many},
    {"swapped attributes are refused", attributes_out_of_order},
    {"a bad number is refused wherever one stands", bad_number_anywhere},
    {"the end of input after every byte of a request", end_inside_a_request},
    {"the end of input at every kind of place", end_rows},
    {"32 pipelined requests in every two writes", pipelined_requests},
    {"32 pipelined requests in random pieces", pipelined_in_random_pieces},
    {"a request after an unended list is answered", resynchronise},
    {"... also when the list stopped at the token that decided it",
     resynchronise_after_the_deciding_token},
    {"... also when it comes in two pieces", resynchronise_in_pieces},
    {"the rest of a list in the same write is not a request", rest_of_a_list_is_not_a_request},
    {"names and values of up to 3 MiB", large_names_and_values},
    {"4 MiB of garbage are passed over and not held", large_garbage_is_passed_over},
    {"a request is partial from its first byte to its last but one",
     partial_is_the_middle_of_a_request},
    {"3,000 lists of random tokens break no promise", random_tokens},
    {"every operation, dialect and status has its golden reply", every_reply},
    {"the replies of the documentation", documented_replies},
    {"the longest reply stays below its bound", longest_reply_has_room},
    {"canonical table names", canonical_names},
    {"folding changes A to Z and nothing else", fold_ascii_only},
};

const struct unit_suite proxymap_suite = {
    .name = "proxymap", .tests = tests, .ntests = COUNT(tests)};
