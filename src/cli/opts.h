/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of `create` and `run`, as users know them from docker, and the instance's spec
 * that they make. The fields of the spec are those of POST /v1/instances.
 *
 *	static const struct cmd_opt run_opts[] = { SPEC_OPTIONS(struct run_opts, spec), ... };
 *
 *	auto_json json_t *spec = NULL;
 *	r = spec_from_opts(&o->spec, image, command, n_command, &spec, e);
 */
#ifndef CLI_OPTS_H
#define CLI_OPTS_H

#include "base/cmd.h"
#include "json/json.h"

enum { PULL_MISSING, PULL_ALWAYS, PULL_NEVER };
extern const char *const pull_names[];

struct spec_opts {
	const char  *name, *workdir, *user, *entrypoint, *hostname, *domainname, *cpus;
	const char  *cpuset_cpus, *cpuset_mems, *memory_swap, *restart, *stop_signal, *platform;
	const char  *network, *userns, *isolation, *pids_limit, *cidfile;
	struct strv  env, env_file, volume, mount, tmpfs, cap_add, cap_drop, security_opt, ulimit;
	struct strv  label, label_file, group_add, dns, dns_search, add_host, sysctl, annotation;
	struct strv  log_opt;
	bool         interactive, tty, read_only, privileged;
	int          init, pull;
	uint64_t     memory, memory_reservation, shm_size, cpu_shares, stop_timeout, io_weight;
	int64_t      oom_score_adj;
};

/* Values that stand for "not given". */
#define SPEC_UNSET_UINT "18446744073709551615"

#define SPEC__OFF(type, m, f) (offsetof(type, m) + offsetof(struct spec_opts, f))

