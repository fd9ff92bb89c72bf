/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's runtime gets is the container's config without what belongs to the host:
 * ids are not mapped (the machine is the wall), the network is the machine's, files that the
 * host binds come along as copies.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/fd.h"
#include "json/json.h"
#include "oci/spec.h"
#include "sys/file.h"
#include "vmrun/vmrun.h"

enum { CONFIG_MAX = 1 << 20 };

#define GUEST_ROOT "/run/holm/root"

static void drop(json_t *object, const char *key)
{
	ignore_result(json_object_del(object, key)); /* not there: as wished */
}

static char *absolute(const char *bundle, const char *path)
{
	return path[0] == '/' ? str_dup(path) : str_printf("%s/%s", bundle, path);
}

/* A bind of a small file becomes a file in the guest. */
static int take_file(struct vm_config *c, const char *bundle, json_t *mount, const char *field,
		     struct err *e)
{
	const char *source = json_string_value(json_object_get(mount, "source"));
	auto_free char *path = source ? absolute(bundle, source) : NULL;
	auto_close int fd = path ? sys_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0) : -EINVAL;
	struct stat st;
	int r = fd < 0 ? fd : sys_fstat(fd, &st);

	if (r < 0) {
		return err_set(e, -r, ERR_INVALID, "mount of %s", source ? source : "nothing");
	}
	if (!S_ISREG(st.st_mode)) {
		return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "%s: a virtual machine cannot bind %s "
			       "yet: only files are copied into it", field, path);
	}
	if (c->n_files == VM_FILES_MAX || st.st_size > GUEST_FILE_MAX) {
		return err_set(e, EFBIG, ERR_LIMIT, "%s: %s: at most %d files of %d KiB are copied "
			       "into a virtual machine", field, path, VM_FILES_MAX,
			       GUEST_FILE_MAX / 1024);
	}
	struct vm_file *f = &c->files[c->n_files];

	*f = (struct vm_file){ .source = take_ptr(&path), .mode = st.st_mode & 0777,
			       .data = BUF_INIT };
	r = sys_read_fd(fd, GUEST_FILE_MAX, &f->data);
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "reading %s", f->source);
	}
	auto_free char *inside = str_printf(GUEST_FILE_PATH, (unsigned)c->n_files++);

	return inside && json_put(mount, "source", json_string(inside)) == 0 ? 0 : err_nomem(e);
}

static bool is_bind(const json_t *mount)
{
	const char *type = json_string_value(json_object_get(mount, "type"));
	const json_t *options = json_object_get(mount, "options");

	for (size_t i = 0; i < json_array_size(options); i++) {
		const char *o = json_string_value(json_array_get(options, i));

		if (o && (str_eq(o, "bind") || str_eq(o, "rbind"))) {
			return true;
		}
	}
	return type && str_eq(type, "bind");
}

static int take_mounts(struct vm_config *c, const char *bundle, json_t *doc, struct err *e)
{
	json_t *mounts = json_object_get(doc, "mounts");
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_array_size(mounts); i++) {
		json_t *m = json_array_get(mounts, i);
		char field[32];

		(void)snprintf(field, sizeof(field), "/mounts/%zu", i);
		drop(m, "uidMappings");
		drop(m, "gidMappings");
		r = is_bind(m) ? take_file(c, bundle, m, field, e) : 0;
	}
	return r;
}

static int take_namespaces(json_t *linux, const struct oci_spec *spec, struct err *e)
{
	static const char *const made[] = { "pid", "mount", "ipc", "uts", "cgroup" };
	const struct oci_namespace *v = spec->linux->namespaces.v;
	json_t *list = json_array();

	for (size_t i = 0; i < spec->linux->namespaces.n; i++) {
		if (v[i].path && v[i].type != OCI_NS_NETWORK) {
			json_decref(list);
			return err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED, "/linux/namespaces/%zu/path: a "
				       "virtual machine cannot join a namespace of the host", i);
		}
	}
	for (size_t i = 0; list && i < ARRAY_LEN(made); i++) {
		/* Failures show in the sum below. */
		ignore_result(json_array_append_new(list, json_pack("{s:s}", "type", made[i])));
	}
	if (!list || json_array_size(list) != ARRAY_LEN(made) ||
	    json_put(linux, "namespaces", list) < 0) {
		return err_nomem(e);
	}
	return 0;
}

/* What the limits say about the machine's size. */
static void take_size(struct vm_config *c, const json_t *resources)
{
	json_int_t limit = 0, quota = 0, period = 0;

	c->memory_mib = VM_MEMORY_DEFAULT;
	c->cpus = 1;
	/* What is not there stays 0. */
	ignore_result(json_unpack((json_t *)(uintptr_t)resources, "{s?{s?I},s?{s?I,s?I}}", "memory",
				  "limit", &limit, "cpu", "quota", &quota, "period", &period));
	if (limit > 0) {
		c->memory_mib = MAX((uint64_t)limit >> 20, (uint64_t)VM_MEMORY_MIN);
	}
	if (quota > 0 && period > 0) {
		c->cpus = (unsigned)MIN((quota + period - 1) / period, (json_int_t)64);
	}
}

/* Of the limits only those that count things inside the machine are for the guest. */
static int take_resources(struct vm_config *c, json_t *linux, struct err *e)
{
	json_t *pids = json_object_get(json_object_get(linux, "resources"), "pids");
	json_t *kept = pids ? json_pack("{s:O}", "pids", pids) : json_object();

	take_size(c, json_object_get(linux, "resources"));
	return json_put(linux, "resources", kept) < 0 ? err_nomem(e) : 0;
}

