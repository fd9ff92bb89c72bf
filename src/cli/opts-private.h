/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of opts.h share. */
#ifndef CLI_OPTS_PRIVATE_H
#define CLI_OPTS_PRIVATE_H

#include "cli/opts.h"

/* ERR_INVALID: the value of an option is not what is wanted. */
int opts__bad(struct err *e, const char *option, const char *value, const char *want) must_check;

/* json_put() with an error. */
int opts__put(json_t *obj, const char *key, json_t *own_value, struct err *e) must_check;

/* The value of "name=value", or "" of "name", in a text of len bytes; NULL for other names. */
const char *opts__value(const char *s, size_t len, const char *name, size_t *ret_len) must_check;

/* --volume, --mount and --tmpfs as "mounts". */
int opts__put_mounts(const struct spec_opts *o, json_t *spec, struct err *e) must_check;

#endif
