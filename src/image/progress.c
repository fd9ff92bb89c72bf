/* SPDX-License-Identifier: Apache-2.0 */
#include "image/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "json/json.h"
#include "sys/file.h"

enum { ITEMS_MAX = 100000, BAR_WIDTH = 30, BARS_MAX = 12 };
static const uint64_t redraw_ns = 100 * NS_PER_MS;

const char *const progress_state_names[PROGRESS_STATE__COUNT] = {
	[PROGRESS_WAITING] = "waiting", [PROGRESS_ACTIVE] = "active",
	[PROGRESS_RETRYING] = "retrying", [PROGRESS_EXISTS] = "exists",
	[PROGRESS_MOUNTED] = "mounted", [PROGRESS_DONE] = "done",
};

struct item {
	char                id[144];
	char                what[24];
	enum progress_state state;
	uint64_t            done, total;
	bool                dirty;     /* not yet told */
	bool                told_end;  /* its last line is out */
};

struct progress {
	enum progress_mode mode;
	int                fd;
	struct item       *items;
	size_t             n, cap;
	size_t             first;      /* all before it have told their end */
	unsigned           bars;       /* lines of bars now on the terminal */
	uint64_t           drawn_ns;
};

static bool at_end(const struct item *i)
{
	return i->state == PROGRESS_EXISTS || i->state == PROGRESS_MOUNTED ||
	       i->state == PROGRESS_DONE;
}

/* A copy that a terminal and a log can show. */
static void clean_copy(char *out, size_t out_bytes, const char *s)
{
	snprintf(out, out_bytes, "%s", s);
	for (char *p = out; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			*p = '?';
		}
	}
}

struct progress *progress_new(enum progress_mode mode, int fd)
{
	struct progress *p = mem_new(struct progress);

	if (p) {
		p->mode = mode;
		p->fd = fd;
	}
	return p;
}

enum progress_mode progress_mode_for_person(void)
{
	const char *term = getenv("TERM");

	return isatty(STDERR_FILENO) && term && !str_eq(term, "dumb") ? PROGRESS_TERMINAL :
									PROGRESS_PLAIN;
}

void progress_free(struct progress *p)
{
	if (p) {
		progress_draw(p, true);
		free(p->items);
		free(p);
	}
}

static void put(struct progress *p, const struct buf *b)
{
	if (!buf_failed(b) && b->len > 0) {
		/* Nobody may be listening any more: the work goes on. */
		ignore_result(sys_write_full(p->fd, b->data, b->len));
	}
}

static void put_json(struct progress *p, json_t *own_line)
{
	auto_json json_t *line = own_line;
	auto_free char *text = line ? json_text(line) : NULL;
	auto_buf struct buf b = BUF_INIT;

	if (text) {
		buf_printf(&b, "%s\n", text);
		put(p, &b);
	}
}

static void item_json(struct progress *p, size_t n)
{
	const struct item *i = &p->items[n];

	put_json(p, json_pack("{s:s s:I s:s s:s s:s s:I s:I}", "type", "item", "item",
			      (json_int_t)n, "id", i->id, "what", i->what, "state",
			      progress_state_names[i->state], "done", (json_int_t)i->done, "total",
			      (json_int_t)i->total));
}

/* "sha256:0123456789abcdef..." as people see it: "0123456789ab". */
static void short_id(const char *id, char out[24])
{
	const char *hex = str_after(id, "sha256:");

	snprintf(out, 24, hex ? "%.12s" : "%.20s", hex ? hex : id);
}

static void add_end(struct buf *b, const struct item *i)
{
	char id[24];

	short_id(i->id, id);
	buf_printf(b, "%-12s  %-8s  %s", id, i->what, progress_state_names[i->state]);
	if (i->total > 0) {
		buf_printf(b, "  %s", format_size(i->total).text);
	}
	buf_add_str(b, "\n");
}

static void add_bar(struct buf *b, const struct item *i)
{
	char id[24], bar[BAR_WIDTH + 1];
	size_t full = i->total ? (size_t)((double)MIN(i->done, i->total) / (double)i->total *
					  BAR_WIDTH) : 0;

	short_id(i->id, id);
	for (size_t k = 0; k < BAR_WIDTH; k++) {
		bar[k] = k < full ? '=' : k == full && i->done > 0 ? '>' : ' ';
	}
	bar[BAR_WIDTH] = '\0';
	buf_printf(b, "%-12s  %-8s  ", id, i->what);
	if (i->total > 0) {
		buf_printf(b, "[%s]  %s of %s", bar, format_size(i->done).text,
			   format_size(i->total).text);
	} else {
		buf_add_str(b, format_size(i->done).text);
	}
	if (i->state == PROGRESS_RETRYING) {
		buf_add_str(b, "  trying again");
	}
	buf_add_str(b, "\033[K\n");
}

