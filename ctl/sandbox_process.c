/*
 * One process in the page of `jailmap sandbox`: program, identity, capabilities, limits, memory.
 * Runs in the tool, as root. It may read what /proc shows of the process; it must never
 * print what is in its memory or environment.
 */
#include "ctl/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <unistd.h>

#define SEALS      (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define PAGE_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)
#define PAGE_NAME  " /memfd:jailmap-counters" /* the monitor's word: no helper can make one */

FILE *process_open(const struct page *page, const char *name)
{
    char path[320];

    snprintf(path, sizeof path, "/proc/%d/%s", (int)page->process->pid, name);
    return fopen(path, "re");
}

bool process_stat(const struct page *page, const char *name, struct stat *st)
{
    char path[320];

    snprintf(path, sizeof path, "/proc/%d/%s", (int)page->process->pid, name);
    return stat(path, st) == 0;
}

/* ---- /proc/PID/status ---- */

struct status {
    char text[8192];
};

static bool read_status(const struct page *page, struct status *s)
{
    FILE *fp = process_open(page, "status");
    size_t len;

    if (fp == NULL)
        return false;
    len = fread(s->text, 1, sizeof s->text - 1, fp);
    fclose(fp);
    s->text[len] = '\0';
    return len > 0;
}

/* The value of a line, up to its end; NULL if this kernel has no such line. */
static const char *field(const struct status *s, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = s->text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, len) == 0 && line[len] == ':')
            return line + len + 1 + strspn(line + len + 1, " \t");
    }
    return NULL;
}

static long number(const struct status *s, const char *name)
{
    const char *value = field(s, name);

    return value == NULL ? -1 : strtol(value, NULL, 10);
}

/* Real, effective, saved and file system id. */
static bool four(const struct status *s, const char *name, unsigned long ids[4])
{
    const char *value = field(s, name);
    char *end;

    for (int i = 0; i < 4; i++) {
        if (value == NULL)
            return false;
        ids[i] = strtoul(value, &end, 10);
        value = end;
    }
    return true;
}

/* ---- who ---- */

static bool all_same(const unsigned long ids[4])
{
    return ids[0] == ids[1] && ids[1] == ids[2] && ids[2] == ids[3];
}

static void describe_ids(char *text, size_t len, const unsigned long uids[4],
                         const unsigned long gids[4])
{
    if (all_same(uids) && all_same(gids))
        snprintf(text, len, "uid %lu, gid %lu (real, effective, saved, file system)", uids[0],
                 gids[0]);
    else
        snprintf(text, len,
                 "uids %lu real, %lu effective, %lu saved, %lu file system; gids %lu real, %lu "
                 "effective, %lu saved, %lu file system",
                 uids[0], uids[1], uids[2], uids[3], gids[0], gids[1], gids[2], gids[3]);
}

static void check_ids(struct page *page, const char *name, const unsigned long ids[4],
                      unsigned long want)
{
    for (int i = 0; i < 4; i++)
        if (ids[i] != want) {
            page_weaker(page, "%s %lu where %lu should be", name, ids[i], want);
            return;
        }
}

static bool report_user(struct page *page, const struct status *s, const struct daemon *daemon,
                        const struct design *design)
{
    unsigned long uids[4], gids[4];
    const char *groups = field(s, "Groups");
    int len = groups == NULL ? 0 : (int)strcspn(groups, "\n");
    char ids[320];

    if (groups == NULL || !four(s, "Uid", uids) || !four(s, "Gid", gids))
        return false;
    while (len > 0 && groups[len - 1] == ' ')
        len--;
    describe_ids(ids, sizeof ids, uids, gids);
    if (len == 0)
        page_fact(page, "user", "%s; no other groups", ids);
    else
        page_fact(page, "user", "%s; other groups: %.*s", ids, len, groups);
    check_ids(page, "uid", uids, design->root ? 0 : daemon->uid);
    check_ids(page, "gid", gids, design->root ? 0 : daemon->gid);
    if (!design->root && (uids[0] == 0 || uids[1] == 0 || uids[2] == 0 || uids[3] == 0))
        page_weaker(page, "it is root's");
    if (!design->root && len > 0)
        page_weaker(page, "it is in groups that it should have left: %.*s", len, groups);
    return true;
}

