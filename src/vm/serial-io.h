/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the serial port: bytes between its registers, which vCPU threads touch,
 * and two descriptors, which the loop reads and writes. A buffer of bounded size stands
 * between; while it is full the port takes nothing and the guest waits.
 *
 * A regular file is written until it has SERIAL_IO_FILE_MAX bytes, counting what it had before;
 * what comes then is dropped.
 *
 * With the escape key, some of the input is commands: escape.h.
 */
#ifndef VM_SERIAL_IO_H
#define VM_SERIAL_IO_H

#include "base/err.h"

enum { SERIAL_IO_FILE_MAX = 4 << 20 };

struct serial;
struct serial_io;
struct vm;

/* Descriptors are borrowed; -1: none (output goes nowhere). */
int serial_io_new(struct vm *vm, int in_fd, int out_fd, bool escape_key, struct serial_io **ret,
		  struct err *e) must_check;
int serial_io_start(struct serial_io *s, struct serial *port, struct err *e) must_check;
struct serial_io *serial_io_free(struct serial_io *s);

/* For struct serial_conf. */
bool serial_io_send(void *ctx, uint8_t byte);
void serial_io_drained(void *ctx);

/*
 * From now on the bytes go to and come from this stream socket, which is owned from here on,
 * also on failure; who was there before is left. When it ends output goes nowhere.
 */
int serial_io_attach(struct serial_io *s, int own_fd, struct err *e) must_check;

/* Write what waits, if that does not take long. */
void serial_io_flush(struct serial_io *s);

#endif
