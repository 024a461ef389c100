/*
 * Fuzz target bridge_worker: what a worker makes of the messages of the monitor and, over links, of
 * agents. Run by tests/fuzz/run. For the form of inputs see bridge_side.c.
 */
#include "tests/fuzz/bridge_side.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bridge_side(ROLE_WORKER, BRIDGE_LARGE, data, size);
    return 0;
}
