/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/dev/power.h"

#include <errno.h>

#include "base/mem.h"

enum {
	SLEEP_ENABLE = 1 << 5, SLEEP_TYPE_SHIFT = 2, SLEEP_TYPE = 7,
	PANIC_PANICKED = 1, PANIC_CRASH_LOADED = 2,
	KEYBOARD_COMMAND = 0x64, KEYBOARD_RESET = 0xfe,
	DELAY_PORT = 0x80,
};

enum { REGION_SLEEP, REGION_RESET, REGION_PANIC, REGION_KEYBOARD, REGION_DELAY, REGIONS };

struct power {
	struct machine   *m;
	struct power_conf conf;
	struct region     regions[REGIONS];
};

static void tell(const struct power *p, enum power_event ev)
{
	p->conf.event(p->conf.ctx, ev);
}

static void write_sleep(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	const struct power *p = ctx;

	(void)n;
	if (off == 0 && (v & SLEEP_ENABLE) &&
	    ((v >> SLEEP_TYPE_SHIFT) & SLEEP_TYPE) == p->conf.sleep_type) {
		tell(p, POWER_OFF);
	}
}

/* The status register's one bit says that the machine woke: it never slept. */
static uint64_t read_zero(void *ctx, uint64_t off, unsigned n)
{
	(void)ctx, (void)off, (void)n;
	return 0;
}

static void write_reset(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	const struct power *p = ctx;

	(void)off, (void)n;
	if ((uint8_t)v == p->conf.reset_value) {
		tell(p, POWER_RESET);
	}
}

static uint64_t read_panic(void *ctx, uint64_t off, unsigned n)
{
	(void)ctx, (void)off, (void)n;
	return PANIC_PANICKED | PANIC_CRASH_LOADED;
}

static void write_panic(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	(void)off, (void)n;
	if (v & PANIC_PANICKED) {
		tell(ctx, POWER_PANIC);
	}
}

/* Of a keyboard controller there is only what kernels reset a machine with. */
static void write_keyboard(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	(void)off, (void)n;
	if ((uint8_t)v == KEYBOARD_RESET) {
		tell(ctx, POWER_RESET);
	}
}

static void write_nothing(void *ctx, uint64_t off, unsigned n, uint64_t v)
{
	(void)ctx, (void)off, (void)n, (void)v;
}

static void remove_regions(struct power *p)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		bus_remove(p->m->pio, &p->regions[i]);
	}
}

int power_new(struct machine *m, const struct power_conf *conf, struct power **ret,
	      struct err *e)
{
	struct power *p = mem_new(struct power);

	if (!p) {
		return err_nomem(e);
	}
	p->m = m;
	p->conf = *conf;
	p->regions[REGION_SLEEP] = (struct region){ "sleep", conf->sleep_port, 2, p, NULL,
						    read_zero, write_sleep };
	p->regions[REGION_RESET] = (struct region){ "reset", conf->reset_port, 1, p, NULL,
						    read_zero, write_reset };
	p->regions[REGION_PANIC] = (struct region){ "panic", conf->panic_port, 1, p, NULL,
						    read_panic, write_panic };
	p->regions[REGION_KEYBOARD] = (struct region){ "keyboard", KEYBOARD_COMMAND, 1, p, NULL,
						       NULL, write_keyboard };
	p->regions[REGION_DELAY] = (struct region){ "delay", DELAY_PORT, 1, p, NULL, NULL,
						    write_nothing };
	for (unsigned i = 0; i < REGIONS; i++) {
		int r = bus_add(m->pio, &p->regions[i]);

		if (r < 0) {
			remove_regions(p);
			r = err_set(e, -r, ERR_HOST, "port of the %s register", p->regions[i].name);
			free(p);
			return r;
		}
	}
	*ret = p;
	return 0;
}

struct power *power_free(struct power *p)
{
	if (p) {
		remove_regions(p);
		free(p);
	}
	return NULL;
}

/* An edge. */
void power_button(struct power *p)
{
	p->m->irq.line(p->m->irq.ctx, p->conf.button_gsi, true);
	p->m->irq.line(p->m->irq.ctx, p->conf.button_gsi, false);
}
