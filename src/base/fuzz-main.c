/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over the files of its corpus, where libFuzzer is not linked: every
 * argument is a file or a folder of files. Fails if there was no input at all.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned inputs;

static void run_file(int dir_fd, const char *name)
{
	auto_close int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	auto_buf struct buf b = BUF_INIT;
	char part[65536];
	ssize_t n;

	while (fd >= 0 && (n = read(fd, part, sizeof(part))) > 0) {
		buf_add(&b, part, (size_t)n);
	}

	/* Exactly as long as the input, so that a sanitizer sees the first byte behind it. */
	uint8_t *data = malloc(b.len ? b.len : 1);

	if (!data) {
		return;
	}
	if (b.len > 0) {
		memcpy(data, b.data, b.len);
	}
	ignore_result(LLVMFuzzerTestOneInput(data, b.len)); /* always 0 */
	free(data);
	inputs++;
}

static void run_path(const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	struct dirent *d;

	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(path);
		return;
	}
	if (!S_ISDIR(st.st_mode)) {
		run_file(AT_FDCWD, path);
		return;
	}
	int dir_fd = take_fd(&fd);
	DIR *dir = fdopendir(dir_fd);

	while (dir && (d = readdir(dir))) {
		if (d->d_name[0] != '.') {
			run_file(dir_fd, d->d_name);
		}
	}
	if (dir) {
		(void)closedir(dir); /* read only */
	}
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		run_path(argv[i]);
	}
	printf("%u inputs\n", inputs);
	return inputs > 0 ? 0 : 1;
}
