/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cmd.h"

#include <errno.h>

#include "base/fd.h"
#include "base/mem.h"

enum { DEPTH_MAX = 4 };

#ifndef HOLM_VERSION
#define HOLM_VERSION "0.1.0"
#endif

struct parse {
	const struct cmd *path[DEPTH_MAX];
	void             *opts[DEPTH_MAX];  /* one options struct a level, owned */
	size_t            depth;
	char            **args;             /* room for all of argv, owned */
	size_t            n_args;
	const char       *generate;
	bool              help;
	bool              version;
};

static void parse_fini(struct parse *p)
{
	for (size_t d = 0; d < p->depth; d++) {
		for (size_t i = 0; p->opts[d] && i < p->path[d]->n_opts; i++) {
			const struct cmd_opt *o = &p->path[d]->opts[i];

			if (o->kind == CMD_STRV) {
				strv_fini((struct strv *)(void *)((char *)p->opts[d] + o->off));
			}
		}
		free(p->opts[d]);
	}
	free(p->args);
}

static const struct cmd *top_cmd(const struct parse *p)
{
	return p->path[p->depth - 1];
}

static int enter(struct parse *p, const struct cmd *c, struct err *e)
{
	assert(p->depth < DEPTH_MAX);
	p->path[p->depth] = c;
	p->opts[p->depth] = mem_calloc(1, MAX(c->opts_size, (size_t)1));
	if (!p->opts[p->depth++]) {
		return err_nomem(e);
	}
	return 0;
}

static const struct cmd *find_sub(const struct cmd *c, const char *name)
{
	for (size_t i = 0; i < c->n_sub; i++) {
		if (str_eq(c->sub[i]->name, name)) {
			return c->sub[i];
		}
	}
	return NULL;
}

static const struct cmd_opt *find_long(const struct cmd *c, const char *name, size_t len)
{
	for (size_t i = 0; i < c->n_opts; i++) {
		if (strlen(c->opts[i].name) == len && memcmp(c->opts[i].name, name, len) == 0) {
			return &c->opts[i];
		}
	}
	return NULL;
}

static const struct cmd_opt *find_short(const struct cmd *c, char name)
{
	for (size_t i = 0; i < c->n_opts; i++) {
		if (c->opts[i].short_name == name) {
			return &c->opts[i];
		}
	}
	return NULL;
}

static int bad_value(const struct cmd_opt *o, const char *value, const char *want, struct err *e)
{
	return err_set(e, EINVAL, ERR_INVALID, "--%s: '%s' is not %s", o->name, value, want);
}

static int set_bool(const struct cmd_opt *o, const char *value, bool *ret, struct err *e)
{
	if (!value || str_eq(value, "true") || str_eq(value, "1")) {
		*ret = true;
		return 0;
	}
	if (str_eq(value, "false") || str_eq(value, "0")) {
		*ret = false;
		return 0;
	}
	return bad_value(o, value, "true or false", e);
}

static int set_number(const struct cmd_opt *o, const char *value, void *field, struct err *e)
{
	bool bounded = o->min != 0 || o->max != 0;
	int r;

	if (o->kind == CMD_INT) {
		r = parse_i64(value, bounded ? o->min : INT64_MIN, bounded ? o->max : INT64_MAX,
			      field);
	} else {
		uint64_t v;

		r = parse_u64(value, bounded ? (uint64_t)o->max : UINT64_MAX, &v);
		if (r == 0 && bounded && v < (uint64_t)o->min) {
			r = -ERANGE;
		}
		if (r == 0) {
			*(uint64_t *)field = v;
		}
	}
	if (r == -ERANGE && bounded) {
		return err_set(e, EINVAL, ERR_INVALID, "--%s: %s is not between %lld and %lld",
			       o->name, value, (long long)o->min, (long long)o->max);
	}
	return r < 0 ? bad_value(o, value, "a whole number", e) : 0;
}

static int set_choice(const struct cmd_opt *o, const char *value, int *field, struct err *e)
{
	auto_buf struct buf all = BUF_INIT;

	for (int i = 0; o->choices[i]; i++) {
		if (str_eq(o->choices[i], value)) {
			*field = i;
			return 0;
		}
		buf_printf(&all, "%s%s", i ? ", " : "", o->choices[i]);
	}
	return err_set(e, EINVAL, ERR_INVALID, "--%s: '%s' is not one of %s", o->name, value,
		       buf_str(&all));
}

