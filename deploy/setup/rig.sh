# The part `rig`: what performers have anyway, for the demo and the tests of OSC, MIDI and links between hosts.

source "$root/deploy/setup/packages.sh"

setup_rig() {
    require_packages \
        "liblo-tools|have oscsend|oscsend and oscdump, OSC clients that are nobody's of ours" \
        "jacktrip|have jacktrip|audio between hosts"
}
