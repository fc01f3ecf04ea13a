//! Which turns of a session the chat model is shown.
//!
//! A model server keeps what it has read of a prompt, and reads the next prompt from where the two begin to differ. So the
//! messages only grow at their end for many turns; when they are too much, a block of the oldest turns is cut off at once,
//! and not one turn at each.
//!
//! All of this follows from the turns of the session, in their order, and the limits: two hosts with the same settings that
//! know the same session show the model the same bytes, one that has just read the session too.

use std::collections::VecDeque;

/// A token has at least so many bytes on average, in English as in Chinese.
const BYTES_A_TOKEN: usize = 3;
/// What the mark-up around a message takes, in tokens.
const MESSAGE_TOKENS: usize = 8;
/// One part of so many of the room is left to questions, so that an ordinary one does not move the beginning.
const QUESTION_SHARE: usize = 4;

/// The room that a message takes, in bytes.
fn bytes(text: &str) -> usize {
    text.len() + MESSAGE_TOKENS * BYTES_A_TOKEN
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The turn's id.
    pub turn: String,
    /// What the model was asked.
    pub question: String,
    /// What it answered, to the byte.
    pub answer: String,
    /// Whether the session had the answer when it was given; a server that takes its time gets it later.
    pub kept: bool,
}

impl Exchange {
    fn bytes(&self) -> usize {
        bytes(&self.question) + bytes(&self.answer)
    }
}

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most turns.
    turns: usize,
    /// The most bytes of turns and the question together.
    bytes: usize,
}

impl Limits {
    /// At most `turns` turns, and as many as `tokens` tokens hold beside the instructions and a question.
    #[must_use]
    pub fn new(turns: usize, tokens: u32, instructions: &str) -> Self {
        Self { turns, bytes: (tokens as usize * BYTES_A_TOKEN).saturating_sub(bytes(instructions)) }
    }

    /// The turns that are left when there are too many: a block of half of them goes at once.
    fn turns_left(self) -> usize {
        (self.turns + 1 - self.turns.div_ceil(2)).min(self.turns)
    }

    /// The most bytes of all turns.
    fn most_bytes(self) -> usize {
        self.bytes - self.bytes / QUESTION_SHARE
    }

    /// How many of the oldest turns go, of turns of so many bytes.
    fn cut(self, sizes: &[usize]) -> usize {
        let by_count = if sizes.len() > self.turns { sizes.len() - self.turns_left() } else { 0 };
        let left = &sizes[by_count..];
        if left.iter().sum::<usize>() <= self.most_bytes() {
            return by_count;
        }
        // The newest turn stays if it fits at all, though it may be more than half.
        let newest = left.last().copied().filter(|newest| *newest <= self.most_bytes()).unwrap_or_default();
        by_count + oldest(left, (self.most_bytes() / 2).max(newest))
    }
}

/// How many of the oldest turns are too much for `room` bytes.
fn oldest(sizes: &[usize], room: usize) -> usize {
    let mut left: usize = sizes.iter().sum();
    let too_much = |size: &&usize| {
        let is_too_much = left > room;
        left -= **size;
        is_too_much
    };
    sizes.iter().take_while(too_much).count()
}

/// The turns of a session that the model is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    limits: Limits,
    exchanges: VecDeque<Exchange>,
}

/// What of a window goes before a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The turns, oldest first.
    pub exchanges: Vec<Exchange>,
    /// How many of them, from the oldest on, will be cut off when the question has been answered, as far as that can be
    /// known before: a long answer may cut off more.
    pub cut_next: usize,
}