/* Initialisers of struct cmd_opt, for a struct `type` with a member `m` of struct spec_opts. */
#define SPEC_OPTIONS(type, m) \
	{ 0, "name", CMD_STR, SPEC__OFF(type, m, name), "NAME", "name of the instance" }, \
	{ 'i', "interactive", CMD_FLAG, SPEC__OFF(type, m, interactive), NULL, \
	  "keep standard input open" }, \
	{ 't', "tty", CMD_FLAG, SPEC__OFF(type, m, tty), NULL, "give it a terminal" }, \
	{ 'e', "env", CMD_STRV, SPEC__OFF(type, m, env), "KEY[=VALUE]", \
	  "environment; without a value, the one here" }, \
	{ 0, "env-file", CMD_STRV, SPEC__OFF(type, m, env_file), "FILE", \
	  "environment from a file of KEY=VALUE lines", .complete = CMD_COMPLETE_FILE }, \
	{ 'v', "volume", CMD_STRV, SPEC__OFF(type, m, volume), "SOURCE:TARGET[:OPTIONS]", \
	  "bind a path of the host; options ro, rw, propagation", .complete = CMD_COMPLETE_FILE }, \
	{ 0, "mount", CMD_STRV, SPEC__OFF(type, m, mount), "KEY=VALUE,...", \
	  "type=bind|tmpfs, source=, target=, readonly, bind-propagation=, tmpfs-size=" }, \
	{ 0, "tmpfs", CMD_STRV, SPEC__OFF(type, m, tmpfs), "TARGET[:OPTIONS]", \
	  "a file system in memory; options size=, mode=, noexec and others" }, \
	{ 'w', "workdir", CMD_STR, SPEC__OFF(type, m, workdir), "DIR", "working folder" }, \
	{ 'u', "user", CMD_STR, SPEC__OFF(type, m, user), "USER[:GROUP]", \
	  "names or numbers, of the image" }, \
	{ 0, "group-add", CMD_STRV, SPEC__OFF(type, m, group_add), "GROUP", "one more group" }, \
	{ 0, "entrypoint", CMD_STR, SPEC__OFF(type, m, entrypoint), "PROGRAM", \
	  "instead of that of the image; \"\" for none" }, \
	{ 'h', "hostname", CMD_STR, SPEC__OFF(type, m, hostname), "NAME", "host name inside" }, \
	{ 0, "domainname", CMD_STR, SPEC__OFF(type, m, domainname), "NAME", "domain name inside" }, \
	{ 0, "cap-add", CMD_STRV, SPEC__OFF(type, m, cap_add), "CAP", "add a capability, or ALL" }, \
	{ 0, "cap-drop", CMD_STRV, SPEC__OFF(type, m, cap_drop), "CAP", \
	  "take a capability away, or ALL" }, \
	{ 0, "security-opt", CMD_STRV, SPEC__OFF(type, m, security_opt), "OPTION", \
	  "no-new-privileges, seccomp=FILE|unconfined, apparmor=, label=" }, \
	{ 0, "privileged", CMD_FLAG, SPEC__OFF(type, m, privileged), NULL, \
	  "no walls at all; refused, see the error for what to use" }, \
	{ 0, "read-only", CMD_FLAG, SPEC__OFF(type, m, read_only), NULL, "no writes to the root" }, \
	{ 0, "init", CMD_TRI, SPEC__OFF(type, m, init), NULL, \
	  "a small init as process 1, which reaps and passes signals on" }, \
	{ 0, "cpus", CMD_STR, SPEC__OFF(type, m, cpus), "NUMBER", "processor time: 1.5" }, \
	{ 'c', "cpu-shares", CMD_UINT, SPEC__OFF(type, m, cpu_shares), "N", "weight, 2 to 262144" }, \
	{ 0, "cpuset-cpus", CMD_STR, SPEC__OFF(type, m, cpuset_cpus), "LIST", "processors: 0-2,5" }, \
	{ 0, "cpuset-mems", CMD_STR, SPEC__OFF(type, m, cpuset_mems), "LIST", "memory nodes" }, \
	{ 'm', "memory", CMD_SIZE, SPEC__OFF(type, m, memory), "SIZE", "limit of memory: 512m" }, \
	{ 0, "memory-swap", CMD_STR, SPEC__OFF(type, m, memory_swap), "SIZE", \
	  "limit of memory and swap together; -1 for none" }, \
	{ 0, "memory-reservation", CMD_SIZE, SPEC__OFF(type, m, memory_reservation), "SIZE", \
	  "limit when memory is short" }, \
	{ 0, "blkio-weight", CMD_UINT, SPEC__OFF(type, m, io_weight), "N", "disk weight, 10 to 1000" }, \
	{ 0, "pids-limit", CMD_STR, SPEC__OFF(type, m, pids_limit), "N", \
	  "limit of processes and threads; -1 for none" }, \
	{ 0, "ulimit", CMD_STRV, SPEC__OFF(type, m, ulimit), "NAME=SOFT[:HARD]", \
	  "limit of each process: nofile=1024:2048" }, \
	{ 0, "shm-size", CMD_SIZE, SPEC__OFF(type, m, shm_size), "SIZE", "size of /dev/shm" }, \
	{ 0, "oom-score-adj", CMD_INT, SPEC__OFF(type, m, oom_score_adj), "N", \
	  "how soon it is killed when memory is out, -1000 to 1000" }, \
	{ 0, "restart", CMD_STR, SPEC__OFF(type, m, restart), "POLICY", \
	  "no, on-failure[:TIMES], always, unless-stopped" }, \
	{ 0, "stop-signal", CMD_STR, SPEC__OFF(type, m, stop_signal), "SIGNAL", \
	  "the signal of holm stop" }, \
	{ 0, "stop-timeout", CMD_UINT, SPEC__OFF(type, m, stop_timeout), "SECONDS", \
	  "patience of holm stop", .dflt = SPEC_UNSET_UINT, .flags = CMD_NO_DEFAULT_TEXT }, \
	{ 'l', "label", CMD_STRV, SPEC__OFF(type, m, label), "KEY[=VALUE]", "label for its owner" }, \
	{ 0, "label-file", CMD_STRV, SPEC__OFF(type, m, label_file), "FILE", \
	  "labels from a file of KEY=VALUE lines", .complete = CMD_COMPLETE_FILE }, \
	{ 0, "annotation", CMD_STRV, SPEC__OFF(type, m, annotation), "KEY=VALUE", \
	  "annotation for the runtime" }, \
	{ 0, "platform", CMD_STR, SPEC__OFF(type, m, platform), "OS/ARCH", \
	  "platform of the image: linux/amd64" }, \
	{ 0, "pull", CMD_CHOICE, SPEC__OFF(type, m, pull), "WHEN", \
	  "fetch the image: missing, always or never", .choices = pull_names, \
	  .dflt = "missing" }, \
	{ 0, "network", CMD_STR, SPEC__OFF(type, m, network), "MODE", \
	  "user (outgoing only, the default), none or host" }, \
	{ 0, "dns", CMD_STRV, SPEC__OFF(type, m, dns), "ADDRESS", "name server" }, \
	{ 0, "dns-search", CMD_STRV, SPEC__OFF(type, m, dns_search), "DOMAIN", "domain to search" }, \
	{ 0, "add-host", CMD_STRV, SPEC__OFF(type, m, add_host), "NAME:ADDRESS", \
	  "line for /etc/hosts" }, \
	{ 0, "userns", CMD_STR, SPEC__OFF(type, m, userns), "MODE", \
	  "auto (ids of its own, the default) or host" }, \
	{ 0, "isolation", CMD_STR, SPEC__OFF(type, m, isolation), "WALL", "container or vm" }, \
	{ 0, "sysctl", CMD_STRV, SPEC__OFF(type, m, sysctl), "KEY=VALUE", \
	  "kernel setting of its namespaces" }, \
	{ 0, "log-opt", CMD_STRV, SPEC__OFF(type, m, log_opt), "KEY=VALUE", \
	  "max-size=10m, max-file=3" }, \
	{ 0, "cidfile", CMD_STR, SPEC__OFF(type, m, cidfile), "FILE", \
	  "write the id of the instance to this file", .complete = CMD_COMPLETE_FILE }

/*
 * The spec as JSON. `image` NULL: the caller adds it. Paths that are relative are taken from
 * the working folder. Errors name the option.
 */
int spec_from_opts(const struct spec_opts *o, const char *image, char *const *command,
		   size_t n_command, json_t **ret, struct err *e) must_check;

/* "on-failure:5" as the spec has it; for update. */
int spec_restart(const char *text, json_t *spec, struct err *e) must_check;

/* The resources alone, for update: those that were given. */
int spec_resources(const struct spec_opts *o, json_t **ret, struct err *e) must_check;

/* --env and --env-file as "env" of an object; for exec. */
int spec_env(const struct spec_opts *o, json_t *spec, struct err *e) must_check;

/* Add "KEY[=VALUE]" strings to an object of strings. */
int spec_pairs(const struct strv *list, const char *option, json_t *obj, struct err *e) must_check;

#endif