/* Back to the first line of the bars, and clear from there. */
static void add_erase(struct progress *p, struct buf *b)
{
	if (p->bars > 0) {
		buf_printf(b, "\033[%uA\r\033[J", p->bars);
		p->bars = 0;
	}
}

static void add_bars(struct progress *p, struct buf *b)
{
	struct winsize ws;
	unsigned room = BARS_MAX;

	if (ioctl(p->fd, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 2 && ws.ws_row - 2 < BARS_MAX) {
		room = ws.ws_row - 2u;
	}
	for (size_t k = p->first; k < p->n && p->bars < room; k++) {
		if (p->items[k].state == PROGRESS_ACTIVE ||
		    p->items[k].state == PROGRESS_RETRYING) {
			add_bar(b, &p->items[k]);
			p->bars++;
		}
	}
}

/* Lines of the items that came to their end since the last time. */
static void add_ends(struct progress *p, struct buf *b)
{
	for (size_t k = p->first; k < p->n; k++) {
		struct item *i = &p->items[k];

		if (at_end(i) && !i->told_end) {
			add_end(b, i);
			i->told_end = true;
		}
	}
}

void progress_draw(struct progress *p, bool force)
{
	auto_buf struct buf b = BUF_INIT;

	if (!p || p->mode == PROGRESS_SILENT) {
		return;
	}

	uint64_t now = clock_now_ns();

	if (!force && now - p->drawn_ns < redraw_ns) {
		return;
	}
	p->drawn_ns = now;
	if (p->mode == PROGRESS_JSON) {
		for (size_t k = p->first; k < p->n; k++) {
			if (p->items[k].dirty) {
				p->items[k].dirty = false;
				p->items[k].told_end = at_end(&p->items[k]);
				item_json(p, k);
			}
		}
	} else {
		add_erase(p, &b);
		add_ends(p, &b);
		if (p->mode == PROGRESS_TERMINAL) {
			add_bars(p, &b);
		}
		put(p, &b);
	}
	while (p->first < p->n && p->items[p->first].told_end) {
		p->first++;
	}
}

size_t progress_add(struct progress *p, const char *id, const char *what, uint64_t total)
{
	if (!p || p->n >= ITEMS_MAX) {
		return SIZE_MAX;
	}
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 16;
		struct item *items = mem_realloc(p->items, cap, sizeof(*items));

		if (!items) {
			return SIZE_MAX;
		}
		p->items = items;
		p->cap = cap;
	}

	struct item *i = &p->items[p->n];

	*i = (struct item){ .state = PROGRESS_WAITING, .total = total, .dirty = true };
	clean_copy(i->id, sizeof(i->id), id);
	clean_copy(i->what, sizeof(i->what), what);
	return p->n++;
}

void progress_set(struct progress *p, size_t item, enum progress_state state, uint64_t done)
{
	if (!p || item >= p->n) {
		return;
	}

	struct item *i = &p->items[item];
	bool turn = i->state != state;

	i->dirty = i->dirty || turn || i->done != done;
	i->state = state;
	i->done = done;
	if (!at_end(i)) {
		i->told_end = false;
		p->first = MIN(p->first, item);
	}
	progress_draw(p, turn && (at_end(i) || p->mode == PROGRESS_JSON));
}

void progress_known(struct progress *p, size_t item, const char *id, uint64_t total)
{
	if (p && item < p->n) {
		clean_copy(p->items[item].id, sizeof(p->items[item].id), id);
		p->items[item].total = total;
		p->items[item].dirty = true;
	}
}

void progress_text(struct progress *p, const char *fmt, ...)
{
	char raw[512], text[512];
	auto_buf struct buf b = BUF_INIT;
	va_list ap;

	if (!p || p->mode == PROGRESS_SILENT) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	clean_copy(text, sizeof(text), raw);
	if (p->mode == PROGRESS_JSON) {
		put_json(p, json_pack("{s:s s:s%}", "type", "text", "text", text, strlen(text)));
		return;
	}
	add_erase(p, &b);
	buf_printf(&b, "%s\n", text);
	if (p->mode == PROGRESS_TERMINAL) {
		add_bars(p, &b);
	}
	put(p, &b);
}

void progress_image(struct progress *p, const char *name, const char *digest)
{
	if (!p || p->mode == PROGRESS_SILENT) {
		return;
	}
	progress_draw(p, true);
	if (p->mode == PROGRESS_JSON) {
		put_json(p, json_pack("{s:s s:s* s:s}", "type", "image", "name", name, "digest",
				      digest));
	} else {
		progress_text(p, "%s  %s", name ? name : "(no name)", digest);
	}
}

void progress_error(struct progress *p, const struct err *e)
{
	char text[700];

	if (p && p->mode == PROGRESS_JSON) {
		progress_draw(p, true);
		put_json(p, json_pack("{s:s s:s s:s}", "type", "error", "code",
				      err_codes[e->code].name, "message",
				      err_text(e, text, sizeof(text))));
	}
}
