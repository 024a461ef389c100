/*
 * `jailmap import`: the policy that equals what Postfix's proxymap(8) approves. Its parts, from the
 * output of postconf(1) to a jailmapd.conf(5) or a list of differences. All run in the program
 * jailmap-import, as whoever calls it, and must never need more rights than that.
 */
#ifndef JAILMAP_CTL_IMPORT_H
#define JAILMAP_CTL_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "proto/slice.h"

/* Prints a line for whoever runs the tool, unprintable bytes as \xHH. Returns status. */
int import_say(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- import_list.c: names of tables, each once, and who names them ---- */

struct import_name {
    char *name; /* canonical type:name */
    const char **from;
    size_t nfrom;
    char *database; /* of sqlite: its dbpath; NULL: not known */
};

/* All zero is empty. */
struct import_list {
    struct import_name **names; /* in order of first appearance */
    size_t n;
    void *tree;  /* the same by name, of tsearch(3) */
    bool failed; /* out of memory: something is missing */
};

/* Adds name unless it is there, and from, unless NULL, to those who name it. The list copies name
 * and borrows from. */
void import_list_add(struct import_list *list, struct slice name, const char *from);
const struct import_name *import_list_find(const struct import_list *list, const char *name);
void import_list_free(struct import_list *list);

/* ---- import_split.c: which tables a value approves ---- */

struct import_rules {
    bool files; /* /file/name stands for what the file holds: Postfix 3.11 and later */
    void (*approve)(void *context, struct slice name);
    void (*warn)(void *context, const char *what, struct slice token);
    void *context;
};

/* Calls approve for each table that the value of a parameter, expanded, approves, as proxymap(8)
 * understands it, and warn for what proxymap skips with a warning. */
void import_approved(struct slice value, const struct import_rules *rules);

/* ---- import_lines.c: what stands in Postfix's files ---- */

/* Reads a regular file of at most that many bytes, never waiting for one. The text is the caller's
 * to free; NULL with the reason in errno. */
char *import_read_file(const char *path, size_t most, size_t *len);

/* The next logical line of a text without comments, a line that begins with white space being part
 * of the one before; the caller's to free. NULL: there is none, or errno is ENOMEM. */
char *import_next_line(struct slice *rest);

/*
 * What the text of a main.cf gives a parameter, in its own white space, which postconf(1) does not
 * keep. The caller's to free; NULL if it is not set there, or errno is ENOMEM.
 */
char *import_main_cf(struct slice text, const char *parameter);

/* The same for master.cf: the first text on the lines of a service that is value, but for the white
 * space. */
char *import_master_cf(struct slice text, const char *service, const char *type, const char *value);

/* ---- import_spaces.c: white space on its way through postconf(1) ---- */

/* Are they the same when every run of white space is one blank? */
bool import_same_words(const char *a, const char *b);

/* Does the value of a parameter hold white space that is not single blanks? */
bool import_is_spaced(const char *value);

/* Does the text hold what stands for white space below? */
bool import_is_marked(const char *text);

/* A new string in which white space passes through postconf, or NULL; and back, in place. What is
 * in ${ } and so belongs to an expression becomes single blanks. */
char *import_mark_spaces(const char *value);
void import_unmark_spaces(char *text);

/* ---- import_postconf.c: running postconf(1) ---- */

struct import_setting {
    char *name, *value; /* in text */
};

struct import_settings {
    char *text;
    struct import_setting *list;
    size_t n;
};

struct import_postconf {
    const char *program;   /* a path */
    const char *directory; /* NULL: the one that Postfix was built with */
};

/*
 * Runs `postconf -c DIRECTORY OPTIONS...` and reads the `name = value` lines that it prints;
 * options end with NULL. What it says on standard error is shown when verbose, or when it fails.
 * Returns EX_OK, or another exit status with a message.
 */
int import_postconf(const struct import_postconf *postconf, const char *const *options,
                    bool verbose, struct import_settings *settings);

/* The same from text, which *settings owns afterwards; 0, or the number of a line that is none. */
size_t import_settings_read(struct import_settings *settings, char *text, size_t len);
/* A value, or NULL. */
const char *import_setting(const struct import_settings *settings, const char *name);
void import_settings_free(struct import_settings *settings);

/* ---- import_gather.c: what Postfix approves, and why ---- */

struct import {
    struct import_settings raw;     /* main.cf and defaults */
    struct import_settings over;    /* overrides of master.cf: service/type/parameter */
    struct import_settings read_by; /* expanded, as the proxymap service sees it */
    struct import_settings plain;   /* expanded, as services without overrides see it */
    struct import_settings over_x;  /* overrides of master.cf, expanded */
    bool classes;                   /* Postfix >= 3.11 */
    struct import_list approved;
    struct import_list denied; /* named with proxy:, and not approved */
    bool existence;            /* of unix:passwd.byname nobody wants to know more */
};

/* Asks postconf all that is needed. Returns EX_OK or another exit status, with a message. */
int import_gather(const struct import_postconf *postconf, struct import *import);
void import_free(struct import *import);

/* From what was gathered to the lists: the part that asks nobody. Returns an exit status. */
int import_decide(struct import *import);

/* Reads the files of the sqlite tables that are approved for their dbpath, which jailmapd.conf(5)
 * has to say, too. Returns an exit status. */
int import_databases(struct import *import);

/* ---- import_print.c, import_diff.c: what comes of it ---- */

struct import_place {
    const char *directory; /* of the configuration */
    const char *socket;
    const char *owner, *group;
};

void import_print(FILE *out, const struct import *import, const struct import_place *place);

/* Writes the parameters that name a table, as one printable line without its end. */
void import_print_from(FILE *out, const struct import *import, const struct import_name *name);

/* Why jailmapd.conf(5) cannot have that path, in such words; NULL: it can. */
const char *import_refused_path(const char *path);

/* Why jailmapd.conf(5) cannot have that table, as words that follow its name; NULL: it can. */
const char *import_unserved(const struct import *import, const struct import_name *name);

/* Writes a name so that jailmapd.conf(5) reads it in double quotes, and a terminal shows it. */
void import_print_name(FILE *out, const char *name);

/*
 * Writes `+ NAME  (PARAMETER)` for each table that Postfix approves and approved does not hold, and
 * `- NAME` for what approved has besides. Where the names in approved come from does not matter.
 * Returns how many lines were written.
 */
size_t import_diff(FILE *out, const struct import *import, const char *const *approved, size_t n);

#endif
