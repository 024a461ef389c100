/*
 * Upper and lower case as Unicode has it: see fold.h. Runs in the loader and in the SQL agents.
 * Postfix folds with ICU's default full case folding and does not normalise; utf8proc is held to
 * the same. It may touch nothing but its arguments.
 */
#include "server/fold.h"

#include <errno.h>
#include <utf8proc.h>

#define FOLDED_MAX 8 /* characters that one folds to; Unicode promises at most 3 */

bool is_ascii(struct slice s)
{
    unsigned char all = 0;

    for (size_t i = 0; i < s.len; i++)
        all |= (unsigned char)s.ptr[i];
    return all < 0x80;
}

/* The character at *at, which moves behind it. -1 if there is none: *at stays. */
static utf8proc_int32_t next_char(struct slice s, size_t *at)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.ptr + *at,
                                          (utf8proc_ssize_t)(s.len - *at), &c);

    if (n <= 0)
        return -1;
    *at += (size_t)n;
    return c;
}

bool is_utf8(struct slice s)
{
    for (size_t at = 0; at < s.len;)
        if (next_char(s, &at) < 0)
            return false;
    return true;
}

static int fold_char(struct text *to, utf8proc_int32_t c)
{
    utf8proc_int32_t folded[FOLDED_MAX];
    utf8proc_ssize_t n = utf8proc_decompose_char(c, folded, FOLDED_MAX, UTF8PROC_CASEFOLD, NULL);

    if (n < 0 || n > FOLDED_MAX) {
        errno = EILSEQ; /* no character is like that */
        return -1;
    }
    if (text_reserve(to, 4 * (size_t)n) != 0)
        return -1;
    for (utf8proc_ssize_t i = 0; i < n; i++)
        to->len += (size_t)utf8proc_encode_char(folded[i], (utf8proc_uint8_t *)to->ptr + to->len);
    return 0;
}

int fold_unicode(struct text *to, struct slice s)
{
    to->len = 0;
    for (size_t at = 0; at < s.len;) {
        utf8proc_int32_t c = next_char(s, &at);

        if (c >= 0 ? fold_char(to, c) != 0 : text_append(to, (struct slice){s.ptr + at++, 1}) != 0)
            return -1;
    }
    return 0;
}
