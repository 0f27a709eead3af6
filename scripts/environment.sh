# What scripts/install and scripts/run share: the environment in .venv and what a machine may lack. Sourced, in the root.

python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "missing: $python. Install Python 3.11 or newer (apt-get install python3 python3-venv), or name yours with PYTHON=..." >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "missing: Python 3.11 or newer; $python is $("$python" -V 2>&1). Name a newer one with PYTHON=..." >&2; exit 2; }

is_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

pip_install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }

# The lock file of runtime, browser, dev or build: all that is installed for it, with hashes; scripts/lock writes them.
lock_of() { if [ "$1" = runtime ]; then echo requirements.lock; else echo "requirements-$1.lock"; fi; }

# install_packages runtime: what Sluice needs to run. install_packages browser: that, and what drives browsers.
# install_packages dev: both, and what checks, tests and load tests need.
install_packages() {
  local wanted
  wanted=$(cat pyproject.toml requirements*.lock | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
  case "$1 in $(cat .venv/installed 2>/dev/null || true)" in "$1 in $1 $wanted" | *" in dev $wanted" | "runtime in browser $wanted") return ;; esac
  if [ "$1" = dev ]; then echo "installing into .venv (once; a minute or so)"; else echo "installing into .venv (once; half a minute or so)"; fi
  if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    is_root || { echo "missing: the venv module. Install it (apt-get install python3-venv) and run this again." >&2; exit 2; }
    apt-get update -qq && apt-get install -y -qq python3-venv
  fi
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  # The lock file has what builds us as well, so nothing comes from the index that is not in it.
  pip_install --require-hashes -r "$(lock_of "$1")" \
    && SLUICE_PURE=1 pip_install --no-deps --no-build-isolation -e . --config-settings editable_mode=compat \
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
    pip_install --require-hashes --target "$build_tools" -r "$(lock_of build)" \
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

# What runs sessions of WhatsApp Web, and what drives it; without it Sluice says so where it is needed.
install_browser() {
  install_packages browser
  if command -v chromium-headless-shell || command -v chromium; then return; fi > /dev/null
  if ! is_root || ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium-headless-shell; } > .venv/browser.log 2>&1; then
    echo "no Chromium is here, so no session runs in a browser (cure: apt-get install chromium-headless-shell)" >&2
  fi
}

# What comes from npm (sluice/process/npm.py), once: what the console's page uses, without which it shows less, and says
# so; and what is injected into WhatsApp Web, without which a browser worker says so and ends.
fetch_packages() {
  .venv/bin/python -m sluice.console.page.libraries || true
  .venv/bin/python -m sessions.worker.browser.wa_js || true
}
