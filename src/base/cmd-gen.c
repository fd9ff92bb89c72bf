/* SPDX-License-Identifier: Apache-2.0 */
/* What a command table is printed as: help, a manual page, shell completion. */
#include "base/cmd.h"

#include <errno.h>

static bool shown(unsigned flags)
{
	return !(flags & CMD_HIDDEN);
}

/* "-s, --signal SIGNAL" */
static void opt_title(const struct cmd_opt *o, struct buf *b)
{
	if (o->short_name) {
		buf_printf(b, "-%c, ", o->short_name);
	} else {
		buf_add_str(b, "    ");
	}
	buf_printf(b, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
}

static void print_opts(const struct cmd *c, FILE *out)
{
	for (size_t i = 0; i < c->n_opts; i++) {
		const struct cmd_opt *o = &c->opts[i];
		auto_buf struct buf title = BUF_INIT;

		if (!shown(o->flags)) {
			continue;
		}
		opt_title(o, &title);
		fprintf(out, "  %-30s %s", buf_str(&title), o->help);
		if (o->dflt && !(o->flags & CMD_NO_DEFAULT_TEXT)) {
			fprintf(out, " (default %s)", o->dflt);
		}
		fputc('\n', out);
	}
}

static void print_subs(const struct cmd *c, FILE *out)
{
	const char *group = NULL;

	for (size_t i = 0; i < c->n_sub; i++) {
		const struct cmd *s = c->sub[i];

		if (!shown(s->flags)) {
			continue;
		}
		if (i == 0 || !str_eq0(group, s->group)) {
			fprintf(out, "%s%s:\n", i ? "\n" : "", s->group ? s->group : "Commands");
			group = s->group;
		}
		fprintf(out, "  %-14s %s\n", s->name, s->help);
	}
}

/* What runs by itself needs no command. */
static const char *command_text(const struct cmd *c)
{
	return c->n_sub == 0 ? "" : c->run ? " [COMMAND]" : " COMMAND";
}

void cmd_print_help(const struct cmd *const *path, size_t n_path, FILE *out)
{
	const struct cmd *c = path[n_path - 1];

	fputs("Usage:", out);
	for (size_t i = 0; i < n_path; i++) {
		fprintf(out, " %s", path[i]->name);
	}
	fprintf(out, "%s%s%s%s\n\n%c%s.\n\n", c->n_opts ? " [OPTION...]" : "",
		command_text(c), c->args ? " " : "", c->args ? c->args : "",
		c->help[0] >= 'a' && c->help[0] <= 'z' ? c->help[0] - 32 : c->help[0], c->help + 1);
	print_subs(c, out);
	if (c->n_opts > 0) {
		fprintf(out, "%sOptions:\n", c->n_sub ? "\n" : "");
		print_opts(c, out);
	}
	if (c->n_sub > 0) {
		fprintf(out, "\nSee '%s COMMAND --help' for a command.\n", path[0]->name);
	}
}

/* Text in man(7): dashes and backslashes escaped, no line that begins like a request. */
static void man_text(const char *s, FILE *out)
{
	bool line_start = true;

	for (; *s; s++) {
		if (line_start && (*s == '.' || *s == '\'')) {
			fputs("\\&", out);
		}
		if (*s == '-') {
			fputs("\\-", out);
		} else if (*s == '\\') {
			fputs("\\e", out);
		} else {
			fputc(*s, out);
		}
		line_start = *s == '\n';
	}
}

static void man_opts(const struct cmd *c, FILE *out)
{
	for (size_t i = 0; i < c->n_opts; i++) {
		const struct cmd_opt *o = &c->opts[i];

		if (!shown(o->flags)) {
			continue;
		}
		fputs(".TP\n", out);
		if (o->short_name) {
			fprintf(out, "\\fB\\-%c\\fR, ", o->short_name);
		}
		fputs("\\fB\\-\\-", out);
		man_text(o->name, out);
		fputs("\\fR", out);
		if (o->arg) {
			fputs(" \\fI", out);
			man_text(o->arg, out);
			fputs("\\fR", out);
		}
		fputc('\n', out);
		man_text(o->help, out);
		if (o->dflt && !(o->flags & CMD_NO_DEFAULT_TEXT)) {
			fputs(" (default ", out);
			man_text(o->dflt, out);
			fputc(')', out);
		}
		fputs(".\n", out);
	}
}

static void man_cmd(const struct cmd *c, const char *prefix, FILE *out)
{
	auto_buf struct buf name = BUF_INIT;

	buf_printf(&name, "%s %s", prefix, c->name);
	if (c->run) {
		fputs(".SS \"", out);
		man_text(buf_str(&name), out);
		if (c->n_opts) {
			fputs(" [OPTION...]", out);
		}
		if (c->args) {
			fputc(' ', out);
			man_text(c->args, out);
		}
		fputs("\"\n", out);
		man_text(c->help, out);
		fputs(".\n", out);
		if (c->text) {
			fputs(".PP\n", out);
			man_text(c->text, out);
			fputc('\n', out);
		}
		man_opts(c, out);
		if (c->examples) {
			fputs(".PP\n.nf\n", out);
			man_text(c->examples, out);
			fputs("\n.fi\n", out);
		}
	}
	for (size_t i = 0; i < c->n_sub; i++) {
		if (shown(c->sub[i]->flags)) {
			man_cmd(c->sub[i], buf_str(&name), out);
		}
	}
}

void cmd_print_man(const struct cmd *root, unsigned section, FILE *out)
{
	fprintf(out, ".TH \"%s\" \"%u\" \"\" \"Holm\" \"Holm manual\"\n.SH NAME\n", root->name,
		section);
	man_text(root->name, out);
	fputs(" \\- ", out);
	man_text(root->help, out);
	fputs("\n.SH SYNOPSIS\n.B ", out);
	man_text(root->name, out);
	fprintf(out, "\n%s%s%s\n", root->n_opts ? "[OPTION...]" : "", command_text(root),
		root->n_sub ? " [ARG...]" : "");
	if (root->args) {
		man_text(root->args, out);
		fputc('\n', out);
	}
	if (root->text) {
		fputs(".SH DESCRIPTION\n", out);
		man_text(root->text, out);
		fputc('\n', out);
	}
	if (root->n_opts) {
		fputs(".SH OPTIONS\n", out);
		man_opts(root, out);
	}
	if (root->n_sub) {
		fputs(".SH COMMANDS\n", out);
		for (size_t i = 0; i < root->n_sub; i++) {
			if (shown(root->sub[i]->flags)) {
				man_cmd(root->sub[i], root->name, out);
			}
		}
	}
	if (root->examples) {
		fputs(".SH EXAMPLES\n.nf\n", out);
		man_text(root->examples, out);
		fputs("\n.fi\n", out);
	}
}

/* One line a command path: "PATH|words", from which each shell's function picks. */
static void completion_lines(const struct cmd *c, const char *path, FILE *out)
{
	fprintf(out, "%s|", path);
	for (size_t i = 0; i < c->n_sub; i++) {
		if (shown(c->sub[i]->flags)) {
			fprintf(out, "%s ", c->sub[i]->name);
		}
	}
	for (size_t i = 0; i < c->n_opts; i++) {
		if (shown(c->opts[i].flags)) {
			fprintf(out, "--%s ", c->opts[i].name);
		}
	}
	fputs(c->complete == CMD_COMPLETE_FILE ? "@file" :
	      c->complete == CMD_COMPLETE_DIR ? "@dir" :
	      c->complete == CMD_COMPLETE_DYNAMIC ? "@dynamic" : "--help", out);
	fputc('\n', out);
	for (size_t i = 0; i < c->n_sub; i++) {
		auto_buf struct buf deeper = BUF_INIT;

		if (shown(c->sub[i]->flags)) {
			buf_printf(&deeper, "%s %s", path, c->sub[i]->name);
			completion_lines(c->sub[i], buf_str(&deeper), out);
		}
	}
}

static void print_bash(const struct cmd *root, FILE *out)
{
	const char *n = root->name;

	fprintf(out,
		"# bash completion for %s\n"
		"__%s_table() { cat <<'TABLE'\n", n, n);
	completion_lines(root, n, out);
	fprintf(out,
		"TABLE\n}\n"
		"__%s() {\n"
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} path=%s words='' w line try\n"
		"\tfor w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
		"\t\t[[ $w == -* ]] && continue\n"
		"\t\ttry=\"$path $w\"\n"
		"\t\t__%s_table | grep -q -- \"^$try|\" && path=$try\n"
		"\tdone\n"
		"\tline=$(__%s_table | grep -- \"^$path|\")\n"
		"\twords=${line#*|}\n"
		"\tcase $words in\n"
		"\t*@file) COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
		"\t*@dir) COMPREPLY=($(compgen -d -- \"$cur\")) ;;\n"
		"\t*@dynamic) [[ $cur == -* ]] ||\n"
		"\t\tCOMPREPLY=($(compgen -W \"$(%s __complete $path 2>/dev/null)\" -- \"$cur\")) ;;\n"
		"\tesac\n"
		"\tCOMPREPLY+=($(compgen -W \"${words%%@*}\" -- \"$cur\"))\n"
		"}\n"
		"complete -o filenames -F __%s %s\n", n, n, n, n, n, n, n);
}

