# Sourced by bench/run and tests/run: makes sure that what a build needs is installed.
# spindle_setup NEED:PACKAGE... : a command that must be there, a pkg-config module (pc/NAME) or a file (file/GLOB), and the Debian package
# that has it.

spindle_missing_packages() {
  for need in "$@"; do
    case $need in
      pc/*) module=${need%%:*}; pkg-config --exists "${module#pc/}" 2>/dev/null || echo "${need#*:}" ;;
      file/*) pattern=${need%%:*}; ls /${pattern#file/} >/dev/null 2>&1 || echo "${need#*:}" ;;
      *) command -v "${need%%:*}" >/dev/null 2>&1 || echo "${need#*:}" ;;
    esac
  done
}

spindle_setup() {
  missing=$(spindle_missing_packages "$@" | sort -u | tr '\n' ' ')
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "Please install these first (names of Debian's packages): $missing" >&2
    exit 1
  fi
  sudo=
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "Please install as root: apt-get install $missing" >&2; exit 1; }
    sudo=sudo
  fi
  echo "Installing: $missing"
  $sudo apt-get update -qq >/dev/null || true # a stale index may still do
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    { echo "Could not install: $missing" >&2; exit 1; }
}
