/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to store/: SQLite with our errors. Statements are prepared once and named.
 */
#ifndef STORE_SQL_H
#define STORE_SQL_H

#include <sqlite3.h>

#include "store/rstore.h"

enum sql_id {
	SQL_BEGIN, SQL_COMMIT, SQL_ROLLBACK,
	SQL_CREATE, SQL_GET, SQL_FIND_NAME, SQL_FIND_PREFIX, SQL_LIST,
	SQL_PUT_SPEC, SQL_PUT_STATUS, SQL_DELETE,
	SQL_CHANGE_ADD, SQL_CHANGE_TRIM, SQL_CHANGES, SQL_REVISION,
	SQL_META_GET, SQL_META_PUT,
	SQL__COUNT,
};

struct rstore {
	sqlite3      *db;
	sqlite3_stmt *stmts[SQL__COUNT];
	char         *path;
	uint64_t      revision;
	bool          durable;    /* how synchronous is set now */
	struct list   watches;
};

/* The prepared statement, reset and without bindings. */
sqlite3_stmt *sql_use(struct rstore *s, enum sql_id id);

/* Another instance of a statement, for sqlite3_finalize(). */
int sql_prepare(struct rstore *s, enum sql_id id, sqlite3_stmt **ret, struct err *e) must_check;

void sql_bind_text(sqlite3_stmt *q, int i, const char *text);   /* NULL binds NULL */
void sql_bind_u64(sqlite3_stmt *q, int i, uint64_t v);

/* 1: a row; 0: no more; -EEXIST for a broken uniqueness, others with *e filled. */
int sql_step(struct rstore *s, sqlite3_stmt *q, struct err *e) must_check;

/* Step to the end and reset. */
int sql_run(struct rstore *s, sqlite3_stmt *q, struct err *e) must_check;

int  sql_begin(struct rstore *s, bool durable, struct err *e) must_check;
int  sql_commit(struct rstore *s, struct err *e) must_check;
void sql_rollback(struct rstore *s);

char *sql_column_dup(sqlite3_stmt *q, int i) must_check;

#endif
