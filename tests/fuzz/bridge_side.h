/*
 * One side of a bridge under test, for the fuzz targets bridge_monitor and bridge_worker.
 */
#ifndef JAILMAP_TESTS_FUZZ_BRIDGE_SIDE_H
#define JAILMAP_TESTS_FUZZ_BRIDGE_SIDE_H

#include "privsep/bridge.h"
#include "tests/fuzz/common.h"

/*
 * Hands the input, as a message from one of the roles that there are, to bridge_decode() and, over
 * a socketpair, to bridge_receive() of that side. cap: of its receive buffer.
 */
void bridge_side(enum bridge_role to, size_t cap, const uint8_t *data, size_t size);

#endif
