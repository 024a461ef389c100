/*
 * Tests of server/worker/lookup: tables that others make up, tables that their name answers, keys
 * as each table folds them, and lookups that have to wait. The tables of these tests have agents
 * that answer at once, as a cache does, or not at all. Part of the unit test program; touches
 * memory only.
 */
#include "server/worker/lookup.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

#define TABLES 80

/* What stands here in place of the worker's tables. */
static struct table *tables[TABLES];
static size_t ntables, room;
static char answers[256]; /* `name key=value;` each; one that is not there is to be asked for */
static const struct slice nothing = {"", 0};

struct table *table_get(struct slice name)
{
    struct table *table;
    const char *why;

    for (size_t i = 0; i < ntables; i++)
        if (slice_is(name, tables[i]->name))
            return tables[i];
    REQUIRE(ntables < TABLES, "too many tables");
    table = need_memory(sizeof *table + name.len + 1);
    memset(table, 0, sizeof *table + name.len + 1);
    memcpy(table->name, name.ptr, name.len);
    table->name_len = name.len;
    table->type = table_type_of(table->name, &why);
    table->state = table->type != NULL ? TABLE_READY : TABLE_DENIED;
    if (table->type != NULL) {
        table->flags = table->type->flags;
        table->features = (table->type->folds_mul ? FEATURE_FOLDS_MUL : 0) |
                          (table->type->unauth ? FEATURE_UNAUTH : 0);
        table->answered_by = table->type->by == TABLE_BY_WORKER ? KIND_WORKER : KIND_LINK;
    }
    return tables[ntables++] = table;
}

enum cache_result table_recollect(struct table *table, struct slice key, uint32_t flags,
                                  struct slice *value)
{
    char want[200];
    const char *at;

    (void)flags;
    snprintf(want, sizeof want, "%s %.*s=", strchr(table->name, ':') + 1, (int)key.len, key.ptr);
    at = strstr(answers, want);
    if (at == NULL)
        return CACHE_UNKNOWN;
    at += strlen(want);
    *value = (struct slice){at, strcspn(at, ";")};
    return *at == '!' ? CACHE_NOT_FOUND : CACHE_FOUND;
}

bool session_keep(const struct session *session, size_t bytes)
{
    (void)session;
    if (bytes > room)
        return false;
    room -= bytes;
    return true;
}

void session_release(size_t bytes)
{
    room += bytes;
}

static struct memo memo;

static void begin(const char *known)
{
    for (size_t i = 0; i < ntables; i++)
        free(tables[i]);
    ntables = 0;
    memo_drop(&memo);
    room = 1u << 20;
    snprintf(answers, sizeof answers, "%s", known);
}

static struct outcome look(const char *name, const char *key, uint32_t flags)
{
    struct lookup l = {NULL, text_slice(key), flags, &memo, ASK_AGENT, NULL};
    struct outcome out;

    lookup(&l, table_get(text_slice(name)), &out);
    return out;
}

static void expect(const char *name, const char *key, enum pm_status status, const char *value)
{
    struct outcome out = look(name, key, 0);

    CHECK(out.is == LOOKUP_DONE && out.status == status && slice_is(out.value, value),
          "%s, %s: %d, status %d, %.*s; not %d, %s", name, key, (int)out.is, (int)out.status,
          out.is == LOOKUP_DONE ? (int)out.value.len : 0, out.value.ptr, (int)status, value);
    memo_drop(&memo);
}

static void expect_asks(struct outcome out, const char *table, const char *key)
{
    REQUIRE(out.is == LOOKUP_AGENT, "%d, not to be asked", (int)out.is);
    CHECK_TEXT(out.table->name, table, "the table");
    CHECK(slice_is(out.key, key), "the key is %.*s, not %s", (int)out.key.len, out.key.ptr, key);
}

