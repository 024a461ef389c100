/*
 * Attribute lists: see attr.h. Runs in the worker, in front of every byte that a client sends, and
 * in the jailmap tool. It may touch only its arguments; it must never do I/O or allocate.
 */
#include "proto/attr.h"

bool attr_next(struct attr_scan *scan, const char *buf, size_t len, struct slice *token)
{
    const char *nul = NULL;

    if (scan->seen < len)
        nul = memchr(buf + scan->seen, 0, len - scan->seen);
    if (nul == NULL) {
        scan->seen = (uint32_t)len;
        return false;
    }
    token->ptr = buf + scan->pos;
    token->len = (size_t)(nul - token->ptr);
    scan->pos = scan->seen = (uint32_t)(nul - buf) + 1;
    return true;
}

size_t attr_skip(const char *buf, size_t len, bool *in_value, bool *in_token, bool *ended)
{
    size_t pos = 0;

    *ended = false;
    while (pos < len) {
        const char *nul = memchr(buf + pos, 0, len - pos);
        size_t end = nul != NULL ? (size_t)(nul - buf) : len;
        bool empty = end == pos && !*in_token;

        if (nul == NULL) {
            *in_token = true;
            return len;
        }
        pos = end + 1;
        *in_token = false;
        if (empty && !*in_value) {
            *ended = true;
            return pos;
        }
        *in_value = !*in_value;
    }
    return pos;
}

bool attr_number(struct slice text, uint32_t *number)
{
    uint64_t sum = 0;

    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        sum = sum * 10 + (unsigned)(text.ptr[i] - '0');
        if (sum > UINT32_MAX)
            return false;
    }
    *number = (uint32_t)sum;
    return true;
}

char *attr_put(char *end, const char *name, struct slice value)
{
    size_t len = strlen(name) + 1;

    memcpy(end, name, len);
    end += len;
    if (value.len > 0)
        memcpy(end, value.ptr, value.len);
    end += value.len;
    *end++ = '\0';
    return end;
}

char *attr_put_number(char *end, const char *name, uint32_t number)
{
    char digits[10];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return attr_put(end, name, (struct slice){digits + at, sizeof digits - at});
}
