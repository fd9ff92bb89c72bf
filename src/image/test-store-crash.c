/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power cuts. What the store does to its files is recorded as sys/ observes it; then, for
 * every prefix of that record, the states that a disk may be in after a cut are built in a
 * folder, and the store is opened on each: every image must be whole or absent.
 *
 * What a disk may do between two syncs: any change of a folder (a name made, moved, removed)
 * and any write to a file that was not synced may be there or not, in any order. We build:
 * everything there (kill -9); nothing that was not synced; all names but no data; all data
 * but no names; each single change of a folder missing, or alone; and random mixtures.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include <dirent.h>

#include "base/mem.h"
#include "image/store.h"
#include "image/test-store-util.h"
#include "sys/file.h"

enum { OPS_MAX = 400, NODES_MAX = 200, RANDOM_MIXES = 3 };

/* A file or folder by its inode. */
struct node {
	ino_t ino;
	bool  folder;
};

enum op_kind { OP_LINK, OP_UNLINK, OP_RENAME, OP_WRITE, OP_SYNC, OP_SYNCFS };

/* Names are of folders by node number; a link names a node. */
struct op {
	enum op_kind kind;
	int          dir, dir2;        /* node of the folder; destination of a rename */
	char         name[160], name2[160];
	int          node;             /* linked, written, synced */
	bool         symlink;
	char         target[160];
	char        *data;
	size_t       len;
};

struct record {
	struct node nodes[NODES_MAX];
	int         n_nodes;
	struct op   ops[OPS_MAX];
	int         n_ops;
	int         symlinks;
};

static int node_of(struct record *r, ino_t ino, bool folder)
{
	for (int i = 0; i < r->n_nodes; i++) {
		if (r->nodes[i].ino == ino) {
			return i;
		}
	}
	assert_true(r->n_nodes < NODES_MAX);
	r->nodes[r->n_nodes] = (struct node){ .ino = ino, .folder = folder };
	return r->n_nodes++;
}

static int node_of_fd(struct record *r, int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return node_of(r, st.st_ino, S_ISDIR(st.st_mode));
}

/* The folder that a path's last part is in, now; the part is copied. */
static int dir_of(struct record *r, int dir_fd, const char *path, char name[160])
{
	char dir[200];
	const char *slash = strrchr(path, '/');
	struct stat st;

	snprintf(name, 160, "%s", slash ? slash + 1 : path);
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	assert_int_equal(fstatat(dir_fd, dir, &st, 0), 0);
	return node_of(r, st.st_ino, true);
}

static struct op *next(struct record *r, enum op_kind kind)
{
	assert_true(r->n_ops < OPS_MAX);
	struct op *o = &r->ops[r->n_ops++];

	*o = (struct op){ .kind = kind, .node = -1 };
	return o;
}

static void on_change(const struct sys_change *c, void *ud)
{
	struct record *r = ud;
	struct op *o;
	struct stat st;

	switch ((int)c->call) {
	case SYS_CALL_openat:
		o = next(r, OP_LINK);
		o->dir = dir_of(r, c->fd, c->path, o->name);
		o->node = node_of_fd(r, (int)c->result);
		break;
	case SYS_CALL_mkdirat:
		o = next(r, OP_LINK);
		o->dir = dir_of(r, c->fd, c->path, o->name);
		assert_int_equal(fstatat(c->fd, c->path, &st, 0), 0);
		o->node = node_of(r, st.st_ino, true);
		break;
	case SYS_CALL_symlinkat:
		o = next(r, OP_LINK);
		o->dir = dir_of(r, c->fd, c->path, o->name);
		o->symlink = true;
		snprintf(o->target, sizeof(o->target), "%s", c->path2);
		assert_int_equal(fstatat(c->fd, c->path, &st, AT_SYMLINK_NOFOLLOW), 0);
		o->node = node_of(r, st.st_ino, false);
		break;
	case SYS_CALL_unlinkat:
		o = next(r, OP_UNLINK);
		o->dir = dir_of(r, c->fd, c->path, o->name);
		break;
	case SYS_CALL_renameat2:
		o = next(r, OP_RENAME);
		o->dir = dir_of(r, c->fd, c->path, o->name);
		o->dir2 = dir_of(r, c->fd2, c->path2, o->name2);
		break;
	case SYS_CALL_write:
		o = next(r, OP_WRITE);
		o->node = node_of_fd(r, c->fd);
		o->data = mem_dup(c->data, c->len);
		o->len = c->len;
		break;
	case SYS_CALL_fsync:
	case SYS_CALL_fdatasync:
		o = next(r, OP_SYNC);
		o->node = node_of_fd(r, c->fd);
		break;
	case SYS_CALL_syncfs:
		next(r, OP_SYNCFS);
		break;
	default:
		fail_msg("the store makes a change that this test does not know: %s",
			 sys_call_name(c->call));
	}
}

