/*
 * The forms in which a text's key is found: see key_forms.h. Runs in the loader. Postfix folds with
 * ICU's default full case folding and does not normalise; utf8proc is held to the same.
 */
#include "server/loader/key_forms.h"

#include <errno.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "proto/proxymap.h"
#include "server/image.h"

#define FOLDED_MAX 8 /* characters that one folds to; Unicode promises at most 3 */

bool is_ascii(struct slice s)
{
    unsigned char all = 0;

    for (size_t i = 0; i < s.len; i++)
        all |= (unsigned char)s.ptr[i];
    return all < 0x80;
}

/* The character at *at, which moves behind it. -1 if there is none. */
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

static bool has_upper(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z')
            return true;
    return false;
}

static int fold_ascii(struct text *to, struct slice key)
{
    to->len = 0;
    if (text_reserve(to, key.len) != 0)
        return -1;
    to->len = pm_fold(to->ptr, key).len;
    return 0;
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

static int fold_unicode(struct text *to, struct slice key)
{
    to->len = 0;
    for (size_t at = 0; at < key.len;)
        if (fold_char(to, next_char(key, &at)) != 0)
            return -1;
    return 0;
}

/* Adds a form: to an entry of the list that has the same bytes, or as a new one. */
static int put(struct key_form *list, int count, const struct text *folded, unsigned form)
{
    struct slice key = {folded->ptr, folded->len};

    for (int i = 0; i < count; i++)
        if (slice_same(list[i].key, key)) {
            list[i].forms |= form;
            return count;
        }
    list[count] = (struct key_form){key, form, false};
    return count + 1;
}

int key_forms_list(struct key_forms *folder, struct slice key, bool utf8, struct key_form *list)
{
    unsigned as_written = utf8 ? IMAGE_FORM_EXACT | IMAGE_FORM_UTF8 : IMAGE_FORM_EXACT;
    bool upper = has_upper(key), simple = !utf8 || is_ascii(key);
    unsigned by_ascii = utf8 && simple ? IMAGE_FORM_ASCII | IMAGE_FORM_UNICODE : IMAGE_FORM_ASCII;
    int count = 1;

    list[0] = (struct key_form){key, upper ? as_written : as_written | by_ascii, true};
    if (upper) {
        if (fold_ascii(&folder->ascii, key) != 0)
            return -1;
        count = put(list, count, &folder->ascii, by_ascii);
    }
    if (!simple) {
        if (fold_unicode(&folder->unicode, key) != 0)
            return -1;
        count = put(list, count, &folder->unicode, IMAGE_FORM_UNICODE);
    }
    return count;
}

void key_forms_free(struct key_forms *folder)
{
    free(folder->ascii.ptr);
    free(folder->unicode.ptr);
}
