/*
 * Files that people write: what the text source types of the loader and the agents with a file
 * share. Runs in both, on bytes that nobody vouches for and that a writer may be changing
 * meanwhile. Reads the descriptor that it is given and nothing else; it must never trust a file to
 * have the size that fstat(2) told, to end in a newline, or to be free of NULs.
 */
#ifndef JAILMAP_SERVER_TEXT_H
#define JAILMAP_SERVER_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/slice.h"

/* Bytes that grow. Zeroed at first; free(ptr) is the owner's. */
struct text {
    char *ptr;
    size_t len, cap;
};

/* Makes room for more bytes behind len. Returns 0, or -1 with errno. */
int text_reserve(struct text *text, size_t more);
int text_append(struct text *text, struct slice bytes);

/*
 * Reads the whole file from its first byte, with pread(2). Returns 0, or -1 with errno; EFBIG: it
 * has more than max bytes. The caller frees text->ptr in both cases.
 */
int text_read(int fd, size_t max, struct text *text);

/* Lines number from 1. A line borrows from the text, which text_logical() rewrites as it goes. */
struct text_line {
    char *ptr;
    size_t len;
    size_t number;
};

struct text_reader {
    char *next, *end;
    size_t line; /* how many were read */
};

struct text_reader text_start(struct text *text);

/* The next line of the file, without its newline. False at the end. */
bool text_physical(struct text_reader *reader, struct text_line *line);

/*
 * The next logical line as Postfix reads it: lines that begin with white space continue the one
 * before, and lines that are blank or whose first character is `#` are not there, not even between
 * the two. The number is that of its first line. It begins with white space only where there is
 * nothing to continue. False at the end.
 */
bool text_logical(struct text_reader *reader, struct text_line *line);

/* A line as Postfix sees it: a string, which ends at a NUL. */
struct slice text_string(const struct text_line *line);

/* isspace(3) of the C locale, and its use at both ends of a slice. */
bool text_is_space(char c);
struct slice text_skip_space(struct slice s);
struct slice text_trim(struct slice s);

/* True for `{...}` whose first brace is closed by its last byte; *inside is then what it holds,
 * without white space at both ends. */
bool text_unbrace(struct slice s, struct slice *inside);

/* Some of the bytes for a message, what cannot be printed as \xNN. Returns quoted->text. */
struct text_quoted {
    char text[128];
};
const char *text_quote(struct text_quoted *quoted, struct slice bytes);

#endif
