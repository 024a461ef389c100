/*
 * Tests of proto/attr: tokens, numbers and lists exactly as the wire has them, however it cuts
 * them. Every buffer is allocated at its exact length. Part of the unit test program; touches
 * nothing else.
 */
#include "proto/attr.h"

#include <stdlib.h>

#include "tests/unit/unit.h"

/* Takes all tokens of list as it grows by the given steps, each time in other memory. */
static void take_tokens(const struct wire *list, size_t first, size_t step, char *seen)
{
    struct attr_scan scan = {0};
    size_t used = 0;

    for (size_t len = first < list->len ? first : list->len;; len += step) {
        char *buf;
        struct slice token;

        if (len > list->len)
            len = list->len;
        buf = exact_copy(list->bytes, len);
        while (attr_next(&scan, buf, len, &token)) {
            CHECK(token.ptr >= buf && token.ptr + token.len < buf + len, "token outside buffer");
            memcpy(seen + used, token.ptr, token.len);
            used += token.len;
            seen[used++] = ',';
            CHECK(scan.pos == (size_t)(token.ptr - buf) + token.len + 1,
                  "the scan stands at %u, not behind the token", scan.pos);
        }
        free(buf);
        if (len == list->len)
            break;
    }
    seen[used] = '\0';
}

static void tokens_at_every_cut(void)
{
    const struct wire list = wire("request|lookup|table|hash:/maps/v||x|\xff\n|||tail");
    const char want[] = "request,lookup,table,hash:/maps/v,,x,\xff\n,,,";
    char seen[256];

    for (size_t cut = 0; cut <= list.len; cut++) {
        take_tokens(&list, cut, list.len, seen);
        CHECK_TEXT(seen, want, "two pieces");
    }
    for (size_t step = 1; step <= list.len; step++) {
        take_tokens(&list, 0, step, seen);
        CHECK_TEXT(seen, want, "equal pieces");
    }
}

static void incomplete_token_is_left_alone(void)
{
    struct attr_scan scan = {0};
    struct slice token = {NULL, 77};
    char *buf = exact_copy("abc", 3);

    for (size_t len = 0; len <= 3; len++) {
        CHECK(!attr_next(&scan, buf, len, &token), "a token without its NUL at length %zu", len);
        CHECK(scan.pos == 0, "the scan moved to %u", scan.pos);
    }
    CHECK(token.ptr == NULL && token.len == 77, "the token was touched");
    free(buf);
}

static void nothing_is_searched_twice(void)
{
    struct attr_scan scan = {0};
    struct slice token;
    char buf[] = "abcdef";

    CHECK(!attr_next(&scan, buf, 4, &token), "no NUL yet");
    CHECK(scan.seen == 4, "the search has come to %u of 4", scan.seen);
    buf[1] = '\0'; /* a search from the front again would stop here */
    REQUIRE(attr_next(&scan, buf, 7, &token), "the NUL at 6");
    CHECK(token.len == 6, "the token has %zu bytes: the front was searched again", token.len);
}

static void tokens_of_an_empty_buffer(void)
{
    struct attr_scan scan = {0};
    struct slice token;

    CHECK(!attr_next(&scan, NULL, 0, &token), "a token out of nothing");
    CHECK(scan.pos == 0 && scan.seen == 0, "the scan moved");
}

static void long_token_is_whole(void)
{
    const size_t len = 1 << 20;
    char *buf = need_memory(len);
    struct attr_scan scan = {0};
    struct slice token;

    memset(buf, 'k', len - 1);
    buf[len - 1] = '\0';
    for (size_t at = 0; at < len; at += 4096)
        CHECK(!attr_next(&scan, buf, at, &token), "complete at %zu", at);
    REQUIRE(attr_next(&scan, buf, len, &token), "incomplete with its NUL");
    CHECK(token.len == len - 1, "%zu bytes", token.len);
    free(buf);
}

