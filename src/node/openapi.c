/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The OpenAPI document, from the tables that parse and answer the requests: it cannot be out
 * of date.
 */
#include <ctype.h>
#include <errno.h>

#include "json/table.h"
#include "node/api.h"

#define API_VERSION "1.0.0"

/* All adding goes through here: one check at the end. */
struct doc {
	json_t *schemas;
	bool    failed;
};

static void put(struct doc *d, json_t *obj, const char *key, json_t *own_value)
{
	if (!obj || json_put(obj, key, own_value) < 0) {
		d->failed = true;
	}
}

static json_t *ref_to(struct doc *d, const struct jtable *t)
{
	json_t *ref = json_object();

	put(d, ref, "$ref", json_sprintf("#/components/schemas/%s", t->name));
	return ref;
}

static void add_schema(struct doc *d, const struct jtable *t)
{
	if (json_object_get(d->schemas, t->name)) {
		return;
	}
	put(d, d->schemas, t->name, jtable_schema(t));
	for (size_t i = 0; i < t->n_fields; i++) {
		if (t->fields[i].sub) {
			add_schema(d, t->fields[i].sub);
		}
	}
}

static json_t *content(struct doc *d, const char *type, json_t *own_schema)
{
	json_t *media = json_object(), *types = json_object();

	put(d, media, "schema", own_schema);
	put(d, types, type, media);
	return types;
}

static json_t *plain(struct doc *d, const char *type, const char *format)
{
	json_t *s = json_object();

	put(d, s, "type", json_string(type));
	if (format) {
		put(d, s, "format", json_string(format));
	}
	return s;
}

static void add_parameter(struct doc *d, json_t *list, const char *where, const char *name,
			  bool required, const char *text, json_t *own_schema)
{
	json_t *p = json_object();

	put(d, p, "name", json_string(name));
	put(d, p, "in", json_string(where));
	put(d, p, "required", json_boolean(required));
	put(d, p, "description", json_string(text));
	put(d, p, "schema", own_schema);
	if (json_array_append_new(list, p) < 0) {
		d->failed = true;
	}
}

static void add_path_parameters(struct doc *d, json_t *list, const char *path)
{
	for (const char *s = strchr(path, '{'); s; s = strchr(s + 1, '{')) {
		char name[32];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(s + 1, "}."), s + 1);
		add_parameter(d, list, "path", name, true, "id, unique prefix of an id, or name",
			      plain(d, "string", NULL));
	}
}

static void add_query_parameters(struct doc *d, json_t *list, const struct jtable *t)
{
	auto_json json_t *schema = t ? jtable_schema(t) : NULL;
	json_t *properties = json_object_get(schema, "properties");

	for (size_t i = 0; t && i < t->n_fields; i++) {
		const struct jfield *f = &t->fields[i];
		json_t *s = json_object_get(properties, f->name);

		add_parameter(d, list, "query", f->name, f->flags & JF_REQUIRED, f->doc,
			      s ? json_incref(s) : plain(d, "string", NULL));
	}
}

static json_t *response(struct doc *d, const char *text, json_t *own_content)
{
	json_t *r = json_object();

	put(d, r, "description", json_string(text));
	if (own_content) {
		put(d, r, "content", own_content);
	}
	return r;
}

static json_t *responses(struct doc *d, const struct api_route *r)
{
	json_t *all = json_object();
	const char *type = r->produces ? r->produces :
			   r->flags & API_STREAM ? "application/jsonl" : "application/json";
	json_t *error = json_object();

	if (r->flags & API_UPGRADE) {
		put(d, all, "101", response(d, "The connection is now the stream of "
					    "docs/formats/attach.md (Upgrade: holm-stream).", NULL));
	} else if (r->flags & API_EMPTY) {
		put(d, all, "204", response(d, "Done.", NULL));
	} else {
		json_t *schema = r->reply ? ref_to(d, r->reply) :
				 r->produces ? plain(d, "string", "binary") : plain(d, "object", NULL);

		put(d, all, r->flags & API_CREATED ? "201" : r->flags & API_ACCEPTED ? "202" : "200",
		    response(d, r->flags & API_STREAM ? "One object a line, as they come." : "Done.",
			     content(d, type, schema)));
	}
	put(d, error, "$ref", json_string("#/components/responses/Error"));
	put(d, all, "default", error);
	return all;
}

/* "POST /v1/instances/{id}/kill" -> "instance_kill": the action, which is unique but for GETs. */
static json_t *operation_id(const struct api_route *r)
{
	char id[96];
	size_t n = 0;

	for (const char *s = r->method; *s && n < 8; s++) {
		id[n++] = (char)tolower((unsigned char)*s);
	}
	for (const char *s = r->path + 3; *s && n < sizeof(id) - 1; s++) {
		if (isalnum((unsigned char)*s) || *s == '/') {
			id[n++] = *s == '/' ? '_' : *s;
		}
	}
	id[n] = '\0';
	return json_string(id);
}

