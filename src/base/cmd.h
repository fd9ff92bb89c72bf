/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines as data. One table of commands and options parses the arguments, checks
 * them, and is printed as help, as a manual page and as shell completion.
 *
 *	struct kill_opts { bool all; const char *signal; };
 *
 *	#define IN(m) offsetof(struct kill_opts, m)
 *	static const struct cmd_opt kill_opts[] = {
 *		{ 'a', "all", CMD_FLAG, IN(all), NULL, "send to every process of the container" },
 *		{ 's', "signal", CMD_STR, IN(signal), "SIGNAL", "name or number" },
 *	};
 *	#undef IN
 *
 *	const struct cmd oci_cmd_kill = {
 *		.name = "kill", .args = "CONTAINER", .min_args = 1, .max_args = 1,
 *		.opts = kill_opts, .n_opts = ARRAY_LEN(kill_opts),
 *		.opts_size = sizeof(struct kill_opts), .run = cmd_kill,
 *		.help = "send a signal to a container's first process",
 *	};
 *	static const struct cmd *const commands[] = { &oci_cmd_kill, ... };
 *	static const struct cmd root = { .name = "holm-oci", .sub = commands,
 *		.n_sub = ARRAY_LEN(commands), .opts = ..., .help = "OCI container runtime" };
 *
 *	int main(int argc, char **argv) { return cmd_main(&root, argc, argv, ud); }
 *
 * Options may stand before and after arguments, as "-s X", "-sX", "--signal X" and
 * "--signal=X"; flags also as "--all=false" and joined ("-it"). "--" ends them. Where a command is marked
 * CMD_STOP_AT_ARG they end at its first argument (the command line of a container).
 *
 * Every program also understands --help and --version at its top, --help on every
 * command, and the hidden "--generate man|bash|zsh|fish", by which the build makes the
 * manual pages and completions. Names of options end in their headings by `group`.
 */
#ifndef BASE_CMD_H
#define BASE_CMD_H

#include <stdio.h>

#include "base/err.h"
#include "base/str.h"

enum cmd_opt_kind {
	CMD_FLAG,      /* bool: true where given, and as --name=true|false */
	CMD_TRI,       /* int: 0 not given, 1 true, -1 false (--name=false) */
	CMD_STR,       /* const char *: a view of argv */
	CMD_STRV,      /* struct strv: given any number of times; freed by cmd_run() */
	CMD_INT,       /* int64_t, min..max */
	CMD_UINT,      /* uint64_t, min..max */
	CMD_SIZE,      /* uint64_t bytes: "512m" */
	CMD_DURATION,  /* uint64_t nanoseconds: "10s"; a bare number is seconds */
	CMD_CHOICE,    /* int: index into choices */
	CMD_OPT_KIND__COUNT,
};

enum {
	CMD_HIDDEN = 1,       /* not in help, manual and completion */
	CMD_STOP_AT_ARG = 2,  /* the first argument ends the options (commands only) */
	CMD_REQUIRED = 4,     /* options only */
	CMD_NO_DEFAULT_TEXT = 8, /* options only: the default only marks "not given" */
};

/* What completes an argument or an option's value; printed by "PROGRAM --generate". */
enum cmd_complete {
	CMD_COMPLETE_NONE,
	CMD_COMPLETE_FILE,
	CMD_COMPLETE_DIR,
	CMD_COMPLETE_DYNAMIC,  /* ask the program: "PROGRAM __complete WORD" prints candidates */
};

struct cmd_opt {
	char                short_name;  /* 0: none */
	const char         *name;        /* long name; no dashes */
	enum cmd_opt_kind   kind;
	size_t              off;         /* in the command's options struct */
	const char         *arg;         /* "SIGNAL"; NULL for flags */
	const char         *help;        /* lower case, no full stop */
	int64_t             min;         /* CMD_INT, CMD_UINT; both 0: unbounded */
	int64_t             max;
	const char *const  *choices;     /* CMD_CHOICE: NULL-terminated */
	unsigned            flags;
	const char         *dflt;        /* parsed as if given first; shown in help */
	enum cmd_complete   complete;
};

struct cmd;

/* What a command's function gets. Views live as long as main()'s argv. */
struct cmd_call {
	const struct cmd *cmd;
	const void       *opts;       /* the command's options struct */
	const void       *parent;     /* the options struct of the command above, or NULL */
	const void       *top;        /* the options struct of the program */
	char            **args;       /* n_args, NULL-terminated */
	size_t            n_args;
	void             *ud;         /* as given to cmd_main() */
};

/*
 * Does the work. Returns the program's exit status (0..255); or a negative errno with *e
 * filled, which the caller reports, exiting as err_codes[] says.
 */
typedef int (*cmd_fn)(const struct cmd_call *call, struct err *e);

struct cmd {
	const char           *name;
	const char           *args;       /* "IMAGE [COMMAND [ARG...]]", or NULL */
	unsigned              min_args;
	unsigned              max_args;   /* CMD_ANY: no bound */
	const struct cmd_opt *opts;
	size_t                n_opts;
	size_t                opts_size;  /* bytes of the options struct */
	cmd_fn                run;        /* NULL where there are only sub-commands */
	const char           *help;       /* one line, lower case, no full stop */
	const char           *text;       /* paragraphs for the manual page, or NULL */
	const struct cmd *const *sub;     /* n_sub commands, from one file or several */
	size_t                n_sub;
	unsigned              flags;
	const char           *group;      /* heading in the list of commands, or NULL */
	const char           *examples;   /* lines for the manual page, or NULL */
	enum cmd_complete     complete;   /* of its arguments */
};

enum { CMD_ANY = 0xffff };

/*
 * Parse, run, report: the whole of a main(). Standard streams that are closed become
 * /dev/null. Errors go to standard error as
 * "PROGRAM: message", usage errors with exit status 2 (or `usage_status` of cmd_run()).
 */
int cmd_main(const struct cmd *root, int argc, char **argv, void *ud);

/*
 * The same with the error handed back instead of reported. `ret_usage` (may be NULL) is set
 * when the arguments were wrong and nothing was run.
 */
int cmd_run(const struct cmd *root, int argc, char **argv, void *ud, bool *ret_usage,
	    struct err *e);

void cmd_print_help(const struct cmd *const *path, size_t n_path, FILE *out);

/* The manual page (section 1 or 8) in man(7) format; completion for "bash", "zsh", "fish". */
void cmd_print_man(const struct cmd *root, unsigned section, FILE *out);
int  cmd_print_completion(const struct cmd *root, const char *shell, FILE *out) must_check;

/*
 * Checks a table: names unique at each level, every entry with help, sizes and kinds in
 * order. Returns NULL, or what is wrong. For the table's test.
 */
const char *cmd_table_fault(const struct cmd *root);

#endif
