#!/bin/sh
# install.sh BUILD COMPILER SANITIZERS: installs BUILD into an empty prefix, then builds and runs the consumer in every way that is promised.
set -eu
build=$1 compiler=$2 sanitize=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
flags=${sanitize:+-fsanitize=$sanitize}

cmake --install "$build" --prefix "$prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

for kind in static shared; do
  cmake -S "$here/consumer" -B "$work/$kind" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_C_FLAGS="$flags" -DCMAKE_PREFIX_PATH="$prefix" -DKIND=$kind \
    -DCMAKE_BUILD_TYPE=Release >"$work/log" 2>&1 && cmake --build "$work/$kind" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  "$work/$kind/consumer"
  echo "find_package, $kind: ok"
done

export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name spindle.pc)")
[ "$(pkg-config --variable=prefix spindle)" ]
# shellcheck disable=SC2046
"$compiler" $flags "$here/consumer/consumer.c" $(pkg-config --cflags --libs spindle) -o "$work/by_pkg_config"
LD_LIBRARY_PATH=$(pkg-config --variable=libdir spindle) "$work/by_pkg_config"
echo "pkg-config, shared: ok"
rm "$(pkg-config --variable=libdir spindle)"/libspindle.so*
# shellcheck disable=SC2046
"$compiler" $flags "$here/consumer/consumer.c" $(pkg-config --static --cflags --libs spindle) -o "$work/by_pkg_config_static"
"$work/by_pkg_config_static"
echo "pkg-config, static: ok"
