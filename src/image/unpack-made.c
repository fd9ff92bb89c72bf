/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling what this layer made from what was there below it.
 *
 * In the merged view both look the same, and the difference matters: a whiteout hides the one
 * and not the other, and a name that an archive has twice is refused. What was made is kept
 * as a set of keyed 64-bit hashes of (inode of the folder, name): 8 bytes an entry, so that a
 * million entries cost 16 MiB at most. An inode is not used again while we run, as nothing
 * that this layer made is ever removed by it.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/random.h>

#include "base/mem.h"
#include "image/unpack-private.h"
#include "sys/file.h"

enum { SLOTS_MIN = 1024 };

int made_init(struct made *m)
{
	*m = (struct made){ .n_slots = SLOTS_MIN };
	/* The key keeps an archive from choosing names that collide. */
	if (getrandom(m->seed, sizeof(m->seed), 0) != (ssize_t)sizeof(m->seed)) {
		return -EIO;
	}
	m->slots = mem_calloc(m->n_slots, sizeof(*m->slots));
	return m->slots ? 0 : -ENOMEM;
}

void made_fini(struct made *m)
{
	free(m->slots);
	m->slots = NULL;
}

static uint64_t mix(uint64_t h)
{
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	h ^= h >> 29;
	h *= UINT64_C(0xff51afd7ed558ccd);
	return h ^ (h >> 32);
}

static uint64_t hash(const struct made *m, uint64_t dir_ino, const char *name)
{
	uint64_t h = mix(m->seed[0] ^ dir_ino);

	for (; *name; name++) {
		h = mix(h ^ m->seed[1] ^ (unsigned char)*name);
	}
	return h ? h : 1; /* 0 marks a free slot */
}

/* The slot that holds `h`, or the free one where it would go. */
static size_t find(const uint64_t *slots, size_t n_slots, uint64_t h)
{
	size_t i = (size_t)h & (n_slots - 1);

	while (slots[i] && slots[i] != h) {
		i = (i + 1) & (n_slots - 1);
	}
	return i;
}

static int grow(struct made *m)
{
	size_t n = m->n_slots * 2;
	uint64_t *slots = mem_calloc(n, sizeof(*slots));

	if (!slots) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < m->n_slots; i++) {
		if (m->slots[i]) {
			slots[find(slots, n, m->slots[i])] = m->slots[i];
		}
	}
	free(m->slots);
	m->slots = slots;
	m->n_slots = n;
	return 0;
}

int made_add(struct made *m, uint64_t dir_ino, const char *name)
{
	if (m->n_used * 4 >= m->n_slots * 3) {
		int r = grow(m);

		if (r < 0) {
			return r;
		}
	}
	uint64_t h = hash(m, dir_ino, name);
	size_t i = find(m->slots, m->n_slots, h);

	m->n_used += m->slots[i] == 0;
	m->slots[i] = h;
	return 0;
}

bool made_has(const struct made *m, uint64_t dir_ino, const char *name)
{
	uint64_t h = hash(m, dir_ino, name);

	return m->slots[find(m->slots, m->n_slots, h)] == h;
}

static int hide_entry(const struct made *m, int dir_fd, uint64_t dir_ino, const char *name)
{
	bool ours = made_has(m, dir_ino, name);
	struct stat st;
	int r = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0) {
		return r == -ENOENT ? 0 : r;
	}
	if (!S_ISDIR(st.st_mode)) {
		return ours ? 0 : sys_unlinkat(dir_fd, name, 0);
	}
	auto_close int fd = sys_openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	r = fd < 0 ? fd : unpack__hide_below(m, fd);
	if (r < 0 || ours) {
		return r;
	}
	r = sys_unlinkat(dir_fd, name, AT_REMOVEDIR);
	return r == -ENOTEMPTY ? 0 : r; /* this layer has something in it */
}

int unpack__hide(const struct made *m, int dir_fd, const char *name)
{
	struct stat st;
	int r = sys_fstat(dir_fd, &st);

	return r < 0 ? r : hide_entry(m, dir_fd, st.st_ino, name);
}

int unpack__hide_below(const struct made *m, int dir_fd)
{
	struct stat st;
	DIR *dir = NULL;
	const struct dirent *d;
	int r = sys_opendir(dir_fd, ".", &dir);

	if (r < 0) {
		return r;
	}
	r = sys_fstat(dir_fd, &st);
	while (r == 0 && (d = readdir(dir))) {
		if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, "..")) {
			r = hide_entry(m, dir_fd, st.st_ino, d->d_name);
		}
	}
	(void)closedir(dir); /* read only: nothing to lose */
	return r;
}