impl Window {
    /// Of a session without turns.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, exchanges: VecDeque::new() }
    }

    /// Takes the next turn of the session; what is too much is cut off.
    pub fn push(&mut self, exchange: Exchange) {
        self.exchanges.push_back(exchange);
        let sizes: Vec<usize> = self.exchanges.iter().map(Exchange::bytes).collect();
        self.exchanges.drain(..self.limits.cut(&sizes));
    }

    /// The turns, oldest first.
    pub fn exchanges(&self) -> impl DoubleEndedIterator<Item = &Exchange> {
        self.exchanges.iter()
    }

    /// What goes before the question `text` of `turn`. A question so long that there is no room for all has fewer turns
    /// before it, this once.
    #[must_use]
    pub fn before(&self, turn: &str, text: &str) -> Shown {
        let mut exchanges: Vec<_> = self.exchanges.iter().filter(|exchange| exchange.turn != turn).cloned().collect();
        let mut sizes: Vec<usize> = exchanges.iter().map(Exchange::bytes).collect();
        let left_out = oldest(&sizes, self.limits.bytes.saturating_sub(bytes(text)));
        sizes.push(bytes(text) + bytes(""));
        let cut = self.limits.cut(&sizes).min(exchanges.len());
        exchanges.drain(..left_out);
        Shown { exchanges, cut_next: cut.saturating_sub(left_out) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDE: Limits = Limits { turns: 8, bytes: 1_000_000 };

    fn exchange(turn: usize, question: usize, answer: usize) -> Exchange {
        Exchange { turn: turn.to_string(), question: "q".repeat(question), answer: "a".repeat(answer), kept: true }
    }

    /// The windows after each of `sizes` (bytes of questions and of answers).
    fn windows(limits: Limits, sizes: &[(usize, usize)]) -> Vec<Window> {
        let mut window = Window::new(limits);
        let push = |(turn, (question, answer)): (usize, &(usize, usize))| {
            window.push(exchange(turn, *question, *answer));
            window.clone()
        };
        sizes.iter().enumerate().map(push).collect()
    }

    fn turns(window: &Window) -> Vec<usize> {
        window.exchanges().map(|exchange| exchange.turn.parse().unwrap()).collect()
    }

    fn size(window: &Window) -> usize {
        window.exchanges().map(Exchange::bytes).sum()
    }

    #[test]
    fn turns_go_in_blocks_of_half() {
        let first = |turns_most: usize, count: usize| -> Vec<usize> {
            let windows = windows(Limits { turns: turns_most, ..WIDE }, &vec![(1, 1); count]);
            windows.iter().map(|window| turns(window).first().copied().unwrap_or(usize::MAX)).collect()
        };
        assert_eq!(first(8, 14), [0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 8, 8]);
        assert_eq!(first(6, 9), [0, 0, 0, 0, 0, 0, 3, 3, 3]);
        assert_eq!(first(5, 9), [0, 0, 0, 0, 0, 3, 3, 3, 6]);
        assert_eq!(first(1, 3), [0, 1, 2]);
        assert_eq!(first(0, 2), [usize::MAX; 2]);
    }

    #[test]
    fn a_turn_that_is_more_than_half_stays_alone_and_one_that_is_too_much_does_not() {
        let limits = Limits { turns: 8, bytes: 1_000 };
        let windows = windows(limits, &[(100, 100), (300, 300), (10, 10), (900, 900), (10, 10)]);
        assert_eq!(windows.iter().map(turns).collect::<Vec<_>>(), [vec![0], vec![1], vec![1, 2], vec![], vec![4]]);
    }

    #[test]
    fn a_long_question_has_fewer_turns_before_it_once() {
        let limits = Limits { turns: 8, bytes: 1_000 };
        let window = windows(limits, &[(76, 76); 3]).pop().unwrap();
        let before = |bytes: usize| window.before("x", &"q".repeat(bytes)).exchanges.len();
        assert_eq!([376, 377, 600, 900, 2_000].map(before), [3, 2, 1, 0, 0]);
        assert_eq!(turns(&window), [0, 1, 2]);
        // A turn that is taken up does not go before itself.
        assert_eq!(window.before("2", "?").exchanges.len(), 2);
    }

    #[test]
    fn instructions_take_their_part() {
        assert_eq!(Limits::new(8, 100, "").bytes, 300 - 24);
        assert_eq!(Limits::new(8, 100, &"x".repeat(1_000)).bytes, 0);
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (0..12_usize, 0..4_000_usize).prop_map(|(turns, bytes)| Limits { turns, bytes })
    }

    fn sizes() -> impl Strategy<Value = Vec<(usize, usize)>> {
        prop::collection::vec((0..200_usize, 0..600_usize), 1..60)
    }

    proptest! {
        #[test]
        fn never_more_than_the_limits(limits in limits(), sizes in sizes(), question in 0..3_000_usize) {
            for window in windows(limits, &sizes) {
                prop_assert!(window.exchanges.len() <= limits.turns);
                prop_assert!(size(&window) <= limits.most_bytes());
                let shown = window.before("x", &"q".repeat(question)).exchanges;
                let before: usize = shown.iter().map(Exchange::bytes).sum();
                prop_assert!(shown.is_empty() || before + bytes("") + question <= limits.bytes);
            }
        }

        #[test]
        fn what_is_shown_are_the_last_turns_without_a_gap(limits in limits(), sizes in sizes()) {
            for (last, window) in windows(limits, &sizes).iter().enumerate() {
                let turns = turns(window);
                prop_assert_eq!(turns.clone(), (last + 1 - turns.len()..=last).collect::<Vec<_>>());
            }
        }

        // Nothing is cut off without need, and a cut makes room for many turns.
        #[test]
        fn a_cut_is_a_block(limits in limits(), sizes in sizes()) {
            let windows = windows(limits, &sizes);
            for (n, pair) in windows.windows(2).enumerate() {
                let (old, new) = (&pair[0], &pair[1]);
                if new.exchanges.len() == old.exchanges.len() + 1 {
                    continue;
                }
                let (question, answer) = sizes[n + 1];
                let too_many = old.exchanges.len() == limits.turns;
                prop_assert!(too_many || size(old) + exchange(0, question, answer).bytes() > limits.most_bytes());
                let has_room = size(new) <= limits.most_bytes() / 2 || new.exchanges.len() <= 1;
                prop_assert!(has_room || new.exchanges.len() == limits.turns_left());
            }
        }

        // Between cuts the messages grow at their end, to the byte.
        #[test]
        fn the_beginning_stays(limits in limits(), sizes in sizes()) {
            for pair in windows(limits, &sizes).windows(2) {
                let (old, new) = (&pair[0], &pair[1]);
                if turns(old).first() == turns(new).first() && !old.exchanges.is_empty() {
                    prop_assert!(old.exchanges().eq(new.exchanges().take(old.exchanges.len())));
                    prop_assert_eq!(new.exchanges.len(), old.exchanges.len() + 1);
                }
            }
        }

        // What is foretold is what comes, where the answer is no surprise.
        #[test]
        fn a_cut_by_count_is_foretold(turns_most in 1..12_usize, sizes in sizes()) {
            let limits = Limits { turns: turns_most, ..WIDE };
            let windows = windows(limits, &sizes);
            for (n, pair) in windows.windows(2).enumerate() {
                let shown = pair[0].before("x", &"q".repeat(sizes[n + 1].0));
                let stays = &shown.exchanges[shown.cut_next..];
                prop_assert!(stays.iter().eq(pair[1].exchanges().take(stays.len())));
                prop_assert_eq!(stays.len() + 1, pair[1].exchanges.len());
            }
        }
    }
}