/* --- a disk --- */

struct dirent_model {
	int  dir, node;
	char name[160];
};

struct disk {
	struct dirent_model ents[NODES_MAX];
	int                 n_ents;
	bool                symlink[NODES_MAX];
	char                target[NODES_MAX][160];
	struct buf          data[NODES_MAX];
};

static int find_ent(const struct disk *d, int dir, const char *name)
{
	for (int i = 0; i < d->n_ents; i++) {
		if (d->ents[i].dir == dir && str_eq(d->ents[i].name, name)) {
			return i;
		}
	}
	return -1;
}

static void put_ent(struct disk *d, int dir, const char *name, int node)
{
	int i = find_ent(d, dir, name);

	if (i < 0) {
		assert_true(d->n_ents < NODES_MAX);
		i = d->n_ents++;
	}
	d->ents[i] = (struct dirent_model){ .dir = dir, .node = node };
	snprintf(d->ents[i].name, sizeof(d->ents[i].name), "%s", name);
}

static void del_ent(struct disk *d, int dir, const char *name)
{
	int i = find_ent(d, dir, name);

	if (i >= 0) {
		d->ents[i] = d->ents[--d->n_ents];
	}
}

/*
 * Which node each rename moved: what it is when every change happens in order. A rename that
 * survives a cut without the creation before it still names that file.
 */
static void resolve_renames(struct record *r)
{
	static struct disk d;

	memset(&d, 0, sizeof(d));
	for (int i = 0; i < r->n_ops; i++) {
		struct op *o = &r->ops[i];

		if (o->kind == OP_LINK) {
			put_ent(&d, o->dir, o->name, o->node);
		} else if (o->kind == OP_UNLINK) {
			del_ent(&d, o->dir, o->name);
		} else if (o->kind == OP_RENAME) {
			int k = find_ent(&d, o->dir, o->name);

			assert_true(k >= 0);
			o->node = d.ents[k].node;
			del_ent(&d, o->dir, o->name);
			put_ent(&d, o->dir2, o->name2, o->node);
		}
	}
}

static bool is_name_op(const struct op *o)
{
	return o->kind == OP_LINK || o->kind == OP_UNLINK || o->kind == OP_RENAME;
}

/* Whether op `i` is on disk for certain once `n` operations have happened. */
static bool is_synced(const struct record *r, int i, int n)
{
	const struct op *o = &r->ops[i];

	for (int k = i + 1; k < n; k++) {
		const struct op *s = &r->ops[k];

		if (s->kind == OP_SYNCFS) {
			return true;
		}
		if (s->kind != OP_SYNC) {
			continue;
		}
		/* A sync of either folder writes out the whole rename. */
		if (is_name_op(o) ?
			    s->node == o->dir || (o->kind == OP_RENAME && s->node == o->dir2) :
			    s->node == o->node) {
			return true;
		}
	}
	return false;
}