/* What proxymap(8) was seen to take and to refuse, and what the strict reading makes of it. */
static const struct {
    const char *text;
    bool good;
    uint32_t number;
} numbers[] = {
    {"0", true, 0},
    {"1", true, 1},
    {"010", true, 10},
    {"00000000000000000000000000000000000000000000000", true, 0},
    {"000000000000000000000000000000000000000000000001", true, 1},
    {"00000000000000000000000000000000000000004294967295", true, 4294967295},
    {"524352", true, 524352},
    {"2147483647", true, 2147483647},
    {"2147483648", true, 2147483648},
    {"4294967294", true, 4294967294},
    {"4294967295", true, 4294967295},
    /* The reference server takes these; no client sends them. */
    {"+1", false, 0},
    {" 1", false, 0},
    {"\t1", false, 0},
    {"\n1", false, 0},
    {"-0", false, 0},
    {"-1", false, 0},
    {"-4294967295", false, 0},
    {"4294967296", false, 0},
    {"4294967297", false, 0},
    {"8589934593", false, 0},
    {"18446744073709551615", false, 0},
    {"18446744073709551616", false, 0},
    {"18446744073709551617", false, 0},
    {"340282366920938463463374607431768211457", false, 0},
    {"99999999999999999999999999999999999999999999999999", false, 0},
    /* And it refuses these, too. */
    {"", false, 0},
    {"x", false, 0},
    {"0x10", false, 0},
    {"1.5", false, 0},
    {"1 ", false, 0},
    {"1\n", false, 0},
    {"1\r", false, 0},
    {"--1", false, 0},
    {"- 1", false, 0},
    {"1,000", false, 0},
    {"1e3", false, 0},
    {"\xd9\xa1", false, 0}, /* an Arabic-Indic one in UTF-8 */
};

static void number_rows(void)
{
    for (size_t i = 0; i < COUNT(numbers); i++) {
        size_t len = strlen(numbers[i].text);
        char *text = exact_copy(numbers[i].text, len);
        uint32_t n = 0;

        CHECK(attr_number((struct slice){text, len}, &n) == numbers[i].good, "\"%s\" is %s",
              numbers[i].text, numbers[i].good ? "refused" : "taken");
        if (numbers[i].good)
            CHECK(n == numbers[i].number, "\"%s\" is %u", numbers[i].text, n);
        free(text);
    }
}

static void number_of_every_byte(void)
{
    for (int byte = 0; byte < 256; byte++) {
        bool digit = byte >= '0' && byte <= '9';
        char text[3] = {'4', (char)byte, '2'};
        uint32_t n = 0;

        CHECK(attr_number((struct slice){text + 1, 1}, &n) == digit, "the byte %d alone", byte);
        CHECK(!digit || n == (uint32_t)(byte - '0'), "the byte %d is %u", byte, n);
        CHECK(attr_number((struct slice){text, 3}, &n) == digit, "the byte %d inside", byte);
        CHECK(attr_number((struct slice){text, 2}, &n) == digit, "the byte %d at the end", byte);
    }
}

static void number_ends_with_its_slice(void)
{
    const char digits[] = "123456789012345";
    uint32_t n = 0;

    CHECK(attr_number((struct slice){digits, 3}, &n) && n == 123, "123 is %u", n);
    CHECK(attr_number((struct slice){digits, 10}, &n) && n == 1234567890, "is %u", n);
    CHECK(!attr_number((struct slice){NULL, 0}, &n), "nothing is a number");
}

/* Lists whose rest is passed over: where it begins, how much belongs to it, whether it ends. */
static const struct skip_row {
    const char *bytes;
    bool in_value;
    size_t consumed;
    bool ended;
} skips[] = {
    {"", false, 0, false},
    {"|", false, 1, true},
    {"|", true, 1, false},
    {"||", true, 2, true},
    {"|||", true, 2, true},
    {"|x|", false, 1, true},
    {"name|value||", false, 12, true},
    {"value||next|", true, 7, true},
    {"name|||", false, 7, true}, /* an empty value ends nothing */
    {"name||", false, 6, false},
    {"a||b||c|||d", false, 10, true},
    {"a|b", false, 3, false},
    {"request|open|table|x||request|", false, 22, true},
};

/* In pieces: first bytes, then step at a time. */
static void skip_in_pieces(const struct skip_row *row, size_t first, size_t step)
{
    const struct wire list = wire(row->bytes);
    bool in_value = row->in_value, in_token = false, ended = false;
    size_t consumed = 0, end = first;

    for (size_t at = 0; !ended; at = end, end += step) {
        char *piece;

        if (end > list.len)
            end = list.len;
        piece = exact_copy(list.bytes + at, end - at);
        consumed += attr_skip(piece, end - at, &in_value, &in_token, &ended);
        free(piece);
        if (end == list.len)
            break;
    }
    CHECK(consumed == row->consumed, "\"%s\", pieces of %zu and %zu: %zu consumed, not %zu",
          row->bytes, first, step, consumed, row->consumed);
    CHECK(ended == row->ended, "\"%s\", pieces of %zu and %zu: %s", row->bytes, first, step,
          ended ? "ended" : "not ended");
}

