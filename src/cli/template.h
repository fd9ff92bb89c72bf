/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The templates of --format, in the syntax that users of other engines know (Go's
 * text/template), over a JSON value:
 *
 *	{{.State.Pid}}  {{json .Config}}  {{.Names | upper}}  {{index .Labels "a"}}
 *	{{join .Args " "}}  {{len .Mounts}}  {{if .Error}}..{{else}}..{{end}}
 *	{{range .Mounts}}{{.Source}} {{end}}
 *
 * "\t" and "\n" stand for a tab and a new line; "{{-" and "-}}" trim the white space beside
 * them. Keys are matched as they are, and if that fails without regard to case and to '_'.
 * Inside a range "." is the element and "$" the whole value.
 */
#ifndef CLI_TEMPLATE_H
#define CLI_TEMPLATE_H

#include "json/json.h"

/*
 * Append what the template makes of `value` to *out. The error says where the template is
 * wrong. A field that does not exist is an error; one that is null prints as "<no value>".
 */
int template_print(const char *text, const json_t *value, struct buf *out,
		   struct err *e) must_check;

#endif