/* zsh and fish run the same table through their own front ends. */
static void print_zsh(const struct cmd *root, FILE *out)
{
	fprintf(out, "#compdef %s\nautoload -U +X bashcompinit && bashcompinit\n", root->name);
	print_bash(root, out);
}

static void fish_lines(const struct cmd *root, const struct cmd *c, const char *condition,
		       FILE *out)
{
	for (size_t i = 0; i < c->n_sub; i++) {
		if (shown(c->sub[i]->flags)) {
			fprintf(out, "complete -c %s -f -n '%s' -a %s -d '%s'\n", root->name, condition,
				c->sub[i]->name, c->sub[i]->help);
		}
	}
	for (size_t i = 0; i < c->n_opts; i++) {
		const struct cmd_opt *o = &c->opts[i];

		if (shown(o->flags)) {
			fprintf(out, "complete -c %s -n '%s' -l %s", root->name, condition, o->name);
			if (o->short_name) {
				fprintf(out, " -s %c", o->short_name);
			}
			fprintf(out, "%s -d '%s'\n", o->arg ? " -r" : "", o->help);
		}
	}
	for (size_t i = 0; i < c->n_sub; i++) {
		auto_buf struct buf deeper = BUF_INIT;

		buf_printf(&deeper, "__fish_seen_subcommand_from %s", c->sub[i]->name);
		if (shown(c->sub[i]->flags)) {
			fish_lines(root, c->sub[i], buf_str(&deeper), out);
		}
	}
}