static void skip_at_every_cut(void)
{
    for (size_t i = 0; i < COUNT(skips); i++) {
        size_t len = strlen(skips[i].bytes);

        for (size_t first = 0; first <= len; first++)
            skip_in_pieces(&skips[i], first, len + 1);
        for (size_t step = 1; step <= len; step++)
            skip_in_pieces(&skips[i], 0, step);
    }
}

static void skip_agrees_with_tokens(void)
{
    uint64_t state = 4711;

    for (int round = 0; round < 2000; round++) {
        char list[40];
        bool in_value = false, in_token = false, ended, name = true, token_ended = false;
        struct attr_scan scan = {0};
        struct slice token;
        size_t consumed;

        for (size_t i = 0; i < sizeof list; i++)
            list[i] = random_next(&state) % 3 == 0 ? '\0' : 'a';
        consumed = attr_skip(list, sizeof list, &in_value, &in_token, &ended);
        while (!token_ended && attr_next(&scan, list, sizeof list, &token)) {
            token_ended = name && token.len == 0;
            name = !name;
        }
        CHECK(ended == token_ended, "list %d: one way of reading ends, the other does not", round);
        CHECK(consumed == (ended ? scan.pos : sizeof list), "list %d: %zu bytes", round, consumed);
    }
}

static void put_golden(void)
{
    static const struct {
        const char *name, *value, *bytes;
    } rows[] = {
        {"key", "alice", "key|alice|"},
        {"value", "", "value||"},
        {"", "", "||"},
        {"value", "two\nlines\t\xff", "value|two\nlines\t\xff|"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wire want = wire(rows[i].bytes);
        size_t room = strlen(rows[i].name) + strlen(rows[i].value) + 2;
        char *buf = need_memory(room),
             *end = attr_put(buf, rows[i].name, text_slice(rows[i].value));

        CHECK((size_t)(end - buf) == room && want.len == room && memcmp(buf, want.bytes, room) == 0,
              "attribute %s = \"%s\"", rows[i].name, rows[i].value);
        free(buf);
    }
}

static void put_takes_a_slice_without_address(void)
{
    char buf[8], *end = attr_put(buf, "value", (struct slice){NULL, 0});

    CHECK(end == buf + 7 && memcmp(buf, "value\0", 7) == 0, "an empty value");
}

static void put_number_golden(void)
{
    static const struct {
        uint32_t number;
        const char *bytes;
    } rows[] = {
        {0, "flags|0|"},
        {9, "flags|9|"},
        {28, "flags|28|"},
        {1589340, "flags|1589340|"},
        {2147483648, "flags|2147483648|"},
        {4294967295, "flags|4294967295|"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct wire want = wire(rows[i].bytes);
        char *buf = need_memory(strlen("flags") + 12); /* the promised room */
        char *end = attr_put_number(buf, "flags", rows[i].number);

        CHECK((size_t)(end - buf) == want.len && memcmp(buf, want.bytes, want.len) == 0,
              "the number %u", rows[i].number);
        free(buf);
    }
}

static void numbers_come_back(void)
{
    uint64_t state = 42;

    for (int round = 0; round < 5000; round++) {
        uint32_t number = (uint32_t)(random_next(&state) >> (round % 33)), back = 1;
        char buf[16], *end = attr_put_number(buf, "n", number);

        CHECK(attr_number((struct slice){buf + 2, (size_t)(end - buf) - 3}, &back) &&
                  back == number,
              "%u comes back as %u", number, back);
    }
}

static const struct unit_test tests[] = {
    {"tokens are the same at every cut and in any memory", tokens_at_every_cut},
    {"an incomplete token is left alone", incomplete_token_is_left_alone},
    {"no byte is searched twice", nothing_is_searched_twice},
    {"an empty buffer has no token", tokens_of_an_empty_buffer},
    {"a token of 1 MiB is whole", long_token_is_whole},
    {"numbers are strict plain decimal", number_rows},
    {"a number has digits only, of all 256 bytes", number_of_every_byte},
    {"a number ends with its slice", number_ends_with_its_slice},
    {"skip finds the end of a list at every cut", skip_at_every_cut},
    {"skip and tokens agree on 2,000 random lists", skip_agrees_with_tokens},
    {"an attribute has exactly the golden bytes", put_golden},
    {"an empty value needs no address", put_takes_a_slice_without_address},
    {"a number attribute has exactly the golden bytes", put_number_golden},
    {"numbers that are written are read back", numbers_come_back},
};

const struct unit_suite attr_suite = {.name = "attr", .tests = tests, .ntests = COUNT(tests)};
