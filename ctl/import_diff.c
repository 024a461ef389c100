/*
 * What Postfix approves, held against what a policy does. Runs in jailmap-import as whoever calls
 * it. It may touch only its arguments.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl/import.h"

size_t import_diff(FILE *out, const struct import *import, const char *const *approved, size_t n)
{
    struct import_list ours = {0};
    size_t differences = 0;

    for (size_t i = 0; i < n; i++)
        import_list_add(&ours, (struct slice){approved[i], strlen(approved[i])}, NULL);
    for (size_t i = 0; i < import->approved.n; i++) {
        const struct import_name *name = import->approved.names[i];
        const char *why = import_unserved(import, name);

        if (import_list_find(&ours, name->name) != NULL)
            continue;
        fputs("+ ", out);
        import_print_name(out, name->name);
        fputs("  (", out);
        import_print_from(out, import, name);
        fprintf(out, why != NULL ? "; it %s)\n" : ")\n", why);
        differences++;
    }
    for (size_t i = 0; i < ours.n; i++)
        if (import_list_find(&import->approved, ours.names[i]->name) == NULL) {
            fputs("- ", out);
            import_print_name(out, ours.names[i]->name);
            fputs("\n", out);
            differences++;
        }
    import_list_free(&ours);
    return differences;
}
