/*
 * Where a process is, for the page of `jailmap sandbox`: its root directory, what is mounted there,
 * its namespaces. Runs in the tool, as root. It may read what /proc shows of the process; it must
 * never enter a namespace.
 */
#include "ctl/sandbox.h"

#include <string.h>

/* ---- root directory ---- */

/* Options of the mount that is its root, and how many mounts it can reach; 0 if its root is only a
 * directory of one, and what is beside that directory is hidden from it and no more. */
static bool read_mounts(const struct page *page, int *count, char *options, size_t len)
{
    char line[8192], where[1024], how[256];
    FILE *fp = process_open(page, "mountinfo");

    if (fp == NULL)
        return false;
    *count = 0;
    options[0] = '\0';
    while (fgets(line, sizeof line, fp) != NULL)
        if (sscanf(line, "%*s %*s %*s %*s %1023s %255s", where, how) == 2) {
            ++*count;
            if (strcmp(where, "/") == 0)
                page_escape(options, len, how);
        }
    fclose(fp);
    return true;
}

static bool has_option(const char *options, const char *option)
{
    while (*options != '\0') {
        size_t len = strcspn(options, ",");

        if (len == strlen(option) && strncmp(options, option, len) == 0)
            return true;
        options += len + (options[len] == ',');
    }
    return false;
}

/* The jail is not only its root, but all that is mounted. */
static void check_mounts(struct page *page, int count, const char *options)
{
    static const char *const wanted[] = {"ro", "nosuid", "nodev", "noexec"};

    if (count == 0)
        page_weaker(page, "its root directory is no mount of its own: other files are hidden, and "
                          "not out of the way");
    else if (count > 1)
        page_weaker(page, "it can reach %d mounts, where the jail should be all", count);
    for (size_t i = 0; count > 0 && i < sizeof wanted / sizeof wanted[0]; i++)
        if (!has_option(options, wanted[i]))
            page_weaker(page, "its root directory is not mounted %s", wanted[i]);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

bool report_root(struct page *page, const struct daemon *daemon, const struct design *design)
{
    struct stat root, cwd, host;
    char options[256] = "";
    int mounts;

    if (!process_stat(page, "root", &root) || !process_stat(page, "cwd", &cwd) ||
        stat("/", &host) != 0 || !read_mounts(page, &mounts, options, sizeof options))
        return false;
    if (!same_file(&root, &daemon->jail))
        page_fact(page, "root directory",
                  same_file(&root, &host) ? "/" : "neither / nor the empty one");
    else if (mounts == 1)
        page_fact(page, "root directory", "%s/empty, the only mount, %s", daemon->dir, options);
    else
        page_fact(page, "root directory", "%s/empty", daemon->dir);
    if (design->jailed && !same_file(&root, &daemon->jail))
        page_weaker(page, "its root directory is not %s/empty", daemon->dir);
    else if (design->jailed)
        check_mounts(page, mounts, options);
    if (!same_file(&cwd, &root)) /* of one in the jail, a way out */
        page_weaker(page, "its working directory is another than its root directory");
    return true;
}

/* ---- namespaces ---- */

static const struct space {
    const char *file, *monitors, *name;
    unsigned bit;
} spaces[] = {
    {"net", "net", "net", SPACE_NETWORK},
    {"ipc", "ipc", "ipc", SPACE_IPC},
    {"uts", "uts", "uts", SPACE_HOST_NAME},
    {"mnt", "mnt", "mnt", SPACE_MOUNTS},
    {"pid", "pid", "pid", SPACE_PROCESSES},
    {"pid_for_children", "pid", "pid-of-children", SPACE_CHILDREN},
    {"user", "user", "user", 0},
    {"cgroup", "cgroup", "cgroup", 0},
    {"time", "time", "time", 0},
};

static void add_word(char *text, size_t len, const char *word)
{
    size_t used = strlen(text);

    snprintf(text + used, len - used, "%s%s", used > 0 ? " " : "", word);
}

enum found { FOUND_OWN, FOUND_SHARED, FOUND_NONE, FOUND_GONE };

static enum found find_space(const struct page *page, const struct daemon *daemon,
                             const struct space *space)
{
    char path[64];
    struct stat its, monitors;

    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)daemon->monitor, space->monitors);
    if (stat(path, &monitors) != 0)
        return FOUND_NONE; /* this kernel has not that kind */
    snprintf(path, sizeof path, "ns/%s", space->file);
    if (!process_stat(page, path, &its)) /* nor is there one for children when its first ended */
        return strcmp(space->file, space->monitors) == 0 ? FOUND_GONE : FOUND_NONE;
    return its.st_ino == monitors.st_ino && its.st_dev == monitors.st_dev ? FOUND_SHARED
                                                                          : FOUND_OWN;
}

bool report_spaces(struct page *page, const struct daemon *daemon, const struct design *design)
{
    char own[128] = "", shared[128] = "", lacking[128] = "";

    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        const struct space *space = &spaces[i];
        bool wanted = (design->own & space->bit) != 0;
        enum found found = FOUND_NONE;

        if (space->bit != SPACE_CHILDREN || wanted) /* of others it says the same twice */
            found = find_space(page, daemon, space);
        if (found == FOUND_GONE)
            return false;
        if (found == FOUND_OWN)
            add_word(own, sizeof own, space->name);
        if (found == FOUND_SHARED)
            add_word(shared, sizeof shared, space->name);
        if (found == FOUND_SHARED && wanted)
            add_word(lacking, sizeof lacking, space->name);
    }
    if (page->process->pid == daemon->monitor)
        page_fact(page, "namespaces", "those that it was started in: %s", shared);
    else
        page_fact(page, "namespaces", "%s%s%s%s%s", own[0] != '\0' ? "own: " : "", own,
                  own[0] != '\0' && shared[0] != '\0' ? "; " : "",
                  shared[0] != '\0' ? "the monitor's: " : "", shared);
    if (lacking[0] != '\0')
        page_weaker(page, "it should not share these with the monitor: %s", lacking);
    return true;
}
