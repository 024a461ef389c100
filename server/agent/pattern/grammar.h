/*
 * The lines of regexp_table(5) and pcre_table(5): a rule, if, endif. Runs in jailmap-agent-pattern,
 * on bytes that nobody vouches for. Pure: bytes in, struct out; nothing is allocated.
 */
#ifndef JAILMAP_SERVER_AGENT_PATTERN_GRAMMAR_H
#define JAILMAP_SERVER_AGENT_PATTERN_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/slice.h"

enum statement_kind { STATEMENT_RULE, STATEMENT_IF, STATEMENT_ENDIF };

/* [!]/pattern/letters, as slices of the line */
struct expression {
    struct slice pattern, letters;
    bool negated;
};

struct statement {
    enum statement_kind kind;
    struct expression first, second;
    bool has_second; /* /first/!/second/: matches what the first does and the second does not */
    struct slice result;
};

/* line has no white space at either end. seconds: rules may have a second expression. False: why
 * says what was found and what is expected. */
bool statement_parse(struct slice line, bool seconds, struct statement *statement, char *why,
                     size_t len);

/* The rest behind a keyword, which is in lower case; its letters may be of either case. False: the
 * line begins with something else. */
bool statement_keyword(struct slice line, const char *keyword, struct slice *rest);

/* Takes `!` and white space off, and tells whether there was an odd number of them. */
bool statement_negated(struct slice *rest);

#endif
