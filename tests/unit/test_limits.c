/*
 * Tests of limits on lookups: the sums that slide along with time, when a limit is reached and kept
 * again, and what the census says of it, by numbers of pages and a clock that the test moves. Part
 * of the unit test program; makes anonymous files, as the monitor does for workers.
 */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "policy/policy.h"
#include "server/census/census.h"

static uint64_t clock_ms = 5000000;
static struct msg_limit said[64];
static size_t nsaid;
static bool deaf; /* the monitor takes nothing */

uint64_t census_now(void)
{
    return clock_ms;
}

bool census_say(const struct msg_limit *limit)
{
    if (deaf || nsaid == COUNT(said))
        return false;
    said[nsaid++] = *limit;
    return true;
}

/* ---- windows ---- */

static void expect_sum(const struct window *w, uint64_t lookups, uint64_t misses, const char *what)
{
    struct lookups sum = window_sum(w);

    CHECK(sum.lookups == lookups && sum.misses == misses, "%s: %llu lookups, %llu misses", what,
          (unsigned long long)sum.lookups, (unsigned long long)sum.misses);
}

static void slides(void)
{
    struct window w;

    window_begin(&w, LIMIT_LOOKUPS, 10000);
    expect_sum(&w, 0, 0, "empty");
    window_add(&w, (struct lookups){7, 3}, 10000);
    window_add(&w, (struct lookups){1, 1}, 10249);
    expect_sum(&w, 8, 4, "one slice");
    window_add(&w, (struct lookups){2, 0}, 10999);
    expect_sum(&w, 10, 4, "all four");
    window_add(&w, (struct lookups){0, 0}, 11000);
    expect_sum(&w, 2, 0, "the first is over");
    window_add(&w, (struct lookups){0, 0}, 99999);
    expect_sum(&w, 0, 0, "all are");
    window_begin(&w, LIMIT_MISSES, 10000);
    window_add(&w, (struct lookups){5, 5}, 10999);
    window_add(&w, (struct lookups){6, 6}, 69999);
    expect_sum(&w, 5 + 6, 5 + 6, "a minute, less the last slice");
    window_add(&w, (struct lookups){0, 0}, 70000);
    expect_sum(&w, 6, 6, "a minute");
}

/* What is seen late has come evenly, and nothing of it is lost within the time. */
static void comes_evenly(void)
{
    struct window w;

    window_begin(&w, LIMIT_LOOKUPS, 1000);
    window_add(&w, (struct lookups){103, 10}, 1000 + 2 * 250);
    expect_sum(&w, 103, 10, "two slices late");
    window_begin(&w, LIMIT_LOOKUPS, 1000);
    window_add(&w, (struct lookups){800, 80}, 1000 + 8 * 250);
    expect_sum(&w, 400, 40, "twice the time late");
    window_add(&w, (struct lookups){0, 0}, 1000 + 11 * 250);
    expect_sum(&w, 100, 10, "one part is left");
    window_add(&w, (struct lookups){UINT64_MAX, UINT64_MAX}, 1000 + 11 * 250);
    window_add(&w, (struct lookups){UINT64_MAX, 1}, 1000 + 11 * 250);
    expect_sum(&w, UINT64_MAX, UINT64_MAX, "sums end at their end");
}

/* ---- episodes ---- */

static void begins_and_ends(void)
{
    static const struct {
        uint32_t most;
        uint64_t sum, at;
        unsigned news;
        bool on;
    } steps[] = {
        {10, 9, 0, 0, false},
        {10, 10, 250, LIMIT_BEGINS, true},
        {10, 100, 500, 0, true},
        {10, 6, 750, 0, true},
        {10, 5, 1000, LIMIT_RESTS, false},
        {10, 9, 1250, 0, false},
        {10, 9, 10999, 0, false},
        {10, 11, 10999, LIMIT_RESUMES, true},
        {10, 0, 12000, LIMIT_RESTS, false},
        {10, 0, 21999, 0, false},
        {10, 0, 22000, LIMIT_ENDS, false},
        {10, 0, 99999, 0, false},
        {1, 1, 100000, LIMIT_BEGINS, true},
        {1, 1, 100250, 0, true},
        {1, 0, 100500, LIMIT_RESTS, false},
        {1, 1, 100750, LIMIT_RESUMES, true},
        {0, 5, 101000, LIMIT_ENDS, false}, /* there is none any more */
        {0, 5, 101250, 0, false},
    };
    struct episode e = {0};

    for (size_t i = 0; i < COUNT(steps); i++) {
        unsigned news = episode_judge(&e, LIMIT_LOOKUPS, steps[i].most, steps[i].sum, steps[i].at);

        CHECK(news == steps[i].news && e.on == steps[i].on, "step %zu: news %u, on %d", i, news,
              e.on);
    }
    CHECK(episode_judge(&e, LIMIT_MISSES, 1, 1, 0) == LIMIT_BEGINS &&
              episode_judge(&e, LIMIT_MISSES, 1, 0, 0) == LIMIT_RESTS &&
              episode_judge(&e, LIMIT_MISSES, 1, 0, 59999) == 0 &&
              episode_judge(&e, LIMIT_MISSES, 1, 0, 60000) == LIMIT_ENDS,
          "misses rest for a minute");
}

