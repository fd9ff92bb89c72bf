/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups made by systemd: a transient scope a container (a slice where the name says so),
 * with the container's first process in it and delegated, so that systemd keeps out of what
 * is below. Limits that systemd knows are told to it as properties, so that it does not
 * undo them at its next reload; then all are written to the group's files as always.
 *
 * Device rules are not among the properties: a unit without any has none of systemd's own,
 * and those of the container are not touched.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "container/cgroup-dbus.h"
#include "container/cgroup-priv.h"
#include "sys/path.h"

#define DEST      "org.freedesktop.systemd1"
#define MANAGER   "org.freedesktop.systemd1.Manager"
#define ROOT_PATH "/org/freedesktop/systemd1"

enum { CPUS_MAX = 8192 };

/*
 * Rootless: the user's own manager. Inside a user namespace the caller looks like root, so
 * the session's folder tells.
 */
static bool use_user_manager(bool is_rootless)
{
	return is_rootless && (geteuid() != 0 || getenv("XDG_RUNTIME_DIR"));
}

static int take_conf(struct cgroup *cg, const struct cgroup_conf *conf, struct err *e)
{
	int r = cg__systemd_names(conf->path, conf->id, use_user_manager(conf->rootless), &cg->slice, &cg->unit, e);
	const struct jmap *notes = conf->annotations;

	for (size_t i = 0; r >= 0 && notes && i < notes->n; i++) {
		const char *name = str_after(notes->v[i].key, "org.systemd.property.");

		if (name && (strv_add(&cg->props, name) < 0 ||
			     strv_add(&cg->props, notes->v[i].value) < 0)) {
			r = err_nomem(e);
		}
	}
	return r;
}

/* One property: a struct of its name and a variant. */
static void prop_begin(struct dbus_out *o, const char *name, const char *sig)
{
	dbus_put_struct(o);
	dbus_put_str(o, name);
	dbus_put_sig(o, sig);
}

static void prop_str(struct dbus_out *o, const char *name, const char *v)
{
	prop_begin(o, name, "s");
	dbus_put_str(o, v);
}

static void prop_bool(struct dbus_out *o, const char *name, bool v)
{
	prop_begin(o, name, "b");
	dbus_put_bool(o, v);
}

static void prop_u64(struct dbus_out *o, const char *name, uint64_t v)
{
	prop_begin(o, name, "t");
	dbus_put_u64(o, v);
}

/* -1 is systemd's "infinity". */
static void prop_limit(struct dbus_out *o, const char *name, int64_t v)
{
	prop_u64(o, name, v < 0 ? UINT64_MAX : (uint64_t)v);
}

static void prop_strv1(struct dbus_out *o, const char *name, const char *v)
{
	prop_begin(o, name, "as");
	struct dbus_array a = dbus_array_begin(o, 4);

	dbus_put_str(o, v);
	dbus_array_end(o, a);
}

/* "0-3,7" as the bytes of a set of bits, lowest first. */
static int prop_set(struct dbus_out *o, const char *name, const char *list)
{
	uint8_t bits[CPUS_MAX / 8] = { 0 };
	size_t bytes = 0;

	while (*list) {
		uint64_t first = 0, last = 0;
		int used = 0;

		if (sscanf(list, "%" SCNu64 "-%" SCNu64 "%n", &first, &last, &used) != 2) {
			used = 0;
			if (sscanf(list, "%" SCNu64 "%n", &first, &used) != 1) {
				return -EINVAL;
			}
			last = first;
		}
		if (used == 0 || first > last || last >= CPUS_MAX) {
			return -EINVAL;
		}
		for (uint64_t i = first; i <= last; i++) {
			bits[i / 8] |= (uint8_t)(1u << (i % 8));
		}
		bytes = MAX(bytes, (size_t)(last / 8 + 1));
		list += used;
		if (*list == ',') {
			list++;
		} else if (*list && *list != '\n') {
			return -EINVAL;
		} else {
			break;
		}
	}
	prop_begin(o, name, "ay");
	struct dbus_array a = dbus_array_begin(o, 1);

	for (size_t i = 0; i < bytes; i++) {
		dbus_put_u8(o, bits[i]);
	}
	dbus_array_end(o, a);
	return 0;
}

