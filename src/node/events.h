/* SPDX-License-Identifier: Apache-2.0 */
/* What happens, told to those who ask; the last ones are kept in memory. */
#ifndef NODE_EVENTS_H
#define NODE_EVENTS_H

#include "node/api.h"

enum { EVENTS_KEPT = 1024 };

int  h_events(struct api_call *c, struct err *e);
void events_end(struct node *n);

extern const struct jtable events_query_table, event_table;

#endif
