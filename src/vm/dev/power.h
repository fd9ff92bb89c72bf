/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a machine is switched off, reset, and says that it panicked: ACPI's sleep registers, the
 * reset register, the keyboard controller's reset command, pvpanic, the power button's
 * interrupt. Also port 0x80, which kernels write to pass time.
 *
 * Spec: ACPI 6.5, 4.8.3.7 Sleep Control and Status Registers; QEMU, docs/specs/pvpanic.
 */
#ifndef VM_DEV_POWER_H
#define VM_DEV_POWER_H

#include "vm/dev/dev.h"

enum power_event {
	POWER_OFF,        /* the guest switched itself off */
	POWER_RESET,
	POWER_PANIC,      /* its kernel panicked; it may still reset or go on */
	POWER_EVENT__COUNT,
};

struct power;

struct power_conf {
	uint16_t sleep_port, reset_port, panic_port;
	uint8_t  sleep_type, reset_value;
	unsigned button_gsi;
	/* On the vCPU's thread that wrote the register: tell the loop, do not act here. */
	void   (*event)(void *ctx, enum power_event ev);
	void    *ctx;
};

int power_new(struct machine *m, const struct power_conf *conf, struct power **ret,
	      struct err *e) must_check;
struct power *power_free(struct power *p);

/* Press the button. */
void power_button(struct power *p);

#endif