static int put_memory(struct dbus_out *o, const struct oci_memory *m, bool v2, struct err *e)
{
	bool set = false;
	int64_t swap = 0;

	if (!v2) {
		if (m->has_limit && m->limit != 0) {
			prop_limit(o, "MemoryLimit", m->limit);
		}
		return 0;
	}
	if (m->has_limit && m->limit != 0) {
		prop_limit(o, "MemoryMax", m->limit);
	}
	if (m->has_reservation && m->reservation != 0) {
		prop_limit(o, "MemoryLow", m->reservation);
	}
	/* An update of the sum alone is worked out where the limit is known: in the files. */
	int r = m->has_limit || !m->has_swap ? cg__swap_of(m, &set, &swap, e) : 0;

	if (r >= 0 && set) {
		prop_limit(o, "MemorySwapMax", swap);
	}
	return r;
}

/* Of microseconds a period to microseconds a second, in systemd's grain of a per cent. */
static void put_quota(struct dbus_out *o, int64_t quota, uint64_t period)
{
	uint64_t per_sec = UINT64_MAX;

	if (quota > 0) {
		period = period ? period : 100000;
		per_sec = (uint64_t)((unsigned __int128)(uint64_t)quota * 1000000 / period);
		per_sec = (per_sec + 9999) / 10000 * 10000;
	}
	prop_u64(o, "CPUQuotaPerSecUSec", per_sec);
	if (period) {
		prop_u64(o, "CPUQuotaPeriodUSec", period);
	}
}

static int put_cpu(struct dbus_out *o, const struct oci_cpu *c, bool v2, struct err *e)
{
	bool idle = c->has_idle && c->idle != 0;

	if (c->has_shares && c->shares != 0 && !idle) {
		if (v2) {
			prop_u64(o, "CPUWeight", cg__weight_of_shares(c->shares));
		} else {
			prop_u64(o, "CPUShares", c->shares);
		}
	}
	if (idle && v2) {
		prop_u64(o, "CPUWeight", 0); /* systemd's word for idle, since 252 */
	}
	if (c->has_quota && c->quota != 0) {
		put_quota(o, c->quota, c->has_period ? c->period : 0);
	}
	if (v2 && c->cpus && *c->cpus && prop_set(o, "AllowedCPUs", c->cpus) < 0) {
		return err_field(e, "/linux/resources/cpu/cpus", "\"%.60s\" is no list of CPUs", c->cpus);
	}
	if (v2 && c->mems && *c->mems && prop_set(o, "AllowedMemoryNodes", c->mems) < 0) {
		return err_field(e, "/linux/resources/cpu/mems", "\"%.60s\" is no list of nodes", c->mems);
	}
	return 0;
}

/* Files of "unified" that are a number or "max" in systemd too. */
static const struct {
	const char *file, *prop;
} unified_props[] = {
	{ "cpu.weight", "CPUWeight" },           { "memory.high", "MemoryHigh" },
	{ "memory.low", "MemoryLow" },           { "memory.max", "MemoryMax" },
	{ "memory.min", "MemoryMin" },           { "memory.swap.max", "MemorySwapMax" },
	{ "pids.max", "TasksMax" },
};

static int put_unified(struct dbus_out *o, const char *file, const char *text, struct err *e)
{
	uint64_t v = UINT64_MAX, period = 0;
	char quota[24] = "";
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(unified_props); i++) {
		if (str_eq(file, unified_props[i].file) &&
		    (str_eq(text, "max") || parse_u64(text, UINT64_MAX, &v) == 0)) {
			prop_u64(o, unified_props[i].prop, v);
			return 0;
		}
	}
	if (str_eq(file, "cpu.max") && sscanf(text, "%23s %" SCNu64, quota, &period) >= 1) {
		if (str_eq(quota, "max")) {
			put_quota(o, -1, period);
		} else if (parse_u64(quota, INT64_MAX, &v) == 0) {
			put_quota(o, (int64_t)v, period);
		}
	} else if (str_eq(file, "cpuset.cpus")) {
		r = prop_set(o, "AllowedCPUs", text);
	} else if (str_eq(file, "cpuset.mems")) {
		r = prop_set(o, "AllowedMemoryNodes", text);
	}
	return r < 0 ? err_field(e, "/linux/resources/unified", "\"%.60s\" is no list of numbers", text) : 0;
}

