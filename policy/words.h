/*
 * The words of jailmapd.conf(5): a text in, one token after the other out, each with its place. Run
 * by whoever reads a configuration: the monitor at start, with privilege, on files that only root
 * can write; `jailmapd -n` and the tool. It may touch only its arguments and memory of its own; it
 * must never read a file.
 */
#ifndef JAILMAP_POLICY_WORDS_H
#define JAILMAP_POLICY_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "policy/policy.h"

enum token { TOKEN_END, TOKEN_WORD, TOKEN_STRING, TOKEN_MARK };

struct words {
    const char *at, *end;
    struct policy_place here;
    bool canonical; /* `#line` comments are obeyed: see policy_print() */
    unsigned id;    /* and this is what the last one said of the user or group */
    char *(*keep_file)(void *context, const char *file); /* makes the name of a file last */
    void *context;

    /* the token in hand */
    enum token token;
    struct policy_place spot; /* where it begins */
    char *text;               /* of a word or a string, NUL behind it; of a mark, that character */
    size_t len, room;         /* a string holds no NUL byte */
    const char *complaint;    /* what is wrong at spot; NULL: nothing */
};

/* Begins with a text that stays the caller's; file lasts as long as the places are used. */
void words_begin(struct words *w, const char *text, size_t size, const char *file);
/* The next token; false with a complaint. */
bool words_next(struct words *w);
/* Is it that mark: one of = { } , */
bool words_is(const struct words *w, char mark);
/* What the token in hand is, for a message, in at most len bytes. */
const char *words_found(const struct words *w, char *text, size_t len);
void words_end(struct words *w);

#endif
