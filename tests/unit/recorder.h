/*
 * A sink that writes down what a source type of the loader yields, for the tests of those types.
 * Included by the test program alone. Sources come as bytes and are given in anonymous files.
 */
#ifndef JAILMAP_TESTS_RECORDER_H
#define JAILMAP_TESTS_RECORDER_H

#include "server/loader/source.h"

struct record {
    unsigned forms;
    struct slice key, value; /* copies of their exact length */
};

struct loaded {
    int rc;
    struct source source; /* as the source type left it */
    struct sink sink;
    struct record *records;
    size_t count, cap;
    bool has_default;
    struct slice default_value;
    uint32_t reveal;  /* to the source; REVEAL_EXISTENCE, as it is at first, stands for all */
    size_t refuse_at; /* the entry that the sink does not take; SIZE_MAX: none */
};

/* Loads a file; nsswitch NULL: there is no nsswitch.conf. Ends in unload(). */
void load_file(struct loaded *l, const struct source_ops *ops, struct slice file,
               const struct slice *nsswitch);
/* Loads a table that is all in its name. */
void load_name(struct loaded *l, const struct source_ops *ops, struct slice name);
/* Loads from a descriptor that stays the caller's. */
void load_fd(struct loaded *l, const struct source_ops *ops, int fd);
void unload(struct loaded *l);

/* The value that a search of these forms finds, as image_find() would. False: none. */
bool loaded_find(const struct loaded *l, struct slice key, unsigned forms, struct slice *value);

/*
 * Checks that a text loads into exactly these entries, in this order, one a line: the forms as
 * letters (E exact, U UTF-8, A ASCII, F fully folded), a space, `key=value`. "" for none; and that
 * this is said of what was ignored, "" for nothing, or NULL for anything.
 */
void expect_loaded(const struct loaded *l, const char *entries, const char *warning);
/* Checks that loading fails with a reason in which this text stands, and without ENOMEM. */
void expect_failed(const struct loaded *l, const char *why);
/* Checks what must hold whatever the source was. */
void expect_sane(const struct loaded *l);
/* Both have the same entries. */
void expect_same(const struct loaded *a, const struct loaded *b);

/* Changes some bytes, cuts or repeats; returns the new length, at most cap. */
size_t mutate(char *bytes, size_t len, size_t cap, const char *alphabet, size_t letters,
              uint64_t *random);

#endif
