/*
 * The rules of a pattern table as they are written: logical lines of a file, or groups in the
 * table's own name. Runs in jailmap-agent-pattern, on bytes that nobody vouches for. It may read
 * the descriptor that it is given; what is wrong with a rule goes into the report and must never be
 * the end of the other rules.
 */
#ifndef JAILMAP_SERVER_AGENT_PATTERN_RULES_H
#define JAILMAP_SERVER_AGENT_PATTERN_RULES_H

#include "server/agent/agent.h"
#include "server/text.h"

/* Zeroed at first; rules_free() releases what any of the functions below took. */
struct rules {
    struct text text;
    struct text_reader reader;
    const char *file; /* NULL: the rules stand in the name */
    struct agent_report *report;
};

struct rule_line {
    struct slice text; /* a string, without white space at both ends; good until rules_free() */
    size_t number;
};

/* Both: false with report->text. The name is copied, the file's name is not. */
bool rules_of_file(struct rules *rules, int fd, const char *file, struct agent_report *report);
bool rules_of_name(struct rules *rules, struct slice name, struct agent_report *report);
/* Takes the bytes of a file; text becomes the rules'. */
void rules_of_text(struct rules *rules, struct text text, const char *file,
                   struct agent_report *report);
void rules_free(struct rules *rules);

/* The next line that is a rule, be it a good one. False at the end. */
bool rules_next(struct rules *rules, struct rule_line *line);

/* Where a rule stands: "FILE:LINE", or "rule N" of a name. Returns place->text. */
struct rule_place {
    char text[240];
};
const char *rules_place(struct rule_place *place, const char *file, size_t number);

/* Counts a rule that is left out, and reports why if it is the first. */
void rules_skip(struct rules *rules, size_t number, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
