# The part `peers`: what only the tests need of the distribution.

source "$root/deploy/setup/packages.sh"

setup_peers() {
    require_packages \
        "iproute2|have ip|networks between hosts that can be slowed down and cut" \
        "jacktrip|have jacktrip|audio between hosts" \
        "faketime|have faketime|hosts whose clocks are wrong"
}