static int put_resources(struct dbus_out *o, const struct oci_resources *res, bool v2, struct err *e)
{
	int r = 0;

	if (!res) {
		return 0;
	}
	if (res->memory) {
		r = put_memory(o, res->memory, v2, e);
	}
	if (r >= 0 && res->cpu) {
		r = put_cpu(o, res->cpu, v2, e);
	}
	if (r >= 0 && res->pids && res->pids->has_limit) {
		prop_limit(o, "TasksMax", res->pids->limit > 0 ? res->pids->limit : -1);
	}
	if (r >= 0 && !v2 && res->block_io && res->block_io->has_weight && res->block_io->weight) {
		prop_u64(o, "BlockIOWeight", res->block_io->weight);
	}
	for (size_t i = 0; r >= 0 && v2 && i < res->unified.n; i++) {
		r = put_unified(o, res->unified.v[i].key, res->unified.v[i].value, e);
	}
	return r;
}

/* A text in quotes, as an annotation writes it: 'text' or "text", without escapes. */
static char *unquote(const char *s, const char **ret_rest)
{
	const char *end = *s == '\'' || *s == '"' ? strchr(s + 1, *s) : NULL;

	if (!end || memchr(s, '\\', (size_t)(end - s))) {
		return NULL;
	}
	*ret_rest = end + 1;
	return str_ndup(s + 1, (size_t)(end - s - 1));
}

static int put_list(struct dbus_out *o, const char *name, const char *s)
{
	int r = 0;

	prop_begin(o, name, "as");
	struct dbus_array a = dbus_array_begin(o, 4);

	s += 1 + strspn(s + 1, " ");
	while (r == 0 && *s && *s != ']') {
		auto_free char *item = unquote(s, &s);

		if (!item) {
			return -EINVAL;
		}
		dbus_put_str(o, item);
		s += strspn(s, " ");
		if (*s == ',') {
			s += 1 + strspn(s + 1, " ");
		} else if (*s != ']') {
			r = -EINVAL;
		}
	}
	dbus_array_end(o, a);
	return r == 0 && str_eq(s, "]") ? 0 : -EINVAL;
}

/*
 * A property from an annotation, in the text form of GVariant as far as systemd's properties
 * of units need it: true, 'text', ['a', 'b'], 5 (int32), uint32 5, int64 5, uint64 5.
 */
static int put_annotation(struct dbus_out *o, const char *name, const char *value)
{
	static const struct {
		const char *prefix, *sig;
		int64_t     min;
		uint64_t    max;
	} kinds[] = { { "uint64 ", "t", 0, UINT64_MAX }, { "int64 ", "x", INT64_MIN, INT64_MAX },
		      { "uint32 ", "u", 0, UINT32_MAX }, { "int32 ", "i", INT32_MIN, INT32_MAX },
		      { "", "i", INT32_MIN, INT32_MAX } };
	const char *rest = NULL;
	auto_free char *plain = unquote(value, &rest);

	if (plain && *rest == '\0') {
		prop_str(o, name, plain);
		return 0;
	}
	if (str_eq(value, "true") || str_eq(value, "false")) {
		prop_bool(o, name, value[0] == 't');
		return 0;
	}
	if (value[0] == '[') {
		return put_list(o, name, value);
	}
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *number = str_after(value, kinds[i].prefix);
		uint64_t u = 0;
		int64_t s = 0;

		if (!number || (kinds[i].min < 0 ? parse_i64(number, kinds[i].min, (int64_t)kinds[i].max, &s) :
						   parse_u64(number, kinds[i].max, &u)) < 0) {
			continue;
		}
		u = kinds[i].min < 0 ? (uint64_t)s : u;
		/* Seconds are for people; the property counts microseconds. */
		size_t n = strlen(name);

		if (n > 4 && str_ends(name, "Sec") && !str_ends(name, "USec")) {
			auto_free char *usec = str_printf("%.*sUSec", (int)(n - 3), name);

			if (!usec) {
				return -ENOMEM;
			}
			prop_u64(o, usec, u * 1000000);
			return 0;
		}
		prop_begin(o, name, kinds[i].sig);
		if (kinds[i].sig[0] == 't' || kinds[i].sig[0] == 'x') {
			dbus_put_u64(o, u);
		} else {
			dbus_put_u32(o, (uint32_t)u);
		}
		return 0;
	}
	return -EINVAL;
}

static bool is_slice(const struct cgroup *cg)
{
	return str_ends(cg->unit, ".slice");
}

