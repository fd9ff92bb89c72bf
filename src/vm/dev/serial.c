/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/serial.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "state/state.h"

/* Registers by offset; some have one meaning for reads and another for writes. */
enum {
	REG_DATA, REG_IER, REG_IIR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCRATCH,
	REG_FCR = REG_IIR,
};

enum {
	IER_RX = 1, IER_TX = 2, IER_LINE = 4, IER_MODEM = 8,
	IIR_NONE = 1, IIR_MODEM = 0, IIR_TX = 2, IIR_RX = 4, IIR_LINE = 6, IIR_TIMEOUT = 12,
	IIR_FIFOS = 0xc0,
	FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4,
	LCR_DLAB = 0x80,
	MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16,
	LSR_DATA = 1, LSR_OVERRUN = 2, LSR_TX_HOLD_EMPTY = 0x20, LSR_TX_EMPTY = 0x40,
	MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80,
	RX_FIFO = 16,
};

struct serial {
	struct machine    *m;
	struct serial_conf conf;
	struct region      region;
	pthread_mutex_t    lock;
	uint8_t  ier, lcr, mcr, scratch, fcr;
	uint8_t  msr_delta;
	uint16_t divisor;
	uint8_t  rx[RX_FIFO];
	uint32_t rx_n;
	bool     overrun;
	bool     tx_held;         /* tx holds a byte that the host did not take */
	uint8_t  tx;
	bool     tx_irq;          /* the transmitter became empty and nobody looked yet */
	bool     level;           /* of the interrupt line */
};

static uint8_t modem_lines(const struct serial *s)
{
	uint8_t v = 0;

	if (!(s->mcr & MCR_LOOP)) {
		return MSR_CTS | MSR_DSR | MSR_DCD;
	}
	v |= s->mcr & MCR_RTS ? MSR_CTS : 0;
	v |= s->mcr & MCR_DTR ? MSR_DSR : 0;
	v |= s->mcr & MCR_OUT1 ? MSR_RI : 0;
	v |= s->mcr & MCR_OUT2 ? MSR_DCD : 0;
	return v;
}

/* The pending interrupt of the highest rank. */
static uint8_t pending(const struct serial *s)
{
	if ((s->ier & IER_LINE) && s->overrun) {
		return IIR_LINE;
	}
	if ((s->ier & IER_RX) && s->rx_n > 0) {
		return IIR_RX;
	}
	if ((s->ier & IER_TX) && s->tx_irq) {
		return IIR_TX;
	}
	if ((s->ier & IER_MODEM) && s->msr_delta) {
		return IIR_MODEM;
	}
	return IIR_NONE;
}

static void update_line(struct serial *s)
{
	bool level = pending(s) != IIR_NONE;

	if (level != s->level) {
		s->level = level;
		s->m->irq.line(s->m->irq.ctx, s->conf.gsi, level);
	}
}

static void receive(struct serial *s, uint8_t byte)
{
	if (s->rx_n == RX_FIFO) {
		s->overrun = true;
		return;
	}
	s->rx[s->rx_n++] = byte;
}

static void transmit(struct serial *s, uint8_t byte)
{
	s->tx_irq = false;
	if (s->mcr & MCR_LOOP) {
		receive(s, byte);
		s->tx_irq = true;
		return;
	}
	if (s->tx_held || !s->conf.send(s->conf.ctx, byte)) {
		s->tx = byte;
		s->tx_held = true;
		return;
	}
	s->tx_irq = true;
}

static uint8_t read_data(struct serial *s)
{
	uint8_t v = s->rx_n > 0 ? s->rx[0] : 0;

	if (s->rx_n > 0) {
		s->rx_n--;
		memmove(s->rx, s->rx + 1, s->rx_n);
		if (s->rx_n == 0 && s->conf.drained) {
			s->conf.drained(s->conf.ctx);
		}
	}
	return v;
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t v = pending(s);

	if (v == IIR_TX) {
		s->tx_irq = false;
	}
	return (uint8_t)(v | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0));
}

static uint8_t read_lsr(struct serial *s)
{
	uint8_t v = s->tx_held ? 0 : LSR_TX_HOLD_EMPTY | LSR_TX_EMPTY;

	v |= s->rx_n > 0 ? LSR_DATA : 0;
	v |= s->overrun ? LSR_OVERRUN : 0;
	s->overrun = false;
	return v;
}

static uint8_t read_msr(struct serial *s)
{
	uint8_t v = (uint8_t)(modem_lines(s) | s->msr_delta);

	s->msr_delta = 0;
	return v;
}

