/*
 * Source types of the loader: one file for each, behind one struct. Runs in the loader, on bytes
 * that nobody vouches for, in an empty chroot with nothing but the source and the image open. A
 * source must never be trusted to end, to be sane, or to agree with its own lengths.
 */
#ifndef JAILMAP_SERVER_LOADER_SOURCE_H
#define JAILMAP_SERVER_LOADER_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/table_type.h"
#include "privsep/bridge.h"
#include "proto/slice.h"

/*
 * Takes the entries that a source yields. Both functions return 0, or -1 when the image cannot take
 * it; the source then returns -1 at once.
 */
struct sink {
    /* forms: in which searches the entry is found, IMAGE_FORM_* of server/image.h. Keys need not be
     * different: in each form the first that was added is found. */
    int (*add)(struct sink *sink, struct slice key, unsigned forms, struct slice value);
    /* The value of every key that has no entry. At most once. */
    int (*add_default)(struct sink *sink, struct slice value);
    bool failed; /* set by the sink: the error is the image's, not the source's */
};

/* One load: what the monitor passed in, and what the source has to say about it. */
struct source {
    struct sink *sink;
    int fd;            /* the file, open for reading and anywhere in it; -1: the type has none */
    int nsswitch;      /* nsswitch.conf(5), for the types that ask it; -1: there is none */
    struct slice name; /* of the table, behind `type:`; of environ: its entries */
    uint32_t reveal;   /* fields of an entry, as in policy/table_type.h; for types that have some */
    /* Left by the source: */
    char why[512];     /* after -1: the reason, for an administrator: what was found and expected */
    int error;         /* and ENOMEM if that is it */
    unsigned ignored;  /* lines or entries left out, as Postfix leaves them out with a warning */
    char warning[256]; /* the first of them: "line 7: no value" */
    enum bridge_kind answered_by; /* KIND_IMAGE unless the source says otherwise */
};

/* Fills in why. Returns -1, for the caller to return. */
int source_fail(struct source *source, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same, in errno's words. */
int source_fail_errno(struct source *source);

/* Notes a line or entry that is left out, in words if it is the first; 0: there are no lines. */
void source_ignore(struct source *source, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Reads the whole file: text_read(). Returns 0, or -1 with why. The caller frees text->ptr in both
 * cases. source_read_table() reads source->fd, and refuses a file of no bytes: a writer may have
 * truncated it a moment ago, and an empty image would turn every entry into "not found".
 */
struct text;
int source_read(struct source *source, int fd, struct text *text);
int source_read_table(struct source *source, struct text *text);

struct source_ops {
    enum table_type type;
    /* Reads the whole source into its sink. Returns 0, or -1 with why. Frees what it took. */
    int (*load)(struct source *source);
};

extern const struct source_ops source_hash;
extern const struct source_ops source_btree;
extern const struct source_ops source_cdb;
extern const struct source_ops source_lmdb;
extern const struct source_ops source_texthash;
extern const struct source_ops source_inline;
extern const struct source_ops source_static;
extern const struct source_ops source_environ;
extern const struct source_ops source_passwd;
extern const struct source_ops source_group;

#endif