/* ---- capabilities ---- */

static const struct set {
    const char *field, *name;
} sets[] = {{"CapEff", "effective"},
            {"CapPrm", "permitted"},
            {"CapInh", "inheritable"},
            {"CapBnd", "bounding"},
            {"CapAmb", "ambient"}};

#define SETS (sizeof sets / sizeof sets[0])

static void name_capabilities(char *text, size_t len, uint64_t bits)
{
    size_t used = 0;

    text[0] = '\0';
    for (int cap = 0; cap < 64; cap++) {
        char *name;

        if ((bits >> cap & 1) == 0)
            continue;
        name = cap_to_name(cap);
        if (name != NULL)
            used += (size_t)snprintf(text + used, len - used, "%s%s", used > 0 ? " " : "",
                                     strncmp(name, "cap_", 4) == 0 ? name + 4 : name);
        cap_free(name);
        if (used + 40 > len)
            return;
    }
}

static bool read_sets(const struct status *s, uint64_t bits[SETS])
{
    for (size_t i = 0; i < SETS; i++) {
        const char *value = field(s, sets[i].field);

        if (value == NULL)
            return false;
        bits[i] = strtoull(value, NULL, 16);
    }
    return true;
}

/* "effective, permitted: kill setuid": those of the sets that are as the first, which are marked.
 */
static void describe_sets(char *text, size_t len, const uint64_t bits[SETS], size_t first,
                          bool done[SETS])
{
    char names[1500];
    size_t used = 0;

    for (size_t i = first; i < SETS; i++)
        if (!done[i] && bits[i] == bits[first]) {
            used += (size_t)snprintf(text + used, len - used, "%s%s", used > 0 ? ", " : "",
                                     sets[i].name);
            done[i] = true;
        }
    name_capabilities(names, sizeof names, bits[first]);
    snprintf(text + used, len - used, ": %s", bits[first] == 0 ? "none" : names);
}

static bool report_capabilities(struct page *page, const struct status *s,
                                const struct design *design)
{
    char line[1700], names[1500];
    const char *label = "capabilities";
    uint64_t bits[SETS];
    bool done[SETS] = {false};

    if (!read_sets(s, bits))
        return false;
    for (size_t i = 0; i < SETS; i++)
        if (!done[i]) {
            describe_sets(line, sizeof line, bits, i, done);
            page_fact(page, label, "%s", line);
            label = "";
        }
    for (size_t i = 0; i < SETS; i++) {
        uint64_t more = bits[i] & ~(i < 2 ? design->capabilities : 0);

        name_capabilities(names, sizeof names, more);
        if (more != 0)
            page_weaker(page, "%s: more than the design gives: %s", sets[i].name, names);
    }
    return true;
}

/* ---- limits ---- */

static const struct {
    const char *field, *name;
} limit_names[LIMITS] = {[LIMIT_PROCESSES] = {"Max processes", "processes"},
                         [LIMIT_CORE] = {"Max core file size", "core dump"},
                         [LIMIT_FILE] = {"Max file size", "file size"},
                         [LIMIT_FILES] = {"Max open files", "descriptors"},
                         [LIMIT_DATA] = {"Max data size", "memory"}};

/* The higher one of the two: a process may raise its soft limit. */
static void read_limits(FILE *fp, uint64_t limits[LIMITS], unsigned *seen)
{
    char line[256];

    while (fgets(line, sizeof line, fp) != NULL)
        for (int i = 0; i < LIMITS; i++) {
            char hard[32];

            if (strncmp(line, limit_names[i].field, strlen(limit_names[i].field)) != 0 ||
                sscanf(line + 26, "%*s %31s", hard) != 1)
                continue;
            limits[i] = strcmp(hard, "unlimited") == 0 ? ANY_LIMIT : strtoull(hard, NULL, 10);
            *seen |= 1U << i;
        }
}

