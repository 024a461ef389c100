/*
 * `jailmap status`: shows the tables of a running jailmapd and how they are. Runs as root, who
 * alone may read the status file. It may read that file, the pid file next to it, and the name in
 * /proc of the process that this names; it must never change anything.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "ctl/jailmap.h"

#define RUNTIME_DIR "/run/jailmap"
#define PID_FILE    "jailmapd.pid"
#define STATUS_FILE "status"
#define MAGIC       "jailmap-status 1"
#define NAME_MOST   40 /* columns of a name that is the content of its table */

/* As tables_describe() of the monitor writes them. */
enum field { NAME, STATE, SINCE, GENERATION, ENTRIES, BYTES, ANSWERED_BY, WHY, FIELDS };

struct row {
    char *fields[FIELDS];
    char since[32], size[32];
};

static struct row *rows;
static size_t nrows;

static int complain(int status, const char *dir, const char *file, const char *why)
{
    fprintf(stderr, "jailmap: %s/%s: %s\n", dir, file, why);
    return status;
}

/* The first line of a small file, which is closed; empty if there is none. */
static void read_word(FILE *fp, char *word, int len)
{
    if (fgets(word, len, fp) == NULL)
        word[0] = '\0';
    word[strcspn(word, "\n")] = '\0';
    fclose(fp);
}

/* 0 if the monitor that the pid file names is there; else an exit status, with a message. (Testing
 * the file's lock would be surer, and could keep a monitor that is just starting from taking it.)
 */
static int check_running(const char *dir)
{
    char path[4096], pid[32] = "", name[32] = "";
    FILE *fp;

    snprintf(path, sizeof path, "%s/" PID_FILE, dir);
    fp = fopen(path, "re");
    if (fp == NULL)
        return complain(errno == EACCES ? EX_NOPERM : EX_UNAVAILABLE, dir, PID_FILE,
                        errno == ENOENT ? "not there; jailmapd is not running, or has another "
                                          "runtime-dir (option -d)"
                                        : strerror(errno));
    read_word(fp, pid, sizeof pid);
    snprintf(path, sizeof path, "/proc/%s/comm", pid);
    fp = fopen(path, "re");
    if (fp != NULL)
        read_word(fp, name, sizeof name);
    return strcmp(name, "jailmapd") == 0
               ? EX_OK
               : complain(EX_UNAVAILABLE, dir, PID_FILE,
                          "the process that it names is no jailmapd; it ended without a word");
}

/* Exactly so many fields, with tabs between them. */
static bool split(char *line, char **fields)
{
    for (int i = 0; i < FIELDS - 1; i++) {
        char *tab = strchr(line, '\t');

        if (tab == NULL)
            return false;
        *tab = '\0';
        fields[i] = line;
        line = tab + 1;
    }
    fields[FIELDS - 1] = line;
    return strchr(line, '\t') == NULL;
}

static void write_size(char *text, size_t len, double bytes)
{
    static const char *const units[] = {"B", "KB", "MB", "GB"};
    int unit = 0;

    for (; bytes >= 1024 && unit < 3; unit++)
        bytes /= 1024;
    snprintf(text, len, unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

/* What is no path may be as long as a table is. */
static void cut_name(char *name)
{
    bool content = strncmp(name, "inline:", 7) == 0 || strncmp(name, "static:", 7) == 0;

    if (content && strlen(name) > NAME_MOST)
        strcpy(name + NAME_MOST - 3, "...");
}

static bool add_row(char *line)
{
    struct row *grown = realloc(rows, (nrows + 1) * sizeof *rows), *row;
    struct tm tm;
    time_t since;

    if (grown == NULL)
        return false;
    rows = grown;
    row = &rows[nrows];
    if (!split(line, row->fields))
        return false;
    cut_name(row->fields[NAME]);
    since = (time_t)strtoll(row->fields[SINCE], NULL, 10);
    if (localtime_r(&since, &tm) == NULL ||
        strftime(row->since, sizeof row->since, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        return false;
    write_size(row->size, sizeof row->size, strtod(row->fields[BYTES], NULL));
    if (strcmp(row->fields[GENERATION], "0") == 0) { /* no image yet: nothing to count */
        row->fields[GENERATION] = row->fields[ENTRIES] = (char *)"-";
        strcpy(row->size, "-");
    }
    nrows++;
    return true;
}

/* Reads the file into rows, which keep the lines. The monitor replaces it whole: one that does not
 * end as it should is of another version, or damaged. */
static int read_status(const char *dir)
{
    char path[4096], *line = NULL;
    size_t cap = 0;
    ssize_t n;
    bool begun = false, ended = false, good = true;
    FILE *fp;

    snprintf(path, sizeof path, "%s/" STATUS_FILE, dir);
    fp = fopen(path, "re");
    if (fp == NULL)
        return complain(errno == EACCES ? EX_NOPERM : EX_UNAVAILABLE, dir, STATUS_FILE,
                        strerror(errno));
    while (good && !ended && (n = getline(&line, &cap, fp)) > 0) {
        line[n - 1] = '\0';
        ended = begun && strcmp(line, "end") == 0;
        if (!begun)
            begun = good = strcmp(line, MAGIC) == 0;
        else if (!ended && (good = add_row(line))) {
            line = NULL;
            cap = 0;
        }
    }
    free(line);
    fclose(fp);
    return good && ended ? EX_OK
                         : complain(EX_DATAERR, dir, STATUS_FILE,
                                    "not a status file of this version of jailmapd");
}

static size_t wider(size_t width, const char *text)
{
    return strlen(text) > width ? strlen(text) : width;
}

static int print_rows(void)
{
    size_t name = strlen("TABLE"), state = strlen("STATE");
    bool current = true;

    for (size_t i = 0; i < nrows; i++) {
        name = wider(name, rows[i].fields[NAME]);
        state = wider(state, rows[i].fields[STATE]);
    }
    printf("%-*s  %-*s  %-19s  %10s  %9s  %8s  %s\n", (int)name, "TABLE", (int)state, "STATE",
           "SINCE", "GENERATION", "ENTRIES", "SIZE", "ANSWERED-BY");
    for (size_t i = 0; i < nrows; i++) {
        const struct row *r = &rows[i];
        printf("%-*s  %-*s  %s  %10s  %9s  %8s  %s\n", (int)name, r->fields[NAME], (int)state,
               r->fields[STATE], r->since, r->fields[GENERATION], r->fields[ENTRIES], r->size,
               r->fields[ANSWERED_BY]);
        if (r->fields[WHY][0] != '\0')
            printf("    %s\n", r->fields[WHY]);
        current = current && strcmp(r->fields[STATE], "current") == 0;
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        return EX_IOERR;
    return current ? EX_OK : CTL_NOT_CURRENT;
}

int ctl_status(int argc, char **argv)
{
    const char *dir = RUNTIME_DIR;
    int opt, status;

    while ((opt = getopt(argc, argv, "d:")) != -1) {
        if (opt != 'd')
            return EX_USAGE;
        dir = optarg;
    }
    if (optind < argc) {
        fprintf(stderr, "usage: jailmap status [-d DIR]\n");
        return EX_USAGE;
    }
    status = check_running(dir);
    if (status == EX_OK)
        status = read_status(dir);
    if (status == EX_OK)
        status = print_rows();
    for (size_t i = 0; i < nrows; i++)
        free(rows[i].fields[NAME]); /* where its line begins */
    free(rows);
    return status;
}
