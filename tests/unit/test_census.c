/*
 * Tests of server/counters, server/census and ctl/status_read: what a worker counts, also a hostile
 * one, how it is summed up, and how the text that the census makes of it is taken apart. Part of
 * the unit test program; makes anonymous files, as the monitor does for workers.
 */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl/status.h"
#include "server/census/census.h"

#define SLOTS 3

/* ---- buckets ---- */

static void buckets(void)
{
    uint64_t random = 88172645463325252u;

    CHECK(counters_bucket(0) == 0 && counters_bucket(255) == 0, "the first");
    CHECK(counters_bucket(256) == 1 && counters_bucket(319) == 1 && counters_bucket(320) == 2,
          "the second");
    CHECK(counters_bucket(UINT64_MAX) == COUNTERS_BUCKETS - 1, "the last");
    CHECK(counters_bucket((UINT64_C(1) << 36) - 1) == COUNTERS_BUCKETS - 2, "the last but one");
    for (unsigned b = 0; b + 1 < COUNTERS_BUCKETS; b++) {
        CHECK(counters_bucket(counters_beyond(b)) == b + 1, "bucket %u: its end", b);
        CHECK(counters_bucket(counters_beyond(b) - 1) == b, "bucket %u: its last", b);
    }
    for (int i = 0; i < 100000; i++) {
        uint64_t ns = random_next(&random) >> (i % 64);
        unsigned b = counters_bucket(ns);

        CHECK(ns < counters_beyond(b) || b == COUNTERS_BUCKETS - 1, "%llu in bucket %u",
              (unsigned long long)ns, b);
    }
}

static void quantiles(void)
{
    struct counters_sum sum = {0};

    CHECK(counters_quantile(&sum, 500) == 0, "of nothing");
    sum.buckets[1] = 1;
    CHECK(counters_quantile(&sum, 500) == 320 && counters_quantile(&sum, 990) == 320, "of one");
    sum.buckets[1] = 98;
    sum.buckets[5] = 2;
    CHECK(counters_quantile(&sum, 500) == 320, "the middle");
    CHECK(counters_quantile(&sum, 980) == 320, "just the first");
    CHECK(counters_quantile(&sum, 990) == counters_beyond(5), "the rest");
    for (unsigned b = 0; b < COUNTERS_BUCKETS; b++)
        sum.buckets[b] = UINT64_MAX;
    CHECK(counters_quantile(&sum, 990) == counters_beyond(0), "sums that have reached their end");
    memset(&sum, 0, sizeof sum);
    sum.buckets[COUNTERS_BUCKETS - 1] = UINT64_MAX - 5;
    CHECK(counters_quantile(&sum, 990) == UINT64_MAX, "beyond all");
}

/* ---- pages ---- */

static void set(counter *c, uint64_t value)
{
    atomic_store_explicit(c, value, memory_order_relaxed);
}

static struct counters *new_page(int *fd)
{
    void *page;

