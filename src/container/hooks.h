/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks: programs that the config names for moments in a container's life.
 *
 * A hook gets the state object on standard input and exactly the environment that the config
 * gives it; of the runtime it inherits nothing else. What it prints becomes part of the error
 * if it fails.
 *
 * Spec: oci-runtime 1.3, config.md, POSIX-platform Hooks
 */
#ifndef CONTAINER_HOOKS_H
#define CONTAINER_HOOKS_H

#include "json/json.h"
#include "oci/spec.h"

/*
 * Run hooks one after the other; the first that fails, or is not through in its time and
 * is then killed, ends it with an error.
 *
 * @name   of the moment, for errors: "createRuntime"
 * @state  the state object
 * @cwd    the hooks' working directory, or NULL for the caller's
 */
int hooks_run(const struct jvec *hooks, const char *name, const json_t *state, const char *cwd,
	      struct err *e) must_check;

/* The same, each of them, whatever the others do; failures are logged (poststart, poststop). */
void hooks_run_all(const struct jvec *hooks, const char *name, const json_t *state,
		   const char *cwd);

#endif
