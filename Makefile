# SPDX-License-Identifier: Apache-2.0
# The front door. Meson and ninja do the work below build/.

.PHONY: all deps deps-build demo test test-long bench asan install deb clean check

BUILD ?= build

# What make demo and make test put in front of their work.
all: deps-build $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

deps-build:
	@tools/install-deps build

deps:
	@tools/install-deps build run test bench

$(BUILD)/build.ninja:
	@meson setup $(BUILD)

demo: all
	@tools/install-deps run
	@tools/demo

test:
	@tools/install-deps build run test
	@tools/run-tests

test-long:
	@tools/install-deps build run test long
	@tools/run-tests --long

bench: all
	@tools/install-deps run bench
	@bench/run

asan:
	@tools/install-deps build
	@test -f build-asan/build.ninja || meson setup build-asan \
		-Db_sanitize=address,undefined -Db_lundef=false -Dfaults=true
	@ninja -C build-asan

# The checks over the text of the project: layers, banned calls, style.
check:
	@tools/check-layers
	@tools/check-paths

install: all
	@meson install -C $(BUILD)

deb: all
	@packaging/make-deb

clean:
	rm -rf build build-*
