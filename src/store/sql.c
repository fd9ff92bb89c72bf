/* SPDX-License-Identifier: Apache-2.0 */
#include "store/sql.h"

#include <errno.h>
#include <fcntl.h>

#include "base/mem.h"
#include "base/str.h"
#include "sys/file.h"

#define COLUMNS "kind,id,project,name,host,version,epoch,revision,created_ns,spec,status"

static const char *const texts[SQL__COUNT] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_CREATE] = "INSERT INTO resource(" COLUMNS ") VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
	[SQL_GET] = "SELECT " COLUMNS " FROM resource WHERE kind=?1 AND id=?2",
	[SQL_FIND_NAME] = "SELECT " COLUMNS " FROM resource WHERE kind=?1 AND project=?2 AND name=?3",
	[SQL_FIND_PREFIX] = "SELECT " COLUMNS " FROM resource WHERE kind=?1 AND project=?2 AND "
			    "id>=?3 AND id<?4 LIMIT 2",
	[SQL_LIST] = "SELECT " COLUMNS " FROM resource WHERE kind=?1 AND (?2 IS NULL OR project=?2) "
		     "ORDER BY created_ns,id",
	[SQL_PUT_SPEC] = "UPDATE resource SET revision=?4,name=ifnull(?5,name),spec=ifnull(?6,spec),"
			 "version=CASE ?7 WHEN 0 THEN version ELSE ?7 END,host=ifnull(?8,host),"
			 "epoch=CASE ?9 WHEN 0 THEN epoch ELSE ?9 END "
			 "WHERE kind=?1 AND id=?2 AND (?3=0 OR revision=?3)",
	[SQL_PUT_STATUS] = "UPDATE resource SET revision=?4,status=?5 "
			   "WHERE kind=?1 AND id=?2 AND (?3=0 OR revision=?3)",
	[SQL_DELETE] = "DELETE FROM resource WHERE kind=?1 AND id=?2 AND (?3=0 OR revision=?3)",
	[SQL_CHANGE_ADD] = "INSERT INTO change(revision,change,kind,id,name) VALUES(?1,?2,?3,?4,?5)",
	[SQL_CHANGE_TRIM] = "DELETE FROM change WHERE revision<?1",
	[SQL_CHANGES] = "SELECT revision,change,kind,id,name FROM change WHERE revision>?1 AND "
			"(?2 IS NULL OR kind=?2) ORDER BY revision",
	[SQL_REVISION] = "SELECT ifnull(max(revision),0) FROM change",
	[SQL_META_GET] = "SELECT value FROM meta WHERE key=?1",
	[SQL_META_PUT] = "INSERT INTO meta(key,value) VALUES(?1,?2) "
			 "ON CONFLICT(key) DO UPDATE SET value=?2",
};

/* Step i makes schema i+1 out of schema i; schema 0 is an empty file. */
static const char *const migrations[RSTORE_SCHEMA] = {
	"CREATE TABLE resource("
	" kind TEXT NOT NULL, id TEXT NOT NULL, project TEXT NOT NULL, name TEXT NOT NULL,"
	" host TEXT, version INTEGER NOT NULL, epoch INTEGER NOT NULL,"
	" revision INTEGER NOT NULL, created_ns INTEGER NOT NULL,"
	" spec TEXT NOT NULL, status TEXT NOT NULL,"
	" PRIMARY KEY(kind,id), UNIQUE(kind,project,name)) WITHOUT ROWID;"
	"CREATE TABLE change("
	" revision INTEGER PRIMARY KEY, change INTEGER NOT NULL, kind TEXT NOT NULL,"
	" id TEXT NOT NULL, name TEXT NOT NULL);",
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;",
};

/* SQLite's words for errnos and codes of ours. */
static int set_error(struct rstore *s, int code, struct err *e)
{
	const char *text = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(code);

	switch (code & 0xff) {
	case SQLITE_NOMEM:
		return err_nomem(e);
	case SQLITE_FULL:
		return err_set(e, ENOSPC, ERR_HOST, "the store %s: the disk is full", s->path);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_set(e, EBADMSG, ERR_HOST,
			       "the store %s is damaged (%s): restore it from a backup, or move it "
			       "away to begin anew", s->path, text);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_set(e, EBUSY, ERR_CONFLICT, "the store %s is in use by another process",
			       s->path);
	case SQLITE_CONSTRAINT:
		return err_set(e, EEXIST, ERR_CONFLICT, "the store: %s", text);
	case SQLITE_READONLY:
		return err_set(e, EROFS, ERR_HOST, "the store %s: %s", s->path, text);
	case SQLITE_CANTOPEN:
	case SQLITE_IOERR:
	default:
		return err_set(e, sqlite3_system_errno(s->db) ? sqlite3_system_errno(s->db) : EIO,
			       ERR_HOST, "the store %s: %s", s->path, text);
	}
}

int sql_prepare(struct rstore *s, enum sql_id id, sqlite3_stmt **ret, struct err *e)
{
	int code = sqlite3_prepare_v3(s->db, texts[id], -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);

	return code == SQLITE_OK ? 0 : set_error(s, code, e);
}

sqlite3_stmt *sql_use(struct rstore *s, enum sql_id id)
{
	sqlite3_reset(s->stmts[id]);
	sqlite3_clear_bindings(s->stmts[id]);
	return s->stmts[id];
}

/* A failed binding makes the step fail (SQLITE_NOMEM is sticky in the statement's result). */
void sql_bind_text(sqlite3_stmt *q, int i, const char *text)
{
	if (text) {
		sqlite3_bind_text(q, i, text, -1, SQLITE_TRANSIENT);
	} else {
		sqlite3_bind_null(q, i);
	}
}

