/*
 * Fuzz target plan: what becomes of a key and of a result by the parameters of a table. Run by
 * tests/fuzz/run; makes an anonymous file. Input: a byte that picks the type; a length and the key;
 * how many values there are, and a length and bytes of each; the rest is the configuration file.
 * Whatever the key is, it must get into a query through the quoting only.
 */
#include "server/agent/query/plan.h"

#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/common.h"

/* Quoting that shows what it was given: nothing else in a query can have these bytes, since they
 * are taken out of the file. */
static bool mark(void *arg, struct slice in, struct text *out)
{
    const struct slice *key = arg;

    CHECK(in.len > 0 && in.ptr != NULL, "an empty part of a key");
    CHECK(memmem(key->ptr, key->len, in.ptr, in.len) != NULL, "what is no part of the key");
    for (size_t i = 0; i < in.len; i++)
        if (text_append(out, (struct slice){"\x01", 1}) != 0)
            return false;
    return true;
}

static void check_query(struct slice sql, const struct slice *file)
{
    CHECK(strlen(sql.ptr) == sql.len, "a query with a NUL");
    for (size_t i = 0; i < sql.len; i++)
        CHECK(sql.ptr[i] == '\x01' || memchr(file->ptr, sql.ptr[i], file->len) != NULL ||
                  strchr("SELECTFROMWH ='()", sql.ptr[i]) != NULL,
              "a byte of a query that is not of the file");
}

static void check_values(struct plan *plan, struct input *input)
{
    unsigned count = take_byte(input) % 8;
    struct slice answer = {NULL, 0};
    enum plan_verdict verdict;
    bool good = true;

    for (; good && count > 0; count--)
        good = plan_value(plan,
                          take_byte(input) == 0 ? (struct slice){NULL, 0} : take_slice(input, 32));
    verdict = plan_finish(plan, &answer);
    CHECK(good ? verdict == PLAN_FOUND || verdict == PLAN_NOT_FOUND : verdict == PLAN_CANNOT,
          "verdict %d", verdict);
    if (verdict == PLAN_CANNOT)
        CHECK(strlen(plan_why(plan)) > 0, "no reason");
    if (verdict == PLAN_FOUND)
        CHECK(answer.len > 0 && answer.len <= BRIDGE_DATA_MAX &&
                  memchr(answer.ptr, '\0', answer.len) == NULL,
              "an answer of %zu bytes", answer.len);
    else
        CHECK(!plan_value(plan, text_slice("x@y.z")) || verdict == PLAN_NOT_FOUND, "it goes on");
}

/* The file, without the bytes that mark() writes. */
static char *clean(struct slice *file)
{
    char *bytes = need_memory(file->len + 1);

    for (size_t i = 0; i < file->len; i++)
        bytes[i] = file->ptr[i] == '\x01' ? ' ' : file->ptr[i];
    file->ptr = bytes;
    return bytes;
}

static struct plan *read_plan(struct slice file, enum table_type type, struct agent_report *report)
{
    int fd = file_of_bytes(file.ptr, file.len);
    struct params *params = params_read("/f", fd, report);
    struct plan *plan = NULL;

    close(fd);
    if (params != NULL)
        plan = plan_read(params, type);
    CHECK(plan != NULL || strncmp(report->text, "/f:", 3) == 0, "\"%s\"", report->text);
    params_free(params);
    return plan;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum table_type types[] = {TYPE_MYSQL, TYPE_PGSQL, TYPE_SQLITE};
    struct input input = {data, size}, values;
    struct agent_report report = {0};
    enum table_type type = types[take_byte(&input) % 3];
    struct slice key = take_slice(&input, 64), sql, file;
    struct plan *plan;
    char *bytes;

    values = input;
    values.left = values.left < 100 ? values.left : 100;
    input.at += values.left;
    input.left -= values.left;
    file = (struct slice){(const char *)input.at, input.left};
    bytes = clean(&file);
    plan = read_plan(file, type, &report);
    if (plan != NULL && plan_query(plan, key, mark, &key, &sql) == PLAN_ASK) {
        CHECK(key.len > 0 && memchr(key.ptr, '\0', key.len) == NULL, "asked for no key");
        check_query(sql, &file);
        check_values(plan, &values);
    }
    if (plan != NULL)
        CHECK(plan_probe(plan, &sql) == PLAN_ASK && strlen(sql.ptr) == sql.len, "no probe");
    plan_free(plan);
    free(bytes);
    return 0;
}
