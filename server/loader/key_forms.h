/*
 * The forms in which a text's key is found: as written, with A-Z folded, and folded as Unicode
 * says. Runs in the loader, on bytes that nobody vouches for. Touches memory only.
 */
#ifndef JAILMAP_SERVER_LOADER_KEY_FORMS_H
#define JAILMAP_SERVER_LOADER_KEY_FORMS_H

#include <stdbool.h>

#include "proto/slice.h"
#include "server/text.h"

/* Where the folded keys are made; zeroed at first. */
struct key_forms {
    struct text ascii, unicode;
};

struct key_form {
    struct slice key; /* of the caller, or of struct key_forms until the next call */
    unsigned forms;   /* IMAGE_FORM_* */
    bool own;         /* it is the caller's key, as written */
};

#define KEY_FORMS_MAX 3

/*
 * Lists the different keys that stand for one key, at most KEY_FORMS_MAX, the one as written
 * first. utf8: it is also found by requests with UTF-8, and must be that. Returns how many, or -1
 * with errno.
 */
int key_forms_list(struct key_forms *folder, struct slice key, bool utf8, struct key_form *list);
void key_forms_free(struct key_forms *folder);

#endif