static json_t *operation(struct doc *d, const struct api_route *r)
{
	json_t *op = json_object(), *parameters = json_array(), *tags = json_array();

	put(d, op, "operationId", operation_id(r));
	put(d, op, "summary", json_string(r->doc));
	json_array_append_new(tags, json_stringn(r->action, strcspn(r->action, ".")));
	put(d, op, "tags", tags);
	put(d, op, "x-holm-action", json_string(r->action));
	add_path_parameters(d, parameters, r->path);
	add_query_parameters(d, parameters, r->query);
	put(d, op, "parameters", parameters);
	if (r->body || r->consumes) {
		json_t *body = json_object();

		put(d, body, "content", content(d, r->consumes ? r->consumes : "application/json",
						r->body ? ref_to(d, r->body) :
						plain(d, "string", "binary")));
		put(d, op, "requestBody", body);
	}
	put(d, op, "responses", responses(d, r));
	if (r->body) {
		add_schema(d, r->body);
	}
	if (r->reply) {
		add_schema(d, r->reply);
	}
	return op;
}

static void add_route(struct doc *d, json_t *paths, const struct api_route *r)
{
	char path[128];
	char method[8];
	size_t n = 0;

	for (const char *s = r->path; *s && n < sizeof(path) - 1; s++) {
		if (*s != '.' || !strstr(r->path, "...") ) {
			path[n++] = *s;
		}
	}
	path[n] = '\0';
	for (n = 0; r->method[n] && n < sizeof(method) - 1; n++) {
		method[n] = (char)tolower((unsigned char)r->method[n]);
	}
	method[n] = '\0';
	json_t *item = json_object_get(paths, path);

	if (!item) {
		item = json_object();
		put(d, paths, path, item);
	}
	put(d, item, method, operation(d, r));
}

static json_t *error_schema(void)
{
	json_t *codes = json_array();

	for (int i = ERR_NONE + 1; i < ERR__COUNT; i++) {
		json_array_append_new(codes, json_string(err_codes[i].name));
	}
	return json_pack("{s:s, s:[s], s:{s:{s:s, s:[s,s], s:{s:{s:s,s:o}, s:{s:s}, s:{s:s,s:s}}}}}",
			 "type", "object", "required", "error", "properties", "error",
			 "type", "object", "required", "code", "message", "properties",
			 "code", "type", "string", "enum", codes,
			 "message", "type", "string",
			 "field", "type", "string", "description", "JSON pointer of the bad input");
}

json_t *openapi_document(const struct api_routes *const *tables)
{
	struct doc d = { .schemas = json_object(), .failed = false };
	json_t *root = json_object(), *paths = json_object(), *components = json_object();
	json_t *error_responses = json_object(), *ref = json_object();

	put(&d, root, "openapi", json_string("3.1.0"));
	put(&d, root, "info", json_pack("{s:s,s:s,s:s}", "title", "Holm", "version", API_VERSION,
					"description", "The API of holmd, on a unix socket."));
	put(&d, root, "paths", paths);
	for (const struct api_routes *const *t = tables; *t; t++) {
		for (size_t i = 0; i < (*t)->n; i++) {
			add_route(&d, paths, &(*t)->v[i]);
		}
	}
	put(&d, d.schemas, "Error", error_schema());
	put(&d, ref, "$ref", json_string("#/components/schemas/Error"));
	put(&d, error_responses, "Error", response(&d, "Not done.", content(&d, "application/json",
									     ref)));
	put(&d, components, "responses", error_responses);
	put(&d, components, "schemas", d.schemas);
	put(&d, root, "components", components);
	if (d.failed) {
		json_decref(root);
		return NULL;
	}
	return root;
}

static const char *table_fault(const struct jtable *t)
{
	return t ? jtable_fault(t) : NULL;
}

static const char *route_fault(const struct api_route *r)
{
	static const char *const methods[] = { "GET", "POST", "PUT", "PATCH", "DELETE" };
	bool known = false;

	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		known = known || str_eq(r->method, methods[i]);
	}
	if (!known || !str_after(r->path, "/v1/")) {
		return "method or path";
	}
	if (!r->action || !strchr(r->action, '.')) {
		return "no right";
	}
	if (!r->doc || !str_ends(r->doc, ".") || !isupper((unsigned char)r->doc[0])) {
		return "no sentence of documentation";
	}
	if (!r->fn) {
		return "no handler";
	}
	if ((r->flags & API_INSTANCE) && !strstr(r->path, "{id}")) {
		return "no {id}";
	}
	const char *fault = table_fault(r->query);

	fault = fault ? fault : table_fault(r->body);
	return fault ? fault : table_fault(r->reply);
}

const char *api_tables_fault(const struct api_routes *const *tables)
{
	static char text[192];

	for (const struct api_routes *const *t = tables; *t; t++) {
		for (size_t i = 0; i < (*t)->n; i++) {
			const struct api_route *r = &(*t)->v[i];
			const char *fault = route_fault(r);
			char *params[2] = { NULL, NULL };
			bool known;

			if (!fault && api_match(tables, r->method, r->path, params, &known) != r) {
				fault = "hidden by another route";
			}
			free(params[0]);
			free(params[1]);
			if (fault) {
				snprintf(text, sizeof(text), "%s %s: %s", r->method, r->path, fault);
				return text;
			}
		}
	}
	return NULL;
}
