/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A serial port as National Semiconductor's PC16550D has it: registers, receive FIFO, the
 * interrupts in their order. Bytes leave at once, as many as the host side takes; while it
 * takes none the transmitter stays busy and the guest waits, so that nothing is lost.
 *
 * Context: registers on vCPU threads, the rest on any; the port's lock orders them.
 */
#ifndef VM_DEV_SERIAL_H
#define VM_DEV_SERIAL_H

#include "vm/dev/dev.h"

enum { SERIAL_PORT_BYTES = 8, SERIAL_COM1 = 0x3f8, SERIAL_COM1_GSI = 4 };

struct serial;

struct serial_conf {
	uint16_t port;
	unsigned gsi;
	/* A byte of the guest. False: not now; serial_sent() says when. Called with the port's
	 * lock held: must not call back. */
	bool   (*send)(void *ctx, uint8_t byte);
	/* There is room for input again; NULL: nobody wants to know. Also with the lock held. */
	void   (*drained)(void *ctx);
	void    *ctx;
};

int serial_new(struct machine *m, const struct serial_conf *conf, struct serial **ret,
	       struct err *e) must_check;
struct serial *serial_free(struct serial *s);
AUTO_PTR(struct serial, serial_free)

/* Bytes for the guest; returns how many its FIFO took. */
size_t serial_input(struct serial *s, const uint8_t *data, size_t n);

/* The host side takes bytes again. */
void serial_sent(struct serial *s);

struct state_desc;
struct state_reader;
struct state_writer;

extern const struct state_desc serial_state;

/* In a snapshot, at this path. Context: no vCPU runs. After the load serial_sent(). */
void serial_save(struct serial *s, const char *path, struct state_writer *w);
int  serial_load(struct serial *s, const char *path, struct state_reader *r,
		 struct err *e) must_check;

/* As after power-on. */
void serial_reset(struct serial *s);

#endif
