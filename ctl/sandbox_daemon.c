/*
 * Finding a running jailmapd and its processes for `jailmap sandbox`. Runs in the tool, as root. It
 * reads runtime-dir and /proc; it must never take the lock of the pid file, not even to test it: a
 * monitor that is just starting would give up.
 */
#include "ctl/sandbox.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define PID_FILE     "jailmapd.pid"
#define SANDBOX_FILE "sandbox"
#define JAIL_DIR     "empty"
#define MAGIC        "jailmap-sandbox 1"

static int complain(int status, const char *dir, const char *file, const char *why)
{
    fprintf(stderr, "jailmap: %s/%s: %s\n", dir, file, why);
    return status;
}

static FILE *open_in(const char *dir, const char *file, struct stat *st)
{
    char path[4096];
    FILE *fp;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    fp = fopen(path, "re");
    if (fp != NULL && fstat(fileno(fp), st) != 0) {
        fclose(fp);
        fp = NULL;
    }
    return fp;
}

/* ---- one process ---- */

/* State, parent and start time from /proc/PID/stat; the name in it may hold anything. */
static bool read_stat(struct process *p, char *state)
{
    char path[64], text[1024];
    const char *at;
    size_t len;
    FILE *fp;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)p->pid);
    fp = fopen(path, "re");
    if (fp == NULL)
        return false;
    len = fread(text, 1, sizeof text - 1, fp);
    fclose(fp);
    text[len] = '\0';
    at = strrchr(text, ')');
    if (at == NULL || at[1] != ' ')
        return false;
    *state = at[2];
    at += 4;
    p->parent = (pid_t)strtol(at, NULL, 10);
    for (int field = 4; at != NULL && field < 22; field++)
        if ((at = strchr(at, ' ')) != NULL)
            at++;
    p->started = at != NULL ? strtoull(at, NULL, 10) : 0;
    return at != NULL && *state != 'Z' && *state != 'X';
}

/* The program is what the kernel says; the title is what the process says, and names a table, which
 * for some types is its content. */
static void cut_title(char *title)
{
    static const char *const contents[] = {"inline:", "static:"};

    for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++) {
        char *at = strstr(title, contents[i]);

        if (at != NULL)
            strcpy(at + strlen(contents[i]), "{...}");
    }
}

static bool read_title(struct process *p)
{
    char path[64], raw[1024] = "";
    size_t len;
    FILE *fp;

    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)p->pid);
    fp = fopen(path, "re");
    if (fp == NULL)
        return false;
    len = fread(raw, 1, sizeof raw - 8, fp); /* room for the mark of a cut */
    fclose(fp);
    raw[len] = '\0';
    cut_title(raw);
    page_escape(p->title, sizeof p->title, raw);
    return true;
}

bool process_read(struct process *p)
{
    char path[64], exe[4096], state, *end;
    ssize_t len;

    snprintf(path, sizeof path, "/proc/%d/exe", (int)p->pid);
    len = readlink(path, exe, sizeof exe - 1);
    if (len < 0 || !read_stat(p, &state) || !read_title(p))
        return false;
    exe[len] = '\0';
    end = strstr(exe, " (deleted)");
    if (end != NULL)
        *end = '\0';
    end = strrchr(exe, '/');
    page_escape(p->program, sizeof p->program, end != NULL ? end + 1 : exe);
    return true;
}

/* ---- all of them ---- */

struct family {
    struct relation {
        pid_t pid, parent;
    } * all;
    size_t count, cap;
};

static bool family_add(struct family *f, const struct process *p)
{
    if (f->count == f->cap) {
        size_t cap = f->cap == 0 ? 256 : 2 * f->cap;
        struct relation *all = realloc(f->all, cap * sizeof *all);

        if (all == NULL)
            return false;
        f->all = all;
        f->cap = cap;
    }
    f->all[f->count].pid = p->pid;
    f->all[f->count++].parent = p->parent;
    return true;
}

/* Everybody: the kernel's own lists of children leave some out while others end. */
static bool read_all(struct family *f)
{
    const struct dirent *entry;
    DIR *dir = opendir("/proc");
    bool good = dir != NULL;

    while (good && (entry = readdir(dir)) != NULL) {
        struct process p = {.pid = (pid_t)strtol(entry->d_name, NULL, 10)};
        char state;

        if (isdigit((unsigned char)entry->d_name[0]) && read_stat(&p, &state))
            good = family_add(f, &p);
    }
    if (dir != NULL)
        closedir(dir);
    return good;
}

pid_t *process_list(const struct daemon *daemon, size_t *count)
{
    struct family f = {0};
    pid_t *found = read_all(&f) ? calloc(f.count + 1, sizeof *found) : NULL;

    *count = 0;
    if (found != NULL)
        found[(*count)++] = daemon->monitor;
    for (size_t i = 0; i < *count; i++) /* grows while it is walked */
        for (size_t j = 0; j < f.count && *count <= f.count; j++)
            if (f.all[j].parent == found[i])
                found[(*count)++] = f.all[j].pid;
    free(f.all);
    return found;
}

/* ---- the monitor ---- */

