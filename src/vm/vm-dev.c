/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices of a machine: made, stopped and ended together. */
#include <errno.h>

#include "vm/vm-priv.h"

int vm_add_device(struct vm *vm, const struct vdev_desc *desc, const char *name, void *conf,
		  struct err *e)
{
	struct vdev *dev = NULL;

	assert(vm->state == VM_CREATED);
	if (vm->n_devices == VM_DEVICES_MAX) {
		return err_set(e, ENOSPC, ERR_LIMIT, "a machine has at most %d devices",
			       VM_DEVICES_MAX);
	}
	int r = vdev_new(desc, name, &vm->machine, conf, &dev, e);

	r = r < 0 ? r : virtio_pci_new(&vm->machine, vm->pci, dev, &vm->devices[vm->n_devices], e);
	if (r < 0) {
		return err_wrap(e, "%s", name);
	}
	vm->n_devices++;
	return 0;
}

struct vdev *vm_device(struct vm *vm, const struct vdev_desc *desc, unsigned nth)
{
	for (unsigned i = 0; i < vm->n_devices; i++) {
		if (vm->devices[i]->dev->desc == desc && nth-- == 0) {
			return vm->devices[i]->dev;
		}
	}
	return NULL;
}

/* All, or none. */
int vm__pause_devices(struct vm *vm, struct err *e)
{
	for (unsigned i = 0; i < vm->n_devices; i++) {
		struct vdev *d = vm->devices[i]->dev;
		int r = vdev_pause(d);

		if (r == 0) {
			continue;
		}
		while (i-- > 0) {
			vdev_resume(vm->devices[i]->dev);
		}
		return err_set(e, -r, ERR_UNAVAILABLE, "%s: a request to the host has not come back for "
			       "%u s", d->name, (unsigned)(VDEV_PATIENCE_NS / 1000000000));
	}
	return 0;
}

void vm__resume_devices(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_devices; i++) {
		vdev_resume(vm->devices[i]->dev);
	}
}

void vm__end_devices(struct vm *vm)
{
	while (vm->n_devices > 0) {
		struct virtio_pci *p = vm->devices[--vm->n_devices];

		pci_remove(vm->pci, &p->fn);
		virtio_pci_free(p);
	}
}
