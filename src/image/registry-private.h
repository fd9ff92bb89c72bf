/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of registry.h share: the session of the child with one registry.
 */
#ifndef IMAGE_REGISTRY_PRIVATE_H
#define IMAGE_REGISTRY_PRIVATE_H

#include "image/http.h"
#include "image/registry.h"
#include "image/worker.h"

/* Certificates in memory files, which the child inherits. -1: none. */
struct registry__tls {
	int  ca_fd, cert_fd, key_fd;
	char ca[32], cert[32], key[32];   /* "/proc/self/fd/N" */
};

int  registry__tls_load(const char *host, const struct registry_conf *conf,
			struct registry__tls *ret, struct err *e) must_check;
void registry__tls_fini(struct registry__tls *t);

/* What the child gets with the fork. */
struct registry__job {
	struct ref            ref;
	struct registry_conf  conf;
	bool                  plain;
	struct registry__tls  tls;
	struct credential     cred;
	const char           *platform;
	const char           *scope_from;   /* one more repository to read from, or NULL */
	void                 *more;         /* of the operation */
};

int  registry__job_init(struct registry__job *job, const struct ref *ref,
			const struct registry_conf *conf, struct err *e) must_check;
void registry__job_fini(struct registry__job *job);

extern const struct confine registry__confine;

/* The child's session. */
struct registry {
	struct http                 http;
	struct worker              *w;
	const struct registry__job *job;
	char                        base[320];       /* "https://host:port" */
	char                        host[REF_HOST_MAX + 1];   /* as in base, for messages */
	char                       *authorization;   /* header, or NULL */
	char                       *scope;
	struct challenge            challenge;       /* the last one met */
	bool                        has_item;        /* requests with a body move this item: */
	uint32_t                    item;
	uint64_t                    item_base;       /* bytes before those of the request */
};

int  registry__open(struct registry *g, struct worker *w, const struct registry__job *job,
		    const char *actions, struct err *e) must_check;
void registry__close(struct registry *g);

/* Ask for rights by what the registry last demanded. */
int registry__authorize(struct registry *g, struct err *e) must_check;

/* What to do after a request has ended. */
enum registry__verdict {
	REG_GOOD,       /* a status below 300, or one the caller knows of */
	REG_AGAIN,      /* after a pause */
	REG_AUTHORIZE,  /* after registry__authorize() */
	REG_REDIRECT,   /* to the URL in *url */
	REG_FAILED,     /* *e says why */
};

/* How often a request was tried, in which ways. */
struct registry__tries {
	unsigned again, authorized, redirected;
	uint64_t pause_ns;   /* before the next, set with REG_AGAIN */
};

/*
 * Judge an ended request. `what` names it in errors. `*url` is the URL that was asked; with
 * REG_REDIRECT it is replaced.
 */
enum registry__verdict registry__judge(struct registry *g, struct http_req *q,
				       struct registry__tries *t, const char *what, char **url,
				       struct err *e);

/* Count one more try, and say how long to pause first; false: enough. */
bool registry__may_retry(struct registry *g, struct registry__tries *t, unsigned after_s);

/* Let the person know of a pause and why it is made. */
void registry__tell_retry(struct registry *g, const struct err *why, uint64_t pause_ns);

/* A request to be made as often as it takes. */
struct registry__ask {
	const char  *method;
	const char  *url;            /* absolute */
	const char  *header, *header2; /* "Name: value", or NULL */
	const char  *what;           /* for errors */
	const void  *send;
	int          send_fd;        /* -1 */
	uint64_t     send_off, send_bytes;
	long         fine;           /* a status from 300 on that is a good answer; 0: none */
	size_t       body_max;       /* 0: 4 MiB */
	bool         no_retry;
	bool         no_auth;
};

/* Make it; *ret is the last request, with its reply. */
int registry__do(struct registry *g, const struct registry__ask *ask, struct http_req **ret,
		 struct err *e) must_check;

/* A request with the session's headers, for those who drive it themselves. */
int registry__request(struct registry *g, const char *method, const char *url,
		      struct http_req **ret, struct err *e) must_check;

/* The failure that a status or a broken connection means. */
int registry__fault(struct registry *g, struct http_req *q, const char *what,
		    struct err *e) must_check;

/* "https://host/v2/PATH/..." ; NULL when memory is out. */
char *registry__url(struct registry *g, const char *fmt, ...) printf_like(2, 3) must_check;

#endif
