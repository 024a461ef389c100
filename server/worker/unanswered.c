/*
 * The count of queries without an answer: see unanswered.h. Runs in the worker. It may touch its
 * arguments only; it must never count below zero, whatever an agent answers.
 */
#include "server/worker/unanswered.h"

#include <string.h>

static void catch_up(struct unanswered *u, uint64_t now, uint32_t timeout)
{
    uint64_t span = timeout > 1 ? timeout / 2 : 1, passed;

    if (now < u->since + span)
        return;
    passed = (now - u->since) / span;
    u->since += passed * span;
    if (passed > UNANSWERED_SPANS)
        passed = UNANSWERED_SPANS;
    memmove(u->count + passed, u->count, (UNANSWERED_SPANS - passed) * sizeof u->count[0]);
    memmove(u->first + passed, u->first, (UNANSWERED_SPANS - passed) * sizeof u->first[0]);
    memset(u->count, 0, passed * sizeof u->count[0]);
}

void unanswered_ask(struct unanswered *u, uint32_t serial, uint64_t now, uint32_t timeout)
{
    catch_up(u, now, timeout);
    if (u->count[0] == 0)
        u->first[0] = serial;
    u->count[0]++;
}

void unanswered_settle(struct unanswered *u, uint32_t serial)
{
    for (unsigned i = 0; i < UNANSWERED_SPANS; i++)
        if (u->count[i] > 0 && (int32_t)(serial - u->first[i]) >= 0) {
            u->count[i]--;
            return;
        }
}

uint32_t unanswered_count(struct unanswered *u, uint64_t now, uint32_t timeout)
{
    uint32_t sum = 0;

    catch_up(u, now, timeout);
    for (unsigned i = 0; i < UNANSWERED_SPANS; i++)
        sum += u->count[i];
    return sum;
}
