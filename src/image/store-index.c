/* SPDX-License-Identifier: Apache-2.0 */
/* index.json: which images there are, and their names. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "image/store-private.h"

#define KEY_NAME   "org.opencontainers.image.ref.name"
#define KEY_ID     "holm.image.id"
#define KEY_SOURCE "holm.image.source"
#define KEY_ADDED  "holm.image.added"

enum { INDEX_BYTES_MAX = 4 << 20 };

static int entry_of(const struct oci_desc *d, struct store_entry *ret, struct err *e)
{
	const char *added = jmap_get(&d->annotations, KEY_ADDED);

	*ret = (struct store_entry){
		.name = jmap_get(&d->annotations, KEY_NAME),
		.id = jmap_get(&d->annotations, KEY_ID),
		.source = jmap_get(&d->annotations, KEY_SOURCE),
		.manifest = d->digest, .media_type = d->media_type, .size = d->size,
	};
	if (!ret->id || !oci_digest_valid(ret->id) ||
	    (ret->source && !oci_digest_valid(ret->source)) ||
	    (added && time_parse(added, &ret->added_ns) < 0)) {
		return err_set(e, EBADMSG, ERR_HOST,
			       "image store: index.json: the entry of %s is damaged", d->digest);
	}
	return 0;
}

static int parse_index(struct store_cache *c, const struct buf *text, struct err *e)
{
	struct oci_index x;
	int r = oci_index_parse(text->data, text->len, OCI_MEDIA_INDEX, &c->arena, &x, e);

	if (r < 0) {
		return err_wrap(e, "image store: index.json");
	}
	c->entries.v = arena_alloc(&c->arena, x.manifests.n + 1, sizeof(*c->entries.v));
	if (!c->entries.v) {
		return err_nomem(e);
	}
	for (c->entries.n = 0; c->entries.n < x.manifests.n; c->entries.n++) {
		r = entry_of(oci_index_entry(&x, c->entries.n), &c->entries.v[c->entries.n], e);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

/* index.json is only ever replaced, so the same inode with the same times is the same text. */
static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

int store__index_read(struct store *s, const struct store_entries **ret, struct err *e)
{
	struct store_cache *c = &s->cache;
	auto_buf struct buf text = BUF_INIT;
	struct stat st = { .st_size = 0 };
	auto_close int fd = sys_openat(s->dir_fd, "index.json", O_RDONLY | O_NOFOLLOW, 0);
	int r = fd < 0 ? fd : sys_fstat(fd, &st);

	if (r == 0 && c->valid && same_file(&st, &c->stat)) {
		*ret = &c->entries;
		return 0;
	}
	c->valid = false;
	arena_fini(&c->arena);
	c->entries = (struct store_entries){ .n = 0 };
	*ret = &c->entries;
	if (r == -ENOENT) {
		return 0; /* no image yet */
	}
	if (r == 0) {
		r = sys_read_fd(fd, INDEX_BYTES_MAX, &text);
	}
	if (r < 0) {
		return err_set(e, -r, ERR_HOST, "image store: index.json");
	}
	r = parse_index(c, &text, e);
	c->valid = r == 0;
	c->stat = st;
	return r;
}

static void annotate(struct jmap *m, const char *key, const char *value)
{
	if (value) {
		m->v[m->n++] = (struct jpair){ key, value };
	}
}

static int desc_of(struct arena *a, const struct store_entry *entry, struct oci_desc *ret)
{
	*ret = (struct oci_desc){ .media_type = entry->media_type, .digest = entry->manifest,
				  .size = entry->size };
	ret->annotations.v = arena_alloc(a, 4, sizeof(struct jpair));
	char *added = arena_strdup(a, time_format(entry->added_ns).text);

	if (!ret->annotations.v || !added) {
		return -ENOMEM;
	}
	annotate(&ret->annotations, KEY_NAME, entry->name);
	annotate(&ret->annotations, KEY_ID, entry->id);
	annotate(&ret->annotations, KEY_SOURCE, entry->source);
	annotate(&ret->annotations, KEY_ADDED, added);
	return 0;
}

int store__index_write(struct store *s, const struct store_entries *entries, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct oci_desc *descs = arena_alloc(&a, entries->n + 1, sizeof(*descs));
	struct oci_index x = { .schema_version = 2, .media_type = OCI_MEDIA_INDEX,
			       .manifests = { .v = descs, .n = entries->n } };

	for (size_t i = 0; descs && i < entries->n; i++) {
		if (desc_of(&a, &entries->v[i], &descs[i]) < 0) {
			return err_nomem(e);
		}
	}
	auto_json json_t *doc = descs ? jtable_format(&oci_index_table, &x) : NULL;
	auto_free char *text = doc ? json_text_pretty(doc) : NULL;

	if (!text) {
		return err_nomem(e);
	}
	if (strlen(text) > INDEX_BYTES_MAX) {
		return err_set(e, E2BIG, ERR_LIMIT,
			       "the image store has too many names; remove some");
	}
	return store__write_file(s, "index.json", text, strlen(text), e);
}

