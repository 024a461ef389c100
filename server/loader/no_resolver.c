/*
 * libdb carries a replication manager that can look up hosts. The loader never starts it, but would
 * link the whole of libc's resolver for it, and through that NSS. Runs in the loader; these stand
 * in its place. They must never succeed.
 */
#include <netdb.h>
#include <stddef.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    (void)node;
    (void)service;
    (void)hints;
    *result = NULL;
    return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *result)
{
    (void)result;
}
