/*
 * The status as a page for people. Runs in the tool. It writes to the stream that it is given and
 * touches nothing else; it must never write what status_parse() has not passed.
 */
#include "ctl/status.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME_MOST 40 /* columns of a name that is the content of its table */
#define COLUMNS   15
#define CLOSE     80 /* percent of a limit */

enum colour { PLAIN, BOLD, GREEN, YELLOW, RED };
static const char *const escapes[] = {"", "\033[1m", "\033[32m", "\033[33m", "\033[31m"};

/* ---- a grid: columns as wide as their widest cell ---- */

struct row {
    char *cells[COLUMNS]; /* its own */
    enum colour colours[COLUMNS];
    const char *note; /* below the row; empty: none */
};

struct grid {
    const char *const *heads; /* NULL after the last; one that begins with > is of numbers */
    struct row *rows;
    size_t count;
};

static struct row *grid_row(struct grid *g)
{
    struct row *grown = realloc(g->rows, (g->count + 1) * sizeof *grown);

    if (grown == NULL)
        abort(); /* rather no page than one that leaves something out */
    g->rows = grown;
    return memset(&g->rows[g->count++], 0, sizeof *grown);
}

__attribute__((format(printf, 4, 5))) static void cell(struct row *r, int column,
                                                       enum colour colour, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    free(r->cells[column]);
    if (vasprintf(&r->cells[column], format, ap) < 0)
        abort();
    va_end(ap);
    r->colours[column] = colour;
}

static void put(FILE *out, const char *text, int width, bool right, enum colour c, bool colour)
{
    int fill = width - (int)strlen(text);

    fprintf(out, "%*s%s%s%s%*s", right && fill > 0 ? fill : 0, "", colour ? escapes[c] : "", text,
            colour && c != PLAIN ? "\033[0m" : "", !right && fill > 0 ? fill : 0, "");
}

static int width_of(const struct grid *g, int column)
{
    size_t width = strlen(g->heads[column] + (g->heads[column][0] == '>'));

    for (size_t i = 0; i < g->count; i++)
        if (strlen(g->rows[i].cells[column]) > width)
            width = strlen(g->rows[i].cells[column]);
    return (int)width;
}

static void grid_end(FILE *out, struct grid *g, bool colour)
{
    int widths[COLUMNS], columns = 0;

    for (; g->heads[columns] != NULL; columns++)
        widths[columns] = width_of(g, columns);
    for (size_t i = 0; i <= g->count && g->count > 0; i++) {
        for (int c = 0; c < columns; c++) {
            bool right = g->heads[c][0] == '>';
            const char *text = i == 0 ? g->heads[c] + right : g->rows[i - 1].cells[c];

            if (c > 0)
                fputs("  ", out);
            put(out, text, c + 1 == columns && !right ? 0 : widths[c], right,
                i == 0 ? BOLD : g->rows[i - 1].colours[c], colour);
        }
        fputc('\n', out);
        if (i > 0 && g->rows[i - 1].note != NULL && g->rows[i - 1].note[0] != '\0')
            fprintf(out, "    %s\n", g->rows[i - 1].note);
    }
    if (g->count > 0)
        fputc('\n', out);
    for (size_t i = 0; i < g->count; i++)
        for (int c = 0; c < columns; c++)
            free(g->rows[i].cells[c]);
    free(g->rows);
}

/* ---- values ---- */

