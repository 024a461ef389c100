/*
 * Tests of server/worker/cache, unanswered and chance: what a worker keeps of answers is exact,
 * bounded and not kept too long, whatever keys there are; queries without an answer are counted and
 * forgotten; chance is fair. Part of the unit test program; touches memory only.
 */
#include "server/worker/cache.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/worker/chance.h"
#include "server/worker/unanswered.h"
#include "tests/unit/unit.h"

#define ROOM  (64u * 1024)
#define NEVER UINT64_MAX

static const uint8_t seed[CACHE_SEED_LEN] = "0123456789abcde";
static const struct slice nothing = {"", 0};

static struct cache *new_cache(size_t most)
{
    struct cache *cache = cache_new(most, seed);

    REQUIRE(cache != NULL, "out of memory");
    return cache;
}

static void keep(struct cache *cache, const char *key, const char *value, uint64_t expires)
{
    cache_store(cache, text_slice(key), 0, expires, value != NULL,
                value != NULL ? text_slice(value) : nothing);
}

/* value NULL: it is known that there is none; "?": nothing is known. */
static void expect(struct cache *cache, const char *key, uint64_t now, const char *value)
{
    struct slice found = {"?", 1};
    enum cache_result is = cache_find(cache, text_slice(key), 0, now, &found);

    if (value == NULL)
        CHECK(is == CACHE_NOT_FOUND, "%s: %d", key, (int)is);
    else if (strcmp(value, "?") == 0)
        CHECK(is == CACHE_UNKNOWN, "%s: %d, but it should not be known", key, (int)is);
    else
        CHECK(is == CACHE_FOUND && slice_is(found, value), "%s: %d, %.*s, not %s", key, (int)is,
              (int)found.len, found.ptr, value);
}

static void exact(void)
{
    struct cache *cache = new_cache(ROOM);
    struct slice value;

    expect(cache, "key", 0, "?");
    keep(cache, "key", "value", NEVER);
    keep(cache, "none", NULL, NEVER);
    keep(cache, "", "of the empty key", NEVER);
    keep(cache, "empty", "", NEVER);
    expect(cache, "key", 1, "value");
    expect(cache, "KEY", 1, "?");
    expect(cache, "ke", 1, "?");
    expect(cache, "none", 1, NULL);
    expect(cache, "", 1, "of the empty key");
    expect(cache, "empty", 1, "");
    cache_store(cache, text_slice("key"), 7, NEVER, true, text_slice("other"));
    expect(cache, "key", 1, "value");
    CHECK(cache_find(cache, text_slice("key"), 7, 1, &value) == CACHE_FOUND &&
              slice_is(value, "other"),
          "in another variant");
    keep(cache, "key", NULL, NEVER);
    expect(cache, "key", 1, NULL);
    cache_store(cache, (struct slice){"a\0b", 3}, 0, NEVER, true, (struct slice){"\0", 1});
    CHECK(cache_find(cache, (struct slice){"a\0b", 3}, 0, 1, &value) == CACHE_FOUND &&
              value.len == 1 && value.ptr[0] == '\0',
          "zero bytes");
    CHECK(cache_find(cache, (struct slice){"a\0c", 3}, 0, 1, &value) == CACHE_UNKNOWN,
          "and what differs behind them");
    cache_free(cache);
    cache_free(NULL);
}

static void expires(void)
{
    struct cache *cache = new_cache(ROOM);
    size_t before;

    keep(cache, "long", "1", 2000);
    before = cache_bytes(cache);
    keep(cache, "short", "2", 1000);
    expect(cache, "short", 999, "2");
    expect(cache, "short", 1000, "?");
    CHECK(cache_bytes(cache) == before, "what has expired takes no memory");
    expect(cache, "long", 1999, "1");
    keep(cache, "long", "3", 5000);
    expect(cache, "long", 4999, "3");
    expect(cache, "long", 5000, "?");
    cache_free(cache);
}

/* Bounded, and the least recently used goes first. */
static void bounded(void)
{
    struct cache *cache = new_cache(ROOM);
    char key[32], *large = need_memory(ROOM);
    unsigned kept = 0;
    bool gone = false;

    keep(cache, "in use", "yes", NEVER);
    for (int i = 0; i < 10000; i++) {
        snprintf(key, sizeof key, "%d", i);
        keep(cache, key, key, NEVER);
        CHECK(cache_bytes(cache) <= ROOM, "%zu bytes", cache_bytes(cache));
        expect(cache, "in use", 0, "yes");
        expect(cache, key, 0, key);
    }
    for (int i = 9999; i >= 0; i--) {
        struct slice value;

        snprintf(key, sizeof key, "%d", i);
        if (cache_find(cache, text_slice(key), 0, 0, &value) == CACHE_UNKNOWN) {
            gone = true;
        } else {
            CHECK(!gone, "%d is kept, and a later one is not", i);
            kept++;
        }
    }
    CHECK(kept > ROOM / 200 && kept < ROOM / 60, "%u are kept", kept);
    memset(large, 'x', ROOM);
    cache_store(cache, text_slice("large"), 0, NEVER, true, (struct slice){large, ROOM / 2});
    expect(cache, "9998", 0, "?");
    CHECK(cache_bytes(cache) <= ROOM, "%zu bytes", cache_bytes(cache));
    keep(cache, "in use", "yes", NEVER);
    cache_store(cache, text_slice("too large"), 0, NEVER, true, (struct slice){large, ROOM});
    expect(cache, "too large", 0, "?");
    CHECK(cache_bytes(cache) <= ROOM, "%zu bytes", cache_bytes(cache));
    free(large);
    cache_free(cache);
    cache = new_cache(10); /* not even for itself */
    keep(cache, "key", "value", NEVER);
    expect(cache, "key", 0, "?");
    cache_free(cache);
}