static uint8_t read_register(struct serial *s, unsigned reg)
{
	bool dlab = (s->lcr & LCR_DLAB) != 0;

	switch (reg) {
	case REG_DATA:
		return dlab ? (uint8_t)s->divisor : read_data(s);
	case REG_IER:
		return dlab ? (uint8_t)(s->divisor >> 8) : s->ier;
	case REG_IIR:
		return read_iir(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		return read_lsr(s);
	case REG_MSR:
		return read_msr(s);
	default:
		return s->scratch;
	}
}

static void write_ier(struct serial *s, uint8_t v)
{
	/* Who switches the transmitter's interrupt on while it is empty gets one. */
	if ((v & IER_TX) && !(s->ier & IER_TX) && !s->tx_held) {
		s->tx_irq = true;
	}
	s->ier = v & (IER_RX | IER_TX | IER_LINE | IER_MODEM);
}

static void write_fcr(struct serial *s, uint8_t v)
{
	if ((v & FCR_CLEAR_RX) || ((v ^ s->fcr) & FCR_ENABLE)) {
		s->rx_n = 0;
		if (s->conf.drained) {
			s->conf.drained(s->conf.ctx);
		}
	}
	s->fcr = v & 0xc9;
}

static void write_mcr(struct serial *s, uint8_t v)
{
	uint8_t before = modem_lines(s);

	s->mcr = v & 0x1f;
	uint8_t changed = before ^ modem_lines(s);

	/* The ring indicator counts only where it ends. */
	if (!(before & MSR_RI)) {
		changed &= (uint8_t)~MSR_RI;
	}
	s->msr_delta |= changed >> 4;
}

static void write_register(struct serial *s, unsigned reg, uint8_t v)
{
	bool dlab = (s->lcr & LCR_DLAB) != 0;

	switch (reg) {
	case REG_DATA:
		if (dlab) {
			s->divisor = (uint16_t)((s->divisor & 0xff00) | v);
		} else {
			transmit(s, v);
		}
		break;
	case REG_IER:
		if (dlab) {
			s->divisor = (uint16_t)((s->divisor & 0xff) | v << 8);
		} else {
			write_ier(s, v);
		}
		break;
	case REG_FCR:
		write_fcr(s, v);
		break;
	case REG_LCR:
		s->lcr = v;
		break;
	case REG_MCR:
		write_mcr(s, v);
		break;
	case REG_SCRATCH:
		s->scratch = v;
		break;
	default:
		break; /* the status registers are read only */
	}
}

/* The registers are bytes: a wider access is one of each. */
static uint64_t on_read(void *ctx, uint64_t off, unsigned n)
{
	struct serial *s = ctx;
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++) {
		v |= (uint64_t)read_register(s, (unsigned)off + i) << (8 * i);
	}
	update_line(s);
	return v;
}

static void on_write(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	struct serial *s = ctx;

	for (unsigned i = 0; i < n; i++) {
		write_register(s, (unsigned)off + i, (uint8_t)(v >> (8 * i)));
	}
	update_line(s);
}

size_t serial_input(struct serial *s, const uint8_t *data, size_t n)
{
	size_t taken = 0;

	pthread_mutex_lock(&s->lock);
	while (taken < n && s->rx_n < RX_FIFO && !(s->mcr & MCR_LOOP)) {
		receive(s, data[taken++]);
	}
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return taken;
}

void serial_sent(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->tx_held && s->conf.send(s->conf.ctx, s->tx)) {
		s->tx_held = false;
		s->tx_irq = true;
		update_line(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static void reset_locked(struct serial *s)
{
	s->ier = s->lcr = s->fcr = s->scratch = s->msr_delta = 0;
	s->mcr = MCR_OUT2;
	s->divisor = 12; /* 9600 */
	s->rx_n = 0;
	s->overrun = s->tx_held = s->tx_irq = false;
	update_line(s);
}

void serial_reset(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	reset_locked(s);
	pthread_mutex_unlock(&s->lock);
}

/* --- State --- */

static const struct state_field fields[] = {
	STATE_HOST_ONLY(struct serial, m, "of the machine that it is in"),
	STATE_HOST_ONLY(struct serial, conf, "of the machine that it is in"),
	STATE_HOST_ONLY(struct serial, region, "made with it"),
	STATE_HOST_ONLY(struct serial, lock, "made with it"),
	STATE_U8(1, struct serial, ier, .max = 0x0f),
	STATE_U8(2, struct serial, lcr),
	STATE_U8(3, struct serial, mcr, .max = 0x1f),
	STATE_U8(4, struct serial, scratch),
	STATE_U8(5, struct serial, fcr),
	STATE_U8(6, struct serial, msr_delta, .max = 0x0f),
	STATE_U16(7, struct serial, divisor),
	STATE_BYTES_N(8, struct serial, rx, rx_n),
	STATE_BOOL(9, struct serial, overrun),
	STATE_BOOL(10, struct serial, tx_held),
	STATE_U8(11, struct serial, tx),
	STATE_BOOL(12, struct serial, tx_irq),
	STATE_BOOL(13, struct serial, level),
};

const struct state_desc serial_state = STATE_DESC("serial", struct serial, fields,
	.version = 1, .oldest = 1);

void serial_save(struct serial *s, const char *path, struct state_writer *w)
{
	state_write(w, path, &serial_state, s);
}

int serial_load(struct serial *s, const char *path, struct state_reader *r, struct err *e)
{
	return state_read(r, path, &serial_state, s, e);
}

int serial_new(struct machine *m, const struct serial_conf *conf, struct serial **ret,
	       struct err *e)
{
	struct serial *s = mem_new(struct serial);

	if (!s) {
		return err_nomem(e);
	}
	s->m = m;
	s->conf = *conf;
	pthread_mutex_init(&s->lock, NULL);
	s->region = (struct region){ .name = "serial", .first = conf->port,
				     .bytes = SERIAL_PORT_BYTES, .ctx = s, .lock = &s->lock,
				     .read = on_read, .write = on_write };
	reset_locked(s);
	int r = bus_add(m->pio, &s->region);

	if (r < 0) {
		pthread_mutex_destroy(&s->lock);
		free(s);
		return err_set(e, -r, ERR_HOST, "serial port at %#x", conf->port);
	}
	*ret = s;
	return 0;
}

struct serial *serial_free(struct serial *s)
{
	if (s) {
		bus_remove(s->m->pio, &s->region);
		pthread_mutex_destroy(&s->lock);
		free(s);
	}
	return NULL;
}
