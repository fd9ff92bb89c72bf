/* SPDX-License-Identifier: Apache-2.0 */
/* Doubles one at a time (SSE2), and the old unit's extended numbers. */
#include <math.h>
#include <stddef.h>

#include "guest.h"

enum { BODIES = 6 };

static struct body {
	double at[3], speed[3], mass;
} bodies[BODIES];

/* A heavy body, and light ones around it. */
static void prepare(void)
{
	for (int i = 0; i < BODIES; i++) {
		struct body *b = &bodies[i];

		b->mass = i ? 0.001 * i : 40.0;
		for (int d = 0; d < 3; d++) {
			b->at[d] = i ? (double)(random_next() % 1000) / 50.0 + i : 0;
			b->speed[d] = i ? (double)(random_next() % 1000) / 1000.0 - 0.5 : 0;
		}
	}
}

static void attract(struct body *a, struct body *b, double step)
{
	double away[3], square = 0.01;

	for (int d = 0; d < 3; d++) {
		away[d] = a->at[d] - b->at[d];
		square += away[d] * away[d];
	}

	double pull = step / (square * sqrt(square));

	for (int d = 0; d < 3; d++) {
		a->speed[d] -= away[d] * b->mass * pull;
		b->speed[d] += away[d] * a->mass * pull;
	}
}

static uint64_t nbody(unsigned work)
{
	uint64_t sum = 0;

	for (unsigned n = 0; n < work * 1000; n++) {
		for (int i = 0; i < BODIES; i++) {
			for (int j = i + 1; j < BODIES; j++) {
				attract(&bodies[i], &bodies[j], 0.001);
			}
		}
		for (int i = 0; i < BODIES; i++) {
			for (int d = 0; d < 3; d++) {
				bodies[i].at[d] += 0.001 * bodies[i].speed[d];
			}
		}
	}
	for (int i = 0; i < BODIES; i++) {
		sum = sum * 31 + (uint64_t)(int64_t)(bodies[i].at[i % 3] * 1e12);
	}
	return sum;
}

/* How long points of the plane stay near, and roots and quotients of it. */
static uint64_t x87(unsigned work)
{
	uint64_t sum = 0;
	long double rest = 1;

	for (unsigned n = 0; n < work * 100; n++) {
		long double cx = (long double)(n % 97) / 40 - 1.9L, cy = (long double)(n % 61) / 50;
		long double x = 0, y = 0;
		unsigned i = 0;

		for (; i < 100 && x * x + y * y < 4; i++) {
			long double t = x * x - y * y + cx;

			y = 2 * x * y + cy;
			x = t;
		}
		rest = sqrtl(rest + x * x + 1) / (1 + y * y);
		sum += i + (uint64_t)(int64_t)(rest * 1e9L);
	}
	return sum;
}

const struct program float_programs[] = {
	{ "nbody", nbody, 1200, prepare },
	{ "x87", x87, 4000, NULL },
	{ 0 },
};
