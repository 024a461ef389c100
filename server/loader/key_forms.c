/*
 * The forms in which a text's key is found: see key_forms.h. Runs in the loader. It may touch
 * memory only.
 */
#include "server/loader/key_forms.h"

#include <stdlib.h>

#include "proto/proxymap.h"
#include "server/fold.h"
#include "server/image.h"

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
