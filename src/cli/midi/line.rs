//! A message that came in, as a line for people.

use crate::bus::message::midi::In;

/// When, where, and what it is.
pub(super) fn line(came: &In) -> String {
    let time = came.at.get(11..23).unwrap_or(&came.at);
    let channel = came.channel.map(|channel| format!(" ch {channel}")).unwrap_or_default();
    let what = match (came.kind.as_str(), &came.name, came.on) {
        ("note", Some(name), Some(true)) => format!("{name} on {}", came.velocity.unwrap_or_default()),
        ("note", Some(name), _) => format!("{name} off"),
        ("cc", ..) => format!("cc {} = {}", came.controller.unwrap_or_default(), came.value.unwrap_or_default()),
        ("program", ..) => format!("program {}", came.program.unwrap_or_default()),
        ("sysex", ..) => format!("sysex {}", came.bytes),
        (kind, Some(name), _) => {
            format!("{kind} {name}{}", came.value.map(|value| format!(" {value}")).unwrap_or_default())
        }
        (kind, None, _) => {
            format!("{kind} {}", came.value.map_or_else(|| came.bytes.clone(), |value| value.to_string()))
        }
    };
    format!("{time} {}/{}{channel} {what}", came.node, came.port)
}