static void describe_limit(char *text, size_t len, int which, uint64_t limit)
{
    bool bytes = which == LIMIT_FILE || which == LIMIT_DATA || which == LIMIT_CORE;

    if (limit == ANY_LIMIT)
        snprintf(text, len, "%s unlimited", limit_names[which].name);
    else if (bytes && limit >= 1024 * 1024)
        snprintf(text, len, "%s %.0f MB", limit_names[which].name, (double)limit / (1024 * 1024));
    else
        snprintf(text, len, "%s %llu", limit_names[which].name, (unsigned long long)limit);
}

static bool report_limits(struct page *page, const struct design *design)
{
    uint64_t limits[LIMITS];
    unsigned seen = 0;
    char line[512] = "", one[64];
    FILE *fp = process_open(page, "limits");

    if (fp == NULL)
        return false;
    read_limits(fp, limits, &seen);
    fclose(fp);
    if (seen != (1U << LIMITS) - 1)
        return false;
    for (int i = 0; i < LIMITS; i++) {
        describe_limit(one, sizeof one, i, limits[i]);
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i > 0 ? ", " : "", one);
    }
    page_fact(page, "limits", "%s", line);
    for (int i = 0; i < LIMITS; i++)
        if (limits[i] > design->limits[i])
            page_weaker(page, "%s: %s", limit_names[i].name,
                        design->limits[i] == 0 ? "the design allows none" : "there is no limit");
    return true;
}

/* ---- memory ---- */

static bool sealed_mapping(const struct page *page, const char *range, int wanted)
{
    char path[320];
    int fd, seals;

    snprintf(path, sizeof path, "/proc/%d/map_files/%s", (int)page->process->pid, range);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT; /* unmapped meanwhile */
    seals = fcntl(fd, F_GET_SEALS);
    close(fd);
    return (seals & wanted) == wanted;
}

/* Memory that can be written and executed would be the way to run other code. */
static bool report_memory(struct page *page, const struct design *design)
{
    char line[4400], range[64], rights[8];
    int images = 0, open_images = 0, code = 0, pages = 0, open_pages = 0;
    FILE *fp = process_open(page, "maps");

    if (fp == NULL)
        return false;
    while (fgets(line, sizeof line, fp) != NULL) {
        if (sscanf(line, "%63s %7s", range, rights) != 2)
            continue;
        code += strchr(rights, 'w') != NULL && strchr(rights, 'x') != NULL;
        if (strstr(line, PAGE_NAME) != NULL) {
            pages++;
            open_pages += (strchr(rights, 'w') != NULL && !design->counts) ||
                          !sealed_mapping(page, range, PAGE_SEALS);
        } else if (strstr(line, " /memfd:") != NULL) {
            images++;
            open_images += strchr(rights, 'w') != NULL || !sealed_mapping(page, range, SEALS);
        }
    }
    fclose(fp);
    page_fact(page, "memory", "%s writable and executable", code > 0 ? "some is" : "none is");
    if (images > 0)
        page_fact(page, "", "images mapped: %d", images);
    if (pages > 0)
        page_fact(page, "", "pages of counters mapped: %d, to be %s", pages,
                  design->counts ? "written" : "read");
    if (code > 0)
        page_weaker(page, "it has memory that it can write and execute");
    if (open_images > 0)
        page_weaker(page, "images that are mapped and writable, or not sealed: %d", open_images);
    if (pages > (design->counts ? 1 : design->sums ? INT_MAX : 0) || open_pages > 0)
        page_weaker(page, "pages of counters that it should not have, or not so: %d",
                    open_pages > 0 ? open_pages : pages);
    return true;
}

