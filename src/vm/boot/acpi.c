/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/boot/acpi.h"

#include <errno.h>

#include "base/le.h"
#include "vm/boot/aml.h"
#include "vm/boot/layout.h"

enum {
	HEADER_BYTES = 36, RSDP_BYTES = 36, TABLES_MAX = 4,
	PCI_SLOTS_ROUTED = 32, PCI_PINS = 4,
	GAS_IO = 1, GAS_BYTE = 1,
	FADT_BYTES = 276,
	FADT_PWR_BUTTON = 1 << 4, FADT_SLP_BUTTON = 1 << 5,   /* set: not the fixed kind */
	FADT_RESET_REG = 1 << 10, FADT_HW_REDUCED = 1 << 20,
	BOOT_NO_VGA = 1 << 2, BOOT_NO_ASPM = 1 << 4, BOOT_NO_RTC = 1 << 5,
	MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_ENABLED = 1,
};

static void sum(struct buf *b, size_t first, size_t n, size_t at)
{
	uint8_t s = 0;

	if (buf_failed(b)) {
		return;
	}
	for (size_t i = 0; i < n; i++) {
		s = (uint8_t)(s + (uint8_t)b->data[first + i]);
	}
	b->data[at] = (char)((uint8_t)b->data[at] - s);
}

static void zeros(struct buf *b, size_t n)
{
	while (n-- > 0) {
		buf_add_char(b, 0);
	}
}

/* Each table begins at a multiple of 16. */
static uint64_t table_begin(struct buf *b, const char *signature, uint8_t revision)
{
	zeros(b, (16 - b->len % 16) % 16);
	uint64_t at = LAYOUT_ACPI + b->len;
	uint8_t h[HEADER_BYTES] = { 0 };

	memcpy(h, signature, 4);
	h[8] = revision;
	memcpy(h + 10, "HOLM  HOLMVM  ", 14);
	le32_put(h + 24, 1);
	memcpy(h + 28, "HOLM", 4);
	le32_put(h + 32, 1);
	buf_add(b, h, sizeof(h));
	return at;
}

static void table_end(struct buf *b, uint64_t at)
{
	size_t first = at - LAYOUT_ACPI;

	if (!buf_failed(b)) {
		le32_put(b->data + first + 4, (uint32_t)(b->len - first));
		sum(b, first, b->len - first, first + 9);
	}
}

/* --- DSDT --- */

static void pci_bridge(struct aml *a)
{
	aml_device(a, "PCI0");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisa_id(a, "PNP0A03");
	aml_name(a, "_UID");
	aml_int(a, 0);
	aml_name(a, "_SEG");
	aml_int(a, 0);
	aml_name(a, "_BBN");
	aml_int(a, 0);
	aml_name(a, "_CCA");
	aml_int(a, 1);
	aml_crs(a);
	aml_crs_bus(a, 0, 0);
	aml_crs_window(a, LAYOUT_PCI_MMIO, LAYOUT_PCI_MMIO_SIZE);
	aml_end(a);
	aml_name(a, "_PRT");
	aml_package(a, PCI_SLOTS_ROUTED * PCI_PINS);
	for (unsigned slot = 0; slot < PCI_SLOTS_ROUTED; slot++) {
		for (unsigned pin = 0; pin < PCI_PINS; pin++) {
			aml_package(a, 4);
			aml_int(a, (uint64_t)slot << 16 | 0xffff);
			aml_int(a, pin);
			aml_int(a, 0);
			aml_int(a, LAYOUT_GSI_PCI + (slot + pin) % PCI_PINS);
			aml_end(a);
		}
	}
	aml_end(a);
	aml_end(a);
}

/* What keeps the kernel from giving the configuration space to someone else. */
static void motherboard(struct aml *a)
{
	aml_device(a, "MBRD");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C02");
	aml_crs(a);
	aml_crs_memory(a, LAYOUT_ECAM, LAYOUT_ECAM_SIZE);
	aml_end(a);
	aml_end(a);
}

static void serial_port(struct aml *a)
{
	aml_device(a, "COM1");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0501");
	aml_name(a, "_UID");
	aml_int(a, 0);
	aml_crs(a);
	aml_crs_io(a, 0x3f8, 8);
	aml_crs_irq(a, LAYOUT_GSI_SERIAL);
	aml_end(a);
	aml_end(a);
}

static void panic_device(struct aml *a)
{
	aml_device(a, "PEVT");
	aml_name(a, "_HID");
	aml_string(a, "QEMU0001");
	aml_crs(a);
	aml_crs_io(a, LAYOUT_PORT_PANIC, 1);
	aml_end(a);
	aml_end(a);
}

/* The one event of the event device is that the button was pressed. */
static void power_button(struct aml *a)
{
	aml_device(a, "PWRB");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C0C");
	aml_name(a, "_UID");
	aml_int(a, 0);
	aml_end(a);
	aml_device(a, "GED_");
	aml_name(a, "_HID");
	aml_string(a, "ACPI0013");
	aml_name(a, "_UID");
	aml_int(a, 0);
	aml_crs(a);
	aml_crs_irq(a, LAYOUT_GSI_GED);
	aml_end(a);
	aml_method(a, "_EVT", 1);
	aml_notify(a, "\\_SB.PWRB", 0x80);
	aml_end(a);
	aml_end(a);
}

