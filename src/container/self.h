/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping this program's file out of a container's reach.
 *
 * A process inside can name the program of any process that it sees, also of the one that is
 * about to become its own (/proc/PID/exe; "#!/proc/self/exe"), and with a container's root
 * being the host's root it could write to it later: the next start of the runtime would run
 * the container's code on the host (CVE-2019-5736). So the runtime executes itself anew from
 * a sealed copy in memory, which nobody can change, before it makes a process in a container.
 *
 * Where the container's ids cannot write to the file anyway (a user namespace that maps
 * neither its owner nor anyone whom its mode allows to), there is nothing to protect:
 * writing takes the owner, a group or world bit, or a capability in a user namespace in which
 * the owner is mapped.
 */
#ifndef CONTAINER_SELF_H
#define CONTAINER_SELF_H

#include "oci/spec.h"

/* First thing in main(). */
void self_init(char **argv);

/* Go on as the sealed copy: executes main() anew, or returns 0 if this is it already. */
int self_seal(struct err *e) must_check;

/* Whether a container with these mappings could write to the file of this program. */
bool self_writable_by(const struct oci_linux *l);

#endif