/* Does the process hold a lock of the file? Of a pid that was used again, the answer is no. */
static bool holds_lock(pid_t pid, const struct stat *file)
{
    char path[320];
    const struct dirent *entry;
    bool found = false;
    DIR *dir;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
        char line[256];
        struct stat st;
        FILE *fp;

        snprintf(path, sizeof path, "/proc/%d/fd/%s", (int)pid, entry->d_name);
        if (entry->d_name[0] == '.' || stat(path, &st) != 0 || st.st_ino != file->st_ino ||
            st.st_dev != file->st_dev)
            continue;
        snprintf(path, sizeof path, "/proc/%d/fdinfo/%s", (int)pid, entry->d_name);
        fp = fopen(path, "re");
        while (fp != NULL && fgets(line, sizeof line, fp) != NULL)
            found = found || (strncmp(line, "lock:", 5) == 0 && strstr(line, "FLOCK") != NULL);
        if (fp != NULL)
            fclose(fp);
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static int find_monitor(struct daemon *d)
{
    FILE *fp = open_in(d->dir, PID_FILE, &d->pid_file);
    char text[32] = "", state;
    struct process p;

    if (fp == NULL)
        return complain(EX_UNAVAILABLE, d->dir, PID_FILE,
                        errno == ENOENT || errno == ENOTDIR
                            ? "not there; jailmapd is not running, or has another runtime-dir "
                              "(option -d)"
                            : strerror(errno));
    if (fgets(text, sizeof text, fp) == NULL)
        text[0] = '\0';
    fclose(fp);
    p.pid = d->monitor = (pid_t)strtol(text, NULL, 10);
    if (p.pid <= 0 || !read_stat(&p, &state) || !holds_lock(p.pid, &d->pid_file))
        return complain(EX_UNAVAILABLE, d->dir, PID_FILE,
                        "the process that it names does not hold its lock: jailmapd ended without "
                        "a word");
    d->started = p.started;
    return EX_OK;
}

/* ---- what the monitor wrote when it started ---- */

static bool read_number(const char *text, unsigned long *number, char **end)
{
    errno = 0;
    *number = strtoul(text, end, 10);
    return isdigit((unsigned char)text[0]) && errno == 0 && *number <= UINT32_MAX;
}

static bool add_missing(struct daemon *d, const char *text)
{
    char **grown = realloc(d->missing, (d->nmissing + 1) * sizeof *grown);

    if (grown == NULL)
        return false;
    d->missing = grown;
    grown[d->nmissing] = malloc(4 * strlen(text) + 8);
    if (grown[d->nmissing] == NULL)
        return false;
    page_escape(grown[d->nmissing++], 4 * strlen(text) + 8, text);
    return true;
}

/* One line between the first and the last. Bits in `seen` say which there were. */
static bool read_line(struct daemon *d, char *line, unsigned *seen)
{
    unsigned long uid, gid, abi;
    char *end, *value = strchr(line, '\t');

    if (value == NULL)
        return false;
    *value++ = '\0';
    if (strcmp(line, "policy") == 0) {
        *seen |= 1;
        d->strict = strcmp(value, "strict") == 0;
        return d->strict || strcmp(value, "available") == 0;
    }
    if (strcmp(line, "user") == 0) {
        *seen |= 2;
        if (!read_number(value, &uid, &end) || *end != '\t' || !read_number(end + 1, &gid, &end) ||
            *end != '\0')
            return false;
        d->uid = (uid_t)uid;
        d->gid = (gid_t)gid;
        return true;
    }
    if (strcmp(line, "landlock") == 0) {
        *seen |= 4;
        if (!read_number(value, &abi, &end) || *end != '\0' || abi > 1000)
            return false;
        d->landlock = (int)abi;
        return true;
    }
    return strcmp(line, "missing") == 0 && add_missing(d, value);
}

static int read_sandbox(struct daemon *d)
{
    struct stat st;
    FILE *fp = open_in(d->dir, SANDBOX_FILE, &st);
    char line[2048];
    bool begun = false, ended = false, good = true;
    unsigned seen = 0;

    if (fp == NULL)
        return complain(EX_UNAVAILABLE, d->dir, SANDBOX_FILE,
                        errno == ENOENT ? "not there; jailmapd is starting, or of another version"
                                        : strerror(errno));
    while (good && !ended && fgets(line, sizeof line, fp) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        ended = begun && strcmp(line, "end") == 0;
        if (!begun)
            begun = good = strcmp(line, MAGIC) == 0;
        else if (!ended)
            good = read_line(d, line, &seen);
    }
    fclose(fp);
    return good && ended && seen == 7 ? EX_OK
                                      : complain(EX_DATAERR, d->dir, SANDBOX_FILE,
                                                 "not a sandbox file of this version of jailmapd");
}

int daemon_find(struct daemon *d, const char *dir)
{
    char path[4096];
    int status;

    d->dir = dir;
    status = find_monitor(d);
    if (status == EX_OK)
        status = read_sandbox(d);
    snprintf(path, sizeof path, "%s/" JAIL_DIR, dir);
    if (status == EX_OK && (stat(dir, &d->runtime) != 0 || stat(path, &d->jail) != 0))
        status = complain(EX_UNAVAILABLE, dir, JAIL_DIR, strerror(errno));
    return status;
}

void daemon_free(struct daemon *d)
{
    while (d->nmissing > 0)
        free(d->missing[--d->nmissing]);
    free(d->missing);
}
