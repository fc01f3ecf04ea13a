# The part `packages`: what only the distribution can install.

setup_packages() {
    require_packages \
        "jackd2|have jackd|the JACK audio server" \
        "libjack-jackd2-dev|pkg-config --exists jack|to build the JACK client" \
        "espeak-ng|have espeak-ng|turns text into phonemes for the voices" \
        "pkg-config|have pkg-config|to find JACK when building" \
        "cmake|have cmake|to build Whisper" \
        "g++|have g++|to build Whisper" \
        "python3-venv|have_venv|for the private Python environment"
}

have_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# require_packages 'PACKAGE|TEST|WHY'…: installs each package whose TEST fails.
require_packages() {
    local row package check why
    local -a missing=()
    for row in "$@"; do
        IFS='|' read -r package check why <<<"$row"
        $check && continue
        ((${#missing[@]})) || say "These packages are missing:"
        printf '  %-20s %s\n' "$package" "$why" >&2
        missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    have apt-get || die "this system has no apt; install the above by its own package manager (the names are Debian's) and run this again"
    local -a as_root=()
    if ((EUID != 0)); then
        have sudo || die "installing them needs root, and there is no sudo here; as root: apt-get install ${missing[*]}"
        say "They are installed by sudo, which may ask for your password."
        sudo -v || die "no leave to install them; ask an administrator for: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    step packages "Installing ${missing[*]}" apt_install "${missing[@]}"
}

# Recommended packages stay out: jackd2 recommends a desktop program. Noninteractive, as jackd2 asks about real-time rights.
apt_install() {
    local -a apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update &&
        "${apt[@]}" install -y --no-install-recommends "$@"
}