/* `value` is NULL for a flag given without one. */
static int set_opt(const struct cmd_opt *o, void *opts, const char *value, struct err *e)
{
	void *field = (char *)opts + o->off;
	bool flag = true;
	int r = 0;

	switch (o->kind) {
	case CMD_FLAG:
		return set_bool(o, value, field, e);
	case CMD_TRI:
		r = set_bool(o, value, &flag, e);
		*(int *)field = flag ? 1 : -1;
		return r;
	case CMD_STR:
		*(const char **)field = value;
		return 0;
	case CMD_STRV:
		return strv_add(field, value) < 0 ? err_nomem(e) : 0;
	case CMD_INT:
	case CMD_UINT:
		return set_number(o, value, field, e);
	case CMD_SIZE:
		r = parse_size(value, field);
		return r < 0 ? bad_value(o, value, "a size such as 512m or 2g", e) : 0;
	case CMD_DURATION:
		r = parse_duration(value, field);
		return r < 0 ? bad_value(o, value, "a duration such as 10s or 5m", e) : 0;
	case CMD_CHOICE:
		return set_choice(o, value, field, e);
	case CMD_OPT_KIND__COUNT:
		break;
	}
	assert(false);
	return -EINVAL;
}

static bool takes_value(const struct cmd_opt *o)
{
	return o->kind != CMD_FLAG && o->kind != CMD_TRI;
}

static int unknown_opt(const struct parse *p, const char *dashes, const char *name, size_t len,
		       struct err *e)
{
	return err_set(e, EINVAL, ERR_INVALID, "unknown option %s%.*s for '%s'; see '%s --help'",
		       dashes, (int)len, name, top_cmd(p)->name, top_cmd(p)->name);
}

/* argv[*i] begins with "--". */
static int parse_long(struct parse *p, char **argv, int argc, int *i, struct err *e)
{
	const char *name = argv[*i] + 2;
	const char *eq = strchr(name, '=');
	size_t len = eq ? (size_t)(eq - name) : strlen(name);
	const char *value = eq ? eq + 1 : NULL;
	const struct cmd_opt *o = find_long(top_cmd(p), name, len);

	if (!o && len == 4 && memcmp(name, "help", 4) == 0) {
		p->help = true;
		return 0;
	}
	if (!o && p->depth == 1 && str_eq(name, "version")) {
		p->version = true;
		return 0;
	}
	if (!o && p->depth == 1 && len == 8 && memcmp(name, "generate", 8) == 0) {
		p->generate = value ? value : (*i + 1 < argc ? argv[++*i] : "");
		return 0;
	}
	if (!o) {
		return unknown_opt(p, "--", name, len, e);
	}
	if (takes_value(o) && !value) {
		if (*i + 1 >= argc) {
			return err_set(e, EINVAL, ERR_INVALID, "--%s needs a value: %s", o->name,
				       o->arg);
		}
		value = argv[++*i];
	}
	return set_opt(o, p->opts[p->depth - 1], value, e);
}

