/*
 * The tcp_table(5) protocol of Postfix: a line each way. Runs in jailmap-agent-net, on what a
 * server sends. It may touch only its arguments.
 */
#include "server/agent/net/protocol.h"
#include "server/host_name.h"

#define REPLY_MAX 4096 /* bytes of a line, and its end */

static bool split_name(struct slice name, struct slice *endpoint, struct slice *map,
                       const char **why)
{
    struct host_name host;

    *endpoint = name;
    *map = (struct slice)SLICE("");
    return host_name_parse_inet(name, &host, why);
}

/* "get " KEY "\n", with every byte of KEY that is %, blank or not visible ASCII as %XX. */
static size_t put_request(char *out, struct slice map, struct slice key)
{
    static const char digits[] = "0123456789ABCDEF";
    char *at = out + 4;

    (void)map;
    memcpy(out, "get ", 4);
    for (size_t i = 0; i < key.len; i++) {
        unsigned char byte = (unsigned char)key.ptr[i];

        if (byte > ' ' && byte <= '~' && byte != '%') {
            *at++ = (char)byte;
            continue;
        }
        *at++ = '%';
        *at++ = digits[byte >> 4];
        *at++ = digits[byte & 15];
    }
    *at++ = '\n';
    return (size_t)(at - out);
}

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* In place; the text can only get shorter. False: a % without two digits. */
static bool unquote(char *text, size_t *len)
{
    char *to = text;

    for (size_t i = 0; i < *len; i++) {
        if (text[i] != '%') {
            *to++ = text[i];
            continue;
        }
        if (*len - i < 3 || digit(text[i + 1]) < 0 || digit(text[i + 2]) < 0)
            return false;
        *to++ = (char)(digit(text[i + 1]) << 4 | digit(text[i + 2]));
        i += 2;
    }
    *len = (size_t)(to - text);
    return true;
}

/* Three digits, and behind them any white space, which Postfix takes for the separator: so "500"
 * and a carriage return is a reply, and "500" alone is none. */
static bool has_status(const char *line, size_t len)
{
    return len >= 4 && line[0] >= '0' && line[0] <= '9' && line[1] >= '0' && line[1] <= '9' &&
           line[2] >= '0' && line[2] <= '9' && strchr(" \t\r\v\f", line[3]) != NULL;
}

/* The text, too, ends at a NUL, written as it is or as %00: that is where Postfix's strings end. */
static bool understand(char *line, size_t len, struct net_reply *reply)
{
    size_t rest;

    len = strnlen(line, len);
    rest = len > 4 ? len - 4 : 0;
    if (!has_status(line, len) || (line[0] != '2' && line[0] != '4' && line[0] != '5')) {
        reply->why = "a reply that begins with no status of 2xx, 4xx or 5xx and a blank";
        return false;
    }
    if (!unquote(line + 4, &rest)) {
        reply->why = "a reply with a % that two digits do not follow";
        return false;
    }
    rest = strnlen(line + 4, rest);
    reply->status = line[0] == '2'   ? ANSWER_FOUND
                    : line[0] == '5' ? ANSWER_NOT_FOUND
                                     : ANSWER_RETRY;
    reply->value = (struct slice){line + 4, reply->status == ANSWER_FOUND ? rest : 0};
    reply->said = (struct slice){line, rest + 4};
    reply->last = reply->status == ANSWER_RETRY;
    return true;
}

static enum net_result take_reply(char *bytes, size_t len, struct net_reply *reply)
{
    const char *end = memchr(bytes, '\n', len < REPLY_MAX ? len : REPLY_MAX);

    *reply = (struct net_reply){.status = ANSWER_RETRY, .why = "a line of more than 4096 bytes"};
    if (end == NULL)
        return len < REPLY_MAX ? NET_MORE : NET_BAD;
    reply->used = (size_t)(end - bytes) + 1;
    return understand(bytes, reply->used - 1, reply) ? NET_WHOLE : NET_BAD;
}

const struct net_protocol net_tcp = {.type = "tcp",
                                     .expected = "HOST:PORT",
                                     .scheme = "inet:",
                                     .name = split_name,
                                     .request = put_request,
                                     .reply = take_reply};
