# The part `rig`: what performers have anyway, for the demo and the tests of OSC, MIDI and links between hosts.

source "$root/deploy/setup/packages.sh"

setup_rig() {
    require_packages \
        "liblo-tools|have oscsend|oscsend and oscdump, OSC clients that are nobody's of ours" \
        "jack-example-tools|have jack_midi_dump|a JACK client that prints notes; with JACK itself in Debian 12" \
        "iproute2|have ss|to see which ports are taken" \
        "jacktrip|have jacktrip|audio between hosts"
}