static void take_uid(struct vm_config *c, const struct oci_spec *spec)
{
	const struct oci_id_map *map = spec->linux->uid_mappings.v;

	c->uid = VM_UID_DEFAULT;
	if (spec->linux->uid_mappings.n > 0 && map[0].host_id > 0) {
		c->uid = (uid_t)map[0].host_id;
	}
}

static bool has_hooks(const json_t *doc)
{
	const char *key;
	json_t *list;

	json_object_foreach(json_object_get(doc, "hooks"), key, list) {
		if (json_array_size(list) > 0) {
			return true;
		}
	}
	return false;
}

static int take_linux(struct vm_config *c, json_t *doc, const struct oci_spec *spec, struct err *e)
{
	static const char *const host_only[] = {
		"uidMappings", "gidMappings", "intelRdt", "netDevices", "mountLabel", "timeOffsets",
		"rootfsPropagation",
	};
	json_t *linux = json_object_get(doc, "linux");

	if (!spec->linux || !linux) {
		return err_field(e, "/linux", "missing");
	}
	for (size_t i = 0; i < ARRAY_LEN(host_only); i++) {
		drop(linux, host_only[i]);
	}
	take_uid(c, spec);
	int r = take_namespaces(linux, spec, e);

	r = r < 0 ? r : take_resources(c, linux, e);
	return r < 0 ? r : json_put(linux, "cgroupsPath", json_string("/holm-guest")) < 0 ? err_nomem(e) : 0;
}

static int take_process(struct vm_config *c, json_t *doc, const struct oci_spec *spec, struct err *e)
{
	json_t *process = json_object_get(doc, "process");

	if (!spec->process) {
		return err_field(e, "/process", "missing");
	}
	drop(process, "apparmorProfile");
	drop(process, "selinuxLabel");
	drop(process, "oomScoreAdj");
	c->terminal = spec->process->terminal;
	if (spec->process->console_size) {
		c->rows = (uint32_t)spec->process->console_size->height;
		c->cols = (uint32_t)spec->process->console_size->width;
	}
	return 0;
}

static int take_root(struct vm_config *c, const char *bundle, json_t *doc,
		     const struct oci_spec *spec, struct err *e)
{
	const json_t *notes = json_object_get(doc, "annotations");
	const char *image = json_string_value(json_object_get(notes, VM_ANNOTATION_ROOT));

	if (!spec->root) {
		return err_field(e, "/root", "missing");
	}
	c->rootfs = absolute(bundle, spec->root->path);
	c->root_image = image ? str_dup(image) : NULL;
	c->hostname = spec->hostname ? str_dup(spec->hostname) : NULL;
	if (!c->rootfs || (image && !c->root_image) || (spec->hostname && !c->hostname)) {
		return err_nomem(e);
	}
	json_t *root = json_object_get(doc, "root");

	return json_put(root, "path", json_string(GUEST_ROOT)) < 0 ? err_nomem(e) : 0;
}

static int take_network(struct vm_config *c, const json_t *doc, struct err *e)
{
	const json_t *notes = json_object_get(doc, "annotations");
	const char *kind = json_string_value(json_object_get(notes, VM_ANNOTATION_NETWORK));

	c->network = kind && str_eq(kind, "user");
	if (kind && !c->network && !str_eq(kind, "none")) {
		return err_set(e, EINVAL, ERR_UNSUPPORTED, "/annotations/" VM_ANNOTATION_NETWORK
			       ": \"user\" or \"none\"");
	}
	return 0;
}

int vm_config_read(const char *bundle, struct vm_config *ret, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_json json_t *doc = NULL;
	auto_free char *path = str_printf("%s/config.json", bundle);
	auto_buf struct buf text = BUF_INIT;
	struct oci_spec spec;
	int r = path ? sys_read_file(AT_FDCWD, path, CONFIG_MAX, &text) : -ENOMEM;

	*ret = (struct vm_config){ .text = NULL };
	if (r < 0) {
		return err_set(e, -r, ERR_NOT_FOUND, "bundle: %s", path ? path : bundle);
	}
	r = json_parse(buf_str(&text), text.len, &json_limits_document, "config.json", &doc, e);
	r = r < 0 ? r : oci_spec_parse(doc, &a, &spec, e);
	if (r == 0 && has_hooks(doc)) {
		r = err_set(e, EOPNOTSUPP, ERR_UNSUPPORTED,
			    "/hooks: a virtual machine runs no hooks; remove them from the config");
	}
	drop(doc, "hooks");
	r = r < 0 ? r : take_root(ret, bundle, doc, &spec, e);
	r = r < 0 ? r : take_process(ret, doc, &spec, e);
	r = r < 0 ? r : take_network(ret, doc, e);
	r = r < 0 ? r : take_linux(ret, doc, &spec, e);
	r = r < 0 ? r : take_mounts(ret, bundle, doc, e);
	if (r == 0) {
		ret->text = json_text(doc);
		r = ret->text ? 0 : err_nomem(e);
	}
	if (r < 0) {
		vm_config_fini(ret);
	}
	return r;
}

void vm_config_fini(struct vm_config *c)
{
	for (size_t i = 0; i < c->n_files; i++) {
		free(c->files[i].source);
		buf_fini(&c->files[i].data);
	}
	free(c->text);
	free(c->hostname);
	free(c->rootfs);
	free(c->root_image);
	*c = (struct vm_config){ .text = NULL };
}