static void unions(void)
{
    begin("a k=1;b k=2;c k=!;a x=!;c x=!;a e=;b e=;");
    expect("unionmap:{cidr:a,cidr:b}", "k", PM_OK, "1,2");
    expect("unionmap:{cidr:b, cidr:c, proxy:proxy:cidr:a}", "k", PM_OK, "2,1");
    expect("unionmap:{cidr:a}", "k", PM_OK, "1");
    expect("unionmap:{cidr:a,cidr:a}", "k", PM_OK, "1,1");
    expect("unionmap:{cidr:a,cidr:c}", "x", PM_NOKEY, "");
    expect("unionmap:{cidr:a,cidr:b}", "e", PM_NOKEY, "");
    expect("unionmap:{cidr:a,fail:x}", "k", PM_RETRY, "");
    expect("unionmap:{cidr:a,fail:x}", "x", PM_RETRY, "");
    expect("unionmap:{unionmap:{cidr:a,cidr:b},randmap:{{x y}}}", "k", PM_OK, "1,2,{x y}");
    expect("unionmap:{cidr:a", "k", PM_RETRY, "");
    expect("unionmap:{}", "k", PM_RETRY, "");
    expect("unionmap:{nothing}", "k", PM_RETRY, "");
    expect("unionmap:{nothing:x}", "k", PM_RETRY, "");
}

static void pipes(void)
{
    begin("a k=m;b m=v;c m=!;a 1,2=three;d k=1;e k=2;a 1=;b =of nothing;");
    expect("pipemap:{cidr:a,cidr:b}", "k", PM_OK, "v");
    expect("pipemap:{cidr:a,cidr:c,fail:x}", "k", PM_NOKEY, "");
    expect("pipemap:{cidr:a,fail:x,cidr:c}", "k", PM_RETRY, "");
    expect("pipemap:{unionmap:{cidr:d,cidr:e},cidr:a}", "k", PM_OK, "three");
    expect("unionmap:{pipemap:{cidr:a,cidr:b},pipemap:{cidr:a,cidr:c}}", "k", PM_OK, "v");
    expect("pipemap:{cidr:d,cidr:a,cidr:b}", "k", PM_OK, "of nothing");
}

static void names(void)
{
    begin("");
    expect("fail:x", "k", PM_RETRY, "");
    expect("randmap:{one}", "k", PM_OK, "one");
    expect("randmap:{{a b}}", "", PM_OK, "{a b}");
    expect("randmap:one", "k", PM_RETRY, "");
    expect("randmap:{one", "k", PM_RETRY, "");
    for (int i = 0, both = 0; both != 3; i++) {
        struct outcome out = look("randmap:{one,two}", "k", 0);

        both |= slice_is(out.value, "one") ? 1 : slice_is(out.value, "two") ? 2 : 4;
        REQUIRE(both < 4 && i < 1000, "one of two, and both");
    }
}

/* A member that chance has chosen stays chosen while another is waited for. */
static void waits(void)
{
    const char *name = "unionmap:{randmap:{1,2,3,4,5,6,7,8},cidr:a,pipemap:{cidr:a,cidr:b}}";
    char first[8] = "", want[16];

    begin("");
    expect_asks(look(name, "k", 0), "cidr:a", "k");
    CHECK(memo.count == 1, "%u answers", memo.count);
    CHECK(memo_has(&memo, table_get(text_slice("randmap:{1,2,3,4,5,6,7,8}"))) &&
              !memo_has(&memo, table_get(text_slice("cidr:a"))),
          "of which tables");
    CHECK(memo_add(&memo, NULL, table_get(text_slice("cidr:a")), PM_OK, text_slice("A")), "room");
    expect_asks(look(name, "k", 0), "cidr:a", "k"); /* a table that is in it twice */
    CHECK(memo_add(&memo, NULL, table_get(text_slice("cidr:a")), PM_OK, text_slice("B")), "room");
    expect_asks(look(name, "k", 0), "cidr:b", "B");
    snprintf(answers, sizeof answers, "b B=last;a k=other;");
    for (int i = 0; i < 20; i++) { /* whatever happens to the tables meanwhile */
        struct outcome out = look(name, "k", 0);

        REQUIRE(out.is == LOOKUP_DONE && out.status == PM_OK && out.value.len == 8, "%d, %.*s",
                (int)out.is, (int)out.value.len, out.value.ptr);
        if (i == 0)
            first[0] = out.value.ptr[0];
        snprintf(want, sizeof want, "%s,A,last", first);
        CHECK(slice_is(out.value, want), "%.*s, not %s", (int)out.value.len, out.value.ptr, want);
    }
    memo_drop(&memo);
    CHECK(room == 1u << 20, "%zu bytes are not released", (1u << 20) - room);
}

