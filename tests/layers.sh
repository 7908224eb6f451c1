#!/bin/sh
# Fails on any include that the layers forbid: base <- model <- tracer; render sees base and the public
# headers of the record; cli, tests and examples see public headers (cli and tests base, too); other
# people's headers stay in their one file.
bad=0
forbid() { # folder, pattern of quoted includes that it must not hold
    if grep -nE "^#include \"($2)" $1/*.[ch] $1/num/*.[ch] 2>/dev/null; then
        echo "layers: $1 must not include the above"
        bad=1
    fi
}
only() { # header, the files that may see it
    found=$(grep -lE "^#include <$1" base/*.[ch] model/*.[ch] model/num/*.[ch] tracer/*.[ch] \
        tracer/num/*.[ch] render/*.[ch] cli/*.[ch] include/backflow/*.h 2>/dev/null)
    for f in $found; do
        case " $2 " in *" $f "*) ;; *) echo "layers: $f must not include <$1>"; bad=1 ;; esac
    done
}
forbid base 'model/|tracer/|render/|cli/|backflow/(model|tokenizer|tracer|render|report|backflow)\.h'
forbid model 'tracer/|render/|cli/|backflow/(tracer|render|report|backflow)\.h'
forbid tracer 'render/|cli/|backflow/(render|report)\.h'
forbid render 'model/|tracer/|cli/|backflow/(model|tracer|tokenizer|backflow)\.h'
forbid cli 'model/|tracer/|render/'
forbid examples 'base/|model/|tracer/|render/|cli/'
only cblas.h base/gemm.c
only dnnl.h base/packed.c
only cjson/ base/json.c
only oniguruma.h model/tokenizer_regex.c
only utf8proc.h model/tokenizer_unicode.c
only openssl/ model/sha256.c
only png.h render/png.c
only zlib.h render/report_pack.c
only cairo render/canvas.c
only pango/ render/canvas.c
only graphviz/ render/dot.c
exit $bad
