/*
 * Lookups: see lookup.h. Runs in the worker, on keys that clients choose, on images that a loader
 * wrote and on answers of agents. A composite is worked out from its beginning each time that there
 * is more to go by, so no state of a walk through it is kept. A table that cannot say whether it
 * has a key must never make a "not found".
 */
#include "server/worker/lookup.h"

#include <stdlib.h>

#include "policy/members.h"
#include "server/worker/chance.h"

#define MEMO_MOST (MEMBERS_MOST + 1) /* and the composite itself */
#define FOLD_KEEP 65536u             /* bytes that are kept for the next long key */

struct memo_answer {
    const struct table *table;
    enum pm_status status;
    char *value;
    size_t len;
};

static const struct slice nothing = {"", 0};

/* ---- memo ---- */

bool memo_add(struct memo *memo, const struct session *session, const struct table *table,
              enum pm_status status, struct slice value)
{
    size_t first = memo->answers == NULL ? MEMO_MOST * sizeof *memo->answers : 0;
    struct memo_answer *answer;

    if (memo->count == MEMO_MOST || !session_keep(session, first + value.len))
        return false;
    memo->bytes += first + value.len;
    if (memo->answers == NULL)
        memo->answers = malloc(first);
    if (memo->answers == NULL)
        return false;
    answer = &memo->answers[memo->count];
    *answer = (struct memo_answer){table, status, malloc(value.len + 1), value.len};
    if (answer->value == NULL)
        return false;
    if (value.len > 0)
        memcpy(answer->value, value.ptr, value.len);
    memo->count++;
    return true;
}

bool memo_has(const struct memo *memo, const struct table *table)
{
    for (unsigned i = 0; i < memo->count; i++)
        if (memo->answers[i].table == table)
            return true;
    return false;
}

void memo_drop(struct memo *memo)
{
    for (unsigned i = 0; i < memo->count; i++)
        free(memo->answers[i].value);
    free(memo->answers);
    session_release(memo->bytes);
    *memo = (struct memo){0};
}

/* ---- one table ---- */

static void done(struct outcome *out, enum pm_status status, struct slice value)
{
    out->is = LOOKUP_DONE;
    out->status = status;
    out->value = value;
}

/* In which forms a key of this request is to be found in an image: see server/image.h. */
static unsigned forms_of(const struct table *table, uint32_t flags)
{
    const uint32_t both = PM_FLAG_TRY0NULL | PM_FLAG_TRY1NULL;

    if (table->features & FEATURE_TEXT) {
        if (flags & PM_FLAG_FOLD_FIX)
            return IMAGE_FORM_ASCII;
        /* Such a client has folded its key; unless it was told not to, then there may be only the
         * entry as it is written. */
        if (flags & PM_FLAG_UTF8_REQUEST)
            return IMAGE_FORM_UTF8 | IMAGE_FORM_UNICODE;
        return IMAGE_FORM_EXACT;
    }
    if (!(table->flags & both))
        return IMAGE_FORM_ANY;
    if (!(flags & both)) /* neither asked for: Postfix aborts here in the new dialect */
        return IMAGE_FORM_NUL | IMAGE_FORM_BARE;
    return (flags & PM_FLAG_TRY1NULL ? IMAGE_FORM_NUL : 0) |
           (flags & PM_FLAG_TRY0NULL ? IMAGE_FORM_BARE : 0);
}

/* False if the image does not have the key. */
static bool in_image(const struct lookup *l, struct table *table, struct slice key,
                     struct outcome *out)
{
    struct slice value;
    unsigned found = image_find(&table->image, key, forms_of(table, l->flags), &value);

    if (found == 0)
        return false;
    /* The form is known now, and the reply says so by clearing the other one's bit. */
    if (table->flags & (PM_FLAG_TRY0NULL | PM_FLAG_TRY1NULL))
        out->flags &= found == IMAGE_FORM_NUL ? ~PM_FLAG_TRY0NULL : ~PM_FLAG_TRY1NULL;
    done(out, PM_OK, value);
    return true;
}

static bool is_folded(const struct table *table, uint32_t flags)
{
    if (table->features & FEATURE_FOLDS_MUL)
        return (flags & PM_FLAG_FOLD_MUL) != 0;
    return (flags & PM_FLAG_FOLD_FIX) && (table->flags & PM_FLAG_FIXED);
}

/* The key folded, good until the next one is; ptr NULL: out of memory. */
static struct slice folded(struct slice key)
{
    static char small[512], *large;
    static size_t cap;

