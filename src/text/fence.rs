//! Fenced blocks of code in Markdown.

/// The mark that opens a fenced block of code (CommonMark 0.31, section 4.5), if `line` begins with one. A line such
/// as ```` ```code``` ```` opens none: what follows the opening backticks may not hold another.
pub(super) fn opens_fence(line: &str) -> Option<char> {
    let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let info = line.trim_start_matches(mark);
    (line.len() - info.len() >= 3 && !(mark == '`' && info.contains('`'))).then_some(mark)
}

/// Whether `line` closes a fenced block that `mark` opened.
pub(super) fn closes_fence(line: &str, mark: char) -> bool {
    let line = line.trim();
    line.len() >= 3 && line.chars().all(|c| c == mark)
}
