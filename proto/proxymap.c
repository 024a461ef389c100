/*
 * The proxymap codec: see proxymap.h. Runs in the worker on bytes from clients, and in the jailmap
 * tool. It may touch only its arguments; it must never do I/O, allocate or hold static state.
 */
#include "proto/proxymap.h"

enum step { STEP_FIRST, STEP_OP, STEP_FIELDS };
enum field { F_END, F_TABLE, F_FLAGS, F_INSTANCE, F_KEY, F_VALUE, F_FUNCTION };

static const struct slice op_names[] = {
    [PM_OPEN] = SLICE("open"),     [PM_LOOKUP] = SLICE("lookup"),     [PM_UPDATE] = SLICE("update"),
    [PM_DELETE] = SLICE("delete"), [PM_SEQUENCE] = SLICE("sequence"),
};

static const struct slice field_names[] = {
    [F_TABLE] = SLICE("table"), [F_FLAGS] = SLICE("flags"), [F_INSTANCE] = SLICE("instance_flags"),
    [F_KEY] = SLICE("key"),     [F_VALUE] = SLICE("value"), [F_FUNCTION] = SLICE("function"),
};

/* The attributes of each request, in their order; F_END stands for the terminator. */
static const uint8_t fields[2][PM_UNKNOWN][6] = {
    [PM_OLD] =
        {
            [PM_OPEN] = {F_TABLE, F_FLAGS},
            [PM_LOOKUP] = {F_TABLE, F_FLAGS, F_KEY},
            [PM_UPDATE] = {F_TABLE, F_FLAGS, F_KEY, F_VALUE},
            [PM_DELETE] = {F_TABLE, F_FLAGS, F_KEY},
            [PM_SEQUENCE] = {F_TABLE, F_FLAGS, F_FUNCTION},
        },
    [PM_NEW] =
        {
            [PM_OPEN] = {F_TABLE, F_INSTANCE},
            [PM_LOOKUP] = {F_TABLE, F_INSTANCE, F_FLAGS, F_KEY},
            [PM_UPDATE] = {F_TABLE, F_INSTANCE, F_FLAGS, F_KEY, F_VALUE},
            [PM_DELETE] = {F_TABLE, F_INSTANCE, F_FLAGS, F_KEY},
            [PM_SEQUENCE] = {F_TABLE, F_INSTANCE, F_FLAGS, F_FUNCTION},
        },
};

static const char first_name[] = "request";

static void start_list(struct pm_decoder *d)
{
    memset(d, 0, sizeof *d);
}

/* Ends the present list at d->scan.pos with a result; the rest of it, if any, is to be skipped. */
static enum pm_result decide(struct pm_decoder *d, enum pm_result result, bool ended, bool in_value,
                             const char *buf, size_t len, struct pm_request *request,
                             size_t *consumed)
{
    bool at_end = d->scan.pos == len; /* what comes later was not read together with this */

    *request = d->request;
    request->table = (struct slice){buf + d->table.offset, d->table.len};
    request->key = (struct slice){buf + d->key.offset, d->key.len};
    request->value = (struct slice){buf + d->value.offset, d->value.len};
    *consumed += d->scan.pos;
    start_list(d);
    d->skipping = !ended;
    d->skip_fresh = !ended && at_end;
    d->in_value = !ended && in_value;
    return result;
}

static bool take_value(struct pm_decoder *d, struct slice value, size_t offset)
{
    struct pm_request *r = &d->request;
    struct pm_span kept = {(uint32_t)offset, (uint32_t)value.len};

    switch ((enum field)d->field) {
    case F_TABLE:
        d->table = kept;
        return true;
    case F_KEY:
        d->key = kept;
        return true;
    case F_VALUE:
        d->value = kept;
        return true;
    case F_FLAGS:
        if (!attr_number(value, &r->flags))
            return false;
        if (r->dialect == PM_OLD)
            r->instance_flags = r->flags;
        return true;
    case F_INSTANCE:
        return attr_number(value, &r->instance_flags);
    case F_FUNCTION:
        return attr_number(value, &r->function) && r->function <= PM_FUNCTION_NEXT;
    case F_END:
        break;
    }
    return false;
}

