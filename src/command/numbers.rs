//! Numbers in English words: zero to nine hundred and ninety-nine.

/// The longest number that is understood: "nine hundred and ninety nine", and a word more to see that it ends.
pub(super) const WORDS_MAX: usize = 6;

/// The number that `words` begin with, in digits, and how many of them it takes: `one hundred and five` is `105` and four.
pub(super) fn leading(words: &[&str]) -> Option<(String, usize)> {
    number(words).map(|(number, used)| (number.to_string(), used))
}

/// The number (0 to 999) that `words` begin with, in English, and how many words it takes.
fn number(words: &[&str]) -> Option<(u32, usize)> {
    let at = |index: usize| words.get(index).copied().unwrap_or_default();
    let (high, used) = below_hundred(words).or_else(|| (at(0) == "a" && at(1) == "hundred").then_some((1, 1)))?;
    if at(used) != "hundred" || !(1..10).contains(&high) {
        return Some((high, used));
    }
    let used = used + 1;
    let and = usize::from(at(used) == "and");
    match below_hundred(words.get(used + and..).unwrap_or_default()) {
        Some((low, more)) if low > 0 => Some((high * 100 + low, used + and + more)),
        _ => Some((high * 100, used)),
    }
}

fn below_hundred(words: &[&str]) -> Option<(u32, usize)> {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let place = |list: &[&str], word: Option<&&str>| {
        let found = list.iter().position(|entry| word.is_some_and(|word| word == entry))?;
        u32::try_from(found).ok()
    };
    if let Some(small) = place(&SMALL, words.first()) {
        return Some((small, 1));
    }
    let tens = (place(&TENS, words.first())? + 2) * 10;
    match place(&SMALL[..10], words.get(1)) {
        Some(unit) if unit > 0 => Some((tens + unit, 2)),
        _ => Some((tens, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_as_many_words_as_it_can() {
        let leading = |text: &str| leading(&text.split(' ').collect::<Vec<_>>());
        for (text, number, used) in [
            ("one hundred and five more", "105", 4),
            ("nine hundred and ninety nine", "999", 5),
            ("a hundred", "100", 2),
            ("twenty zero", "20", 1),
            ("ten hundred", "10", 1),
        ] {
            assert_eq!(leading(text), Some((number.to_owned(), used)), "{text}");
        }
        assert_eq!((leading("and five"), leading("a few")), (None, None));
    }
}
