/*
 * Source type texthash: the text that postmap(1) reads, as a table of its own. Runs in the loader,
 * on a file that nobody vouches for. Takes every line as Postfix takes it, and leaves out, with a
 * word about it, what Postfix leaves out; it must never fail for what one line says.
 */
#include "server/image.h"
#include "server/loader/key_forms.h"
#include "server/loader/key_index.h"
#include "server/fold.h"
#include "server/loader/source.h"
#include "server/text.h"

#include <stdlib.h>

struct table {
    struct source *source;
    struct key_index *index;
    struct key_forms folder;
};

struct entry {
    struct slice key, value;
};

/* The key ends at the first white space outside of quotes; quotes and backslashes are part of it.
 * False: a quote is not closed. */
static bool cut_key(struct slice *rest, struct slice *key)
{
    bool quoted = false;
    size_t i = 0;

    for (; i < rest->len; i++) {
        char c = rest->ptr[i];

        if (c == '"')
            quoted = !quoted;
        else if (text_is_space(c) && !quoted)
            break;
        else if (c == '\\' && i + 1 < rest->len)
            i++;
    }
    *key = (struct slice){rest->ptr, i};
    *rest = (struct slice){rest->ptr + i, rest->len - i};
    return !quoted;
}

/* Splits a line. Returns NULL, or what keeps it out of the table. */
static const char *split(struct slice line, struct entry *entry)
{
    struct slice rest = line;

    if (line.len > 0 && text_is_space(line.ptr[0]))
        return "it begins with white space and there is no line before that it could continue";
    if (!cut_key(&rest, &entry->key))
        return "a double quote is not closed";
    entry->value = text_trim(rest);
    if (entry->key.len == 0)
        return "no key, expected `key value`";
    if (entry->value.len == 0)
        return "no value, expected `key value`";
    return NULL;
}

/* Postfix looks at the string to see whether it must be checked, and checks the line, which may go
 * on behind a NUL. */
static bool line_is_utf8(const struct text_line *line, struct slice string)
{
    return is_ascii(string) || is_utf8((struct slice){line->ptr, line->len});
}

/* In each form the first entry of a key stays. */
static int add(struct table *table, const struct entry *entry, bool utf8, unsigned *duplicate)
{
    struct sink *sink = table->source->sink;
    struct key_form list[KEY_FORMS_MAX];
    int count = key_forms_list(&table->folder, entry->key, utf8, list);

    *duplicate = 0;
    if (count < 0)
        return source_fail_errno(table->source);
    for (int i = 0; i < count; i++) {
        unsigned fresh;

        if (key_index_claim(table->index, list[i].key, list[i].forms, list[i].own, &fresh) != 0)
            return source_fail_errno(table->source);
        *duplicate |= list[i].forms & ~fresh;
        if (fresh != 0 && sink->add(sink, list[i].key, fresh, entry->value) != 0)
            return -1;
    }
    return 0;
}

static int take_line(struct table *table, const struct text_line *line)
{
    struct slice string = text_string(line);
    bool utf8 = line_is_utf8(line, string);
    const char *not_taken;
    struct text_quoted key;
    struct entry entry;
    unsigned duplicate;

    not_taken = split(string, &entry);
    if (not_taken != NULL) {
        source_ignore(table->source, line->number, "%s", not_taken);
        return 0;
    }
    if (add(table, &entry, utf8, &duplicate) != 0)
        return -1;
    if (duplicate != 0)
        source_ignore(table->source, line->number, "duplicate key \"%s\"%s",
                      text_quote(&key, entry.key),
                      duplicate & IMAGE_FORM_EXACT ? "" : " where case does not count");
    else if (!utf8)
        source_ignore(table->source, line->number,
                      "not UTF-8: requests that ask for UTF-8 do not find it");
    return 0;
}

static int load(struct source *source)
{
    struct table table = {.source = source};
    struct text text = {NULL, 0, 0};
    struct text_reader reader;
    struct text_line line;
    int rc = source_read_table(source, &text);

    if (rc == 0) {
        table.index = key_index_new();
        if (table.index == NULL)
            rc = source_fail_errno(source);
        reader = text_start(&text);
        while (rc == 0 && text_logical(&reader, &line))
            rc = take_line(&table, &line);
    }
    key_forms_free(&table.folder);
    key_index_free(table.index);
    free(text.ptr);
    return rc;
}

const struct source_ops source_texthash = {.type = TYPE_TEXTHASH, .load = load};
