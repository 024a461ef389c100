/*
 * Source type inline: a table that is spelled out in its own name, `{key=value, {key = value}}`.
 * Runs in the loader; opens nothing. An error anywhere in the name leaves the table without an
 * image, as Postfix leaves it without service: it must never serve half of what was written.
 */
#include "server/image.h"
#include "server/loader/key_forms.h"
#include "server/loader/key_index.h"
#include "server/fold.h"
#include "server/loader/source.h"
#include "server/text.h"

#include <stdlib.h>

struct entry {
    struct slice key, value;
    unsigned won; /* the forms in which no later entry has its key */
};

struct table {
    struct source *source;
    struct entry *entries;
    size_t count, cap;
    struct key_index *index;
    struct key_forms folder;
};

static bool separates(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Cuts the next token off. What stands in braces, anywhere in it, does not end it. */
static bool next_token(struct slice *rest, struct slice *token)
{
    size_t depth = 0, i = 0;

    while (rest->len > 0 && separates(rest->ptr[0]))
        *rest = (struct slice){rest->ptr + 1, rest->len - 1};
    for (; i < rest->len && (depth > 0 || !separates(rest->ptr[i])); i++) {
        depth += rest->ptr[i] == '{';
        depth -= rest->ptr[i] == '}'; /* never of 0: the name is balanced */
    }
    *token = (struct slice){rest->ptr, i};
    *rest = (struct slice){rest->ptr + i, rest->len - i};
    return i > 0;
}

/* A key ends at `=` or white space outside of quotes, which are part of it. */
static size_t key_length(struct slice s, bool *open_quote)
{
    size_t i = 0;

    *open_quote = false;
    for (; i < s.len; i++) {
        if (s.ptr[i] == '"')
            *open_quote = !*open_quote;
        else if (!*open_quote && (s.ptr[i] == '=' || text_is_space(s.ptr[i])))
            break;
        else if (s.ptr[i] == '\\' && i + 1 < s.len)
            i++;
    }
    return i;
}

/* Splits a token into key and value. Returns NULL, or what is wrong with it. */
static const char *split(struct slice token, struct entry *entry)
{
    bool open_quote;
    struct slice rest;
    size_t len;

    if (token.ptr[0] == '{' && !text_unbrace(token, &token))
        return "text behind the `}`, expected a comma or a space";
    rest = text_skip_space(token);
    len = key_length(rest, &open_quote);
    if (open_quote)
        return "a double quote is not closed";
    entry->key = (struct slice){rest.ptr, len};
    rest = text_skip_space((struct slice){rest.ptr + len, rest.len - len});
    if (rest.len == 0 || rest.ptr[0] != '=')
        return "no `=` behind the key, expected `key=value` or `{key = value}`";
    entry->value = text_trim((struct slice){rest.ptr + 1, rest.len - 1});
    entry->won = 0;
    return NULL;
}

static int keep(struct table *table, const struct entry *entry)
{
    if (table->count == table->cap) {
        size_t cap = table->cap > 0 ? table->cap * 2 : 16;
        struct entry *grown = reallocarray(table->entries, cap, sizeof *grown);

        if (grown == NULL)
            return source_fail_errno(table->source);
        table->entries = grown;
        table->cap = cap;
    }
    table->entries[table->count++] = *entry;
    return 0;
}

static int collect(struct table *table)
{
    struct text_quoted quoted;
    struct slice rest, token;
    struct entry entry;

    if (!text_unbrace(table->source->name, &rest))
        return source_fail(table->source, "the table is not one pair of braces, expected "
                                          "`inline:{key=value, ...}`");
    while (next_token(&rest, &token)) {
        const char *wrong = split(token, &entry);

        if (wrong != NULL)
            return source_fail(table->source, "entry %zu, \"%s\": %s", table->count + 1,
                               text_quote(&quoted, token), wrong);
        if (keep(table, &entry) != 0)
            return -1;
    }
    if (table->count == 0)
        return source_fail(table->source, "no entries, expected `inline:{key=value, ...}`");
    return 0;
}

static int list_forms(struct table *table, const struct entry *entry, struct key_form *list)
{
    int count = key_forms_list(&table->folder, entry->key, is_utf8(entry->key), list);

    return count < 0 ? source_fail_errno(table->source) : count;
}

/* From the last entry to the first: in each form the last of equal keys wins. */
static int choose(struct table *table)
{
    struct key_form list[KEY_FORMS_MAX];

    for (size_t n = table->count; n-- > 0;) {
        struct entry *entry = &table->entries[n];
        int count = list_forms(table, entry, list);

        if (count < 0)
            return -1;
        for (int i = 0; i < count; i++) {
            unsigned fresh;

            if (key_index_claim(table->index, list[i].key, list[i].forms, list[i].own, &fresh) != 0)
                return source_fail_errno(table->source);
            entry->won |= fresh;
        }
    }
    return 0;
}

/* In the order of the text, where the entry that has won stands. */
static int hand_over(struct table *table)
{
    struct sink *sink = table->source->sink;
    struct key_form list[KEY_FORMS_MAX];

    for (size_t n = 0; n < table->count; n++) {
        const struct entry *entry = &table->entries[n];
        int count = list_forms(table, entry, list);

        if (count < 0)
            return -1;
        for (int i = 0; i < count; i++) {
            unsigned mine = list[i].forms & entry->won;

            if (mine != 0 && sink->add(sink, list[i].key, mine, entry->value) != 0)
                return -1;
        }
    }
    return 0;
}

static int load(struct source *source)
{
    struct table table = {.source = source};
    int rc = collect(&table);

    if (rc == 0) {
        table.index = key_index_new();
        if (table.index == NULL)
            rc = source_fail_errno(source);
    }
    if (rc == 0)
        rc = choose(&table);
    if (rc == 0)
        rc = hand_over(&table);
    key_forms_free(&table.folder);
    key_index_free(table.index);
    free(table.entries);
    return rc;
}

const struct source_ops source_inline = {.type = TYPE_INLINE, .load = load};