static int put_unit(struct dbus_out *o, const struct cgroup *cg, pid_t pid,
		    const struct oci_resources *res, struct err *e)
{
	bool v2 = cg->mode == CGROUP_V2;
	char description[300];

	snprintf(description, sizeof(description), "container %s", cg->unit);
	prop_str(o, "Description", description);
	if (is_slice(cg)) {
		prop_strv1(o, "Wants", cg->slice);
	} else {
		prop_str(o, "Slice", cg->slice);
		prop_bool(o, "Delegate", true);
		prop_begin(o, "PIDs", "au");
		struct dbus_array a = dbus_array_begin(o, 4);

		dbus_put_u32(o, (uint32_t)pid);
		dbus_array_end(o, a);
	}
	prop_bool(o, "MemoryAccounting", true);
	prop_bool(o, "CPUAccounting", true);
	prop_bool(o, v2 ? "IOAccounting" : "BlockIOAccounting", true);
	prop_bool(o, "TasksAccounting", true);
	prop_bool(o, "DefaultDependencies", false);
	prop_str(o, "CollectMode", "inactive-or-failed");

	int r = put_resources(o, res, v2, e);

	for (size_t i = 0; r >= 0 && i + 1 < cg->props.n; i += 2) {
		if (put_annotation(o, cg->props.v[i], cg->props.v[i + 1]) < 0) {
			r = err_set(e, EINVAL, ERR_INVALID, "annotation org.systemd.property.%.60s: \"%.60s\" "
				    "is no value that a unit's property takes", cg->props.v[i],
				    cg->props.v[i + 1]);
		}
	}
	return r;
}

struct job {
	char path[256];
	char result[64];
};

/* JobRemoved(u id, o job, s unit, s result) */
static bool job_is(const struct dbus_msg *m, void *ud)
{
	struct job *j = ud;
	struct dbus_in in = dbus_in(m);

	ignore_result(dbus_get_u32(&in)); /* the path names it too */
	bool same = str_eq(dbus_get_str(&in), j->path);

	(void)dbus_get_str(&in); /* the unit */
	if (!same) {
		return false;
	}
	snprintf(j->result, sizeof(j->result), "%s", dbus_get_str(&in));
	return in.ok;
}

/* A call to the manager that starts a job; waits until the job is done. */
static int run_job(struct dbus *bus, const char *member, const char *sig, const struct dbus_out *body,
		   char *ret_error, size_t error_bytes, struct err *e)
{
	struct dbus_msg m;
	struct job j = { .result = "" };
	int r = dbus_call(bus, &(struct dbus_call){ DEST, ROOT_PATH, MANAGER, member, sig, body }, &m, e);

	if (r < 0) {
		snprintf(ret_error, error_bytes, "%s", m.data ? m.error : "");
		free(m.data);
		return r;
	}
	struct dbus_in in = dbus_in(&m);

	snprintf(j.path, sizeof(j.path), "%s", dbus_get_str(&in));
	free(m.data);
	r = dbus_wait_signal(bus, "JobRemoved", job_is, &j, e);
	if (r >= 0 && !str_eq(j.result, "done")) {
		r = err_set(e, EREMOTEIO, ERR_HOST, "systemd's job for %s ended with \"%s\"", member,
			    j.result);
	}
	return r;
}

/* Bytes of a unit's name that are no letter or digit stand in object paths as _xx. */
static char *unit_path(const char *unit)
{
	auto_buf struct buf b = BUF_INIT;

	buf_add_str(&b, ROOT_PATH "/unit/");
	for (const char *p = unit; *p; p++) {
		bool digit = *p >= '0' && *p <= '9';
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (digit && p != unit);

		if (plain) {
			buf_add_char(&b, *p);
		} else {
			buf_printf(&b, "_%02x", (unsigned char)*p);
		}
	}
	return buf_take(&b);
}

/* A property that is text. */
static int get_property(struct dbus *bus, const char *path, const char *interface, const char *name,
			char **ret, struct err *e)
{
	struct dbus_out body = DBUS_OUT_INIT;
	struct dbus_msg m;

	dbus_put_str(&body, interface);
	dbus_put_str(&body, name);
	int r = dbus_call(bus, &(struct dbus_call){ DEST, path, "org.freedesktop.DBus.Properties", "Get",
						    "ss", &body }, &m, e);

	dbus_out_fini(&body);
	if (r >= 0) {
		struct dbus_in in = dbus_in(&m);

		*ret = str_dup(str_eq(dbus_get_sig(&in), "s") ? dbus_get_str(&in) : "?");
		r = *ret ? 0 : err_nomem(e);
	}
	free(m.data);
	return r;
}