static const char *moment(uint64_t seconds)
{
    static char text[32];
    time_t at = (time_t)seconds;
    struct tm tm;

    if (seconds == 0 || localtime_r(&at, &tm) == NULL ||
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        return "-";
    return text;
}

static void write_size(char *text, size_t len, double bytes)
{
    static const char *const units[] = {"B", "KB", "MB", "GB"};
    int unit = 0;

    for (; bytes >= 1024 && unit < 3; unit++)
        bytes /= 1024;
    snprintf(text, len, unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static void write_age(char *text, size_t len, uint64_t seconds)
{
    unsigned long long s = seconds;

    if (s < 120)
        snprintf(text, len, "%llus", s);
    else if (s < 7200)
        snprintf(text, len, "%llum", s / 60);
    else if (s < 172800)
        snprintf(text, len, "%lluh", s / 3600);
    else
        snprintf(text, len, "%llud", s / 86400);
}

/* The end of the bucket: at most so long. */
static const char *duration(const struct counters_sum *sum, unsigned permille)
{
    static char texts[2][24];
    static int turn;
    char *text = texts[turn = !turn];
    uint64_t ns = counters_quantile(sum, permille);

    if (ns == 0)
        return "-";
    if (ns == UINT64_MAX)
        return ">69s";
    if (ns < 10000)
        snprintf(text, sizeof texts[0], "%.1fus", (double)ns / 1e3);
    else if (ns < 1000000)
        snprintf(text, sizeof texts[0], "%.0fus", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(text, sizeof texts[0], "%.1fms", (double)ns / 1e6);
    else
        snprintf(text, sizeof texts[0], "%.1fs", (double)ns / 1e9);
    return text;
}

static enum colour colour_of(uint64_t now, uint64_t most)
{
    return most == 0 || now >= most ? RED : now >= most / 100.0 * CLOSE ? YELLOW : PLAIN;
}

/* Connections that one user may have. */
static uint64_t clients_most(const struct status_listener *l)
{
    return l->workers_most * l->clients_most;
}

/* ---- parts ---- */

static void show_head(FILE *out, const struct status *s, bool colour)
{
    fprintf(out, "jailmapd %s, process %llu, since %s\n", s->version, (unsigned long long)s->pid,
            moment(s->since));
    if (s->policy_failure[0] == '\0')
        fprintf(out, "configuration in force, read %s\n\n", moment(s->policy_since));
    else
        fprintf(out, "%sconfiguration not read again%s, %s: %s\n\n", colour ? escapes[RED] : "",
                colour ? "\033[0m" : "", moment(s->policy_since), s->policy_failure);
}

static void show_listeners(FILE *out, const struct status *s, bool colour)
{
    static const char *const heads[] = {"LISTENER",      ">WORKERS", ">CLIENTS", ">WORKERS-EACH",
                                        ">CLIENTS-EACH", ">MAX-USE", NULL};
    struct grid g = {.heads = heads};

    for (size_t i = 0; i < s->nlisteners; i++) {
        const struct status_listener *l = &s->listeners[i];
        struct row *r = grid_row(&g);

        cell(r, 0, PLAIN, "%s", l->path);
        cell(r, 1, PLAIN, "%llu", (unsigned long long)l->workers);
        cell(r, 2, PLAIN, "%llu", (unsigned long long)l->clients);
        cell(r, 3, PLAIN, "%llu", (unsigned long long)l->workers_most);
        cell(r, 4, PLAIN, "%llu", (unsigned long long)clients_most(l));
        cell(r, 5, PLAIN, "%llu", (unsigned long long)l->max_use);
    }
    grid_end(out, &g, colour);
}

/* Those that have a worker now: an administrator looks for who is there. */
static void show_compartments(FILE *out, const struct status *s, bool colour)
{
    static const char *const heads[] = {
        "USER",  ">UID",    "LISTENER", ">WORKERS", ">CLIENTS",      ">REQUESTS", ">DENIED",
        ">HITS", ">MISSES", ">ERRORS",  ">LIMITED", "LIMITED-SINCE", NULL};
    struct grid g = {.heads = heads};

    for (size_t i = 0; i < s->ncompartments; i++) {
        const struct status_compartment *c = &s->compartments[i];
        const struct status_listener *l = &s->listeners[c->listener];
        uint64_t most = clients_most(l);
        struct row *r;

        if (c->workers == 0)
            continue;
        r = grid_row(&g);
        cell(r, 0, PLAIN, "%s", status_user(c->uid));
        cell(r, 1, PLAIN, "%llu", (unsigned long long)c->uid);
        cell(r, 2, PLAIN, "%s", l->path);
        cell(r, 3, PLAIN, "%llu/%llu", (unsigned long long)c->workers,
             (unsigned long long)l->workers_most);
        cell(r, 4, colour_of(c->clients, most), "%llu/%llu", (unsigned long long)c->clients,
             (unsigned long long)most);
        cell(r, 5, PLAIN, "%llu", (unsigned long long)c->requests);
        cell(r, 6, c->denied > 0 ? YELLOW : PLAIN, "%llu", (unsigned long long)c->denied);
        cell(r, 7, PLAIN, "%llu", (unsigned long long)c->hits);
        cell(r, 8, PLAIN, "%llu", (unsigned long long)c->misses);
        cell(r, 9, c->errors > 0 ? YELLOW : PLAIN, "%llu", (unsigned long long)c->errors);
        cell(r, 10, c->limited > 0 ? YELLOW : PLAIN, "%llu", (unsigned long long)c->limited);
        cell(r, 11, c->limited_since > 0 ? RED : PLAIN, "%s",
             c->limited_since > 0 ? moment(c->limited_since) : "no");
    }
    grid_end(out, &g, colour);
}

/* What is no path may be as long as a table is. */
static void name_cell(struct row *r, const char *name)
{
    const char *colon = strchr(name, ':');
    bool content = strncmp(name, "static:", 7) == 0 || (colon != NULL && colon[1] == '{');

    if (content && strlen(name) > NAME_MOST)
        cell(r, 0, PLAIN, "%.*s...", NAME_MOST - 3, name);
    else
        cell(r, 0, PLAIN, "%s", name);
}

static void show_image(struct row *r, const struct status *s, const struct status_table *t)
{
    char text[32];

    for (int column = 3; column <= 6; column++)
        cell(r, column, PLAIN, "-"); /* no image: nothing to count */
    if (t->generation == 0)
        return;
    cell(r, 3, PLAIN, "%llu", (unsigned long long)t->generation);
    cell(r, 4, PLAIN, "%llu", (unsigned long long)t->entries);
    write_size(text, sizeof text, (double)t->bytes);
    cell(r, 5, PLAIN, "%s", text);
    write_age(text, sizeof text, s->now > t->loaded ? s->now - t->loaded : 0);
    cell(r, 6, PLAIN, "%s", text);
}

static void show_tables(FILE *out, const struct status *s, bool colour)
{
    static const char *const heads[] = {"TABLE",    "STATE",   "SINCE",       ">GENERATION",
                                        ">ENTRIES", ">SIZE",   ">AGE",        ">LOOKUPS",
                                        ">HITS",    ">MISSES", ">ERRORS",     ">CACHED",
                                        ">P50",     ">P99",    "ANSWERED-BY", NULL};
    struct grid g = {.heads = heads};

    for (size_t i = 0; i < s->ntables; i++) {
        const struct status_table *t = &s->tables[i];
        struct row *r = grid_row(&g);
        bool good = strcmp(t->state, "current") == 0;

        name_cell(r, t->name);
        cell(r, 1, good ? GREEN : strcmp(t->state, "failing") == 0 ? RED : YELLOW, "%s", t->state);
        cell(r, 2, PLAIN, "%s", moment(t->since));
        show_image(r, s, t);
        cell(r, 7, PLAIN, "%llu", (unsigned long long)counters_lookups(&t->sum));
        cell(r, 8, PLAIN, "%llu", (unsigned long long)t->sum.hits);
        cell(r, 9, PLAIN, "%llu", (unsigned long long)t->sum.misses);
        cell(r, 10, t->sum.errors > 0 ? YELLOW : PLAIN, "%llu", (unsigned long long)t->sum.errors);
        cell(r, 11, PLAIN, "%llu", (unsigned long long)t->sum.cached);
        cell(r, 12, PLAIN, "%s", duration(&t->sum, 500));
        cell(r, 13, PLAIN, "%s", duration(&t->sum, 990));
        cell(r, 14, PLAIN, "%s", t->answered_by);
        r->note = t->why;
    }
    grid_end(out, &g, colour);
}

static void show_agents(FILE *out, const struct status *s, bool colour)
{
    static const char *const heads[] = {"AGENT OF", "STATE",    "SINCE", ">PROCESS",
                                        ">RUNNING", ">STARTED", NULL};
    struct grid g = {.heads = heads};

    for (size_t i = 0; i < s->nagents; i++) {
        const struct status_agent *a = &s->agents[i];
        struct row *r = grid_row(&g);
        bool failing = a->why[0] != '\0';

        name_cell(r, s->tables[a->table].name);
        cell(r, 1,
             failing      ? RED
             : a->pid > 0 ? GREEN
                          : PLAIN,
             "%s",
             failing      ? "failing"
             : a->pid > 0 ? "running"
                          : "not needed");
        cell(r, 2, PLAIN, "%s", moment(a->since));
        if (a->pid > 0)
            cell(r, 3, PLAIN, "%llu", (unsigned long long)a->pid);
        else
            cell(r, 3, PLAIN, "-");
        cell(r, 4, PLAIN, "%llu", (unsigned long long)a->running);
        cell(r, 5, PLAIN, "%llu", (unsigned long long)a->started);
        r->note = a->why;
    }
    grid_end(out, &g, colour);
}

void status_show(FILE *out, const struct status *s, bool colour)
{
    show_head(out, s, colour);
    show_listeners(out, s, colour);
    show_compartments(out, s, colour);
    show_tables(out, s, colour);
    show_agents(out, s, colour);
}