/* Its environment is not printed: whoever started the daemon may keep secrets there. */
static bool report_environment(struct page *page, const struct design *design)
{
    FILE *fp = process_open(page, "environ");
    bool any;

    if (fp == NULL)
        return false;
    any = getc(fp) > 0;
    fclose(fp);
    if (design->environment)
        return true;
    page_fact(page, "environment", any ? "not empty" : "empty");
    if (any)
        page_weaker(page, "it was given an environment");
    return true;
}

/* Others of its uid can look into a process whose files in /proc are theirs, and trace it. */
static bool report_traceable(struct page *page, const struct status *s, const struct design *design)
{
    struct stat st;

    if (number(s, "TracerPid") > 0)
        page_weaker(page, "process %ld traces it", number(s, "TracerPid"));
    if (design->root)
        return true; /* the owner is root either way */
    if (!process_stat(page, "environ", &st))
        return false;
    page_fact(page, "traceable", st.st_uid == 0 ? "by nobody but root" : "by uid %u",
              (unsigned)st.st_uid);
    if (st.st_uid != 0)
        page_weaker(page, "others of its uid can trace it");
    return true;
}

/* ---- all of it ---- */

static bool report_program(struct page *page, const struct status *s, const struct daemon *daemon,
                           const struct design *design)
{
    char path[64], exe[2048], shown[2048];
    ssize_t len;
    struct stat st;
    long threads = number(s, "Threads");

    snprintf(path, sizeof path, "/proc/%d/exe", (int)page->process->pid);
    len = readlink(path, exe, sizeof exe - 1);
    if (len < 0 || stat(path, &st) != 0)
        return false;
    exe[len] = '\0';
    page_escape(shown, sizeof shown, exe);
    page_fact(page, "program", "%s, %ld thread%s", shown, threads, threads == 1 ? "" : "s");
    if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        page_weaker(page, "others than root can write its program");
    if (threads != 1)
        page_weaker(page, "it has threads: what follows is true of the first alone");
    if (page->process->pid != daemon->monitor && !design->inner &&
        page->process->parent != daemon->monitor)
        page_weaker(page, "it was started by process %d and not by the monitor",
                    (int)page->process->parent);
    return true;
}

/* Kernels that have less of it confine less, and that is the best that they can do. */
static void report_landlock(struct page *page, const struct daemon *daemon,
                            const struct design *design)
{
    static const char *const without[] = {
        [1] = "; this version does not know of truncation, TCP, ioctl and signals",
        [2] = "; this version does not know of truncation, TCP, ioctl and signals",
        [3] = "; this version does not know of TCP, ioctl and signals",
        [4] = "; this version does not know of ioctl and signals",
        [5] = "; this version does not know of signals"};
    const size_t most = sizeof without / sizeof without[0];

    if (daemon->landlock > 0) {
        page_fact(page, "Landlock", "version %d: %s%s", daemon->landlock, design->landlock,
                  (size_t)daemon->landlock < most ? without[daemon->landlock] : "");
    } else {
        page_fact(page, "Landlock", "none");
        page_weaker(page, "this kernel has no Landlock");
    }
}

bool report_process(struct page *page, const struct daemon *daemon, const struct design *design)
{
    struct status *s = malloc(sizeof *s);
    bool good = s != NULL && read_status(page, s) && report_program(page, s, daemon, design) &&
                report_user(page, s, daemon, design) && report_root(page, daemon, design) &&
                report_capabilities(page, s, design);

    if (good) {
        page_fact(page, "no_new_privs", number(s, "NoNewPrivs") == 1 ? "on" : "off");
        if (number(s, "NoNewPrivs") != 1)
            page_weaker(page, "it could gain privileges by executing a program");
        good = report_filters(page, design, (int)number(s, "Seccomp"),
                              (int)number(s, "Seccomp_filters"));
    }
    if (good) {
        report_landlock(page, daemon, design);
        good = report_spaces(page, daemon, design) && report_limits(page, design) &&
               report_memory(page, design) && report_traceable(page, s, design) &&
               report_environment(page, design) && report_descriptors(page, daemon, design);
    }
    free(s);
    return good;
}