    if (cap > FOLD_KEEP || (key.len > sizeof small && cap < key.len)) {
        free(large);
        cap = key.len > sizeof small ? key.len : 0;
        large = cap > 0 ? malloc(cap) : NULL;
        if (large == NULL)
            cap = 0;
    }
    if (key.len > sizeof small && large == NULL)
        return (struct slice){NULL, 0};
    return pm_fold(key.len > sizeof small ? large : small, key);
}

/* What the image does not have. */
static void from_agent(const struct lookup *l, struct table *table, struct slice key,
                       enum beyond beyond, struct outcome *out)
{
    bool of_unix = table->type != NULL && table->type->fields != NULL;

    if (!(table->answered_by & KIND_LINK) || beyond == AGENT_HAS_NOT)
        done(out, PM_NOKEY, nothing);
    else if (beyond == AGENT_IS_GONE)
        done(out, PM_RETRY, nothing);
    else if (key.len > BRIDGE_DATA_MAX) /* no user or group has so long a name */
        done(out, of_unix ? PM_NOKEY : PM_RETRY, nothing);
    else
        switch (table_recollect(table, key, l->flags, &out->value)) {
        case CACHE_FOUND:
            out->cached = true;
            done(out, PM_OK, out->value);
            break;
        case CACHE_NOT_FOUND:
            out->cached = true;
            done(out, PM_NOKEY, nothing);
            break;
        case CACHE_UNKNOWN:
            out->is = LOOKUP_AGENT;
            out->table = table;
            out->key = key;
            break;
        }
}

/* What stands behind the type in its name. */
static struct slice argument_of(const struct table *table)
{
    size_t type = strlen(table->type->prefix);

    return (struct slice){table->name + type, table->name_len - type};
}

/* The name of the table is all that there is to it. */
static void from_name(const struct table *table, struct outcome *out)
{
    struct slice argument, value;
    struct members values;
    uint32_t count = 0, chosen;

    done(out, PM_RETRY, nothing);
    if (table->type == NULL || table->type->type != TYPE_RANDMAP)
        return; /* fail: does nothing else */
    argument = argument_of(table);
    if (members_begin(&values, MEMBERS_VALUES, argument) != NULL)
        return;
    while (members_next(&values, &value))
        count++;
    chosen = chance_below(count);
    if (members_begin(&values, MEMBERS_VALUES, argument) != NULL)
        return;
    while (members_next(&values, &value) && chosen > 0)
        chosen--;
    done(out, PM_OK, value);
}

/* A key that the table cannot have is looked for nowhere; the loader keeps to that, too. */
static bool is_beyond(const struct table *table, struct slice key)
{
    return table->limited && !key_limit_passes(&table->limit, key);
}

static void in_table(const struct lookup *l, struct table *table, struct slice key,
                     enum beyond beyond, struct outcome *out)
{
    done(out, PM_RETRY, nothing);
    if (table->state != TABLE_READY ||
        ((table->features & FEATURE_UNAUTH) && (l->flags & PM_FLAG_NO_UNAUTH)))
        return;
    if (is_beyond(table, key)) {
        done(out, PM_NOKEY, nothing);
        return;
    }
    /* The latter: values are names of files, whose contents are asked for. Nobody here, and not the
     * monitor either, opens a file that is named in a table. */
    if ((table->answered_by == KIND_IMAGE && !table->has_image) ||
        ((table->features & FEATURE_TEXT) && (l->flags & PM_FLAG_RHS_IS_FILE)))
        return;
    if (table->answered_by == KIND_WORKER) {
        from_name(table, out);
        return;
    }
    if (key.len > 0 && is_folded(table, l->flags)) {
        key = folded(key);
        if (key.ptr == NULL) {
            out->is = LOOKUP_ENDS;
            return;
        }
    }
    if (!table->has_image || !in_image(l, table, key, out))
        from_agent(l, table, key, beyond, out);
}

/* ---- composites ---- */

/* A composite, as far as it has been worked out. */
struct evaluation {
    const struct lookup *lookup;
    unsigned known; /* answers that there were in the memo when it began */
    unsigned at;    /* the next answer's place there */
};

static void in_composite(struct evaluation *e, struct table *table, struct slice key,
                         unsigned depth, struct outcome *out);

static bool is_composite(const struct table *table)
{
    return table->type != NULL && table->type->members;
}

/* The answer that stands in the memo at this place. */
static bool remembered(struct evaluation *e, struct outcome *out)
{
    const struct memo *memo = e->lookup->memo;

    if (e->at == memo->count)
        return false;
    done(out, memo->answers[e->at].status,
         (struct slice){memo->answers[e->at].value, memo->answers[e->at].len});
    e->at++;
    return true;
}