static void dsdt(struct aml *a)
{
	aml_scope(a, "\\_SB");
	pci_bridge(a);
	motherboard(a);
	serial_port(a);
	panic_device(a);
	power_button(a);
	aml_end(a);
	aml_name(a, "\\_S5");
	aml_package(a, 4);
	aml_int(a, LAYOUT_SLEEP_S5);
	for (unsigned i = 0; i < 3; i++) {
		aml_int(a, 0);
	}
	aml_end(a);
}

static uint64_t add_dsdt(struct buf *b)
{
	struct aml a = AML_INIT;
	uint64_t at = table_begin(b, "DSDT", 2);

	dsdt(&a);
	buf_add(b, a.b.data, a.b.len);
	b->failed |= a.b.failed;
	buf_fini(&a.b);
	table_end(b, at);
	return at;
}

/* --- The others --- */

static void put_port(uint8_t *gas, uint16_t port)
{
	gas[0] = GAS_IO;
	gas[1] = 8;
	gas[3] = GAS_BYTE;
	le64_put(gas + 4, port);
}

static uint64_t add_fadt(struct buf *b, uint64_t dsdt_at)
{
	uint64_t at = table_begin(b, "FACP", 6);
	uint8_t f[FADT_BYTES] = { 0 };

	le16_put(f + 109, BOOT_NO_VGA | BOOT_NO_ASPM | BOOT_NO_RTC);
	le32_put(f + 112, FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET_REG | FADT_HW_REDUCED);
	put_port(f + 116, LAYOUT_PORT_RESET);
	f[128] = LAYOUT_RESET_VALUE;
	f[131] = 5;
	le64_put(f + 140, dsdt_at);
	put_port(f + 244, LAYOUT_PORT_SLEEP);
	put_port(f + 256, LAYOUT_PORT_SLEEP + 1);
	memcpy(f + 268, "HOLM", 4);
	buf_add(b, f + HEADER_BYTES, sizeof(f) - HEADER_BYTES);
	table_end(b, at);
	return at;
}

static uint64_t add_madt(struct buf *b, unsigned n_cpus)
{
	uint64_t at = table_begin(b, "APIC", 5);
	uint8_t head[8] = { 0 }, io[12] = { MADT_IOAPIC, sizeof(io) };

	le32_put(head, (uint32_t)LAYOUT_LAPIC);
	buf_add(b, head, sizeof(head));
	for (unsigned i = 0; i < n_cpus; i++) {
		uint8_t cpu[8] = { MADT_LAPIC, sizeof(cpu), (uint8_t)i, (uint8_t)i, MADT_ENABLED };

		buf_add(b, cpu, sizeof(cpu));
	}
	io[2] = (uint8_t)n_cpus;
	le32_put(io + 4, (uint32_t)LAYOUT_IOAPIC);
	buf_add(b, io, sizeof(io));
	table_end(b, at);
	return at;
}

static uint64_t add_mcfg(struct buf *b)
{
	uint64_t at = table_begin(b, "MCFG", 1);
	uint8_t m[24] = { 0 };

	le64_put(m + 8, LAYOUT_ECAM);
	buf_add(b, m, sizeof(m));
	table_end(b, at);
	return at;
}

int acpi_build(const struct acpi_conf *conf, struct buf *ret, struct err *e)
{
	uint64_t tables[TABLES_MAX];
	unsigned n = 0;

	assert(ret->len == 0 && conf->n_cpus > 0 && conf->n_cpus < 255);
	zeros(ret, RSDP_BYTES);
	uint64_t dsdt_at = add_dsdt(ret);

	tables[n++] = add_fadt(ret, dsdt_at);
	tables[n++] = add_madt(ret, conf->n_cpus);
	tables[n++] = add_mcfg(ret);
	uint64_t xsdt = table_begin(ret, "XSDT", 1);

	buf_add(ret, tables, n * sizeof(tables[0]));
	table_end(ret, xsdt);
	if (buf_failed(ret)) {
		return err_nomem(e);
	}
	assert(ret->len <= LAYOUT_ACPI_MAX);
	memcpy(ret->data, "RSD PTR ", 8);
	memcpy(ret->data + 9, "HOLM  ", 6);
	ret->data[15] = 2;
	le32_put(ret->data + 20, RSDP_BYTES);
	le64_put(ret->data + 24, xsdt);
	sum(ret, 0, 20, 8);
	sum(ret, 0, RSDP_BYTES, 32);
	return 0;
}

int acpi_load(struct gmem *g, const struct acpi_conf *conf, uint64_t *ret_rsdp, struct err *e)
{
	auto_buf struct buf b = BUF_INIT;
	int r = acpi_build(conf, &b, e);

	if (r < 0) {
		return r;
	}
	if (gmem_write(g, GPA(LAYOUT_ACPI), b.data, b.len) < 0) {
		return err_set(e, ENOMEM, ERR_INVALID, "no room for the ACPI tables");
	}
	*ret_rsdp = LAYOUT_ACPI;
	return 0;
}
