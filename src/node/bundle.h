/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an instance's container is made of, put together in the child that becomes its shim: the
 * root file system in a mount namespace of its own, the files that we make, config.json.
 */
#ifndef NODE_BUNDLE_H
#define NODE_BUNDLE_H

#include "oci/image.h"
#include "oci/spec.h"
#include "node/instance.h"

struct bundle_job {
	struct instance *instance;
	const char      *dir;      /* of the instance's run time */
};

/* For loop_spawn(): the caller is alone in a new mount namespace. `ud`: struct bundle_job. */
int bundle_prepare(void *ud, struct err *e) must_check;

/*
 * Mount the instance's root file system in the caller's mount namespace, on the folder
 * `target`; made if need be. Returns an O_PATH descriptor of the root. *img (may be NULL) is the
 * image's, in the arena.
 */
int bundle_mount_root(struct instance *i, const char *target, struct arena *a,
		      const struct oci_image_run **ret_run, struct err *e) must_check;

/* Who the process runs as, and its home folder (NULL: unknown). */
struct bundle_user {
	struct oci_user user;
	const char     *home;
};

/* From "user[:group]" and the files in the root. */
int bundle_user(int root_fd, const char *text, const struct jstrv *groups, struct arena *a,
		struct bundle_user *ret, struct err *e) must_check;

/*
 * The runtime config of an instance. Pure: what it needs to know of the image, the user and the
 * host is given.
 */
struct bundle_in {
	const struct instance      *instance;
	const struct oci_image_run *run;       /* NULL: no image */
	const struct bundle_user   *user;
	const char                 *dir;       /* with resolv.conf, hosts, hostname */
	const char                 *init;
	const char                 *cgroup_parent;
	bool                        systemd_cgroup;
	uint64_t                    nofile_max, nproc_max;  /* hard limits of the host */
};
int bundle_spec(const struct bundle_in *in, struct arena *a, struct oci_spec *ret,
		struct err *e) must_check;

/* The limits, for a new config and for update. */
int bundle_resources(const struct instance_resources *r, struct arena *a,
		     struct oci_resources *ret, struct err *e) must_check;

/* KEY=value of `add` into `env`, instead of the same key there. */
int bundle_env_add(struct jstrv *env, struct arena *a, const char *pair) must_check;

#endif
