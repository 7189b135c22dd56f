/*===- compiler.c - Compiling and calling from C
---------------------------===*\
|*                                                                            *|
|* Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.      *|
|* See LICENSE for license information.                                       *|
|* SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception                    *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

/* RUN: %moe_cc %s %capi_flags -lMoeC -lmoe_rt -o %t
 * RUN: moe-opt %S/Inputs/two-entries.mlir --emit-bytecode -o %t.mlirbc
 * RUN: %t %S/Inputs/two-entries.mlir %t.mlirbc
 */

#include "moe-c/Compiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);  \
      ++failures;                                                              \
    }                                                                          \
  } while (0)

/* Compiles what must be refused, with a message that holds `expected`. */
static void check_refused(const char *source, size_t length,
                          const moe_compile_options *options, int status,
                          const char *expected) {
  moe_compiled *compiled = (moe_compiled *)&failures;
  char *message = NULL;
  int got = moe_compiler_compile(source, length, options, &compiled, &message);
  if (got != status || compiled || !message || !strstr(message, expected)) {
    fprintf(stderr, "expected status %d and '%s', got %d and '%s'\n", status,
            expected, got, message ? message : "");
    ++failures;
  }
  moe_message_free(message);
}

static char *read_file(const char *path, size_t *length) {
  FILE *file = fopen(path, "rb");
  static char buffer[1 << 16];
  if (!file)
    return NULL;
  *length = fread(buffer, 1, sizeof buffer, file);
  fclose(file);
  /* No zero at the end: the library must not look for one. */
  char *copy = malloc(*length);
  return copy ? memcpy(copy, buffer, *length) : NULL;
}

static moe_tensor make_tensor(void *data, int ndim, int64_t *shape) {
  moe_tensor tensor = {data, 1, 0, ndim, {2, 32, 1}, shape, NULL, 0};
  return tensor;
}

/* Experts swap the numbers of a row and times 2, or times -1. */
static void check_call(const moe_entry *entry) {
  float x[] = {3, 1, 1, 5, 2, 0.5f}, router[] = {1, 0, 0, 1};
  float up[] = {0, 1, 1, 0, 1, 0, 0, 1}, down[] = {2, 0, 0, 2, -1, 0, 0, -1};
  float expected[] = {2, 6, -1, -5, 1, 4}, y[6];
  int64_t rows[] = {3, 2}, square[] = {2, 2}, cube[] = {2, 2, 2};
  moe_tensor in[] = {make_tensor(x, 2, rows), make_tensor(router, 2, square),
                     make_tensor(up, 3, cube), make_tensor(down, 3, cube)};
  moe_tensor out = make_tensor(y, 2, rows);
  moe_context *context = NULL;
  CHECK(moe_context_create(2, &context) == MOE_OK);
  memset(y, 0xff, sizeof y);
  CHECK(moe_entry_call(context, entry, in, 4, &out, 1) == MOE_OK);
  for (int i = 0; i < 6; ++i)
    CHECK(y[i] == expected[i]);
  in[0].dtype.bits = 64;
  CHECK(moe_entry_call(context, entry, in, 4, &out, 1) == MOE_ERROR_ARGUMENT);
  CHECK(strstr(moe_context_error(context), "expected f32[T, 2]"));
  moe_context_destroy(context);
}

static void check_source(const char *source, size_t length, int32_t target) {
  moe_compile_options options;
  moe_compile_options_init(&options, sizeof options);
  options.target = target;
  moe_compiled *compiled = NULL;
  char *message = NULL;
  int status =
      moe_compiler_compile(source, length, &options, &compiled, &message);
  if (status != MOE_COMPILE_OK) {
    fprintf(stderr, "target %d: %s\n", target, message ? message : "");
    ++failures;
  } else {
    CHECK(moe_compiled_num_entries(compiled) == 2);
    const moe_entry *entry = moe_compiled_get_entry(compiled, 0);
    CHECK(entry && strcmp(entry->info->name, "layer") == 0);
    CHECK(entry == moe_compiled_find_entry(compiled, "layer"));
    CHECK(moe_compiled_get_entry(compiled, 1) ==
          moe_compiled_find_entry(compiled, "router"));
    CHECK(!moe_compiled_get_entry(compiled, 2));
    CHECK(!moe_compiled_find_entry(compiled, "lay"));
    CHECK(!moe_compiled_find_entry(compiled, NULL));
    check_call(entry);
  }
  moe_compiled_destroy(compiled);
  moe_message_free(message);
}