/* Puts the answer there. What is found is copied, since it may be an image's, which may go. */
static void remember(struct evaluation *e, const struct table *table, struct outcome *out)
{
    if (out->is != LOOKUP_DONE)
        return;
    if (!memo_add(e->lookup->memo, e->lookup->session, table, out->status, out->value))
        out->is = LOOKUP_ENDS;
    else
        remembered(e, out);
}

static void in_member(struct evaluation *e, struct slice name, struct slice key, unsigned depth,
                      struct outcome *out)
{
    const struct lookup *l = e->lookup;
    struct table *table = table_get(name);
    bool is_next = e->at == e->known;

    out->is = LOOKUP_ENDS;
    if (table == NULL || (!is_composite(table) && remembered(e, out)))
        return;
    if (table->state == TABLE_UNSENT || table->state == TABLE_ASKED) {
        out->is = LOOKUP_TABLE;
        out->table = table;
    } else if (is_composite(table)) {
        in_composite(e, table, key, depth, out);
    } else if (e->at == MEMO_MOST) {
        done(out, PM_RETRY, nothing);
    } else {
        in_table(l, table, key, is_next && table == l->beyond_of ? l->beyond : ASK_AGENT, out);
        remember(e, table, out);
    }
}

/* Every member's value, with commas between them. */
static void join(struct evaluation *e, const struct table *table, const struct slice *values,
                 unsigned count, struct outcome *out)
{
    size_t len = 0;
    char *joined;

    if (count == 0) {
        done(out, PM_NOKEY, nothing);
        return;
    }
    if (remembered(e, out))
        return;
    for (unsigned i = 0; i < count; i++)
        len += values[i].len + (i > 0);
    if (len > BRIDGE_DATA_MAX || e->at == MEMO_MOST) {
        done(out, PM_RETRY, nothing);
        return;
    }
    out->is = LOOKUP_ENDS;
    if ((joined = malloc(len + 1)) == NULL)
        return;
    len = 0;
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            joined[len++] = ',';
        memcpy(joined + len, values[i].ptr, values[i].len);
        len += values[i].len;
    }
    done(out, PM_OK, (struct slice){joined, len});
    remember(e, table, out);
    free(joined);
}

static void in_union(struct evaluation *e, const struct table *table, struct members *members,
                     struct slice key, unsigned depth, struct outcome *out)
{
    struct slice values[MEMBERS_MOST], name;
    unsigned count = 0;

    while (members_next(members, &name)) {
        in_member(e, name, key, depth, out);
        if (out->is != LOOKUP_DONE || (out->status != PM_OK && out->status != PM_NOKEY))
            return;
        /* An empty value adds nothing, as with Postfix 3.7. */
        if (out->status == PM_OK && out->value.len > 0 && count < MEMBERS_MOST)
            values[count++] = out->value;
    }
    join(e, table, values, count, out);
}

static void in_pipe(struct evaluation *e, struct members *members, struct slice key, unsigned depth,
                    struct outcome *out)
{
    struct slice name;

    while (members_next(members, &name)) {
        in_member(e, name, key, depth, out);
        if (out->is != LOOKUP_DONE || out->status != PM_OK)
            return;
        key = out->value;
    }
}

/* No name that a configuration has let pass goes deeper, or has more members, than is allowed. */
static bool is_sound(const struct table *table, unsigned depth, struct members *members)
{
    struct members look;
    struct slice name;
    unsigned count = 0;

    if (table->state != TABLE_READY || depth > MEMBERS_DEPTH ||
        members_begin(&look, MEMBERS_TABLES, argument_of(table)) != NULL)
        return false;
    *members = look;
    while (members_next(&look, &name) && count <= MEMBERS_MOST)
        count++;
    return count <= MEMBERS_MOST;
}

static void in_composite(struct evaluation *e, struct table *table, struct slice key,
                         unsigned depth, struct outcome *out)
{
    struct members members;

    done(out, PM_RETRY, nothing);
    if (!is_sound(table, depth, &members))
        return;
    if (is_beyond(table, key))
        done(out, PM_NOKEY, nothing);
    else if (table->type->type == TYPE_UNIONMAP)
        in_union(e, table, &members, key, depth + 1, out);
    else
        in_pipe(e, &members, key, depth + 1, out);
}

void lookup(const struct lookup *l, struct table *table, struct outcome *out)
{
    struct evaluation e = {l, l->memo->count, 0};

    out->flags = l->flags;
    out->cached = false;
    if (table->answered_by != KIND_WORKER || !is_composite(table)) {
        in_table(l, table, l->key, l->beyond, out);
        return;
    }
    in_composite(&e, table, l->key, 1, out);
    out->flags = l->flags; /* what a member's image has made of them is no business of the client */
    out->cached = false;
}
