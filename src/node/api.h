/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API as data: tables of routes, each with the tables of its fields. A request goes
 *
 *	parse -> merged object -> authorize(subject, action, object) -> handler
 *
 * A handler gets checked structs. It answers once, now or later, by api_reply(), api_fail(),
 * api_stream(), api_upgrade(), or returns -errno with *e filled, which is the same as
 * api_fail(); it never writes an HTTP status. What it answers later it remembers by the call,
 * and sets call->cancel to learn that the client went away.
 *
 *	static const struct api_route instance_routes[] = {
 *		{ "POST", "/v1/instances/{id}/kill", "instance.kill", API_INSTANCE, h_kill,
 *		  .body = &kill_table, .doc = "Send a signal to an instance's process." },
 *	};
 *
 * Every route names the right that it needs; a test walks the tables. Bodies above the limit
 * are refused (413) before they are read, unknown fields by name.
 */
#ifndef NODE_API_H
#define NODE_API_H

#include "json/table.h"
#include "node/http.h"

struct node;
struct instance;
struct api;
struct api_call;

enum {
	API_BODY_MAX = 1024 * 1024,
	API_PARAM_MAX = 512,   /* bytes of one part of a path */
};

enum {
	API_INSTANCE  = 1,     /* {id} is an instance: found before the handler, or 404 */
	API_CREATED   = 2,     /* success is 201 */
	API_ACCEPTED  = 4,     /* success is 202: an operation goes on */
	API_EMPTY     = 8,     /* success is 204, no body */
	API_STREAM    = 16,    /* answers with JSON lines (or what .produces says) */
	API_UPGRADE   = 32,    /* answers 101 */
	API_BODY_STREAM = 64,  /* takes a body of any length as it comes (.consumes) */
	API_BROKEN    = 256,   /* also of an instance whose record cannot be read */
	API_MERGES    = 128,   /* the handler makes the final object and authorises it itself */
};

typedef int (*api_fn)(struct api_call *c, struct err *e);

struct api_route {
	const char          *method;
	const char          *path;      /* "{x}": one part; "{x...}" at the end: the rest */
	const char          *action;    /* the right: "instance.kill" */
	unsigned             flags;
	api_fn               fn;
	const struct jtable *query;     /* arguments after "?"; NULL: none */
	const struct jtable *body;      /* NULL: none */
	const struct jtable *reply;     /* for the document; NULL: none or free */
	const char          *produces;  /* other than application/json */
	const char          *consumes;
	const char          *doc;
};

/* Who asks. */
struct subject {
	uid_t uid;
	pid_t pid;
};

struct api_call {
	struct list             link;     /* in api->calls */
	struct node            *node;
	const struct api_route *route;
	struct http_req        *req;      /* NULL once the client is gone */
	struct subject          subject;
	struct arena            arena;
	char                   *params[2];/* decoded parts of the path, in their order */
	struct instance        *instance; /* API_INSTANCE: while the handler runs, and while held */
	void                   *query;    /* parsed, by route->query */
	void                   *body;
	json_t                 *body_doc;
	bool                    authorized;
	bool                    answered;
	/* The client went before the answer: forget the call. NULL: nothing to do. */
	void                  (*cancel)(struct api_call *c);
	void                  (*drained)(struct api_call *c);   /* all that was written is out */
	void                   *ud;       /* the handler's */
};

struct api_routes {
	const struct api_route *v;
	size_t                  n;
};

/* All tables, ended by NULL. */
extern const struct api_routes *const api_tables[];

int  api_new(struct node *node, struct loop *loop, int listen_fd, struct api **ret,
	     struct err *e) must_check;
void api_quiesce(struct api *a);
struct api *api_free(struct api *a);

/*
 * Whether the subject may do the action on the final object (after all defaults are applied).
 * Called exactly once for each request, before anything is done. ERR_DENIED if not.
 */
int authorize(struct api_call *c, const char *action, const json_t *object,
	      struct err *e) must_check;

/* One more right that a call needs for what it does on the way. */
int authorize_also(struct api_call *c, const char *action, const json_t *object,
		   struct err *e) must_check;

/* The answer. `own_json` NULL with a route of content means: memory is out. */
void api_reply(struct api_call *c, json_t *own_json);
void api_fail(struct api_call *c, const struct err *e);

/* An answer in parts: JSON lines or bytes. api_line() is -ENOBUFS if the client is too slow. */
void api_stream(struct api_call *c);
int  api_write(struct api_call *c, const void *data, size_t n) must_check;
int  api_line(struct api_call *c, json_t *own_json) must_check;
void api_end(struct api_call *c);
void api_abort(struct api_call *c);

/* The connection is handed to `fn` (see http_upgrade()); the call ends with it. */
void api_upgrade(struct api_call *c, http_upgrade_fn fn, void *ud);

/* The whole API as an OpenAPI 3.1 document. NULL when memory is out. */
json_t *openapi_document(const struct api_routes *const *tables) must_check;

/* {"error":{"code","message","field"}}; NULL when memory is out. */
char *api_error_text(const struct err *e) must_check;

/* What is wrong with the tables, or NULL. For the test. */
const char *api_tables_fault(const struct api_routes *const *tables);

/*
 * The route of a request; *ret_n parts of the path are copied into `params`, decoded.
 * NULL: *ret_known tells whether the path exists with another method.
 */
const struct api_route *api_match(const struct api_routes *const *tables, const char *method,
				  const char *path, char *params[2], bool *ret_known);

/* A query as the object that its table parses. For the server and its fuzz target. */
int api_query_put(const struct jtable *t, json_t *obj, const char *key, const char *value,
		  struct err *e) must_check;

#endif
