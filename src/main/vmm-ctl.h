/* SPDX-License-Identifier: Apache-2.0 */
/* The command "ctl" of holm-vmm: a client of the control socket. */
#ifndef MAIN_VMM_CTL_H
#define MAIN_VMM_CTL_H

#include "base/cmd.h"

extern const struct cmd vmm_cmd_ctl;

#endif