int cmd_print_completion(const struct cmd *root, const char *shell, FILE *out)
{
	if (str_eq(shell, "bash")) {
		print_bash(root, out);
	} else if (str_eq(shell, "zsh")) {
		print_zsh(root, out);
	} else if (str_eq(shell, "fish")) {
		fish_lines(root, root, "__fish_use_subcommand", out);
	} else {
		return -EINVAL;
	}
	return 0;
}

static const char *opts_fault(const struct cmd *c)
{
	for (size_t i = 0; i < c->n_opts; i++) {
		const struct cmd_opt *o = &c->opts[i];
		bool flag = o->kind == CMD_FLAG || o->kind == CMD_TRI;

		if (!o->name || !o->help || strchr(o->help, '\'')) {
			return "an option lacks its name or help, or has a quote in it";
		}
		if (flag != !o->arg) {
			return "an option needs `arg` exactly if it takes a value";
		}
		if (o->off >= c->opts_size) {
			return "an option lies outside its struct";
		}
		if ((o->kind == CMD_CHOICE) != (o->choices != NULL)) {
			return "choices go with CMD_CHOICE";
		}
		for (size_t j = 0; j < i; j++) {
			if (str_eq(o->name, c->opts[j].name) ||
			    (o->short_name && o->short_name == c->opts[j].short_name)) {
				return "two options of one command share a name";
			}
		}
	}
	return NULL;
}

const char *cmd_table_fault(const struct cmd *root)
{
	const char *fault = opts_fault(root);

	if (fault) {
		return fault;
	}
	if (!root->name || !root->help || strchr(root->help, '\'')) {
		return "a command lacks its name or help, or has a quote in it";
	}
	if (!root->run && root->n_sub == 0) {
		return "a command does nothing";
	}
	if (root->max_args < root->min_args || (root->max_args > 0) != (root->args != NULL)) {
		return "a command's arguments and their text do not fit";
	}
	for (size_t i = 0; i < root->n_sub; i++) {
		for (size_t j = 0; j < i; j++) {
			if (str_eq(root->sub[i]->name, root->sub[j]->name)) {
				return "two commands share a name";
			}
		}
		fault = cmd_table_fault(root->sub[i]);
		if (fault) {
			return fault;
		}
	}
	return NULL;
}
