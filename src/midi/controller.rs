//! Controllers of 14 bits, and the registered (RPN) and free (NRPN) parameters: several messages that mean one thing.

use super::message::Message;

/// Sets the number of a free parameter.
const NRPN: (u8, u8) = (99, 98);
/// Sets the number of a registered parameter.
const RPN: (u8, u8) = (101, 100);
const DATA: (u8, u8) = (6, 38);
const INCREMENT: u8 = 96;
const DECREMENT: u8 = 97;
/// The number that means none.
const NULL: u16 = 0x3fff;

/// What several messages meant together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wide {
    /// A controller of 14 bits, 0 to 31, with a value of 0 to 16383.
    Control {
        /// 1 to 16.
        channel: u8,
        /// 0 to 31.
        controller: u8,
        /// 0 to 16383.
        value: u16,
    },
    /// A parameter was set.
    Parameter {
        /// 1 to 16.
        channel: u8,
        /// Whether it is a registered one (RPN).
        registered: bool,
        /// 0 to 16382.
        number: u16,
        /// 0 to 16383.
        value: u16,
    },
}

#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    /// The last value of the coarse half of controllers 0 to 31.
    coarse: [Option<u8>; 32],
    registered: bool,
    number: [Option<u8>; 2],
    data: u16,
}

/// Puts the halves of one source together.
///
/// A parameter is given when its coarse half comes, and again with the fine half: a sender may leave the fine half out. A
/// controller is given by its fine half alone, since the coarse half is a controller by itself.
#[derive(Debug, Clone, Default)]
pub struct Controllers {
    channels: [Channel; 16],
}

impl Controllers {
    /// Takes the next message, and says what it completes.
    pub fn feed(&mut self, message: &Message) -> Option<Wide> {
        let Message::Control { channel, controller, value } = *message else { return None };
        let state = self.channels.get_mut(usize::from(channel.wrapping_sub(1)))?;
        let half = |wide: u16, coarse: Option<u8>, fine: Option<u8>| {
            coarse.map_or(wide & 0x3f80, |v| u16::from(v) << 7) | fine.map_or(wide & 0x7f, u16::from)
        };
        match controller {
            c if c == NRPN.0 || c == RPN.0 || c == NRPN.1 || c == RPN.1 => {
                let registered = c == RPN.0 || c == RPN.1;
                if state.registered != registered {
                    state.number = [None; 2];
                }
                state.registered = registered;
                let at = usize::from(c == NRPN.1 || c == RPN.1);
                if let Some(slot) = state.number.get_mut(at) {
                    *slot = Some(value);
                }
                state.data = 0;
                None
            }
            c if c == DATA.0 || c == DATA.1 || c == INCREMENT || c == DECREMENT => {
                let [Some(high), Some(low)] = state.number else { return None };
                let number = u16::from(high) << 7 | u16::from(low);
                if number == NULL {
                    return None;
                }
                state.data = match c {
                    INCREMENT => state.data.saturating_add(1).min(NULL),
                    DECREMENT => state.data.saturating_sub(1),
                    _ if c == DATA.0 => half(0, Some(value), Some(0)),
                    _ => half(state.data, None, Some(value)),
                };
                Some(Wide::Parameter { channel, registered: state.registered, number, value: state.data })
            }
            0..32 => {
                *state.coarse.get_mut(usize::from(controller))? = Some(value);
                None
            }
            32..64 => {
                let controller = controller - 32;
                let coarse = (*state.coarse.get(usize::from(controller))?)?;
                Some(Wide::Control { channel, controller, value: half(0, Some(coarse), Some(value)) })
            }
            _ => None,
        }
    }
}

const fn halves(value: u16) -> (u8, u8) {
    (((value >> 7) & 0x7f) as u8, (value & 0x7f) as u8)
}

/// A controller of 14 bits (0 to 31) as its two messages.
#[must_use]
pub fn control_14(channel: u8, controller: u8, value: u16) -> [Message; 2] {
    let (high, low) = halves(value);
    let controller = controller & 0x1f;
    [
        Message::Control { channel, controller, value: high },
        Message::Control { channel, controller: controller + 32, value: low },
    ]
}

/// A parameter as its messages: the number, the value, and the number that means none, so that stray data does no harm.
#[must_use]
pub fn parameter(channel: u8, registered: bool, number: u16, value: u16) -> [Message; 6] {
    let select = if registered { RPN } else { NRPN };
    let ((number_high, number_low), (high, low)) = (halves(number), halves(value));
    let control = |controller, value| Message::Control { channel, controller, value };
    [
        control(select.0, number_high),
        control(select.1, number_low),
        control(DATA.0, high),
        control(DATA.1, low),
        control(RPN.0, 0x7f),
        control(RPN.1, 0x7f),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::strategy::message;
    use super::*;

    fn feed(messages: &[Message]) -> Vec<Wide> {
        let mut controllers = Controllers::default();
        messages.iter().filter_map(|message| controllers.feed(message)).collect()
    }

    #[test]
    fn a_parameter_without_a_fine_half_is_told_as_well() {
        let control = |controller, value| Message::Control { channel: 3, controller, value };
        let bend_range = [control(101, 0), control(100, 0), control(6, 12)];
        let range = Wide::Parameter { channel: 3, registered: true, number: 0, value: 12 << 7 };
        assert_eq!(feed(&bend_range), [range]);
        let nothing =
            [control(6, 12), control(99, 1), control(6, 1), control(101, 127), control(100, 127), control(6, 1)];
        assert_eq!(feed(&nothing), [], "no number, half a number, the number that means none");
        let steps = [control(99, 0), control(98, 5), control(6, 1), control(96, 0), control(97, 0)];
        let values: Vec<_> =
            feed(&steps).iter().map(|wide| if let Wide::Parameter { value, .. } = wide { *value } else { 0 }).collect();
        assert_eq!(values, [128, 129, 128]);
    }

    proptest! {
        #[test]
        fn a_controller_is_read_back(channel in 1..=16u8, controller in 0..32u8, value in 0..16384u16) {
            // Data entry (6) belongs to parameters.
            prop_assume!(controller != 6);
            prop_assert_eq!(feed(&control_14(channel, controller, value)), vec![Wide::Control { channel, controller, value }]);
        }

        #[test]
        fn a_parameter_is_read_back(channel in 1..=16u8, registered: bool, number in 0..16383u16, value in 0..16384u16) {
            let found = feed(&parameter(channel, registered, number, value));
            prop_assert_eq!(found.last(), Some(&Wide::Parameter { channel, registered, number, value }));
        }

        #[test]
        fn values_have_14_bits(messages in prop::collection::vec(message(), 0..200)) {
            for wide in feed(&messages) {
                let (Wide::Control { value, .. } | Wide::Parameter { value, .. }) = wide;
                prop_assert!(value < 16384);
            }
        }
    }
}
