#!/bin/sh
# Checks which way dependencies point, and the sizes the project holds itself to. Prints every offence; exit 1 if there is one.
#   layers.sh [source folder]
cd "${1:-$(dirname "$0")/..}" || exit 2
offences=$(mktemp) || exit 2
trap 'rm -f "$offences"' EXIT

# Includes of the sources under the given folders, one a line: FILE:NAME. "..." names are resolved from the file's folder; <...> names, and those that are
# found on the include path, stay as they are.
includes() {
  find "$@" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' | sort |
    xargs -r grep -E '^[[:space:]]*#[[:space:]]*include' /dev/null | sed -E 's|^([^:]*):[^<"]*([<"])([^>"]*)[>"].*|\1 \2 \3|' |
    while read -r file quote name; do
      folder=$(dirname "$file")
      if [ "$quote" = '"' ] && [ -e "$folder/$name" ]; then name=$(realpath --relative-to=. "$folder/$name"); fi
      echo "$file:$name"
    done
}

# offend RULE: everything on stdin breaks it.
offend() { sed "s|\$|   $1|" >>"$offences"; }

std='(assert|complex|ctype|errno|fenv|float|inttypes|limits|locale|math|setjmp|signal|stdalign|stdarg|stdbool|stddef|stdint|stdio|stdlib|string|time|wchar)\.h'

includes include | grep -vE ":($std|include/spindle/[a-z]+\.h|spindle/[a-z]+\.h)\$" | offend "include/ needs nothing but the C library"
includes host | grep -E ':kernels/' | grep -vE ':kernels/((common|params|launch|requests|segments|schedule|state)\.h|rope/[a-z_0-9]+\.h)$' |
  offend "host/ sees of kernels/ only what is shared C"
includes host kernels | grep -E ':(bench|tests|examples)/' | offend "the library needs no tool and no test"
includes host/reference | grep -E ':(kernels|host)/' | grep -vE ':(kernels/(common|params)\.h|host/internal\.h|host/reference/[a-z_]+\.h)$' |
  offend "the reference shares nothing with what it checks"
includes host/config | grep -E ':(kernels/|host/)' | grep -v ':host/config/' | offend "the config reader uses the public headers"
includes kernels | grep -E ':host/' | offend "kernels/ never sees host/"
includes kernels/prim | grep -E ':kernels/' | grep -vE ':kernels/prim/' | offend "kernels/prim/ is the lowest layer"
includes kernels | grep -E '^kernels/[a-z_0-9/]*\.h:kernels/' | grep -vE '\.h$' | offend "what is shared with the host needs no device code"
includes kernels | grep -E '^kernels/(merge|panels|rotate|rows|softmax|tile|units)\.cuh:kernels/' |
  grep -vE ':kernels/(prim/prim\.cuh|[a-z_/]+\.h|(merge|panels|rotate|rows|softmax|tile|units)\.cuh)$' |
  offend "a building block knows nothing of items and kernels"
includes kernels | grep -vE '^kernels/[a-z_0-9]+(\.cu|_instance\.cuh):' | grep -E ':kernels/(append|combine|decode|prefill_sm80|prefill_sm90|prepare|rotate_keys)\.cuh$' |
  offend "launches alone include a kernel's body"
includes bench examples | grep -E ':(host|kernels)/' | offend "bench/ and examples/ use the public headers"

long() { # LIMIT FOLDER...: files of more lines than that
  limit=$1; shift
  find "$@" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort | while read -r file; do
    lines=$(wc -l <"$file")
    [ "$lines" -le "$limit" ] || echo "$file: $lines lines"
  done
}
long 400 host bench | offend "at most 400"
long 500 kernels | offend "at most 500"
find include host kernels bench tests examples -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' | sort |
  xargs awk 'length($0) > 130 || /\t/ { print FILENAME ":" FNR }' | offend "a line has at most 130 columns and no tab"
# As clang-format lays them out: from a line that ends in ") {", in a struct indented once, to the brace under its beginning.
find include host kernels bench tests examples -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' | sort | xargs awk '
  FNR == 1 { begin = 0 }
  !begin && /^(  )?[A-Za-z_].*\)( const)? \{$/ && !/^ *(if|for|while|switch) / { begin = FNR; indent = match($0, /[^ ]/); next }
  begin && /^ *\}/ && match($0, /[^ ]/) == indent { if (FNR - begin >= 60) print FILENAME ":" begin; begin = 0 }' |
  offend "a function has at most 60 lines"

[ -s "$offences" ] || exit 0
cat "$offences"
exit 1
