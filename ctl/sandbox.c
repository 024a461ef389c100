/*
 * `jailmap sandbox`: shows what confines each process of a running jailmapd, holds it against the
 * design, and says by its exit status whether anything is weaker. Runs as root, which alone may
 * look. It may read runtime-dir and /proc, and stop a process for the moment that the kernel needs
 * to show its filter; it must never change a process or a file.
 */
#include "ctl/sandbox.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "ctl/jailmap.h"

#define LOOKS       3  /* at what seems weaker: it may be on its way */
#define LOOKS_YOUNG 30 /* at one that has just begun, and has its filter to load */
#define YOUNG_MS    2000
#define PAUSE_MS    100

struct item {
    struct process process;
    const struct design *design;
};

/* ---- one process ---- */

static uint64_t age_ms(const struct process *p)
{
    struct timespec now;
    uint64_t ms, ticks = (uint64_t)sysconf(_SC_CLK_TCK);

    clock_gettime(CLOCK_BOOTTIME, &now);
    ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return ms - p->started * 1000 / ticks;
}

/* Writes its block once. False if it ended meanwhile; then what was written is of no worth. */
static bool write_block(struct page *page, const struct daemon *daemon, const struct item *item)
{
    struct process now = {.pid = item->process.pid};

    page->process = &item->process;
    fprintf(page->out, "%s\n", item->process.title);
    page_fact(page, "process", "%d, %s", (int)item->process.pid,
              item->design != NULL ? item->design->what : "no program of the design");
    if (item->design == NULL)
        page_weaker(page, "the design has no program %s that is called so", item->process.program);
    else if (!report_process(page, daemon, item->design))
        page_weaker(page, "it cannot be looked at"); /* or it has just ended: */
    page->process = NULL;
    return process_read(&now) && now.started == item->process.started;
}

/*
 * Writes the block of a process to the page, or nothing if it has ended. What seems weaker is
 * looked at again: a monitor has a client for a moment, and a helper has no filter yet when it
 * begins.
 */
static bool write_process(struct page *page, const struct daemon *daemon, struct item *item)
{
    const struct timespec pause = {0, PAUSE_MS * 1000L * 1000L};
    const uint64_t started = item->process.started;
    size_t before = page->count, len;
    FILE *out = page->out;
    char *text;

    for (int look = 1;; look++) {
        bool young, there;

        if (!process_read(&item->process) || item->process.started != started)
            return false; /* ended; the number may be a stranger's by now */
        item->design = design_of(&item->process, daemon->monitor);
        young = age_ms(&item->process) < YOUNG_MS;
        page->out = open_memstream(&text, &len);
        if (page->out == NULL)
            abort();
        there = write_block(page, daemon, item);
        fclose(page->out);
        page->out = out;
        if (there && (page->count == before || look >= (young ? LOOKS_YOUNG : LOOKS)))
            break;
        free(text);
        page_forget(page, before);
        if (!there)
            return false;
        nanosleep(&pause, NULL);
    }
    fprintf(out, "%s\n", text);
    free(text);
    return true;
}

/* ---- all of them ---- */

static int by_rank(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    size_t rx = design_rank(x->design), ry = design_rank(y->design);

    if (rx != ry)
        return rx < ry ? -1 : 1;
    return (x->process.pid > y->process.pid) - (x->process.pid < y->process.pid);
}

/* The processes that there are, in the order of the design. */
static struct item *collect(const struct daemon *daemon, size_t *count)
{
    size_t all, n = 0;
    pid_t *pids = process_list(daemon, &all);
    struct item *items = pids != NULL ? calloc(all, sizeof *items) : NULL;

    for (size_t i = 0; items != NULL && i < all; i++) {
        items[n].process.pid = pids[i];
        if (!process_read(&items[n].process))
            continue;
        items[n].design = design_of(&items[n].process, daemon->monitor);
        n++;
    }
    free(pids);
    if (items != NULL)
        qsort(items, n, sizeof *items, by_rank);
    *count = n;
    return items;
}

