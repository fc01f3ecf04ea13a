//! Units of systemd for a host and for nats-server, hardened as far as JACK and the engines allow.

use std::collections::BTreeMap;

/// The table of contents; a folder that has it is ours to write.
pub(super) const README: &str = "README.md";
/// How it begins.
pub(super) const MARK: &str = "<!-- Written by `sidetone deploy systemd`";

/// How every file begins.
const NOTE: &str = "# Written by `sidetone deploy systemd`. For changes: systemctl edit <unit>.\n";
/// What both services are kept from. A comment says why a line is missing that one would look for.
const HARDENED: &str = "\
# What it is kept from.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=no
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
UMask=0077
";

/// Every file: its name and its text.
pub(super) fn render() -> BTreeMap<String, String> {
    let files = [
        ("sidetone.service", host()),
        ("nats-server.service", server()),
        ("sidetone.conf", accounts()),
        (README, readme()),
    ];
    files.into_iter().map(|(file, text)| (file.to_owned(), text)).collect()
}

/// The unit of a host.
fn host() -> String {
    format!(
        "{NOTE}[Unit]\n\
         Description=Sidetone, a voice and agent host\n\
         Wants=network-online.target\n\
         After=network-online.target nats-server.service\n\
         # A server that is away for long is no reason to stay down.\n\
         StartLimitIntervalSec=0\n\n\
         [Service]\n\
         Type=exec\n\
         User=sidetone\n\
         Group=sidetone\n\
         # JACK's server runs as this user as well, or with JACK_PROMISCUOUS_SERVER=audio, and lets members of audio in.\n\
         SupplementaryGroups=audio\n\
         ExecStart=/usr/local/bin/sidetone run\n\
         Environment=SIDETONE_CONFIG=/etc/sidetone/sidetone.toml\n\
         Environment=SIDETONE_HOME=/var/lib/sidetone\n\
         # Keys of chat providers (llm.key_env), if there are any: NAME=value, a line each, mode 0600.\n\
         EnvironmentFile=-/etc/sidetone/environment\n\
         WorkingDirectory=/var/lib/sidetone\n\
         StateDirectory=sidetone\n\
         StateDirectoryMode=0750\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         # 2 is a wrong setting: starting again will not mend it.\n\
         RestartPreventExitStatus=2\n\
         # It drains when it is told to stop (node.drain_timeout_ms, 10 s), and ends its own servers.\n\
         KillMode=mixed\n\
         TimeoutStopSec=30\n\n\
         # The thread that serves JACK runs in real time with its memory locked.\n\
         LimitRTPRIO=95\n\
         LimitMEMLOCK=infinity\n\
         LimitNOFILE=65536\n\
         OOMScoreAdjust=-100\n\n\
         {HARDENED}\
         # No device but sound (MIDI by ALSA) and graphics processors for the engines; those that are not there do no harm.\n\
         # AMD's are for members of render alone: systemctl edit sidetone, SupplementaryGroups=audio render\n\
         DevicePolicy=closed\n\
         DeviceAllow=char-alsa rw\n\
         DeviceAllow=char-nvidia* rw\n\
         DeviceAllow=char-kfd rw\n\
         DeviceAllow=char-drm rw\n\
         # Netlink tells the host its addresses, which others are told in turn.\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
         SystemCallFilter=@system-service\n\
         SystemCallFilter=~@privileged\n\
         # Not here: RestrictRealtime (JACK), PrivateDevices (sound, graphics), ProcSubset (the host's name and processor are read), PrivateIPC and a private /dev/shm (JACK's rings are there),\n\
         # PrivateUsers (JACK knows its clients by their user), MemoryDenyWriteExecute (llama.cpp's server calls C from Python),\n\
         # IPAddressDeny (other hosts).\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// The unit of a NATS server, which needs less than a host.
fn server() -> String {
    format!(
        "{NOTE}[Unit]\n\
         Description=NATS server of Sidetone\n\
         Documentation=https://docs.nats.io\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\n\
         [Service]\n\
         Type=exec\n\
         User=nats\n\
         Group=nats\n\
         # A host's own leaf: systemctl edit nats-server, with ExecStart= and ExecStart=… -c /etc/sidetone/nats-leaf.conf\n\
         ExecStart=/usr/local/bin/nats-server -c /etc/nats/nats-server.conf\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         WorkingDirectory=/var/lib/nats\n\
         StateDirectory=nats\n\
         StateDirectoryMode=0750\n\
         Restart=always\n\
         RestartSec=1\n\
         # Lame duck: clients move to another server before this one goes, in 31 s (lame_duck_… in its configuration).\n\
         KillSignal=SIGUSR2\n\
         TimeoutStopSec=60\n\n\
         LimitNOFILE=800000\n\
         OOMScoreAdjust=-900\n\n\
         {HARDENED}\
         PrivateDevices=yes\n\
         ProcSubset=pid\n\
         PrivateUsers=yes\n\
         PrivateIPC=yes\n\
         RestrictRealtime=yes\n\
         MemoryDenyWriteExecute=yes\n\
         RestrictAddressFamilies=AF_INET AF_INET6\n\
         SystemCallFilter=@system-service\n\
         SystemCallFilter=~@privileged @resources\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
    .replace("RemoveIPC=no", "RemoveIPC=yes")
}

/// The accounts of both, for systemd-sysusers.
fn accounts() -> String {
    format!(
        "{NOTE}# The accounts of the two services; sidetone is a member of audio for JACK's real-time rights.\n\
         u sidetone - \"Sidetone\" /var/lib/sidetone\n\
         u nats - \"NATS server\" /var/lib/nats\n\
         m sidetone audio\n"
    )
}

/// The table of contents.
fn readme() -> String {
    format!(
        "{MARK}. A change here is lost when it is written again. -->\n\
         # systemd units\n\n\
         | file | goes to |\n| --- | --- |\n\
         | `sidetone.service` | `/etc/systemd/system` on each host |\n\
         | `nats-server.service` | `/etc/systemd/system` on each machine with a NATS server |\n\
         | `sidetone.conf` | `/etc/sysusers.d`, where either is; `systemd-sysusers` makes the accounts |\n\n\
         The programs are expected in `/usr/local/bin`, models and programs of a host in `/var/lib/sidetone`, what \
         `sidetone deploy nats` wrote for the machine in `/etc/sidetone` and `/etc/nats`, owned by the service's account:\n\n\
         \u{20}   install -d -o sidetone -g sidetone -m 0700 /etc/sidetone\n\
         \u{20}   install -o sidetone -g sidetone -m 0600 host-stage/* /etc/sidetone\n\
         \u{20}   systemctl daemon-reload && systemctl enable --now sidetone\n\n\
         `systemd-analyze security sidetone.service` says what is left open: what JACK and the engines need.\n"
    )
}