/*
 * The group that the unit will have: its slices below systemd's own group. It must be known
 * before the unit is there, as the container's process, which mounts it, is.
 */
static int expect_group(struct dbus *bus, const struct cgroup *cg, char **ret, struct err *e)
{
	auto_free char *top = NULL, *slices = NULL;
	int r = get_property(bus, ROOT_PATH, MANAGER, "ControlGroup", &top, e);

	r = r < 0 ? r : cg__slice_path(is_slice(cg) ? cg->unit : cg->slice, &slices, e);
	if (r < 0) {
		return r;
	}
	auto_free char *joined = str_printf("%s%s%s%s", top, slices, is_slice(cg) ? "" : "/",
					    is_slice(cg) ? "" : cg->unit);

	*ret = joined ? path_clean(joined) : NULL;
	return *ret ? 0 : err_nomem(e);
}

/* Is it there? Anything else would be another's group. */
static int check_group(struct dbus *bus, const struct cgroup *cg, struct err *e)
{
	auto_free char *path = unit_path(cg->unit), *got = NULL;
	const struct cg_hier *h = cg->n ? &cg->h[0] : NULL;

	if (!path) {
		return err_nomem(e);
	}
	int r = get_property(bus, path, is_slice(cg) ? "org.freedesktop.systemd1.Slice" :
						       "org.freedesktop.systemd1.Scope",
			     "ControlGroup", &got, e);

	if (r >= 0 && (!h || !str_eq(got, h->group))) {
		r = err_set(e, EBADMSG, ERR_HOST, "systemd has put %s into the cgroup \"%.100s\", not \"%.100s\"",
			    cg->unit, got, h ? h->group : "");
	}
	return r;
}

static int systemd_open(struct cgroup *cg, const struct cgroup_conf *conf, struct err *e)
{
	auto_(dbus_closep) struct dbus *bus = NULL;
	auto_free char *group = NULL;
	int r = take_conf(cg, conf, e);

	r = r < 0 ? r : dbus_open(use_user_manager(cg->rootless), &bus, e);
	r = r < 0 ? r : expect_group(bus, cg, &group, e);
	for (unsigned i = 0; r >= 0 && i < cg->n; i++) {
		r = cg__set_group(cg, &cg->h[i], group);
		r = r < 0 ? err_set(e, -r, ERR_HOST, "take the cgroup %.100s", group) : 0;
	}
	return r;
}

static int start_unit(struct dbus *bus, const struct cgroup *cg, pid_t pid,
		      const struct oci_resources *res, struct err *e)
{
	struct dbus_out body = DBUS_OUT_INIT;
	char error[128] = "";

	dbus_put_str(&body, cg->unit);
	dbus_put_str(&body, is_slice(cg) ? "replace" : "fail");
	struct dbus_array props = dbus_array_begin(&body, 8);
	int r = put_unit(&body, cg, pid, res, e);

	dbus_array_end(&body, props);
	struct dbus_array aux = dbus_array_begin(&body, 8); /* no other units */

	dbus_array_end(&body, aux);
	if (r >= 0) {
		r = run_job(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body, error, sizeof(error), e);
	}
	dbus_out_fini(&body);
	if (r < 0 && str_ends(error, ".UnitExists")) {
		return err_set(e, EEXIST, ERR_CONFLICT, "the systemd unit %s exists already", cg->unit);
	}
	return r;
}

static int systemd_destroy(struct cgroup *cg, struct err *e);

static int systemd_create(struct cgroup *cg, pid_t pid, const struct oci_resources *res,
			  struct err *e)
{
	auto_(dbus_closep) struct dbus *bus = NULL;
	struct err ignored = ERR_INIT;
	int r = dbus_open(use_user_manager(cg->rootless), &bus, e);

	if (r >= 0) {
		r = start_unit(bus, cg, pid, res, e);
	}
	if (r < 0) {
		return r;
	}
	r = check_group(bus, cg, e);
	if (r < 0) {
		ignore_result(systemd_destroy(cg, &ignored)); /* the first failure counts */
	}
	return r;
}