/* One complete token. Returns PM_MORE to go on; sets *ended and *in_value for decide(). */
static enum pm_result take_token(struct pm_decoder *d, struct slice token, size_t offset,
                                 bool *ended, bool *in_value)
{
    struct pm_request *r = &d->request;

    *ended = *in_value = false;
    if (d->step == STEP_FIRST) {
        *ended = token.len == 0;
        *in_value = true;
        d->step = STEP_OP;
        return slice_is(token, first_name) ? PM_MORE : PM_SILENT;
    }
    if (d->step == STEP_OP) {
        for (r->op = PM_OPEN; r->op < PM_UNKNOWN; r->op++)
            if (slice_same(token, op_names[r->op]))
                break;
        d->step = STEP_FIELDS;
        d->name_taken = 0;
        d->field = F_TABLE;
        return r->op == PM_UNKNOWN ? PM_MALFORMED : PM_MORE;
    }
    if (d->in_value) { /* the value of the attribute named by d->field */
        d->in_value = false;
        if (!take_value(d, token, offset))
            return PM_MALFORMED;
        d->name_taken++;
        return PM_MORE;
    }
    if (d->name_taken == 1 && slice_same(token, field_names[F_INSTANCE]))
        r->dialect = PM_NEW;
    d->field = fields[r->dialect][r->op][d->name_taken];
    if (d->field == F_END) { /* extra attributes are tolerated, as Postfix does */
        *ended = token.len == 0;
        *in_value = true;
        return PM_REQUEST;
    }
    if (!slice_same(token, field_names[d->field])) {
        *ended = token.len == 0;
        *in_value = true;
        return PM_MALFORMED;
    }
    d->in_value = true;
    return PM_MORE;
}

/* Passes over what is left of a decided list. True: a new list begins at *consumed. */
static bool skip_rest(struct pm_decoder *d, const char *buf, size_t len, size_t *consumed)
{
    bool ended;

    if (d->skip_fresh && len > 0) {
        size_t cmp = len < sizeof first_name ? len : sizeof first_name;

        if (memcmp(buf, first_name, cmp) == 0) {
            if (cmp < sizeof first_name)
                return false;
            start_list(d);
            return true;
        }
    }
    *consumed = attr_skip(buf, len, &d->in_value, &d->in_token, &ended);
    d->skip_fresh = true;
    if (ended)
        start_list(d);
    return ended;
}

enum pm_result pm_decode(struct pm_decoder *d, const char *buf, size_t len,
                         struct pm_request *request, size_t *consumed)
{
    struct slice token;

    *consumed = 0;
    if (d->skipping) {
        if (!skip_rest(d, buf, len, consumed))
            return PM_MORE;
        buf += *consumed;
        len -= *consumed;
    }
    for (;;) {
        size_t offset = d->scan.pos;
        bool ended, in_value;
        enum pm_result result;

        if (!attr_next(&d->scan, buf, len, &token))
            return PM_MORE;
        result = take_token(d, token, offset, &ended, &in_value);
        if (result != PM_MORE)
            return decide(d, result, ended, in_value, buf, len, request, consumed);
    }
}

enum pm_result pm_decode_eof(const struct pm_decoder *d, struct pm_request *request)
{
    *request = (struct pm_request){.op = d->request.op, .dialect = d->request.dialect};
    return !d->skipping && d->step == STEP_FIELDS ? PM_MALFORMED : PM_SILENT;
}

bool pm_decode_partial(const struct pm_decoder *d, size_t held)
{
    return !d->skipping && held > 0;
}

bool pm_decode_between(const struct pm_decoder *d, size_t held)
{
    return !d->skipping && held == 0;
}

char *pm_encode(char *end, const struct pm_reply *reply)
{
    const struct slice none = {"", 0};
    bool ok = reply->status == PM_OK;

    end = attr_put_number(end, "status", reply->status);
    if (reply->op != PM_UNKNOWN && (reply->op == PM_OPEN || reply->dialect == PM_NEW))
        end = attr_put_number(end, "flags", reply->flags);
    if (reply->op == PM_SEQUENCE)
        end = attr_put(end, "key", ok ? reply->key : none);
    if (reply->op == PM_LOOKUP || reply->op == PM_SEQUENCE)
        end = attr_put(end, "value", ok ? reply->value : none);
    *end++ = '\0';
    return end;
}

struct slice pm_canonical(struct slice table)
{
    static const char prefix[] = "proxy:";
    const size_t len = sizeof prefix - 1;

    while (table.len >= len && memcmp(table.ptr, prefix, len) == 0) {
        table.ptr += len;
        table.len -= len;
    }
    return table;
}

bool pm_names_table(struct slice canonical)
{
    return canonical.len > 0 && memchr(canonical.ptr, ':', canonical.len) != NULL;
}

struct slice pm_fold(char *dst, struct slice src)
{
    for (size_t i = 0; i < src.len; i++) {
        char c = src.ptr[i];

        dst[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    return (struct slice){dst, src.len};
}
