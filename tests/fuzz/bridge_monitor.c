/*
 * Fuzz target bridge_monitor: what the monitor makes of the messages of its children, each of which
 * may be an attacker's. Run by tests/fuzz/run. For the form of inputs see bridge_side.c.
 */
#include "tests/fuzz/bridge_side.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bridge_side(ROLE_MONITOR, BRIDGE_SMALL, data, size);
    return 0;
}
