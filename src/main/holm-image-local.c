/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of holm-image that look at the store and change it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "json/json.h"
#include "main/holm-image.h"

/* Print a value as JSON and give it back. */
static int print_json(json_t *own_value, struct err *e)
{
	auto_json json_t *value = own_value;
	auto_free char *text = value ? json_text_pretty(value) : NULL;

	if (!text) {
		return err_nomem(e);
	}
	puts(text);
	return 0;
}

/* What a person sees of "docker.io/library/debian:12". */
static void short_name(const char *name, char *out, size_t n)
{
	struct err ignored = ERR_INIT;
	struct ref ref;

	if (!name) {
		snprintf(out, n, "-");
	} else if (ref_parse(name, &ref, &ignored) == 0) {
		snprintf(out, n, "%s", ref_familiar(&ref).text);
	} else {
		snprintf(out, n, "%s", name);
	}
}

static json_t *entry_json(const struct store_entry *en, uint64_t bytes)
{
	return json_pack("{s:s* s:s s:s s:s s:s* s:s s:I}", "name", en->name, "id", en->id, "digest",
			 en->manifest, "mediaType", en->media_type, "source", en->source, "added",
			 time_format(en->added_ns).text, "size", (json_int_t)bytes);
}

int cmd_ls(const struct cmd_call *call, struct err *e)
{
	const struct list_opts *o = call->opts;
	auto_arena struct arena a = ARENA_INIT;
	struct store_entries list = { .n = 0 };
	struct session s = { .store = NULL };
	auto_json json_t *out = json_array();
	int r = session_open(&s, call, STORE_READ_ONLY, e);

	if (r == -ENOENT) {
		r = 0;   /* where there is no store there are no images */
	} else if (r == 0) {
		r = store_image_list(s.store, &a, &list, e);
	}
	if (r == 0 && !o->json && !o->quiet) {
		printf("%-48s  %-12s  %10s  %s\n", "NAME", "ID", "SIZE", "ADDED");
	}
	for (size_t i = 0; r == 0 && i < list.n; i++) {
		const struct store_entry *en = &list.v[i];
		struct store_image img = { .blob_bytes = 0 };
		struct err damaged = ERR_INIT;
		char name[sizeof(struct ref_text)];

		/* A damaged image is listed all the same: "verify" says what is wrong. */
		ignore_result(store_image_load(s.store, en->manifest, &a, &img, &damaged));
		short_name(en->name, name, sizeof(name));
		if (o->json) {
			r = !out || json_array_append_new(out, entry_json(en, img.blob_bytes)) < 0 ?
				err_nomem(e) : 0;
		} else if (o->quiet) {
			printf("%s\n", en->id);
		} else {
			printf("%-48s  %-12.*s  %10s  %.19s\n", name, o->no_trunc ? 200 : 12,
			       digest_hex(en->id), format_size(img.blob_bytes).text,
			       time_format(en->added_ns).text);
		}
	}
	if (r == 0 && o->json) {
		r = print_json(take_ptr(&out), e);
	}
	return session_close(&s, r, e);
}

static int load_image(struct session *s, const char *name, struct arena *a,
		      struct store_entry *en, struct store_image *img, struct err *e)
{
	int r = store_image_resolve(s->store, name, a, en, e);

	return r < 0 ? r : store_image_load(s->store, en->manifest, a, img, e);
}

/* All names of a manifest. */
static json_t *names_of(struct session *s, const char *manifest, struct arena *a)
{
	struct err ignored = ERR_INIT;
	struct store_entries list;
	json_t *names = json_array();

	if (!names || store_image_list(s->store, a, &list, &ignored) < 0) {
		return names;
	}
	for (size_t i = 0; i < list.n; i++) {
		if (list.v[i].name && str_eq(list.v[i].manifest, manifest) &&
		    json_array_append_new(names, json_string(list.v[i].name)) < 0) {
			break;
		}
	}
	return names;
}

