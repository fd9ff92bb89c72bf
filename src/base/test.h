/* SPDX-License-Identifier: Apache-2.0 */
/* What every unit test includes: cmocka with the headers that it wants in front of it. */
#ifndef BASE_TEST_H
#define BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Run an array of tests and report; the value of main(). */
#define TEST_RUN(tests) cmocka_run_group_tests(tests, NULL, NULL)

#endif