static const char *dup0(struct arena *a, const char *s, bool *failed)
{
	char *copy = s ? arena_strdup(a, s) : NULL;

	*failed |= s && !copy;
	return copy;
}

/* A copy whose strings live in `a`. */
static int copy_entry(struct arena *a, const struct store_entry *from, struct store_entry *ret)
{
	bool failed = false;

	*ret = (struct store_entry){
		.name = dup0(a, from->name, &failed), .manifest = dup0(a, from->manifest, &failed),
		.media_type = dup0(a, from->media_type, &failed), .id = dup0(a, from->id, &failed),
		.source = dup0(a, from->source, &failed), .size = from->size,
		.added_ns = from->added_ns,
	};
	return failed ? -ENOMEM : 0;
}

int store_image_list(struct store *s, struct arena *a, struct store_entries *ret, struct err *e)
{
	const struct store_entries *all;
	int r = store__index_read(s, &all, e);

	if (r < 0) {
		return r;
	}
	struct store_entry *v = arena_alloc(a, all->n + 1, sizeof(*v));

	for (size_t i = 0; v && i < all->n; i++) {
		if (copy_entry(a, &all->v[i], &v[i]) < 0) {
			return err_nomem(e);
		}
	}
	if (!v) {
		return err_nomem(e);
	}
	*ret = (struct store_entries){ .v = v, .n = all->n };
	return 0;
}

/* The name without its tag is `repository`. */
static bool in_repository(const char *name, const char *repository)
{
	const char *rest = name ? str_after(name, repository) : NULL;

	return rest && (*rest == ':' || *rest == '@' || *rest == '\0');
}

static const struct store_entry *find_by_name(const struct store_entries *all, const char *text)
{
	struct err ignored = ERR_INIT;
	struct ref ref;

	if (ref_parse(text, &ref, &ignored) < 0) {
		return NULL; /* it may still be an id */
	}
	struct ref_text name = ref_name(&ref), repository = ref_repository(&ref);

	for (size_t i = 0; i < all->n; i++) {
		const struct store_entry *x = &all->v[i];

		if (!ref.digest[0]) {
			if (str_eq0(x->name, name.text)) {
				return x;
			}
		} else if ((str_eq(x->manifest, ref.digest) || str_eq0(x->source, ref.digest)) &&
			   in_repository(x->name, repository.text)) {
			return x;
		}
	}
	return NULL;
}

enum { ID_PREFIX_MIN = 4 };

/* 1 with *ret set, 0 if there is none. */
static int find_by_id(const struct store_entries *all, const char *text,
		      const struct store_entry **ret, struct err *e)
{
	const char *after = str_after(text, "sha256:");
	const char *hex = after ? after : text;
	const struct store_entry *found = NULL;

	for (size_t i = 0; i < all->n; i++) {
		if (str_eq(all->v[i].manifest, text)) {
			*ret = &all->v[i];
			return 1;
		}
	}
	if (strlen(hex) < ID_PREFIX_MIN || hex[strspn(hex, "0123456789abcdef")]) {
		return 0;
	}
	for (size_t i = 0; i < all->n; i++) {
		const struct store_entry *x = &all->v[i];

		if (!str_after(digest_hex(x->id), hex)) {
			continue;
		}
		if (found && !str_eq(found->id, x->id)) {
			return err_set(e, ENOTUNIQ, ERR_INVALID,
				       "more than one image has an id that begins with %s", hex);
		}
		found = found ? found : x;
	}
	*ret = found;
	return found ? 1 : 0;
}

/* The entry as it stands in the cache. */
static int find(struct store *s, const char *text, const struct store_entry **ret, struct err *e)
{
	const struct store_entries *all;
	int r = store__index_read(s, &all, e);

	if (r < 0) {
		return r;
	}
	*ret = find_by_name(all, text);
	r = *ret ? 1 : find_by_id(all, text, ret, e);
	if (r == 0) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "no image \"%.200s\" here", text);
	}
	return r < 0 ? r : 0;
}

int store_image_resolve(struct store *s, const char *text, struct arena *a,
			struct store_entry *ret, struct err *e)
{
	const struct store_entry *found = NULL;
	int r = find(s, text, &found, e);

	if (r == 0 && copy_entry(a, found, ret) < 0) {
		return err_nomem(e);
	}
	return r;
}

/* Take the name from whoever has it; an image that loses its only one stays without. */
static void take_name(struct store_entries *entries, const char *name)
{
	for (size_t i = 0; i < entries->n; i++) {
		if (str_eq0(entries->v[i].name, name)) {
			entries->v[i].name = NULL;
		}
	}
}