static int inspect_one(struct session *s, const char *name, json_t *out, struct err *e)
{
	auto_arena struct arena a = ARENA_INIT;
	struct store_entry en;
	struct store_image img;
	json_t *config = NULL, *manifest = NULL;
	int r = load_image(s, name, &a, &en, &img, e);

	r = r < 0 ? r : json_parse(img.config_text, img.config_len, &json_limits_document, "config",
				   &config, e);
	r = r < 0 ? r : json_parse(img.manifest_text, img.manifest_len, &json_limits_document,
				   "manifest", &manifest, e);
	if (r == 0) {
		json_t *one = json_pack("{s:s s:s s:s s:s* s:o s:s s:I s:b s:O s:O}", "id", en.id,
					"digest", en.manifest, "mediaType", en.media_type, "source",
					en.source, "names", names_of(s, en.manifest, &a), "added",
					time_format(en.added_ns).text, "size",
					(json_int_t)img.blob_bytes, "unpacked",
					store_image_unpacked(s->store, &img), "config", config,
					"manifest", manifest);

		r = json_array_append_new(out, one) < 0 ? err_nomem(e) : 0;
	}
	json_decref(config);
	json_decref(manifest);
	return r;
}

int cmd_inspect(const struct cmd_call *call, struct err *e)
{
	struct session s = { .store = NULL };
	auto_json json_t *out = json_array();
	int r = session_open(&s, call, STORE_READ_ONLY, e);

	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		r = inspect_one(&s, call->args[i], out, e);
	}
	if (r == 0) {
		r = print_json(take_ptr(&out), e);
	}
	return session_close(&s, r, e);
}

/* Text from an image, as a terminal can take it. */
static void print_clean(const char *s, size_t max)
{
	for (size_t i = 0; s && s[i] != '\0' && i < max; i++) {
		(void)putchar((unsigned char)s[i] < 0x20 || s[i] == 0x7f ? ' ' : s[i]); /* a full
			* standard output is found at the end */
	}
	(void)putchar('\n'); /* as above */
}

int cmd_history(const struct cmd_call *call, struct err *e)
{
	const struct list_opts *o = call->opts;
	auto_arena struct arena a = ARENA_INIT;
	struct session s = { .store = NULL };
	struct store_entry en;
	struct store_image img;
	auto_json json_t *out = json_array();
	int r = session_open(&s, call, STORE_READ_ONLY, e);

	r = r < 0 ? r : load_image(&s, call->args[0], &a, &en, &img, e);
	if (r < 0) {
		return session_close(&s, r, e);
	}

	size_t layer = 0;

	if (!o->json) {
		printf("%-20s  %10s  %s\n", "CREATED", "SIZE", "CREATED BY");
	}
	for (size_t i = 0; r == 0 && i < img.config.history.n; i++) {
		const struct oci_history *h = (const struct oci_history *)img.config.history.v + i;
		bool has = !h->empty_layer && layer < img.manifest.layers.n;
		uint64_t size = has ? oci_layer(&img.manifest, layer++)->size : 0;

		if (o->json) {
			json_t *one = json_pack("{s:s* s:s* s:s* s:b s:I}", "created", h->created,
						"createdBy", h->created_by, "comment", h->comment,
						"emptyLayer", h->empty_layer, "size",
						(json_int_t)size);

			r = !out || json_array_append_new(out, one) < 0 ? err_nomem(e) : 0;
			continue;
		}
		printf("%-20.19s  %10s  ", h->created ? h->created : "-", format_size(size).text);
		print_clean(h->created_by ? h->created_by : h->comment, o->no_trunc ? 65536 : 80);
	}
	if (r == 0 && o->json) {
		r = print_json(take_ptr(&out), e);
	}
	return session_close(&s, r, e);
}

int cmd_tag(const struct cmd_call *call, struct err *e)
{
	struct session s = { .store = NULL };
	struct ref ref;
	int r = ref_parse(call->args[1], &ref, e);

	if (r == 0 && ref.digest[0] != '\0') {
		return err_set(e, EINVAL, ERR_INVALID, "a new name cannot hold a digest");
	}
	r = r < 0 ? r : session_open(&s, call, 0, e);
	r = r < 0 ? r : store_image_tag(s.store, call->args[0], ref_name(&ref).text, e);
	return session_close(&s, r, e);
}

