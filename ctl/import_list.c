/*
 * Names of tables, each once, in the order in which they appeared, and who names them. Runs in
 * jailmap-import as whoever calls it. It may touch only its arguments; it must never drop a name
 * without setting `failed`.
 */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/import.h"

static int compare(const void *a, const void *b)
{
    const struct import_name *left = a, *right = b;

    return strcmp(left->name, right->name);
}

static bool make_room(void *array, size_t n, size_t size)
{
    void **at = array, *grown;

    if (n != 0 && (n & (n - 1)) != 0) /* full only when n is a power of two */
        return true;
    grown = reallocarray(*at, n == 0 ? 1 : 2 * n, size);
    if (grown == NULL)
        return false;
    *at = grown;
    return true;
}

static void add_from(struct import_list *list, struct import_name *name, const char *from)
{
    for (size_t i = 0; i < name->nfrom; i++)
        if (strcmp(name->from[i], from) == 0)
            return;
    if (make_room(&name->from, name->nfrom, sizeof *name->from))
        name->from[name->nfrom++] = from;
    else
        list->failed = true;
}

static void free_name(struct import_name *name)
{
    free(name->name);
    free(name->from);
    free(name->database);
    free(name);
}

/* A new name, or NULL. */
static struct import_name *add_name(struct import_list *list, char *text)
{
    struct import_name *name = calloc(1, sizeof *name);

    if (name == NULL || !make_room(&list->names, list->n, sizeof(struct import_name *))) {
        free(name);
        return NULL;
    }
    name->name = text;
    if (tsearch(name, &list->tree, compare) == NULL) {
        free(name);
        return NULL;
    }
    list->names[list->n++] = name;
    return name;
}

void import_list_add(struct import_list *list, struct slice name, const char *from)
{
    char *text = strndup(name.ptr, name.len);
    struct import_name *found = NULL;

    if (text != NULL) {
        found = (struct import_name *)import_list_find(list, text);
        if (found != NULL) {
            free(text);
        } else {
            found = add_name(list, text);
            if (found == NULL)
                free(text);
        }
    }
    if (found == NULL)
        list->failed = true;
    else if (from != NULL)
        add_from(list, found, from);
}

const struct import_name *import_list_find(const struct import_list *list, const char *name)
{
    const struct import_name key = {.name = (char *)name};
    struct import_name *const *found = tfind(&key, &list->tree, compare);

    return found != NULL ? *found : NULL;
}

static void keep(void *name)
{
    (void)name; /* it is in the array too */
}

void import_list_free(struct import_list *list)
{
    tdestroy(list->tree, keep);
    for (size_t i = 0; i < list->n; i++)
        free_name(list->names[i]);
    free(list->names);
    memset(list, 0, sizeof *list);
}
