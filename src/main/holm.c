/* SPDX-License-Identifier: Apache-2.0 */
/* holm: the command line. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
	return cmd_main(&cli_root, argc, argv, NULL);
}
