/*
 * Fuzz target members: the lists in the names of composites, which the monitor and the worker
 * split. Run by tests/fuzz/run; touches memory only. Input: what stands behind the type. Items must
 * lie in it, in order, and be what was promised; written as a list, they must come out again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "policy/members.h"
#include "tests/fuzz/common.h"

#define ITEMS_MOST 512

static size_t split(enum members_kind kind, struct slice argument, struct slice *items)
{
    struct members members;
    struct slice item;
    const char *why = members_begin(&members, kind, argument);
    size_t n = 0;

    while (members_next(&members, &item)) {
        REQUIRE(n < ITEMS_MOST, "too many items");
        CHECK(item.len > 0 && item.ptr > argument.ptr &&
                  item.ptr + item.len < argument.ptr + argument.len,
              "an item that is not between the braces");
        CHECK(n == 0 || item.ptr > items[n - 1].ptr + items[n - 1].len - 1, "out of order");
        CHECK(kind != MEMBERS_TABLES || memchr(item.ptr, ':', item.len) != NULL, "no colon");
        CHECK(kind != MEMBERS_TABLES || item.len < 6 || memcmp(item.ptr, "proxy:", 6) != 0,
              "proxy: is left");
        items[n++] = item;
    }
    CHECK((why == NULL) == (n > 0), "%zu items, and: %s", n, why != NULL ? why : "nothing wrong");
    return n;
}

static void check_again(enum members_kind kind, const struct slice *items, size_t n)
{
    static struct slice again[ITEMS_MOST];
    char *text = NULL;
    size_t len, count;
    FILE *out = open_memstream(&text, &len);

    REQUIRE(out != NULL, "out of memory");
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%s%.*s", i == 0 ? "{" : ", ", (int)items[i].len, items[i].ptr);
    fputc('}', out);
    fclose(out);
    count = split(kind, (struct slice){text, len}, again);
    CHECK(count == n, "%zu items, and then %zu", n, count);
    for (size_t i = 0; i < n && i < count; i++)
        CHECK(slice_same(items[i], again[i]), "item %zu is another", i);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct slice items[ITEMS_MOST];
    char *copy;
    enum members_kind kinds[] = {MEMBERS_TABLES, MEMBERS_VALUES};

    if (size >= ITEMS_MOST || memchr(data, '\0', size) != NULL)
        return 0;
    copy = exact_copy(data, size);
    for (size_t i = 0; i < COUNT(kinds); i++) {
        size_t n = split(kinds[i], (struct slice){copy, size}, items);

        if (n > 0)
            check_again(kinds[i], items, n);
    }
    free(copy);
    return 0;
}