/* Against a model that knows all that was ever stored: what is kept is what was stored last. */
static void model(void)
{
    enum { KEYS = 600 };
    static struct {
        uint64_t expires;
        unsigned value; /* 0: not found */
        bool known;
    } all[KEYS];
    uint64_t random = 88172645463325252u, now = 0;
    struct cache *cache = new_cache(ROOM / 2);
    unsigned hits = 0;

    memset(all, 0, sizeof all);
    for (unsigned i = 1; i < 200000; i++) {
        unsigned k = (unsigned)(random_next(&random) % KEYS), found = 0;
        struct slice value = nothing;
        enum cache_result is;
        char key[64], text[32] = "";

        snprintf(key, sizeof key, "%0*u", (int)(k % 50 + 1), k);
        now += random_next(&random) % 3;
        is = cache_find(cache, text_slice(key), k % 2, now, &value);
        if (is == CACHE_FOUND && value.len < sizeof text) {
            memcpy(text, value.ptr, value.len);
            found = (unsigned)strtoul(text, NULL, 10);
        }
        hits += is != CACHE_UNKNOWN;
        CHECK(is == CACHE_UNKNOWN ||
                  (all[k].known && all[k].expires > now && all[k].value == found),
              "key %u is %u", k, found);
        if (random_next(&random) % 2 == 0)
            continue;
        all[k].known = true;
        all[k].expires = now + random_next(&random) % 2000;
        all[k].value = random_next(&random) % 4 == 0 ? 0 : i;
        snprintf(text, sizeof text, "%u", i);
        cache_store(cache, text_slice(key), k % 2, all[k].expires, all[k].value != 0,
                    text_slice(text));
        CHECK(cache_bytes(cache) <= ROOM / 2, "%zu bytes", cache_bytes(cache));
    }
    CHECK(hits > 10000, "%u hits", hits);
    cache_free(cache);
}

static void sheds(void)
{
    struct cache *cache = new_cache(ROOM * 64);
    unsigned parts = 1;
    char key[32];

    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "%d", i);
        keep(cache, key, key, NEVER);
    }
    while (!cache_shed(cache))
        parts++;
    CHECK(parts > 20, "%u parts", parts);
}

/* ---- queries without an answer ---- */

static void unanswered(void)
{
    struct unanswered u = {0};
    uint32_t serial = UINT32_MAX - 20; /* they wrap */

    CHECK(unanswered_count(&u, 1000000, 10000) == 0, "none");
    for (int i = 0; i < 100; i++)
        unanswered_ask(&u, serial++, 1000000 + (uint64_t)i, 10000);
    CHECK(unanswered_count(&u, 1000100, 10000) == 100, "all");
    for (uint32_t i = 1; i <= 40; i++)
        unanswered_settle(&u, serial - i);
    CHECK(unanswered_count(&u, 1000100, 10000) == 60, "without those that have one");
    CHECK(unanswered_count(&u, 1019999, 10000) == 60, "for twice the time");
    unanswered_ask(&u, serial++, 1019999, 10000);
    CHECK(unanswered_count(&u, 1026000, 10000) == 1, "no longer");
    unanswered_settle(&u, serial - 50);
    CHECK(unanswered_count(&u, 1026000, 10000) == 1, "a late answer is of none that counts");
    unanswered_settle(&u, serial - 1);
    unanswered_settle(&u, serial - 1);
    CHECK(unanswered_count(&u, 1026000, 10000) == 0, "not below zero");
    unanswered_ask(&u, serial, 1026000, 0);
    CHECK(unanswered_count(&u, UINT64_MAX - 1, 0) == 0, "no time at all");
}

/* Under load, with every answer on its time, the count is what is under way. */
static void steady(void)
{
    struct unanswered u = {0};
    uint32_t serial = 5;

    for (uint64_t now = 0; now < 100000; now += 10) {
        unanswered_ask(&u, serial++, now, 1000);
        if (now >= 900)
            unanswered_settle(&u, serial - 91);
        if (now > 2000)
            CHECK(unanswered_count(&u, now, 1000) == 90, "%u at %llu",
                  unanswered_count(&u, now, 1000), (unsigned long long)now);
    }
}

/* ---- chance ---- */

static void fair(void)
{
    unsigned seen[7] = {0};
    uint8_t one[CHANCE_SEED_LEN], two[CHANCE_SEED_LEN];

    for (int i = 0; i < 70000; i++) {
        uint32_t n = chance_below(7);

        REQUIRE(n < 7, "%u", n);
        seen[n]++;
    }
    for (int i = 0; i < 7; i++)
        CHECK(seen[i] > 9000 && seen[i] < 11000, "%d: %u times", i, seen[i]);
    CHECK(chance_below(1) == 0, "of one");
    chance_seed(one);
    chance_seed(two);
    CHECK(memcmp(one, two, sizeof one) == 0, "the seed stays");
}

static const struct unit_test tests[] = {
    {"a key has what was stored for it and no other", exact},
    {"nothing is known longer than it was to be", expires},
    {"memory is bounded, and the least recently used goes", bounded},
    {"what is known is what was stored last", model},
    {"a large cache goes little by little", sheds},
    {"queries without an answer count for a while", unanswered},
    {"queries are counted right under load", steady},
    {"chance is fair", fair},
};

const struct unit_suite cache_suite = {.name = "cache", .tests = tests, .ntests = COUNT(tests)};
