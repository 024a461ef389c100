/*
 * What the fuzz targets share. Each target is a program of its own, run by tests/fuzz/run:
 * libFuzzer hands it bytes, it hands them to one function that the daemon's programs hand foreign
 * bytes to, and it checks what must hold whatever the bytes are, with the unit tests' CHECK and
 * REQUIRE, which end the program here. A target may make anonymous files, memory and socketpairs;
 * it must touch nothing else, keep nothing between two inputs, and do the same for the same input
 * every time.
 */
#ifndef JAILMAP_TESTS_FUZZ_COMMON_H
#define JAILMAP_TESTS_FUZZ_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/unit/recorder.h"
#include "tests/unit/unit.h"

/* The target: defined once in each program, called by libFuzzer or by replay.c. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Bytes of an input that are yet to be used. */
struct input {
    const uint8_t *at;
    size_t left;
};

/* The next byte or number, little-endian; zeros when the input is at its end. */
uint8_t take_byte(struct input *input);
uint16_t take_16(struct input *input);
/* A byte that tells a length, of at most `most`, and as many bytes as there are of it. Borrowed. */
struct slice take_slice(struct input *input, size_t most);

/* An anonymous file of these bytes, at its start. The caller closes it. */
int file_of_bytes(const void *bytes, size_t len);
/* All bytes of a file, in memory of that exact length, which the caller frees. */
char *bytes_of_file(int fd, size_t *len);

/* Changes bytes of a file, and cuts it, as the rest of the input says: at most `most` changes. */
void damage(int fd, struct input *input, unsigned most);

/* Are the bytes of part in whole, in their order, with others between them? */
bool is_part_of(struct slice part, struct slice whole);

/*
 * Loads again into a sink that refuses an entry in the middle of the count there were: the source
 * must fail and hand over no more. The recorder checks the latter.
 */
void expect_refusal(const struct source_ops *ops, struct slice file, struct slice name,
                    size_t count);

/* Which of the first 64 descriptors are open, as bits. */
uint64_t descriptors(void);

#endif
