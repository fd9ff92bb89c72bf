/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holm-oci: what its commands share. Each command is a function in one of the files
 * oci-*.c beside this one; its options are a table there.
 */
#ifndef MAIN_OCI_H
#define MAIN_OCI_H

#include "base/cmd.h"
#include "container/container.h"

/* The options before the command. */
struct oci_opts {
	bool        debug;
	bool        systemd_cgroup;
	const char *log;
	int         log_format;   /* enum log_format */
	const char *root;
	int         rootless;     /* index into "auto", "true", "false" */
	const char *criu;         /* taken and not used, as callers of runc give it */
	/* Filled by main(). */
	char       *root_dir;     /* root, or its default */
};

/* In holm-oci.c: the folder of records, and whether the caller is without privileges. */
const char *oci_root(const struct cmd_call *call, struct err *e);
bool        oci_rootless(const struct cmd_call *call);

/* Open the container that the first argument names. */
int oci_open(const struct cmd_call *call, unsigned flags, struct record **ret,
	     struct err *e) must_check;

/* Print a document, indented, to standard output; `own` is released. NULL is no memory. */
int oci_print(json_t *own, struct err *e) must_check;

extern const struct cmd oci_cmd_create, oci_cmd_run, oci_cmd_start, oci_cmd_exec, oci_cmd_state,
	oci_cmd_list, oci_cmd_kill, oci_cmd_delete, oci_cmd_pause, oci_cmd_resume, oci_cmd_ps,
	oci_cmd_update, oci_cmd_events, oci_cmd_spec, oci_cmd_features;

#endif
