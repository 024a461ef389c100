/*
 * The hosts that an agent tells its dialer: see hosts.h. Runs in jailmap-dialer. It may touch only
 * its arguments.
 */
#include "server/dialer/hosts.h"

bool told_hosts_parse(struct told_hosts *hosts, const char *tail, size_t len, uint32_t count)
{
    size_t at = 0;

    hosts->count = 0;
    if (count > HOSTS_MAX)
        return false;
    while (at < len) {
        struct host *host = &hosts->host[hosts->count];
        size_t length = strnlen(tail + at, len - at);
        const char *why;

        if (length == len - at || hosts->count == count)
            return false;
        host->text = tail + at;
        if (!host_name_parse((struct slice){tail + at, length}, &host->name, &why))
            return false;
        hosts->count++;
        at += length + 1;
    }
    return hosts->count == count;
}

bool hosts_need_names(const struct told_hosts *hosts)
{
    for (uint32_t i = 0; i < hosts->count; i++)
        if (!hosts->host[i].name.numeric)
            return true;
    return false;
}