void sql_bind_u64(sqlite3_stmt *q, int i, uint64_t v)
{
	sqlite3_bind_int64(q, i, (sqlite3_int64)v);
}

int sql_step(struct rstore *s, sqlite3_stmt *q, struct err *e)
{
	int code = sqlite3_step(q);

	if (code == SQLITE_ROW || code == SQLITE_DONE) {
		return code == SQLITE_ROW;
	}
	return set_error(s, code, e);
}

int sql_run(struct rstore *s, sqlite3_stmt *q, struct err *e)
{
	int r = sql_step(s, q, e);

	sqlite3_reset(q);
	return r < 0 ? r : 0;
}

static int exec(struct rstore *s, const char *text, struct err *e)
{
	int code = sqlite3_exec(s->db, text, NULL, NULL, NULL);

	return code == SQLITE_OK ? 0 : set_error(s, code, e);
}

int sql_begin(struct rstore *s, bool durable, struct err *e)
{
	int r = 0;

	if (durable != s->durable) {
		r = exec(s, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", e);
		s->durable = r == 0 ? durable : s->durable;
	}
	return r < 0 ? r : sql_run(s, sql_use(s, SQL_BEGIN), e);
}

int sql_commit(struct rstore *s, struct err *e)
{
	return sql_run(s, sql_use(s, SQL_COMMIT), e);
}

void sql_rollback(struct rstore *s)
{
	struct err e = ERR_INIT;

	if (!sqlite3_get_autocommit(s->db)) {
		ignore_result(sql_run(s, sql_use(s, SQL_ROLLBACK), &e));
		/* SQLite has rolled back by itself after what makes this fail */
	}
}

char *sql_column_dup(sqlite3_stmt *q, int i)
{
	const char *text = (const char *)sqlite3_column_text(q, i);

	return text ? str_dup(text) : NULL;
}

static int pragma_number(struct rstore *s, const char *text, int64_t *ret, struct err *e)
{
	sqlite3_stmt *q = NULL;
	int code = sqlite3_prepare_v2(s->db, text, -1, &q, NULL);

	if (code != SQLITE_OK) {
		return set_error(s, code, e);
	}
	int r = sql_step(s, q, e);

	if (r > 0) {
		*ret = sqlite3_column_int64(q, 0);
	}
	sqlite3_finalize(q);
	return r < 0 ? r : 0;
}

static int migrate(struct rstore *s, struct err *e)
{
	int64_t have = 0;
	int r = pragma_number(s, "PRAGMA user_version", &have, e);

	if (r == 0 && (have < 0 || have > RSTORE_SCHEMA)) {
		return err_set(e, ENOTSUP, ERR_UNSUPPORTED,
			       "the store %s was written by a newer version of Holm (schema %lld, "
			       "this one knows %d)", s->path, (long long)have, RSTORE_SCHEMA);
	}
	for (int64_t i = have; r == 0 && i < RSTORE_SCHEMA; i++) {
		auto_free char *text = str_printf("BEGIN IMMEDIATE; %s PRAGMA user_version=%lld; "
						  "COMMIT;", migrations[i], (long long)i + 1);

		r = text ? exec(s, text, e) : err_nomem(e);
	}
	return r;
}

/*
 * Locking mode EXCLUSIVE: one daemon has the file, and the index of the log is in memory
 * instead of a shared file.
 */
static int set_up(struct rstore *s, struct err *e)
{
	int64_t lines = 0;
	int r = exec(s, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; "
		     "PRAGMA synchronous=FULL; PRAGMA cache_size=-512; "
		     "PRAGMA journal_size_limit=4194304; PRAGMA trusted_schema=OFF", e);

	s->durable = true;
	if (r == 0) {
		r = migrate(s, e);
	}
	for (int i = 0; r == 0 && i < SQL__COUNT; i++) {
		r = sql_prepare(s, (enum sql_id)i, &s->stmts[i], e);
	}
	if (r == 0) {
		sqlite3_stmt *q = sql_use(s, SQL_REVISION);

		r = sql_step(s, q, e);
		if (r > 0) {
			s->revision = (uint64_t)sqlite3_column_int64(q, 0);
			r = 0;
		}
		sqlite3_reset(q);
	}
	if (r == 0) {
		r = pragma_number(s, "SELECT count(*) FROM resource", &lines, e);
	}
	return r;
}

int rstore_open(const char *dir, struct rstore **ret, struct err *e)
{
	int r = sys_mkdir_p(AT_FDCWD, dir, 0700);

	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "the folder %s", dir);
	}
	auto_(rstore_closep) struct rstore *s = mem_new(struct rstore);

	if (!s) {
		return err_nomem(e);
	}
	list_init(&s->watches);
	s->path = str_printf("%s/holm.db", dir);
	if (!s->path) {
		return err_nomem(e);
	}
	/* Made by us, so that its mode does not depend on the umask. */
	auto_close int fd = sys_openat(AT_FDCWD, s->path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);

	if (fd < 0) {
		return err_set(e, -fd, ERR_HOST, "the store %s", s->path);
	}
	fd_close(&fd);
	int code = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
				   SQLITE_OPEN_NOFOLLOW, NULL);

	if (code != SQLITE_OK) {
		return set_error(s, code, e);
	}
	sqlite3_extended_result_codes(s->db, 1);
	r = set_up(s, e);
	if (r == 0) {
		*ret = take_ptr(&s);
	}
	return r;
}

struct rstore *rstore_close(struct rstore *s)
{
	if (s) {
		for (int i = 0; i < SQL__COUNT; i++) {
			sqlite3_finalize(s->stmts[i]);
		}
		sqlite3_close(s->db);
		free(s->path);
		free(s);
	}
	return NULL;
}