/* ---- the census ---- */

static struct census census;
static struct counters *pages[8];

static void hear(enum bridge_type type, union bridge_body body, int fd)
{
    struct bridge_msg msg = {.type = type, .body = body, .tail = "", .fds = {fd}, .nfds = fd >= 0};

    REQUIRE(census_hear(&census, &msg), "message %d", (int)type);
}

static void worker(uint32_t place, uint32_t uid, bool fresh, uint32_t lookups, uint32_t misses)
{
    int fd = memfd_create("page", MFD_CLOEXEC);
    struct msg_page page = {.place = place, .uid = uid, .fresh = fresh};
    struct msg_worker_state state = {.place = place, .limits = {lookups, misses}};

    REQUIRE(fd >= 0 && ftruncate(fd, (off_t)counters_size(0)) == 0, "no page");
    if (pages[place] != NULL)
        munmap(pages[place], counters_size(0));
    pages[place] = mmap(NULL, counters_size(0), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(pages[place] != MAP_FAILED, "no page");
    atomic_store(&pages[place]->magic, COUNTERS_MAGIC);
    hear(MSG_PAGE, (union bridge_body){.PAGE = page}, fd);
    hear(MSG_WORKER_STATE, (union bridge_body){.WORKER_STATE = state}, -1);
}

static void ended(uint32_t place)
{
    hear(MSG_ENDED, (union bridge_body){.ENDED = {place}}, -1);
}

static void count(uint32_t place, uint64_t hits, uint64_t misses, uint64_t limited)
{
    counter_add(&pages[place]->lookups, hits + misses);
    counter_add(&pages[place]->misses, misses);
    counter_add(&pages[place]->limited, limited);
}

/* Looks until that time has passed, as the census does. */
static void pass(uint64_t ms)
{
    for (uint64_t end = clock_ms + ms; clock_ms < end; clock_ms += 250)
        watch_look(&census, clock_ms);
    watch_look(&census, clock_ms);
}

static void expect(const char *what, unsigned news, unsigned limit, uint32_t uid, uint64_t lookups,
                   uint64_t misses, uint64_t limited)
{
    const struct msg_limit *m = &said[0];

    REQUIRE(nsaid > 0, "%s: nothing is said", what);
    CHECK(m->news == news && m->limit == limit && m->uid == uid, "%s: news %u of %u, uid %u", what,
          m->news, m->limit, m->uid);
    CHECK(m->lookups == lookups && m->misses == misses && m->limited == limited,
          "%s: %llu lookups, %llu misses, %llu limited", what, (unsigned long long)m->lookups,
          (unsigned long long)m->misses, (unsigned long long)m->limited);
    memmove(&said[0], &said[1], --nsaid * sizeof said[0]);
}

static void forget(void)
{
    for (uint32_t i = 0; i < COUNT(pages); i++) {
        if (i < census.nworkers && census.workers[i].used)
            ended(i);
        if (pages[i] != NULL)
            munmap(pages[i], counters_size(0));
        pages[i] = NULL;
    }
    free(census.workers);
    free(census.compartments);
    free(census.watches);
    memset(&census, 0, sizeof census);
    CHECK(nsaid == 0, "%zu messages that nobody expects", nsaid);
    nsaid = 0;
    clock_ms += 1000000;
}

/* Two workers of a uid are one, on whatever listener; another uid is another. */
static void sums_up_by_uid(void)
{
    worker(0, 10, true, 0, 100);
    worker(1, 10, true, 0, 100);
    worker(2, 11, true, 0, 100);
    count(0, 5, 50, 0);
    count(1, 0, 49, 0);
    count(2, 0, 99, 0);
    pass(1000);
    CHECK(nsaid == 0, "a limit that nobody has reached");
    CHECK(watch_since(&census, 10) == 0, "uid 10 is told of");
    count(1, 0, 1, 0);
    pass(1000);
    expect("both together", LIMIT_BEGINS, LIMIT_MISSES, 10, 105, 100, 0);
    CHECK(watch_since(&census, 10) != 0 && watch_since(&census, 11) == 0, "who is told of");
    count(0, 7, 1, 3);
    ended(0); /* what it counted at the end is not lost */
    worker(0, 10, true, 0, 100);
    count(0, 1, 0, 0);
    pass(250); /* the monitor may not know it of this one: it may have had none for a while */
    expect("a worker that is new", LIMIT_RESUMES, LIMIT_MISSES, 10, 105 + 8 + 1, 101, 3);
    pass(58750);
    expect("the burst is over", LIMIT_RESTS, LIMIT_MISSES, 10, 10, 2, 3);
    pass(60000);
    expect("and has been", LIMIT_ENDS, LIMIT_MISSES, 10, 105 + 8 + 1, 101, 3);
    CHECK(watch_since(&census, 10) == 0, "it is over");
    forget();
}

/* What was counted before this census is none of its business. */
static void begins_anew(void)
{
    worker(0, 10, false, 10, 10);
    count(0, 1000, 1000, 0);
    pass(1000);
    count(0, 9, 0, 0);
    pass(1000);
    CHECK(nsaid == 0, "what was before counts");
    count(0, 10, 0, 0);
    pass(250);
    expect("since then", LIMIT_BEGINS, LIMIT_LOOKUPS, 10, 10, 0, 0);
    nsaid = 0;
    forget();
}

/* Leaving does not help, nor does it keep anything for ever. */
static void leaves_and_comes_back(void)
{
    worker(0, 10, true, 0, 100);
    count(0, 0, 60, 0);
    pass(500);
    ended(0);
    pass(10000);
    worker(0, 10, true, 0, 100);
    count(0, 0, 40, 0);
    pass(500);
    expect("the same as before", LIMIT_BEGINS, LIMIT_MISSES, 10, 100, 100, 0);
    ended(0);
    pass(200000);
    expect("gone", LIMIT_RESTS, LIMIT_MISSES, 10, 40, 40, 0);
    expect("for good", LIMIT_ENDS, LIMIT_MISSES, 10, 100, 100, 0);
    CHECK(watch_look(&census, clock_ms) == UINT64_MAX && !census.watches[0].used,
          "somebody who has gone is watched");
    forget();
}

/* Nobody is looked at while there is no limit, and what was then is not counted later. */
static void no_limit_no_look(void)
{
    struct msg_worker_state state = {.limits = {50, 0}};

    worker(0, 10, true, 0, 0);
    CHECK(watch_look(&census, clock_ms) == UINT64_MAX, "there is a time to look");
    count(0, 1000, 0, 0);
    clock_ms += 1000;
    hear(MSG_WORKER_STATE, (union bridge_body){.WORKER_STATE = state}, -1);
    pass(1000);
    CHECK(nsaid == 0, "what was before the limit counts");
    count(0, 50, 0, 0);
    pass(250);
    expect("the limit", LIMIT_BEGINS, LIMIT_LOOKUPS, 10, 50, 0, 0);
    state.limits[0] = 0;
    hear(MSG_WORKER_STATE, (union bridge_body){.WORKER_STATE = state}, -1);
    pass(250);
    expect("no limit", LIMIT_ENDS, LIMIT_LOOKUPS, 10, 50, 0, 0);
    CHECK(watch_look(&census, clock_ms) == UINT64_MAX, "there is a time to look again");
    forget();
}

/* A monitor that takes nothing now is told later, and once. */
static void told_later(void)
{
    worker(0, 10, true, 5, 0);
    count(0, 5, 0, 0);
    deaf = true;
    pass(500);
    deaf = false;
    pass(250);
    expect("later", LIMIT_BEGINS, LIMIT_LOOKUPS, 10, 5, 0, 0);
    pass(0);
    CHECK(nsaid == 0, "twice");
    pass(20000);
    expect("rest", LIMIT_RESTS, LIMIT_LOOKUPS, 10, 0, 0, 0);
    expect("end", LIMIT_ENDS, LIMIT_LOOKUPS, 10, 5, 0, 0);
    forget();
}

/* ---- the policy ---- */

static void whose_limits(void)
{
    struct policy_limit limits[] = {
        {.anyone = true, .clients = 7},
        {.uid = 10, .lookups_per_second = 8, .action = ACTION_SLOW},
    };
    struct policy policy = {.limits = limits, .nlimits = 2};
    const struct policy_limit *l = policy_limit(&policy, 10);

    CHECK(l->lookups_per_second == 8 && l->clients == 0 && l->misses_per_minute == 0, "its own");
    CHECK(policy_limit(&policy, 11)->clients == 7, "of every user");
    limits[0].clients = 0;
    CHECK(policy_limit(&policy, 11)->misses_per_minute == 0, "an empty one replaces what is usual");
    policy.nlimits = 0;
    l = policy_limit(&policy, 0);
    CHECK(l->misses_per_minute == 60000 && l->action == ACTION_AUDIT && l->clients == 0 &&
              l->lookups_per_second == 0,
          "what is usual");
}

static const struct unit_test tests[] = {
    {"a sum slides along", slides},
    {"what is seen late has come evenly", comes_evenly},
    {"a limit is reached, rests, resumes and ends", begins_and_ends},
    {"all workers of a uid are one", sums_up_by_uid},
    {"a census does not count what was before it", begins_anew},
    {"who leaves and comes back is the same", leaves_and_comes_back},
    {"nobody looks while there is no limit", no_limit_no_look},
    {"a monitor that is busy is told later", told_later},
    {"a user's own limits, every user's, and the usual", whose_limits},
};

const struct unit_suite limits_suite = {.name = "limits", .tests = tests, .ntests = COUNT(tests)};