    *fd = memfd_create("page", MFD_CLOEXEC);
    REQUIRE(*fd >= 0 && ftruncate(*fd, (off_t)counters_size(SLOTS)) == 0, "no page");
    page = mmap(NULL, counters_size(SLOTS), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    REQUIRE(page != MAP_FAILED, "no page");
    return page;
}

/* A page that is not one, numbers that go back, sums beyond all: ignored, or at their end. */
static void hostile_page(void)
{
    struct counters_seen *seen = calloc(1, counters_seen_size(SLOTS));
    struct counters_sum sum = {0};
    int fd;
    struct counters *page = new_page(&fd);

    REQUIRE(seen != NULL, "out of memory");
    set(&page->slots[0].hits, 7);
    counters_look(seen, page, SLOTS);
    CHECK(seen->slots[0].hits == 0, "a page without its mark");
    set(&page->magic, COUNTERS_MAGIC);
    counters_look(seen, page, SLOTS);
    CHECK(seen->slots[0].hits == 7, "with it");
    set(&page->slots[0].hits, 3);
    counters_look(seen, page, SLOTS);
    CHECK(seen->slots[0].hits == 7, "a number that goes back");
    memset(page, 0xff, counters_size(SLOTS));
    set(&page->magic, COUNTERS_MAGIC);
    counters_look(seen, page, SLOTS);
    for (int i = 0; i < 3; i++)
        counters_add(&sum, &seen->slots[SLOTS]);
    CHECK(sum.hits == UINT64_MAX && sum.buckets[9] == UINT64_MAX, "sums end at their end");
    CHECK(counters_lookups(&sum) == UINT64_MAX, "and so do sums of sums");
    munmap(page, counters_size(SLOTS));
    close(fd);
    free(seen);
}

/* ---- the census ---- */

static bool hear(struct census *census, enum bridge_type type, union bridge_body body,
                 const char *tail, int fd)
{
    struct bridge_msg msg = {.type = type, .body = body, .tail = tail, .tail_len = strlen(tail)};

    msg.fds[0] = fd;
    msg.nfds = fd >= 0;
    return census_hear(census, &msg);
}

#define HEAR(type, fd, tail, ...)                                                                  \
    CHECK(hear(&census, MSG_##type, (union bridge_body){.type = {__VA_ARGS__}}, (tail), (fd)),     \
          "message " #type)

static struct census census;

static void forget(void)
{
    for (size_t i = 0; i < census.ntables; i++) {
        free(census.tables[i].name);
        free(census.tables[i].failure);
        free(census.tables[i].trouble);
    }
    for (size_t i = 0; i < census.nlisteners; i++)
        free(census.listeners[i].path);
    for (size_t i = 0; i < census.nworkers; i++)
        if (census.workers[i].used) {
            munmap((void *)census.workers[i].page, counters_size(census.workers[i].is.slots));
            free(census.workers[i].seen);
        }
    free(census.tables);
    free(census.listeners);
    free(census.workers);
    free(census.compartments);
    free(census.watches);
    free(census.version);
    free(census.policy_failure);
    memset(&census, 0, sizeof census);
}

/* What the census says now, taken apart. The text is the caller's, to be freed after use. */
static char *report(struct status *status)
{
    size_t len;
    char *text = census_report(&census, &len);

    REQUIRE(text != NULL, "no report");
    REQUIRE(status_parse(text, len, status), "the census's own words are not taken apart");
    return text;
}

static void introduce(void)
{
    HEAR(DAEMON, -1, "1.2.3", .since = 1000, .pid = 77);
    HEAR(POLICY, -1, "", .since = 1001);
    HEAR(LISTENER, -1, "/a b\tc", .listener = 0, .workers = 4, .clients = 100, .max_use = 9);
    HEAR(TABLE_NAME, -1, "hash:/x", .table = 0);
    HEAR(TABLE_NAME, -1, "inline:{a\n=\"b\"}", .table = 1);
    HEAR(TABLE_STATE, -1, "", .table = 0, .since = 5, .loaded = 6, .generation = 2, .entries = 3,
         .bytes = 4, .answered_by = KIND_IMAGE, .has_image = 1);
    HEAR(TABLE_STATE, -1, "it is\tnot there", .table = 1, .since = 8, .answered_by = 0);
    HEAR(AGENT_STATE, -1, "", .table = 1, .since = 9, .pid = 5, .started = 7, .running = 4);
}

static void says_what_it_heard(void)
{
    struct status s;
    char *text;

    introduce();
    text = report(&s);
    CHECK(strcmp(s.version, "1.2.3") == 0 && s.pid == 77 && s.since == 1000, "the daemon");
    CHECK(s.nlisteners == 1 && strcmp(s.listeners[0].path, "/a b\\x09c") == 0, "the listener");
    CHECK(s.listeners[0].workers_most == 4 && s.listeners[0].max_use == 9, "its limits");
    REQUIRE(s.ntables == 2, "%zu tables", s.ntables);
    CHECK(strcmp(s.tables[0].state, "current") == 0 && s.tables[0].entries == 3, "a good table");
    CHECK(strcmp(s.tables[1].name, "inline:{a\\x0a=\\\"b\\\"}") == 0, "an odd name");
    CHECK(strcmp(s.tables[1].state, "failing") == 0, "a bad table");
    CHECK(strcmp(s.tables[1].why, "it is\\x09not there") == 0, "and why");
    CHECK(s.nagents == 1 && s.agents[0].pid == 5, "the agents");
    CHECK(s.agents[0].running == 4 && s.agents[0].started == 7, "how many");
    status_free(&s);
    free(text);
    forget();
}

static void states(void)
{
    static const struct {
        uint32_t answered_by, has_image, waiting;
        uint64_t generation;
        const char *failure, *trouble, *state;
    } cases[] = {
        {0, 0, 0, 0, "", "", "loading"},
        {KIND_IMAGE, 0, 1, 0, "", "", "loading"},
        {KIND_IMAGE, 1, 1, 1, "", "", "current"},
        {KIND_LINK, 0, 0, 0, "", "", "current"},
        {KIND_IMAGE, 1, 0, 1, "bad", "", "stale"},
        {KIND_LINK, 0, 0, 0, "bad", "", "degraded"},
        {KIND_LINK, 0, 0, 2, "bad", "", "stale"},
        {KIND_LINK, 0, 0, 2, "bad", "down", "failing"},
        {0, 0, 0, 0, "bad", "", "failing"},
        {KIND_BOTH, 1, 0, 1, "", "down", "failing"},
        {KIND_IMAGE, 1, 0, 1, "", "down", "current"},
        {KIND_WORKER, 0, 0, 0, "", "", "current"},
    };

    introduce();
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct status s;
        char *text;

        HEAR(TABLE_STATE, -1, cases[i].failure, .table = 0, .since = 1,
             .answered_by = cases[i].answered_by, .has_image = cases[i].has_image,
             .waiting = cases[i].waiting, .generation = cases[i].generation);
        HEAR(AGENT_STATE, -1, cases[i].trouble, .table = 0, .since = 2);
        text = report(&s);
        CHECK(strcmp(s.tables[0].state, cases[i].state) == 0, "case %zu is %s, not %s", i,
              s.tables[0].state, cases[i].state);
        status_free(&s);
        free(text);
    }
    forget();
}

/* Hits of table 0, lookups of no table, requests of uid 10. */
static void expect_sums(uint64_t hits, uint64_t others, uint64_t requests)
{
    struct status s;
    char *text = report(&s);
    uint64_t found = 0;

    for (size_t i = 0; i < s.ncompartments; i++)
        if (s.compartments[i].uid == 10)
            found += s.compartments[i].requests;
    CHECK(s.tables[0].sum.hits == hits, "%llu hits, not %llu",
          (unsigned long long)s.tables[0].sum.hits, (unsigned long long)hits);
    CHECK(s.other_hits == others, "%llu others", (unsigned long long)s.other_hits);
    CHECK(found == requests, "%llu requests", (unsigned long long)found);
    status_free(&s);
    free(text);
}

/* Workers come, count, end by word or by another in their place: no count is lost, or twice. */
static void workers_come_and_go(void)
{
    struct counters *pages[3];

    introduce();
    for (int i = 0; i < 3; i++) {
        int fd;

        pages[i] = new_page(&fd);
        set(&pages[i]->magic, COUNTERS_MAGIC);
        HEAR(PAGE, fd, "", .place = (uint32_t)i % 2, .uid = 10, .slots = SLOTS);
        HEAR(WORKER_STATE, -1, "", .place = (uint32_t)i % 2, .clients = 1, .served = 2, .pid = 3);
        counter_add(&pages[i]->slots[0].hits, 5);
        counter_add(&pages[i]->slots[SLOTS].hits, 1);
        counter_add(&pages[i]->requests, 6);
        expect_sums((uint64_t)(i + 1) * 5, (uint64_t)i + 1, (uint64_t)(i + 1) * 6);
    }
    HEAR(ENDED, -1, "", .place = 0);
    HEAR(ENDED, -1, "", .place = 0);
    HEAR(ENDED, -1, "", .place = 9);
    expect_sums(15, 3, 18);
    counter_add(&pages[2]->slots[0].hits, 100); /* too late: it has ended */
    counter_add(&pages[1]->slots[0].hits, 1);
    expect_sums(16, 3, 18);
    HEAR(ENDED, -1, "", .place = 1);
    expect_sums(16, 3, 18);
    for (int i = 0; i < 3; i++)
        munmap(pages[i], counters_size(SLOTS));
    forget();
}

/* A table and a listener go, and others take their places: what a worker counts that has seen the
 * old one is of no table, and of a new worker of the new one. */
static void names_change(void)
{
    struct status s;
    int old_fd, new_fd;
    struct counters *old = new_page(&old_fd), *new = new_page(&new_fd);
    char *text;

    forget();
    HEAR(LISTENER, -1, "/one", .listener = 0);
    HEAR(LISTENER, -1, "/two", .listener = 1);
    HEAR(TABLE_NAME, -1, "hash:/x", .table = 0);
    HEAR(TABLE_NAME, -1, "hash:/y", .table = 1);
    HEAR(PAGE, old_fd, "", .place = 0, .uid = 5, .listener = 1, .slots = SLOTS);
    set(&old->magic, COUNTERS_MAGIC);
    set(&old->slots[0].hits, 3);
    set(&old->slots[1].hits, 4);
    HEAR(TABLE_NAME, -1, "", .table = 0);
    HEAR(LISTENER, -1, "", .listener = 0);
    text = report(&s);
    CHECK(s.ntables == 1 && s.tables[0].sum.hits == 4, "%zu tables are left", s.ntables);
    CHECK_TEXT(s.tables[0].name, "hash:/y", "the table that is left");
    CHECK(s.nlisteners == 1 && s.nworkers == 1 && s.workers[0].listener == 0, "listeners");
    CHECK(s.other_hits == 3, "%llu of none", (unsigned long long)s.other_hits);
    status_free(&s);
    free(text);
    HEAR(TABLE_NAME, -1, "hash:/z", .table = 0);
    HEAR(TABLE_NAME, -1, "hash:/y", .table = 1);
    HEAR(PAGE, new_fd, "", .place = 1, .uid = 5, .listener = 1, .slots = SLOTS);
    set(&new->magic, COUNTERS_MAGIC);
    set(&new->slots[0].hits, 10);
    set(&new->slots[0].cached, 6);
    set(&new->slots[0].refused, 2);
    HEAR(ENDED, -1, "", .place = 0);
    text = report(&s);
    CHECK(s.ntables == 2 && s.tables[0].sum.hits == 10 && s.tables[1].sum.hits == 4, "%llu, %llu",
          (unsigned long long)s.tables[0].sum.hits, (unsigned long long)s.tables[1].sum.hits);
    CHECK(s.tables[0].sum.cached == 6 && s.tables[0].sum.refused == 2 &&
              s.tables[1].sum.cached == 0,
          "%llu cached, %llu refused", (unsigned long long)s.tables[0].sum.cached,
          (unsigned long long)s.tables[0].sum.refused);
    CHECK(s.other_hits == 3, "%llu of none", (unsigned long long)s.other_hits);
    CHECK(s.ncompartments == 1 && s.compartments[0].hits == 17, "the user keeps all");
    status_free(&s);
    free(text);
    munmap(old, counters_size(SLOTS));
    munmap(new, counters_size(SLOTS));
    forget();
}

/* Strangers by the thousand leave no more than their number of lines. */
static void many_strangers(void)
{
    struct status s;
    char *text;
    int fd;
    struct counters *page = new_page(&fd);

    set(&page->magic, COUNTERS_MAGIC);
    introduce();
    for (uint32_t uid = 0; uid < 3 * COMPARTMENTS_MOST; uid++)
        HEAR(PAGE, dup(fd), "", .place = 0, .uid = uid, .slots = SLOTS);
    text = report(&s);
    CHECK(s.ncompartments <= COMPARTMENTS_MOST, "%zu compartments", s.ncompartments);
    CHECK(s.nworkers == 1, "%zu workers", s.nworkers);
    status_free(&s);
    free(text);
    munmap(page, counters_size(SLOTS));
    close(fd);
    forget();
}

static void beyond_bounds(void)
{
    int fd;
    struct counters *page = new_page(&fd);
    union bridge_body body = {.PAGE = {.place = UINT32_MAX, .slots = SLOTS}};

    CHECK(!hear(&census, MSG_PAGE, body, "", dup(fd)), "a place beyond all");
    body.PAGE = (struct msg_page){.slots = UINT32_MAX};
    CHECK(!hear(&census, MSG_PAGE, body, "", dup(fd)), "more slots than any page has");
    body.TABLE_NAME = (struct msg_table_name){.table = UINT32_MAX};
    CHECK(!hear(&census, MSG_TABLE_NAME, body, "x", -1), "a table beyond all");
    munmap(page, counters_size(SLOTS));
    close(fd);
    forget();
}

/* ---- the tool's end ---- */

static bool parses(const char *bytes, size_t len)
{
    struct status s;
    char *text = exact_copy(bytes, len);
    bool good = status_parse(text, len, &s);

    if (good)
        status_free(&s);
    free(text);
    return good;
}

#define HEAD  "jailmap-status 5\ndaemon\t1\t2\t3\t4\npolicy\t5\t\n"
#define TABLE "table\tx\tcurrent\t1\t2\t3\t4\t5\timage\t6\t7\t8\t9\t10\t11\t"

static void refuses(void)
{
    static const char *const good[] = {
        HEAD "end\n",
        HEAD TABLE "\t\nend\n",
        HEAD TABLE "0:1,113:2\twhy\nend\n",
        HEAD TABLE "\t\nagent\t0\t1\t4\t7\t1\twhy\nend\n",
        HEAD "listener\t/x\t1\t2\t3\nworker\t1\t2\t0\t3\t4\nend\n",
    };
    static const char *const bad[] = {
        "",
        "\n",
        "end\n",
        "jailmap-status 1\nend\n",
        "jailmap-status 5\nend\n",
        HEAD,
        HEAD "end",
        HEAD "end\nmore\n",
        HEAD "unknown\t1\nend\n",
        HEAD "others\t1\t2\nend\n",
        HEAD "others\t1\t2\t3\t4\nend\n",
        HEAD "others\t1\t2\t-3\nend\n",
        HEAD "others\t1\t2\t18446744073709551616\nend\n",
        HEAD "others\t1\t2\t\nend\n",
        HEAD TABLE "114:1\t\nend\n",
        HEAD TABLE "1\t\nend\n",
        HEAD TABLE "1:\t\nend\n",
        HEAD TABLE "\t\x1b[2J\nend\n",
        HEAD TABLE "\t\xc3\xa9\nend\n",
        HEAD "worker\t1\t2\t0\t3\t4\nend\n",
        HEAD "compartment\t1\t0\t0\t0\t0\t0\t0\t0\t0\nend\n",
        HEAD "listener\t/x\t1\t2\t3\ncompartment\t1\t0\t0\t0\t0\t0\t0\nend\n",
        HEAD TABLE "\t\nagent\t0\t1\t7\t1\twhy\nend\n",
        HEAD "agent\t0\t1\t1\t1\t1\t\nend\n",
        HEAD "agent\t18446744073709551615\t1\t1\t1\t1\t\nend\n",
    };

    for (size_t i = 0; i < COUNT(good); i++)
        CHECK(parses(good[i], strlen(good[i])), "good text %zu", i);
    for (size_t i = 0; i < COUNT(bad); i++)
        CHECK(!parses(bad[i], strlen(bad[i])), "bad text %zu", i);
    CHECK(!parses(HEAD "end\n\0", sizeof HEAD "end\n"), "a zero byte");
}

/* A census that was taken over says anything: nothing is read beyond its words, or kept. */
static void mutated_words(void)
{
    uint64_t random = 2463534242u;
    size_t len;
    char *text;

    introduce();
    text = census_report(&census, &len);
    REQUIRE(text != NULL, "no report");
    for (int i = 0; i < 20000; i++) {
        char *copy = exact_copy(text, len);
        size_t cut = random_next(&random) % 8 == 0 ? random_next(&random) % len : len;

        for (uint64_t n = random_next(&random) % 4; n > 0; n--)
            copy[random_next(&random) % len] = "\t\n0 9:,\xff"[random_next(&random) % 8];
        parses(copy, cut);
        free(copy);
    }
    free(text);
    forget();
}

static const struct unit_test tests[] = {
    {"every time has its bucket", buckets},
    {"quantiles are ends of buckets", quantiles},
    {"numbers of a hostile page are numbers", hostile_page},
    {"the census says what it heard", says_what_it_heard},
    {"a table's state is one word", states},
    {"what ended workers counted stays", workers_come_and_go},
    {"what has gone is not shown, and its place begins anew", names_change},
    {"many users leave few lines", many_strangers},
    {"numbers beyond all bounds are refused", beyond_bounds},
    {"text that is not of the census is refused", refuses},
    {"mutated text does no harm", mutated_words},
};

const struct unit_suite census_suite = {.name = "census", .tests = tests, .ntests = COUNT(tests)};