enum mix { MIX_ALL, MIX_NONE, MIX_NAMES, MIX_DATA, MIX_ALL_BUT, MIX_ONLY, MIX_RANDOM };

static uint64_t random_state = 42;

static bool coin(void)
{
	random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (random_state >> 40) & 1;
}

static bool survives(const struct record *r, int i, int n, enum mix mix, int chosen)
{
	if (is_synced(r, i, n)) {
		return true;
	}
	switch (mix) {
	case MIX_ALL:
		return true;
	case MIX_NONE:
		return false;
	case MIX_NAMES:
		return is_name_op(&r->ops[i]);
	case MIX_DATA:
		return !is_name_op(&r->ops[i]);
	case MIX_ALL_BUT:
		return i != chosen;
	case MIX_ONLY:
		return i == chosen;
	case MIX_RANDOM:
		return coin();
	}
	return false;
}

static void apply(struct disk *d, const struct record *r, int n, enum mix mix, int chosen)
{
	for (int i = 0; i < n; i++) {
		const struct op *o = &r->ops[i];

		if (!survives(r, i, n, mix, chosen)) {
			if (o->kind == OP_WRITE) {
				/* A length without its data: zeros, allocated late. */
				if (mix == MIX_RANDOM && coin()) {
					for (size_t k = 0; k < o->len; k++) {
						buf_add_char(&d->data[o->node], '\0');
					}
				}
			}
			continue;
		}
		switch (o->kind) {
		case OP_LINK:
			put_ent(d, o->dir, o->name, o->node);
			d->symlink[o->node] = o->symlink;
			snprintf(d->target[o->node], sizeof(d->target[0]), "%s", o->target);
			break;
		case OP_UNLINK:
			del_ent(d, o->dir, o->name);
			break;
		case OP_RENAME:
			del_ent(d, o->dir, o->name);
			put_ent(d, o->dir2, o->name2, o->node);
			break;
		case OP_WRITE:
			buf_add(&d->data[o->node], o->data, o->len);
			break;
		case OP_SYNC:
		case OP_SYNCFS:
			break;
		}
	}
}

/* Make the folder of node `dir` real. A folder that has lost its name takes all below it along. */
static void build(const struct record *r, const struct disk *d, int dir, int at_fd, int depth)
{
	assert_true(depth < 8);
	for (int i = 0; i < d->n_ents; i++) {
		const struct dirent_model *e = &d->ents[i];

		if (e->dir != dir) {
			continue;
		}
		if (d->symlink[e->node]) {
			assert_int_equal(symlinkat(d->target[e->node], at_fd, e->name), 0);
		} else if (r->nodes[e->node].folder) {
			assert_int_equal(mkdirat(at_fd, e->name, 0700), 0);
			auto_close int fd = openat(at_fd, e->name, O_RDONLY | O_DIRECTORY);

			build(r, d, e->node, fd, depth + 1);
		} else {
			auto_close int fd = openat(at_fd, e->name, O_WRONLY | O_CREAT | O_EXCL,
						   0600);
			const struct buf *b = &d->data[e->node];

			assert_true(fd >= 0);
			assert_int_equal(sys_write_full(fd, buf_str(b), b->len), 0);
		}
	}
}

/* --- the test --- */

static struct record *rec;
static int root_node;
static int n_images_seen;    /* states in which an image was there; and in which none was */
static int n_none_seen;

/* What was promised to be on disk after this many operations, and until these are begun. */
struct promise {
	int  after, until;
	char name[64];
	bool there;
};
static struct promise promises[8];
static int n_promises;

static void note_fault(const char *what, const char *digest, void *ud)
{
	(void)ud;
	print_message("fault: %s: %s\n", what, digest);
}