/* argv[*i] is "-x...": flags joined, the last one perhaps with a value. */
static int parse_short(struct parse *p, char **argv, int argc, int *i, struct err *e)
{
	for (const char *s = argv[*i] + 1; *s; s++) {
		const struct cmd_opt *o = find_short(top_cmd(p), *s);
		const char *value = NULL;

		if (!o && *s == 'h') {
			p->help = true;
			return 0;
		}
		if (!o && *s == 'v' && p->depth == 1) {
			p->version = true;
			return 0;
		}
		if (!o) {
			return unknown_opt(p, "-", s, 1, e);
		}
		if (takes_value(o)) {
			value = s[1] == '=' ? s + 2 : s + 1;
			if (!*value && *i + 1 >= argc) {
				return err_set(e, EINVAL, ERR_INVALID, "-%c needs a value: %s", *s,
					       o->arg);
			}
			if (!*value) {
				value = argv[++*i];
			}
			return set_opt(o, p->opts[p->depth - 1], value, e);
		}
		int r = set_opt(o, p->opts[p->depth - 1], NULL, e);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int set_defaults(struct parse *p, struct err *e)
{
	const struct cmd *c = top_cmd(p);

	for (size_t i = 0; i < c->n_opts; i++) {
		if (c->opts[i].dflt) {
			int r = set_opt(&c->opts[i], p->opts[p->depth - 1], c->opts[i].dflt, e);

			if (r < 0) {
				return r;
			}
		}
	}
	return 0;
}

static int unknown_sub(const struct cmd *c, const char *name, struct err *e)
{
	return err_set(e, EINVAL, ERR_INVALID, "'%s' is not a command of %s; see '%s --help'", name,
		       c->name, c->name);
}

static int parse_args(struct parse *p, int argc, char **argv, struct err *e)
{
	bool no_more_opts = false;
	int r = 0;

	for (int i = 1; r == 0 && i < argc; i++) {
		const char *a = argv[i];

		if (!no_more_opts && str_eq(a, "--")) {
			no_more_opts = true;
		} else if (!no_more_opts && a[0] == '-' && a[1] == '-') {
			r = parse_long(p, argv, argc, &i, e);
		} else if (!no_more_opts && a[0] == '-' && a[1]) {
			r = parse_short(p, argv, argc, &i, e);
		} else if (top_cmd(p)->n_sub > 0 && p->n_args == 0) {
			const struct cmd *sub = find_sub(top_cmd(p), a);

			if (sub) {
				r = enter(p, sub, e);
				r = r < 0 ? r : set_defaults(p, e);
			} else if (!top_cmd(p)->run) {
				r = unknown_sub(top_cmd(p), a, e);
			} else {
				p->args[p->n_args++] = argv[i];
			}
		} else {
			p->args[p->n_args++] = argv[i];
			no_more_opts |= (top_cmd(p)->flags & CMD_STOP_AT_ARG) != 0;
		}
	}
	return r;
}

static bool opt_given(const struct cmd_opt *o, const void *opts)
{
	const void *field = (const char *)opts + o->off;

	switch (o->kind) {
	case CMD_STR:
		return *(const char *const *)field != NULL;
	case CMD_STRV:
		return ((const struct strv *)field)->n > 0;
	case CMD_FLAG:
	case CMD_TRI:
	case CMD_INT:
	case CMD_UINT:
	case CMD_SIZE:
	case CMD_DURATION:
	case CMD_CHOICE:
	case CMD_OPT_KIND__COUNT:
		return true;
	}
	return true;
}

static int check_call(const struct parse *p, struct err *e)
{
	const struct cmd *c = top_cmd(p);

	if (!c->run) {
		return err_set(e, EINVAL, ERR_INVALID, "a command is missing; see '%s --help'",
			       c->name);
	}
	if (p->n_args < c->min_args) {
		return err_set(e, EINVAL, ERR_INVALID, "'%s' needs %s; see '%s --help'", c->name,
			       c->args ? c->args : "an argument", c->name);
	}
	if (c->max_args != CMD_ANY && p->n_args > c->max_args) {
		return err_set(e, EINVAL, ERR_INVALID, "'%s' takes no argument '%s'; see '%s --help'",
			       c->name, p->args[c->max_args], c->name);
	}
	for (size_t i = 0; i < c->n_opts; i++) {
		const struct cmd_opt *o = &c->opts[i];

		if ((o->flags & CMD_REQUIRED) && !opt_given(o, p->opts[p->depth - 1])) {
			return err_set(e, EINVAL, ERR_INVALID, "'%s' needs --%s %s", c->name, o->name,
				       o->arg);
		}
	}
	return 0;
}

static int generate(const struct cmd *root, const char *what, struct err *e)
{
	if (str_eq(what, "man") || str_eq(what, "man8")) {
		cmd_print_man(root, str_eq(what, "man") ? 1 : 8, stdout);
		return 0;
	}
	if (cmd_print_completion(root, what, stdout) < 0) {
		return err_set(e, EINVAL, ERR_INVALID,
			       "--generate takes man, man8, bash, zsh or fish");
	}
	return 0;
}

static int run_parsed(const struct cmd *root, struct parse *p, void *ud, bool *usage,
		      struct err *e)
{
	if (p->help) {
		cmd_print_help(p->path, p->depth, stdout);
		return 0;
	}
	if (p->version) {
		printf("%s version %s\n", root->name, HOLM_VERSION);
		return 0;
	}
	if (p->generate) {
		return generate(root, p->generate, e);
	}
	*usage = true;
	int r = check_call(p, e);

	if (r < 0) {
		return r;
	}
	*usage = false;
	struct cmd_call call = {
		.cmd = top_cmd(p),
		.opts = p->opts[p->depth - 1],
		.parent = p->depth > 1 ? p->opts[p->depth - 2] : NULL,
		.top = p->opts[0],
		.args = p->args,
		.n_args = p->n_args,
		.ud = ud,
	};
	return top_cmd(p)->run(&call, e);
}

int cmd_run(const struct cmd *root, int argc, char **argv, void *ud, bool *ret_usage,
	    struct err *e)
{
	struct parse p = { .depth = 0 };
	bool usage = false;
	int r;

	p.args = mem_calloc((size_t)argc + 1, sizeof(char *));
	r = p.args ? enter(&p, root, e) : err_nomem(e);
	if (r == 0) {
		r = set_defaults(&p, e);
	}
	if (r == 0) {
		r = parse_args(&p, argc, argv, e);
		usage = r < 0;
	}
	if (r == 0) {
		r = run_parsed(root, &p, ud, &usage, e);
	}
	parse_fini(&p);
	if (ret_usage) {
		*ret_usage = usage;
	}
	return r;
}

int cmd_main(const struct cmd *root, int argc, char **argv, void *ud)
{
	struct err e = ERR_INIT;
	char text[sizeof(e.msg) + sizeof(e.field) + 128];
	int r = fd_fill_stdio();

	if (r < 0) {
		return 1; /* with nowhere to say so */
	}
	r = cmd_run(root, argc, argv, ud, NULL, &e);
	if (r >= 0) {
		return r;
	}
	fprintf(stderr, "%s: %s\n", root->name, err_text(&e, text, sizeof(text)));
	return err_codes[e.code].exit_code;
}