/* One entry for each name; one without a name only where the image has no other. */
static void tidy(struct store_entries *entries)
{
	size_t kept = 0;

	for (size_t i = 0; i < entries->n; i++) {
		const struct store_entry *x = &entries->v[i];
		bool drop = false;

		for (size_t k = 0; !x->name && !drop && k < entries->n; k++) {
			const struct store_entry *y = &entries->v[k];

			drop = k != i && str_eq(x->manifest, y->manifest) && (y->name || k < i);
		}
		if (!drop) {
			entries->v[kept++] = *x;
		}
	}
	entries->n = kept;
}

/* Put an entry in, under the lock; `entry` may point anywhere. */
static int add_entry(struct store *s, const struct store_entry *entry, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_unlock int lock = -1;
	struct store_entries all;
	int r = store__index_lock(s, &lock, e);

	if (r == 0) {
		r = store_image_list(s, &a, &all, e);
	}
	if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < all.n; i++) {
		if (str_eq0(all.v[i].name, entry->name) &&
		    str_eq(all.v[i].manifest, entry->manifest) &&
		    str_eq0(all.v[i].source, entry->source)) {
			return 0; /* nothing new */
		}
	}
	struct store_entries grown = { .v = arena_alloc(&a, all.n + 2, sizeof(*grown.v)), .n = 0 };

	if (!grown.v) {
		return err_nomem(e);
	}
	if (entry->name) {
		take_name(&all, entry->name);
	}
	memcpy(grown.v, all.v, all.n * sizeof(*grown.v));
	grown.n = all.n;
	grown.v[grown.n++] = *entry;
	tidy(&grown);
	return store__index_write(s, &grown, e);
}

static int check_blobs(struct store *s, const struct store_image *img, struct err *e)
{
	for (size_t i = 0; i < img->n_layers; i++) {
		const struct oci_desc *d = oci_layer(&img->manifest, i);

		if (!store_blob_has(s, d->digest, d->size)) {
			return err_set(e, ENOENT, ERR_NOT_FOUND,
				       "layer %zu of the image (%s) is not in the store", i,
				       d->digest);
		}
	}
	return 0;
}

/* The renames that put the blobs in place have to be on disk before a name leads to them. */
static int sync_blobs(struct store *s, const struct store_image *img, struct err *e)
{
	bool sha512 = str_after(img->digest, "sha512") ||
		      str_after(img->manifest.config.digest, "sha512");

	for (size_t i = 0; i < img->n_layers; i++) {
		sha512 |= str_after(oci_layer(&img->manifest, i)->digest, "sha512") != NULL;
	}
	int r = store__sync_folder(s, "blobs/sha256", e);

	return r == 0 && sha512 ? store__sync_folder(s, "blobs/sha512", e) : r;
}

int store_image_put(struct store *s, const struct store_put *put, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_image img;
	int r = store__writable(s, e);

	if (r == 0) {
		r = store__image_load(s, put->manifest, put->media_type, &a, &img, e);
	}
	if (r == 0) {
		r = check_blobs(s, &img, e);
	}
	if (r == 0) {
		r = sync_blobs(s, &img, e);
	}
	if (r < 0) {
		return r;
	}
	struct store_entry entry = {
		.name = put->name, .manifest = put->manifest, .size = img.manifest_len,
		.media_type = put->media_type, .id = img.manifest.config.digest,
		.source = put->source, .added_ns = clock_wall_ns(),
	};

	return add_entry(s, &entry, e);
}

int store_image_tag(struct store *s, const char *image, const char *name, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_entry entry;
	struct ref ref;
	int r = store__writable(s, e);

	if (r == 0) {
		r = ref_parse(name, &ref, e);
	}
	if (r == 0 && ref.digest[0]) {
		r = err_set(e, EINVAL, ERR_INVALID, "a name that is given cannot have a digest");
	}
	if (r == 0) {
		r = store_image_resolve(s, image, &a, &entry, e);
	}
	if (r < 0) {
		return r;
	}
	struct ref_text full = ref_name(&ref);

	entry.name = full.text;
	entry.added_ns = clock_wall_ns();
	return add_entry(s, &entry, e);
}

void store_removed_fini(struct store_removed *r)
{
	strv_fini(&r->untagged);
	strv_fini(&r->deleted);
}

struct pin_search {
	const char *manifest;
	char        user[129];
};

static int see_pin(const char *user, const char *manifest, void *ud)
{
	struct pin_search *p = ud;

	if (str_eq(manifest, p->manifest)) {
		memcpy(p->user, user, strlen(user) + 1);
		return 1;
	}
	return 0;
}

