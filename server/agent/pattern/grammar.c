/*
 * Lines of regexp and pcre tables: see grammar.h. Runs in jailmap-agent-pattern; touches its
 * arguments only.
 */
#include "server/agent/pattern/grammar.h"

#include <stdio.h>
#include <strings.h>

#include "server/text.h"

/* isalnum(3) of the C locale: what begins neither a pattern nor follows a keyword */
static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct slice behind(struct slice s, size_t n)
{
    return (struct slice){s.ptr + n, s.len - n};
}

bool statement_keyword(struct slice line, const char *keyword, struct slice *rest)
{
    size_t len = strlen(keyword);

    if (line.len < len || strncasecmp(line.ptr, keyword, len) != 0 ||
        (line.len > len && is_word(line.ptr[len])))
        return false;
    *rest = text_skip_space(behind(line, len));
    return true;
}

bool statement_negated(struct slice *rest)
{
    bool negated = false;

    for (; rest->len > 0 && (rest->ptr[0] == '!' || text_is_space(rest->ptr[0])); rest->len--)
        negated ^= *rest->ptr++ == '!';
    return negated;
}

/* A backslash protects whatever follows it, even where it is the delimiter itself. */
static size_t pattern_length(struct slice s, char delimiter)
{
    size_t i = 0;

    while (i < s.len && (s.ptr[i] == '\\' || s.ptr[i] != delimiter))
        i += s.ptr[i] == '\\' ? 2 : 1;
    return i;
}

static bool expression_parse(struct slice *rest, bool seconds, struct expression *expression,
                             char *why, size_t len)
{
    size_t n;
    char delimiter;

    expression->negated = statement_negated(rest);
    if (rest->len == 0) {
        snprintf(why, len, "there is no pattern; expected /pattern/flags and a result");
        return false;
    }
    delimiter = rest->ptr[0];
    *rest = behind(*rest, 1);
    n = pattern_length(*rest, delimiter);
    if (n >= rest->len) {
        struct text_quoted quoted;

        snprintf(why, len,
                 "the pattern has no closing \"%s\"; expected /pattern/flags and a result, and a "
                 "backslash before the delimiter where the pattern has it",
                 text_quote(&quoted, (struct slice){&delimiter, 1}));
        return false;
    }
    expression->pattern = (struct slice){rest->ptr, n};
    *rest = behind(*rest, n + 1);
    for (n = 0; n < rest->len && !text_is_space(rest->ptr[n]); n++)
        if (seconds && rest->ptr[n] == '!')
            break;
    expression->letters = (struct slice){rest->ptr, n};
    *rest = behind(*rest, n);
    return true;
}

/* What stands behind the pattern of an if, or behind endif, is left out, as Postfix does. */
bool statement_parse(struct slice line, bool seconds, struct statement *s, char *why, size_t len)
{
    struct text_quoted quoted;
    struct slice rest = line;

    *s = (struct statement){.kind = STATEMENT_RULE};
    if (statement_keyword(line, "endif", &rest)) {
        s->kind = STATEMENT_ENDIF;
        return true;
    }
    if (statement_keyword(line, "if", &rest)) {
        s->kind = STATEMENT_IF;
        return expression_parse(&rest, seconds, &s->first, why, len);
    }
    if (is_word(line.ptr[0])) {
        snprintf(why, len, "\"%s\" is no rule; expected /pattern/flags and a result, if, or endif",
                 text_quote(&quoted, line));
        return false;
    }
    if (!expression_parse(&rest, seconds, &s->first, why, len))
        return false;
    s->has_second = seconds && rest.len > 0 && rest.ptr[0] == '!';
    if (s->has_second) {
        rest = behind(rest, 1);
        if (!expression_parse(&rest, seconds, &s->second, why, len))
            return false;
    }
    s->result = text_trim(rest);
    return true;
}