static void tables_to_come(void)
{
    const char *name = "unionmap:{cidr:a,cidr:b}";
    struct outcome out;
    struct table *b;

    begin("a k=1;b k=2;");
    b = table_get(text_slice("cidr:b"));
    b->state = TABLE_UNSENT;
    out = look(name, "k", 0);
    CHECK(out.is == LOOKUP_TABLE && out.table == b, "%d", (int)out.is);
    b->state = TABLE_ASKED;
    out = look(name, "k", 0);
    CHECK(out.is == LOOKUP_TABLE && out.table == b, "%d", (int)out.is);
    b->state = TABLE_DENIED;
    expect(name, "k", PM_RETRY, "");
    b->state = TABLE_FAILED;
    expect(name, "k", PM_RETRY, "");
    b->state = TABLE_READY;
    expect(name, "k", PM_OK, "1,2");
    b = table_get(text_slice("unionmap:{cidr:a}"));
    b->state = TABLE_ASKED;
    out = look("pipemap:{unionmap:{cidr:a}}", "k", 0);
    CHECK(out.is == LOOKUP_TABLE && out.table == b, "%d", (int)out.is);
    b->state = TABLE_FAILED;
    expect("pipemap:{unionmap:{cidr:a}}", "k", PM_RETRY, "");
    memo_drop(&memo);
}

/* What an agent has said is of that table and of the first key that is not known. */
static void without_agent(void)
{
    const char *name = "unionmap:{cidr:a,cidr:b,cidr:a}";
    struct table *a, *b;
    struct lookup l = {NULL, text_slice("k"), 0, &memo, AGENT_HAS_NOT, NULL};
    struct outcome out;

    begin("a k=1;");
    a = table_get(text_slice("cidr:a"));
    b = table_get(text_slice("cidr:b"));
    expect_asks(look(name, "k", 0), "cidr:b", "k");
    l.beyond_of = b;
    lookup(&l, table_get(text_slice(name)), &out);
    CHECK(out.is == LOOKUP_DONE && slice_is(out.value, "1,1"), "%d, %.*s", (int)out.is,
          (int)out.value.len, out.value.ptr);
    memo_drop(&memo);
    expect_asks(look(name, "k", 0), "cidr:b", "k");
    l.beyond = AGENT_IS_GONE;
    lookup(&l, table_get(text_slice(name)), &out);
    CHECK(out.is == LOOKUP_DONE && out.status == PM_RETRY, "its agents have gone");
    memo_drop(&memo);
    expect_asks(look(name, "k", 0), "cidr:b", "k");
    l.beyond_of = a;
    lookup(&l, table_get(text_slice(name)), &out);
    expect_asks(out, "cidr:b", "k");
    memo_drop(&memo);
    expect_asks(look(name, "k", 0), "cidr:b", "k");
    CHECK(memo_add(&memo, NULL, b, PM_CONFIG, nothing), "room");
    out = look(name, "k", 0);
    CHECK(out.is == LOOKUP_DONE && out.status == PM_CONFIG, "another error is that error");
    memo_drop(&memo);
}