/* ERR_CONFLICT if someone pins what would lose its last name. */
static int check_pins(struct store *s, const char *manifest, unsigned flags, struct err *e)
{
	struct pin_search search = { .manifest = manifest };
	int r = store_pins(s, see_pin, &search, e);

	if (r > 0 && !(flags & STORE_FORCE)) {
		return err_set(e, EBUSY, ERR_CONFLICT, "the image is used by %.64s; remove that "
			       "first, or force it", search.user);
	}
	return r < 0 ? r : 0;
}

static bool has_manifest(const struct store_entries *entries, const char *manifest)
{
	for (size_t i = 0; i < entries->n; i++) {
		if (str_eq(entries->v[i].manifest, manifest)) {
			return true;
		}
	}
	return false;
}

/* Split `all` in what stays and what goes with `hit`: its name, or everything of its id. */
static int split(struct arena *a, const struct store_entries *all, const struct store_entry *hit,
		 bool by_name, struct store_entries *ret_stay, struct store_entries *ret_go)
{
	ret_stay->n = ret_go->n = 0;
	ret_stay->v = arena_alloc(a, all->n, sizeof(*all->v));
	ret_go->v = arena_alloc(a, all->n, sizeof(*all->v));
	if (!ret_stay->v || !ret_go->v) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < all->n; i++) {
		const struct store_entry *x = &all->v[i];
		bool goes = by_name ? str_eq0(x->name, hit->name) : str_eq(x->id, hit->id);
		struct store_entries *to = goes ? ret_go : ret_stay;

		to->v[to->n++] = *x;
	}
	return 0;
}

/* What is said of what goes; refuses to take the last name of what is pinned. */
static int account(struct store *s, const struct store_entries *stay,
		   const struct store_entries *go, unsigned flags, struct store_removed *ret,
		   struct err *e)
{
	for (size_t i = 0; i < go->n; i++) {
		const struct store_entry *x = &go->v[i];
		bool last = !has_manifest(stay, x->manifest);
		int r = last ? check_pins(s, x->manifest, flags, e) : 0;

		if (r < 0) {
			return r;
		}
		if (ret && ((x->name && strv_add(&ret->untagged, x->name) < 0) ||
			    (last && !strv_has(&ret->deleted, x->manifest) &&
			     strv_add(&ret->deleted, x->manifest) < 0))) {
			return err_nomem(e);
		}
	}
	return 0;
}

static int remove_locked(struct store *s, const char *image, unsigned flags,
			 struct store_removed *ret, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_entries all, stay, go;
	int r = store_image_list(s, &a, &all, e);

	if (r < 0) {
		return r;
	}
	const struct store_entry *hit = find_by_name(&all, image);
	bool by_name = hit != NULL;

	r = by_name ? 1 : find_by_id(&all, image, &hit, e);
	if (r == 0) {
		return err_set(e, ENOENT, ERR_NOT_FOUND, "no image \"%.200s\" here", image);
	}
	if (r < 0) {
		return r;
	}
	if (split(&a, &all, hit, by_name, &stay, &go) < 0) {
		return err_nomem(e);
	}
	r = account(s, &stay, &go, flags, ret, e);
	return r < 0 ? r : store__index_write(s, &stay, e);
}

int store_image_remove(struct store *s, const char *image, unsigned flags,
		       struct store_removed *ret, struct err *e)
{
	auto_unlock int lock = -1;
	struct store_removed done = { .untagged = STRV_INIT, .deleted = STRV_INIT };
	int r = store__writable(s, e);

	if (r == 0) {
		r = store__index_lock(s, &lock, e);
	}
	if (r == 0) {
		r = remove_locked(s, image, flags, &done, e);
	}
	if (r == 0 && ret) {
		*ret = done;
	} else {
		store_removed_fini(&done);
	}
	return r;
}

int store__forget(struct store *s, bool all, struct store_removed *ret, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	auto_unlock int lock = -1;
	struct store_entries entries;
	int r = store__index_lock(s, &lock, e);

	if (r == 0) {
		r = store_image_list(s, &a, &entries, e);
	}
	if (r < 0) {
		return r;
	}
	size_t kept = 0;

	for (size_t i = 0; i < entries.n; i++) {
		const struct store_entry *x = &entries.v[i];
		struct pin_search search = { .manifest = x->manifest };

		r = all || !x->name ? store_pins(s, see_pin, &search, e) : 1;
		if (r < 0) {
			return r;
		}
		if (r > 0) {
			entries.v[kept++] = *x;
		} else if ((x->name && strv_add(&ret->untagged, x->name) < 0) ||
			   (!strv_has(&ret->deleted, x->manifest) &&
			    strv_add(&ret->deleted, x->manifest) < 0)) {
			return err_nomem(e);
		}
	}
	if (kept == entries.n) {
		return 0;
	}
	entries.n = kept;
	return store__index_write(s, &entries, e);
}
