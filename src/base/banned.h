/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions that this project does not use, turned into compile errors. Included by the
 * compiler's command line into every file. What to use instead stands behind each name.
 */
#if !defined(BASE_BANNED_H) && !defined(__ASSEMBLER__)
#define BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alloca.h>

#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef strtok
#undef sprintf
#undef vsprintf
#undef atoi
#undef atol
#undef alloca
#undef popen
#undef tmpnam
#undef mktemp

#pragma GCC poison strcpy   /* buf_add_str() or snprintf() */
#pragma GCC poison strcat   /* buf_add_str() */
#pragma GCC poison strncpy  /* snprintf() */
#pragma GCC poison strncat  /* buf_add() */
#pragma GCC poison strtok   /* str_split() */
#pragma GCC poison sprintf vsprintf /* snprintf(), buf_printf() */
#pragma GCC poison atoi atol /* parse_u64(), parse_i64() */
#pragma GCC poison alloca   /* an arena */
#pragma GCC poison popen    /* loop/proc.h: argument vectors, no shell */
#pragma GCC poison tmpnam mktemp /* O_TMPFILE, memfd */

#endif
