/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "net/files.h"
#include "net/pasta.h"

static void resolv(void **state)
{
	(void)state;
	auto_buf struct buf b = BUF_INIT;
	static const char host[] = "# comment\nnameserver 10.0.0.1\nsearch a.example b.example\n"
				   "options ndots:2\nnameservers 1.2.3.4\nnameserver\t10.0.0.2";
	static const char *const dns[] = { "9.9.9.9" }, *const search[] = { "x", "y" };

	net_resolv_conf(&(struct net_resolv){ .host_conf = host }, &b);
	assert_string_equal(buf_str(&b), "search a.example b.example\nnameserver 10.0.0.1\n"
			    "nameserver\t10.0.0.2\noptions ndots:2\n");
	buf_reset(&b);
	net_resolv_conf(&(struct net_resolv){ .host_conf = host, .server = PASTA_DNS }, &b);
	assert_string_equal(buf_str(&b), "search a.example b.example\nnameserver 169.254.1.1\n"
			    "options ndots:2\n");
	buf_reset(&b);
	net_resolv_conf(&(struct net_resolv){ .host_conf = host, .server = PASTA_DNS, .dns = dns,
					      .n_dns = 1, .search = search, .n_search = 2 }, &b);
	assert_string_equal(buf_str(&b), "search x y\nnameserver 9.9.9.9\noptions ndots:2\n");
	buf_reset(&b);
	net_resolv_conf(&(struct net_resolv){ .host_conf = NULL }, &b);
	assert_string_equal(buf_str(&b), "");
}

static void hosts(void **state)
{
	(void)state;
	auto_buf struct buf b = BUF_INIT;
	static const char *const extra[] = { "db:10.0.0.5", "six:fd00::1" };

	net_hosts("web", "example.org", extra, 2, &b);
	assert_non_null(strstr(buf_str(&b), "127.0.0.1\tlocalhost\n"));
	assert_non_null(strstr(buf_str(&b), "127.0.1.1\tweb.example.org web\n"));
	assert_non_null(strstr(buf_str(&b), "10.0.0.5\tdb\n"));
	assert_non_null(strstr(buf_str(&b), "fd00::1\tsix\n"));
}

/* Nothing comes in, and the metadata services are in the list (rule 22). */
static void arguments(void **state)
{
	(void)state;
	auto_strv struct strv v = STRV_INIT;
	bool metadata = false;

	assert_int_equal(pasta_args(&v, "/usr/bin/pasta", "/run/x.pid", 3, 4), 0);
	assert_string_equal(v.v[0], "/usr/bin/pasta");
	assert_string_equal(v.v[v.n - 1], "/proc/self/fd/4");
	assert_true(strv_has(&v, "--no-map-gw"));
	for (size_t i = 0; i < v.n; i++) {
		if (str_eq(v.v[i], "-t") || str_eq(v.v[i], "-u") || str_eq(v.v[i], "-T") ||
		    str_eq(v.v[i], "-U")) {
			assert_string_equal(v.v[i + 1], "none");
		}
	}
	strv_fini(&v);
	v = (struct strv)STRV_INIT;
	assert_int_equal(pasta_args(&v, "/usr/bin/pasta", "/run/x.pid", 3, -1), 0);
	assert_string_equal(v.v[v.n - 1], "/proc/self/fd/3");
	for (size_t i = 0; net_denied[i]; i++) {
		metadata = metadata || str_eq(net_denied[i], "169.254.169.254/32");
	}
	assert_true(metadata);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(resolv), cmocka_unit_test(hosts), cmocka_unit_test(arguments),
	};

	return TEST_RUN(tests);
}