static void check_options(const char *source, size_t length) {
  moe_compile_options options;
  moe_compile_options_init(&options, sizeof options);
  CHECK(options.size == sizeof options && options.opt_level == 3);
  options.target = 9;
  check_refused(source, length, &options, MOE_COMPILE_ERROR_ARGUMENT,
                "there is no target 9");
  moe_compile_options_init(&options, sizeof options);
  options.opt_level = 4;
  check_refused(source, length, &options, MOE_COMPILE_ERROR_ARGUMENT,
                "opt_level is 4, expected 0 to 3");
  options.size = 0;
  check_refused(source, length, &options, MOE_COMPILE_ERROR_ARGUMENT,
                "size is 0");
  moe_compile_options_init(&options, sizeof options);
  options.cpu = "no-such-processor";
  check_refused(source, length, &options, MOE_COMPILE_ERROR_CODE,
                "unknown processor 'no-such-processor'");

  moe_compile_options_init(&options, sizeof options);
  options.chip = "sm_1";
  check_refused(source, length, &options, MOE_COMPILE_ERROR_ARGUMENT,
                "a chip is of target cuda");
  options.target = MOE_COMPILE_TARGET_CUDA;
  check_refused(source, length, &options, MOE_COMPILE_ERROR_LOWERING,
                "no GPU code for chip 'sm_1'; known are sm_80, ");

  moe_compile_options_init(&options, sizeof options);
  options.tf32 = 1;
  check_refused(source, length, &options, MOE_COMPILE_ERROR_ARGUMENT,
                "tf32 and batch_invariant are of target cuda");

  /* A caller of a later version, whose further field is zero or not. */
  struct {
    moe_compile_options known;
    int64_t later;
  } longer;
  moe_compile_options_init(&longer.known, sizeof longer);
  CHECK(longer.known.size == sizeof longer && longer.later == 0);
  longer.later = 1;
  check_refused(source, length, &longer.known, MOE_COMPILE_ERROR_ARGUMENT,
                "a field is set that this library does not know");
  longer.later = 0;
  longer.known.name = "mine";
  check_refused("nonsense", 8, &longer.known, MOE_COMPILE_ERROR_SOURCE,
                "mine:1:1: error");

  /* A caller of an earlier version, which had the target alone. */
  struct {
    size_t size;
    int32_t target;
  } shorter = {offsetof(moe_compile_options, opt_level), 9};
  check_refused(source, length, (const moe_compile_options *)&shorter,
                MOE_COMPILE_ERROR_ARGUMENT, "there is no target 9");
}

static void check_errors(void) {
  const char *empty = "module {}";
  check_refused("foo.bar", 7, NULL, MOE_COMPILE_ERROR_SOURCE,
                "source:1:1: error");
  check_refused(empty, strlen(empty), NULL, MOE_COMPILE_ERROR_SOURCE,
                "no function is marked moe.entry");
  check_refused(NULL, 0, NULL, MOE_COMPILE_ERROR_SOURCE,
                "no function is marked moe.entry");
  check_refused(NULL, 1, NULL, MOE_COMPILE_ERROR_ARGUMENT, "source is NULL");
  /* The first bytes of bytecode, and nothing else. */
  check_refused("ML\xefR\x0d", 5, NULL, MOE_COMPILE_ERROR_SOURCE, "error");
  char *message = NULL;
  CHECK(moe_compiler_compile(empty, strlen(empty), NULL, NULL, &message) ==
        MOE_COMPILE_ERROR_ARGUMENT);
  CHECK(message && strcmp(message, "compiled is NULL") == 0);
  moe_message_free(message);
  moe_compiled *compiled = NULL;
  CHECK(moe_compiler_compile(empty, strlen(empty), NULL, &compiled, NULL) ==
        MOE_COMPILE_ERROR_SOURCE);
  CHECK(!compiled);
  moe_compiled_destroy(NULL);
  moe_message_free(NULL);
  CHECK(moe_compiled_num_entries(NULL) == 0);
}

int main(int argc, char **argv) {
  CHECK(moe_compiler_api_version() == MOE_COMPILER_API_VERSION);
  CHECK(strchr(moe_compiler_version(), '.'));
  CHECK(argc == 3);
  for (int i = 1; i < argc; ++i) {
    size_t length = 0;
    char *source = read_file(argv[i], &length);
    CHECK(source);
    check_source(source, length, MOE_COMPILE_TARGET_CPU);
    check_source(source, length, MOE_COMPILE_TARGET_ORACLE);
    if (i == 1)
      check_options(source, length);
    free(source);
  }
  check_errors();
  if (failures)
    fprintf(stderr, "%d failures\n", failures);
  return failures ? 1 : 0;
}
