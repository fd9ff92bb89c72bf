/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What apt on this host is told about a Debian suite, in apt's two file formats.
 */
#ifndef IMAGE_SOURCES_H
#define IMAGE_SOURCES_H

#include "base/str.h"

/*
 * Add to *ret, as "deb ..." lines, those entries of a file's text that are for `suite`, its
 * updates, security updates or backports. `deb822`: the format of *.sources. 0 or -ENOMEM.
 */
int sources_parse(const char *text, bool deb822, const char *suite, struct strv *ret) must_check;

/* The same over /etc/apt; *ret stays empty where none names the suite itself. */
int sources_host(const char *suite, struct strv *ret) must_check;

#endif
