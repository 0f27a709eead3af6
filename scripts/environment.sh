# What scripts/install and scripts/run share: the environment in .venv and what a machine may lack. Sourced, in the root.

python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "missing: $python. Install Python 3.11 or newer (apt-get install python3 python3-venv), or name yours with PYTHON=..." >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or newer; $python is $("$python" -V 2>&1). Name a newer one with PYTHON=..." >&2; exit 2; }

is_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# pip_install runtime|dev: by the lock of what runs, or by that of what develops as well.
pip_install() {
  local locks="-c requirements.lock"; [ "$1" = runtime ] || locks="$locks -c requirements-dev.lock"; shift
  # shellcheck disable=SC2086
  .venv/bin/python -m pip install --quiet --disable-pip-version-check $locks "$@"
}

# install_packages runtime: what Sluice needs to run. install_packages dev: that, and what checks, tests and load tests need.
install_packages() {
  local wanted
  wanted=$(cat pyproject.toml requirements.lock requirements-dev.lock | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
  case "$(cat .venv/installed 2>/dev/null || true)" in "dev $wanted" | "$1 $wanted") return ;; esac
  if [ "$1" = dev ]; then echo "installing into .venv (once; a minute or so)"; else echo "installing into .venv (once; half a minute or so)"; fi
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    is_root || { echo "missing: the venv module. Install it (apt-get install python3-venv) and run this again." >&2; exit 2; }
    apt-get update -qq && apt-get install -y -qq python3-venv
  fi
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  local what=.; [ "$1" = runtime ] || what=".[$1]"
  SLUICE_PURE=1 pip_install "$1" -e "$what" --config-settings editable_mode=compat \
    || { echo "the packages could not be installed; is the package index reachable? (pip config list)" >&2; exit 2; }
  echo "$1 $wanted" > .venv/installed
}

# What compiles stays apart from what runs, and only for as long as it compiles: mypyc brings 75 MB.
build_tools=.venv/build-tools.$$

# Fails, having said why, where nothing can be compiled.
install_compiler() {
  can_compile() { command -v "${CC:-gcc}" >/dev/null && [ -f "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h" ]; }
  if ! can_compile && is_root; then { apt-get update -qq && apt-get install -y -qq gcc libc6-dev python3-dev; } > .venv/compiler.log 2>&1 || true; fi
  if ! can_compile; then
    echo "no C compiler or no headers of Python: Sluice runs as plain Python, at about 1.6 times the CPU for a request (cure: apt-get install gcc python3-dev)" >&2
    return 1
  fi
  if ! .venv/bin/python -c 'import mypyc, setuptools' 2>/dev/null; then
    .venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["build"], sep="\n")' > .venv/build.txt
    pip_install dev --target "$build_tools" -r .venv/build.txt \
      || { echo "the compiler mypyc could not be installed, so Sluice stays plain Python; is the package index reachable? (pip config list)" >&2; return 1; }
  fi
}

# compile ARGUMENTS: installs what it takes, builds the hot path with these arguments, and takes the tools away again.
compile() {
  local built=0 left
  for left in .venv/build-tools.*; do # of a script that was killed
    if [ -d "$left" ] && ! kill -0 "${left##*.}" 2>/dev/null; then rm -rf "$left"; fi
  done
  if install_compiler; then
    PYTHONPATH="$PWD/$build_tools${PYTHONPATH:+:$PYTHONPATH}" .venv/bin/python scripts/hot_path.py build "$@" || built=$?
  fi
  rm -rf "$build_tools"
  return $built
}

install_jemalloc() {
  if ! is_root || ldconfig -p | grep libjemalloc > /dev/null; then return; fi
  { apt-get update -qq && apt-get install -y -qq libjemalloc2; } > .venv/jemalloc.log 2>&1 \
    || echo "libjemalloc2 could not be installed (.venv/jemalloc.log); the embedded store does without" >&2
}
