/*
 * A user or a group as a line of passwd(5) or group(5), with nothing in it that the policy does not
 * reveal. Used by the loader, for the files, and by jailmap-agent-nss, for the name service, before
 * anything goes to a worker. A field that is not revealed must never get into the line's memory.
 */
#ifndef JAILMAP_SERVER_ENTRY_LINE_H
#define JAILMAP_SERVER_ENTRY_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/slice.h"

/* Zeroed at first; free(ptr) is the owner's. */
struct entry_line {
    char *ptr;
    size_t len, cap;
    uint32_t reveal; /* a bit for each field, the first is 1 */
    unsigned fields; /* begun so far */
    bool failed;     /* out of memory: it is not whole */
};

/* Begins a line anew, in the same memory. */
void entry_begin(struct entry_line *line, uint32_t reveal);
/* Begins the next field of it, which is empty so far. */
void entry_field(struct entry_line *line);
/* Adds to the field that was begun last, if that is revealed. */
void entry_add(struct entry_line *line, struct slice part);
/* A whole field. An id is printed through a signed long, as Postfix does. */
void entry_text(struct entry_line *line, struct slice text);
void entry_id(struct entry_line *line, long id);
/* One of a list: with a comma, but for the first. */
void entry_member(struct entry_line *line, struct slice member, bool *first);

#endif
