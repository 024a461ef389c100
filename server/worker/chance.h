/*
 * Chance, without a system call: drawn from the 16 random bytes that the kernel gives to each
 * program that it starts. The C library takes its stack guard from the same bytes, so nothing that
 * is drawn may tell them: all of it went through SipHash. Runs in the worker.
 */
#ifndef JAILMAP_SERVER_WORKER_CHANCE_H
#define JAILMAP_SERVER_WORKER_CHANCE_H

#include <stdint.h>

#define CHANCE_SEED_LEN 16

/* Bytes that nobody outside this process knows, the same each time. */
void chance_seed(uint8_t seed[CHANCE_SEED_LEN]);

/* A number from 0 to n - 1; n is not 0. Who sees some cannot tell the next. */
uint32_t chance_below(uint32_t n);

#endif