static void write_head(FILE *out, const struct daemon *d)
{
    char text[8192];

    snprintf(
        text, sizeof text,
        "jailmapd of %s, process %d: helpers are uid %u, gid %u; sandbox = %s; walls that this "
        "system lacks: %zu. /proc does not show Landlock: what is said of it is what the "
        "monitor noted.",
        d->dir, (int)d->monitor, (unsigned)d->uid, (unsigned)d->gid,
        d->strict ? "strict" : "available", d->nmissing);
    page_wrap(out, 0, 0, text);
    fputc('\n', out);
}

/* Each profile once: many processes have the same. */
static void write_profiles(FILE *out, const struct item *items, size_t count, bool every)
{
    const struct profile *profile, *used[MOST_FILTERS];

    for (size_t p = 0; (profile = design_profile(p)) != NULL; p++) {
        bool wanted = every;

        for (size_t i = 0; i < count && !wanted; i++)
            for (size_t f = items[i].design == NULL
                                ? 0
                                : design_filters(items[i].design, &items[i].process, used);
                 f-- > 0;)
                wanted = wanted || used[f] == profile;
        if (wanted) {
            report_profile(out, profile);
            fputc('\n', out);
        }
    }
}

static int write_verdict(const struct page *page, size_t processes)
{
    if (page->count == 0) {
        fprintf(page->out, "%zu processes, nothing weaker than the design\n", processes);
        return EX_OK;
    }
    fputs("Weaker than the design:\n", page->out);
    for (size_t i = 0; i < page->count; i++) {
        char line[1200];

        if (page->weaknesses[i].pid != 0)
            snprintf(line, sizeof line, "process %d: %s", (int)page->weaknesses[i].pid,
                     page->weaknesses[i].text);
        else
            snprintf(line, sizeof line, "%s", page->weaknesses[i].text);
        fputs("    ", page->out);
        page_wrap(page->out, 4, 8, line);
    }
    fprintf(page->out, "\n%zu processes, %zu weakness%s\n", processes, page->count,
            page->count == 1 ? "" : "es");
    return CTL_WEAKER;
}

static int report(const struct daemon *daemon, bool every_profile)
{
    struct page page = {.out = stdout};
    struct process monitor = {.pid = daemon->monitor};
    size_t count, shown = 0;
    struct item *items = collect(daemon, &count);
    int status;

    if (items == NULL) {
        fprintf(stderr, "jailmap: sandbox: %s\n", strerror(errno));
        return EX_OSERR;
    }
    write_head(stdout, daemon);
    for (size_t i = 0; i < count; i++)
        shown += write_process(&page, daemon, &items[i]);
    write_profiles(stdout, items, count, every_profile);
    for (size_t i = 0; i < daemon->nmissing; i++)
        page_weaker(&page, "missing on this system: %s", daemon->missing[i]);
    if (!process_read(&monitor) || monitor.started != daemon->started) {
        fflush(stdout);
        fprintf(stderr, "jailmap: sandbox: jailmapd ended while it was looked at\n");
        status = EX_TEMPFAIL;
    } else {
        status = write_verdict(&page, shown);
    }
    page_forget(&page, 0);
    free(page.weaknesses);
    free(items);
    return fflush(stdout) != 0 || ferror(stdout) ? EX_IOERR : status;
}

int ctl_sandbox(int argc, char **argv)
{
    struct daemon daemon = {0};
    const char *dir = CTL_RUNTIME_DIR;
    bool every_profile = false;
    int opt, status;

    while ((opt = getopt(argc, argv, "ad:")) != -1) {
        if (opt == 'a')
            every_profile = true;
        else if (opt == 'd')
            dir = optarg;
        else
            return EX_USAGE;
    }
    if (optind < argc) {
        fprintf(stderr, "usage: jailmap sandbox [-a] [-d DIR]\n");
        return EX_USAGE;
    }
    if (geteuid() != 0) {
        fprintf(stderr, "jailmap: sandbox: must be run as root, who alone may look into the "
                        "processes of jailmapd\n");
        return EX_NOPERM;
    }
    status = daemon_find(&daemon, dir);
    if (status == EX_OK)
        status = report(&daemon, every_profile);
    daemon_free(&daemon);
    return status;
}