static void check_promises(struct store *s, int n)
{
	for (int i = 0; i < n_promises; i++) {
		const struct promise *p = &promises[i];

		if (n < p->after || n > p->until) {
			continue;
		}
		auto_arena struct arena a = ARENA_INIT;
		struct store_entry x;
		struct err e = ERR_INIT;
		int r = store_image_resolve(s, p->name, &a, &x, &e);

		if (r != (p->there ? 0 : -ENOENT)) {
			fail_msg("after %d operations: %s: %s", n, p->name, e.msg);
		}
	}
}

/* Open what a cut left, and look. */
static void check_state(const char *path, int n)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_store struct store *s = NULL;
	struct store_entries all;
	struct store_gc_result gc;
	struct err e = ERR_INIT;
	struct test_image img;

	if (store_open(path, STORE_CREATE, &s, &e) < 0) {
		fail_msg("after %d operations the store does not open: %s", n, e.msg);
	}
	assert_int_equal(store_image_list(s, &a, &all, &e), 0);
	if (store_verify(s, note_fault, NULL, &e) != 0) {
		fail_msg("after %d operations the store is damaged", n);
	}
	n_images_seen += all.n > 0;
	n_none_seen += all.n == 0;
	check_promises(s, n);
	assert_int_equal(store_gc(s, 0, &gc, &e), 0);
	assert_int_equal(store_names(s, "tmp"), 0);
	assert_int_equal(store_names(s, "trash"), 0);
	assert_int_equal(store_verify(s, note_fault, NULL, &e), 0);

	/* And it goes on working. */
	test_image_make(s, "after", 1, &img);
	assert_int_equal(test_image_put(s, &img, "docker.io/library/after:1", &e), 0);
}

static void replay(const char *base, int n, enum mix mix, int chosen)
{
	static struct disk d;
	static int count;
	char path[100];

	memset(&d, 0, sizeof(d));
	apply(&d, rec, n, mix, chosen);
	snprintf(path, sizeof(path), "%s/%d", base, count++);
	assert_int_equal(mkdir(path, 0700), 0);
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY);

	build(rec, &d, root_node, fd, 0);
	check_state(path, n);
	assert_int_equal(sys_remove_tree(AT_FDCWD, path), 0);
	for (int i = 0; i < NODES_MAX; i++) {
		buf_fini(&d.data[i]);
	}
}

static void promise(const char *name, bool there)
{
	struct promise *p = &promises[n_promises++];

	p->after = rec->n_ops;
	p->until = OPS_MAX;
	p->there = there;
	snprintf(p->name, sizeof(p->name), "%s", name);
}

/* What comes next is about this name. */
static void end_promise(const char *name)
{
	for (int i = 0; i < n_promises; i++) {
		if (str_eq(promises[i].name, name)) {
			promises[i].until = rec->n_ops;
		}
	}
}

/* A layer, as store_image_unpack() makes and publishes one, without the unpacking. */
static void fake_layer(struct store *s, const char *chain_id)
{
	struct err e = ERR_INIT;
	struct store_path temp;
	char path[200];

	assert_int_equal(store__temp_path("tmp", &temp, &e), 0);
	assert_int_equal(sys_mkdirat(store_dir_fd(s), temp.text, 0700), 0);
	snprintf(path, sizeof(path), "%s/root", temp.text);
	assert_int_equal(sys_mkdirat(store_dir_fd(s), path, 0755), 0);
	snprintf(path, sizeof(path), "%s/root/file", temp.text);
	auto_close int fd = sys_openat(store_dir_fd(s), path, O_WRONLY | O_CREAT | O_EXCL, 0644);

	assert_int_equal(sys_write_full(fd, "content", 7), 0);
	assert_int_equal(store__layer_describe(s, &temp, &(struct store_layer_doc){
		.chain_id = chain_id, .diff_id = chain_id, .bytes = 1, .entries = 1 }, &e), 0);
	assert_int_equal(sys_syncfs(store_dir_fd(s)), 0);
	assert_int_equal(store__layer_publish(s, &temp, chain_id, &e), 0);
	assert_int_equal(store__sync_folder(s, "layers", &e), 0);
}