static void print_removed(const struct store_removed *done)
{
	for (size_t i = 0; i < done->untagged.n; i++) {
		printf("untagged %s\n", done->untagged.v[i]);
	}
	for (size_t i = 0; i < done->deleted.n; i++) {
		printf("deleted %s\n", done->deleted.v[i]);
	}
}

int cmd_rm(const struct cmd_call *call, struct err *e)
{
	const struct rm_opts *o = call->opts;
	struct session s = { .store = NULL };
	struct store_removed done = { .untagged = STRV_INIT };
	struct store_gc_result gc;
	struct err busy = ERR_INIT;
	int r = session_open(&s, call, 0, e);

	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		r = store_image_remove(s.store, call->args[i], o->force ? STORE_FORCE : 0, &done, e);
	}
	print_removed(&done);
	if (s.store && done.deleted.n > 0) {
		/* The next collection does it where another process works. */
		ignore_result(store_gc(s.store, STORE_GC_NO_WAIT, &gc, &busy));
	}
	store_removed_fini(&done);
	return session_close(&s, r, e);
}

static int print_gc(const struct store_gc_result *gc, bool json, struct err *e)
{
	if (json) {
		return print_json(json_pack("{s:I s:I s:I s:I}", "blobs", (json_int_t)gc->blobs,
					    "layers", (json_int_t)gc->layers, "partials",
					    (json_int_t)gc->partials, "bytes",
					    (json_int_t)gc->bytes), e);
	}
	printf("%" PRIu64 " blobs, %" PRIu64 " layers and %" PRIu64 " broken downloads removed, "
	       "%s freed\n", gc->blobs, gc->layers, gc->partials, format_size(gc->bytes).text);
	return 0;
}

int cmd_prune(const struct cmd_call *call, struct err *e)
{
	const struct prune_opts *o = call->opts;
	struct session s = { .store = NULL };
	struct store_removed done = { .untagged = STRV_INIT };
	struct store_gc_result gc = { .bytes = 0 };
	int r = session_open(&s, call, 0, e);

	r = r < 0 ? r : store_prune(s.store, o->all, &done, &gc, e);
	if (r == 0 && !o->json) {
		print_removed(&done);
	}
	r = r < 0 ? r : print_gc(&gc, o->json, e);
	store_removed_fini(&done);
	return session_close(&s, r, e);
}

int cmd_gc(const struct cmd_call *call, struct err *e)
{
	const struct gc_opts *o = call->opts;
	struct session s = { .store = NULL };
	struct store_gc_result gc = { .bytes = 0 };
	int r = session_open(&s, call, 0, e);

	r = r < 0 ? r : store_gc(s.store, (o->no_wait ? STORE_GC_NO_WAIT : 0) |
				 (o->partials ? STORE_GC_PARTIALS : 0), &gc, e);
	r = r < 0 ? r : print_gc(&gc, o->json, e);
	return session_close(&s, r, e);
}

static void print_fault(const char *what, const char *digest, unused_arg void *ud)
{
	printf("%s: %s\n", digest ? digest : "store", what);
}

int cmd_verify(const struct cmd_call *call, struct err *e)
{
	struct session s = { .store = NULL };
	int r = session_open(&s, call, STORE_READ_ONLY, e);

	r = r < 0 ? r : store_verify(s.store, print_fault, NULL, e);
	if (r > 0) {
		r = err_set(e, EBADMSG, ERR_HOST, "%d faults in the store: pull or load the damaged "
			    "images again", r);
	}
	return session_close(&s, r, e);
}

int cmd_unpack(const struct cmd_call *call, struct err *e)
{
	struct session s = { .store = NULL };
	int r = session_open(&s, call, 0, e);

	for (size_t i = 0; r == 0 && i < call->n_args; i++) {
		auto_arena struct arena a = ARENA_INIT;
		struct store_entry en;

		r = store_image_resolve(s.store, call->args[i], &a, &en, e);
		r = r < 0 ? r : session_unpack(&s, en.manifest, e);
	}
	return session_close(&s, r, e);
}
