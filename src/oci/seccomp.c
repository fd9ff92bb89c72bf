/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/seccomp.h"

#define IN(m) offsetof(struct oci_seccomp_arg, m)
static const struct jfield arg_fields[] = {
	{ "index",    JK_UINT, IN(index), .max = 5, .flags = JF_EMPTY, .doc = "which argument" },
	{ "value",    JK_UINT, IN(value), .flags = JF_EMPTY, .doc = "compared with" },
	{ "valueTwo", JK_UINT, IN(value_two), .doc = "the value behind the mask" },
	{ "op",       JK_STR,  IN(op), .flags = JF_REQUIRED, .doc = "SCMP_CMP_..." },
};
#undef IN
static const struct jtable arg_table = JTABLE_OPEN("SeccompArg", struct oci_seccomp_arg, arg_fields);

#define IN(m) offsetof(struct oci_seccomp_rule, m)
static const struct jfield rule_fields[] = {
	{ "names",    JK_STRV, IN(names), .flags = JF_REQUIRED, .doc = "system calls" },
	{ "action",   JK_STR,  IN(action), .flags = JF_REQUIRED, .doc = "SCMP_ACT_..." },
	{ "errnoRet", JK_UINT, IN(errno_ret), .has = IN(has_errno_ret), .max = UINT16_MAX,
	  .doc = "errno that the caller gets" },
	{ "args",     JK_OBJV, IN(args), .sub = &arg_table, .doc = "conditions, all of them" },
};
#undef IN
static const struct jtable rule_table =
	JTABLE_OPEN("SeccompRule", struct oci_seccomp_rule, rule_fields);

#define IN(m) offsetof(struct oci_seccomp, m)
static const struct jfield seccomp_fields[] = {
	{ "defaultAction", JK_STR, IN(default_action), .flags = JF_REQUIRED,
	  .doc = "for calls without a rule" },
	{ "defaultErrnoRet", JK_UINT, IN(default_errno_ret), .has = IN(has_default_errno_ret),
	  .max = UINT16_MAX, .doc = "errno of the default action" },
	{ "architectures", JK_STRV, IN(architectures), .doc = "SCMP_ARCH_..." },
	{ "flags",    JK_STRV, IN(flags), .doc = "SECCOMP_FILTER_FLAG_..." },
	{ "listenerPath", JK_STR, IN(listener_path), .doc = "socket that gets the notify descriptor" },
	{ "listenerMetadata", JK_STR, IN(listener_metadata), .doc = "handed over with it" },
	{ "syscalls", JK_OBJV, IN(syscalls), .sub = &rule_table, .doc = "the rules" },
};
#undef IN
const struct jtable oci_seccomp_table =
	JTABLE_OPEN("Seccomp", struct oci_seccomp, seccomp_fields);