/* Each table by its own rule; composites by none. */
static void folds(void)
{
    const uint32_t fix = PM_FLAG_FOLD_FIX, mul = PM_FLAG_FOLD_MUL;
    char long_key[3000];

    begin("");
    expect_asks(look("mysql:/a", "Key", fix), "mysql:/a", "key");
    expect_asks(look("mysql:/a", "Key", mul), "mysql:/a", "Key");
    expect_asks(look("pcre:/a", "Key", fix), "pcre:/a", "Key");
    expect_asks(look("pcre:/a", "Key", mul), "pcre:/a", "key");
    expect_asks(look("tcp:h:1", "Key", fix | mul), "tcp:h:1", "key");
    expect_asks(look("cidr:/a", "Key", fix | mul), "cidr:/a", "Key");
    expect_asks(look("unionmap:{mysql:/a}", "Key", fix), "mysql:/a", "key");
    expect_asks(look("pipemap:{randmap:{Value},pcre:/a}", "Key", mul), "pcre:/a", "value");
    memo_drop(&memo);
    memset(long_key, 'A', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';
    for (int i = 0; i < 3; i++) {
        struct outcome out = look("mysql:/a", long_key + i * 100, fix);

        CHECK(out.is == LOOKUP_AGENT && out.key.len == strlen(long_key + i * 100) &&
                  memchr(out.key.ptr, 'A', out.key.len) == NULL,
              "a long key");
    }
}

static void refuses(void)
{
    char *large = need_memory(BRIDGE_DATA_MAX + 2);
    struct table *table;
    struct outcome out;

    begin("");
    out = look("socketmap:unix:/s:m", "k", PM_FLAG_NO_UNAUTH);
    CHECK(out.is == LOOKUP_DONE && out.status == PM_RETRY, "a server that anybody may be");
    out = look("unionmap:{tcp:h:1}", "k", PM_FLAG_NO_UNAUTH);
    CHECK(out.is == LOOKUP_DONE && out.status == PM_RETRY, "as a member, too");
    memo_drop(&memo);
    expect_asks(look("pcre:/a", "k", PM_FLAG_NO_UNAUTH), "pcre:/a", "k");
    table = table_get(text_slice("cidr:a"));
    table->limited = true;
    table->limit = (struct key_limit){.max = 3};
    memset(table->limit.allowed, 0xff, sizeof table->limit.allowed);
    expect("cidr:a", "long", PM_NOKEY, "");
    expect("unionmap:{cidr:a}", "long", PM_NOKEY, "");
    table_get(text_slice("pipemap:{cidr:b}"))->limited = true;
    expect("pipemap:{cidr:b}", "k", PM_NOKEY, "");
    memset(large, 'x', BRIDGE_DATA_MAX + 1);
    large[BRIDGE_DATA_MAX + 1] = '\0';
    expect("cidr:b", large, PM_RETRY, ""); /* it might match */
    expect("unix:passwd.byname", large, PM_NOKEY, "");
    free(large);
}

static void bounded(void)
{
    char name[1024] = "", *large = need_memory(BRIDGE_DATA_MAX);
    size_t len = (size_t)snprintf(name, sizeof name, "unionmap:{");
    struct outcome out;

    begin("a k=1;");
    for (int i = 0; i < 65; i++)
        len += (size_t)snprintf(name + len, sizeof name - len, "cidr:a%s", i < 64 ? "," : "}");
    expect(name, "k", PM_RETRY, "");
    snprintf(name, sizeof name, "cidr:a");
    for (int depth = 1; depth <= 9; depth++) {
        char deeper[1024];

        snprintf(deeper, sizeof deeper, "pipemap:{%.900s}", name);
        snprintf(name, sizeof name, "%s", deeper);
        expect(name, "k", depth <= 8 ? PM_OK : PM_RETRY, depth <= 8 ? "1" : "");
    }
    /* 8 times 8 members, and the unions besides: more than are remembered */
    len = (size_t)snprintf(name, sizeof name, "unionmap:{");
    for (int i = 0; i < 8; i++)
        len +=
            (size_t)snprintf(name + len, sizeof name - len,
                             "unionmap:{cidr:a cidr:a cidr:a cidr:a cidr:a cidr:a cidr:a cidr:a}%s",
                             i < 7 ? "," : "}");
    expect(name, "k", PM_RETRY, "");
    memset(large, 'x', BRIDGE_DATA_MAX);
    CHECK(memo_add(&memo, NULL, NULL, PM_OK, (struct slice){large, BRIDGE_DATA_MAX}), "room");
    CHECK(memo_add(&memo, NULL, NULL, PM_OK, text_slice("y")), "room");
    out = look("unionmap:{cidr:a,cidr:b}", "k", 0);
    CHECK(out.is == LOOKUP_DONE && out.status == PM_RETRY, "values that are too long together");
    memo_drop(&memo);
    room = 10;
    out = look("unionmap:{cidr:a}", "k", 0);
    CHECK(out.is == LOOKUP_ENDS, "no memory is no answer");
    memo_drop(&memo);
    CHECK(room == 10, "and nothing is kept");
    free(large);
}

static int stop(void)
{
    begin("");
    return 0;
}

static const struct unit_test tests[] = {
    {"a union is of all members", unions},
    {"a pipe is of one after the other", pipes},
    {"tables that their name answers", names},
    {"what is known stays while another member is waited for", waits},
    {"members that are not granted", tables_to_come},
    {"what is known of agents", without_agent},
    {"keys are folded by each table's own rule", folds},
    {"what is not asked for", refuses},
    {"names and values have bounds", bounded},
};

const struct unit_suite lookup_suite = {
    .name = "lookup", .tests = tests, .ntests = COUNT(tests), .stop = stop};
