/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The documents of archives: manifest.json of docker's, index.json of a layout. The same
 * text answers for every document that it names, so that indexes lead back to themselves.
 */
#include <errno.h>
#include <string.h>

#include "image/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_source {
	struct layout_source src;
	const char          *text;
	size_t               len;
	unsigned             docs;
};

static int give_doc(struct layout_source *src, const char *digest, const char **ret_text,
		    size_t *ret_len, struct err *e)
{
	struct fuzz_source *f = container_of(src, struct fuzz_source, src);

	assert(oci_digest_valid(digest));
	if (++f->docs > 1000) {
		return err_set(e, E2BIG, ERR_LIMIT, "enough");
	}
	*ret_text = f->text;
	*ret_len = f->len;
	return 0;
}

static int take_blob(unused_arg struct layout_source *src, const struct oci_desc *d,
		     unused_arg const char *what, unused_arg struct err *e)
{
	assert(oci_digest_valid(d->digest) && d->size <= OCI_SIZE_MAX);
	return 0;
}

static int take_image(unused_arg struct layout_source *src, const struct worker_image *image,
		      unused_arg struct err *e)
{
	assert(oci_digest_valid(image->manifest));
	assert(oci_kind_of(image->media_type) == OCI_KIND_MANIFEST);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_arena struct arena a = ARENA_INIT;
	struct fuzz_source f = {
		.src = { .doc = give_doc, .blob = take_blob, .image = take_image,
			 .platform = "linux/amd64", .arena = &a },
		.text = (const char *)data, .len = size,
	};
	struct layout_dockers images;
	struct err e = ERR_INIT;

	if (layout_docker_parse((const char *)data, size, &a, &images, &e) == 0) {
		for (size_t i = 0; i < images.n; i++) {
			assert(images.v[i].config && images.v[i].layers.n <= OCI_LAYERS_MAX);
		}
	}
	err_clear(&e);

	int r = layout_oci(&f.src, (const char *)data, size, &e);

	assert(r >= 0 || e.msg[0] != '\0');
	return 0;
}