/* The period that is set: without one, systemd would take its own along with a new quota. */
static uint64_t period_now(const struct cgroup *cg)
{
	auto_buf struct buf b = BUF_INIT;
	const struct cg_hier *h = cg__with(cg, CG_CPU);
	uint64_t period = 0;

	if (h && cg__read(h, h->v2 ? "cpu.max" : "cpu.cfs_period_us", &b) == 0 &&
	    sscanf(buf_str(&b), h->v2 ? "%*s %" SCNu64 : "%" SCNu64, &period) != 1) {
		period = 0;
	}
	return period;
}

static int systemd_update(struct cgroup *cg, const struct oci_resources *given, struct err *e)
{
	struct oci_resources copy = *given, *res = &copy;
	struct oci_cpu cpu;

	if (given->cpu && given->cpu->has_quota && !given->cpu->has_period) {
		cpu = *given->cpu;
		cpu.period = period_now(cg);
		cpu.has_period = cpu.period != 0;
		copy.cpu = &cpu;
	}
	auto_(dbus_closep) struct dbus *bus = NULL;
	struct dbus_out body = DBUS_OUT_INIT;
	struct dbus_msg m = { .data = NULL };
	int r = dbus_open(use_user_manager(cg->rootless), &bus, e);

	if (r < 0) {
		return r;
	}
	dbus_put_str(&body, cg->unit);
	dbus_put_bool(&body, true); /* until the unit ends, not on disk */
	struct dbus_array props = dbus_array_begin(&body, 8);

	r = put_resources(&body, res, cg->mode == CGROUP_V2, e);
	dbus_array_end(&body, props);
	if (r >= 0) {
		r = dbus_call(bus, &(struct dbus_call){ DEST, ROOT_PATH, MANAGER, "SetUnitProperties",
							"sba(sv)", &body }, &m, e);
		free(m.data);
	}
	dbus_out_fini(&body);
	return r;
}

static int systemd_attach(struct cgroup *cg, pid_t pid, const char *sub, struct err *e)
{
	auto_(dbus_closep) struct dbus *bus = NULL;
	struct dbus_out body = DBUS_OUT_INIT;
	struct dbus_msg m = { .data = NULL };
	int r = dbus_open(use_user_manager(cg->rootless), &bus, e);

	if (r < 0) {
		return r;
	}
	dbus_put_str(&body, cg->unit);
	dbus_put_str(&body, sub);
	struct dbus_array pids = dbus_array_begin(&body, 4);

	dbus_put_u32(&body, (uint32_t)pid);
	dbus_array_end(&body, pids);
	r = dbus_call(bus, &(struct dbus_call){ DEST, ROOT_PATH, MANAGER, "AttachProcessesToUnit", "ssau",
						&body }, &m, e);
	free(m.data);
	dbus_out_fini(&body);
	return r < 0 ? err_wrap(e, "cannot join %s", cg->unit) : 0;
}

/* The unit may have ended with its last process, and be gone already. */
static int systemd_destroy(struct cgroup *cg, struct err *e)
{
	static const char *const members[] = { "StopUnit", "ResetFailedUnit" };
	auto_(dbus_closep) struct dbus *bus = NULL;
	int r = dbus_open(use_user_manager(cg->rootless), &bus, e);

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(members); i++) {
		struct dbus_out body = DBUS_OUT_INIT;
		struct dbus_msg m = { .data = NULL };
		char error[128] = "";

		dbus_put_str(&body, cg->unit);
		if (i == 0) {
			dbus_put_str(&body, "replace");
			r = run_job(bus, members[i], "ss", &body, error, sizeof(error), e);
		} else {
			r = dbus_call(bus, &(struct dbus_call){ DEST, ROOT_PATH, MANAGER, members[i], "s",
								&body }, &m, e);
			snprintf(error, sizeof(error), "%s", m.data ? m.error : "");
			free(m.data);
		}
		dbus_out_fini(&body);
		if (r < 0 && str_ends(error, ".NoSuchUnit")) {
			err_clear(e);
			return 0;
		}
	}
	return r;
}

const struct cgroup_manager cgroup_systemd = {
	.name = "systemd",
	.open = systemd_open,
	.create = systemd_create,
	.update = systemd_update,
	.attach = systemd_attach,
	.destroy = systemd_destroy,
};