/* What the record is of: two images in, one renamed, pinned, one removed, garbage collected. */
static void scenario(struct store *s)
{
	struct err e = ERR_INIT;
	struct test_image one, two;
	struct store_gc_result gc;
	struct blob_writer *w = NULL;

	assert_int_equal(store_use_begin(s, &e), 0);
	test_image_make(s, "one", 2, &one);
	assert_int_equal(test_image_put(s, &one, "docker.io/library/one:latest", &e), 0);
	store_use_end(s);
	promise("one", true);
	fake_layer(s, one.layers[0]);
	assert_int_equal(store_image_tag(s, "one", "tag", &e), 0);
	promise("tag", true);
	assert_int_equal(store_pin(s, one.manifest, "instance", true, &e), 0);

	/* A download that breaks off and goes on. */
	struct digest_text d = digest_of("layer 0 of two", 14);

	assert_int_equal(blob_writer_open(s, d.text, 14, BLOB_RESUME, &w, &e), 0);
	assert_int_equal(blob_writer_write(w, "layer 0", 7, &e), 0);
	blob_writer_free(w);
	assert_int_equal(blob_writer_open(s, d.text, 14, BLOB_RESUME, &w, &e), 0);
	assert_int_equal(blob_writer_write(w, " of two", 7, &e), 0);
	struct blob_info info;

	assert_int_equal(blob_writer_commit(w, &info, &e), 0);
	blob_writer_free(w);
	test_image_make(s, "two", 1, &two);
	assert_int_equal(test_image_put(s, &two, "docker.io/library/two:latest", &e), 0);
	promise("two", true);

	assert_int_equal(store_unpin(s, "instance", &e), 0);
	end_promise("one");
	end_promise("tag");
	assert_int_equal(store_image_remove(s, one.config, 0, NULL, &e), 0);
	promise("one", false);
	promise("tag", false);
	assert_int_equal(store_gc(s, 0, &gc, &e), 0);
	assert_int_equal(gc.blobs, 4);
	assert_int_equal(gc.layers, 1);
}

static void test_every_prefix(void **state)
{
	/* In memory: what is synced here is synced thousands of times. */
	char base[64] = "/dev/shm/holm-test-crash-XXXXXX", path[80];
	struct store *s = NULL;
	struct err e = ERR_INIT;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(base));
	snprintf(path, sizeof(path), "%s/store", base);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(stat(path, &st), 0);
	rec = mem_new(struct record);
	root_node = node_of(rec, st.st_ino, true);

	sys_observe(on_change, rec);
	assert_int_equal(store_open(path, STORE_CREATE, &s, &e), 0);
	scenario(s);
	sys_observe(NULL, NULL);
	store_close(s);
	resolve_renames(rec);
	print_message("%d operations\n", rec->n_ops);
	assert_true(rec->n_ops > 60);

	for (int n = 0; n <= rec->n_ops; n++) {
		replay(base, n, MIX_ALL, 0);
		replay(base, n, MIX_NONE, 0);
		replay(base, n, MIX_NAMES, 0);
		replay(base, n, MIX_DATA, 0);
		for (int i = 0; i < n; i++) {
			if (is_name_op(&rec->ops[i]) && !is_synced(rec, i, n)) {
				replay(base, n, MIX_ALL_BUT, i);
				replay(base, n, MIX_ONLY, i);
			}
		}
		for (int i = 0; i < RANDOM_MIXES; i++) {
			replay(base, n, MIX_RANDOM, 0);
		}
	}
	print_message("%d states with an image, %d without\n", n_images_seen, n_none_seen);
	assert_true(n_images_seen > 100 && n_none_seen > 100);
	for (int i = 0; i < rec->n_ops; i++) {
		free(rec->ops[i].data);
	}
	free(rec);
	assert_int_equal(sys_remove_tree(AT_FDCWD, base), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_prefix) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
