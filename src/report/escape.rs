//! Names that nobody vouches for, in formats that machines read.

use super::text::hidden;

/// Text with every character that a terminal would obey or hide written out, and every backslash doubled, so that two
/// different texts stay two: what a program that joins tables by name needs, and whoever prints them too.
pub(super) fn exact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if hidden(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Text for XML: like [`exact`] without the doubled backslashes, and with the two characters replaced that XML 1.0 has no
/// place for and that are not control characters (<https://www.w3.org/TR/xml/#charsets>).
pub(super) fn xml(text: &str) -> String {
    super::text::escape(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

/// At most `most` characters of `text`, with an ellipsis where some are missing.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_seen_is_written_out() {
        assert_eq!(exact("a\n\u{202e}b\\n\u{1b}é漢"), "a\\n\\u{202e}b\\\\n\\u{1b}é漢");
        assert_eq!(xml("a\u{0}\u{fffe}\u{ffff}b"), "a\\u{0}\u{fffd}\u{fffd}b");
        assert_eq!(shortened("漢字漢字", 2), "漢字…");
        assert_eq!(shortened("漢字", 2), "漢字");
    }

    proptest! {
        #[test]
        fn two_names_stay_two(a in "[\\\\nu{}0-9a\n\u{202e}]{0,8}", b in "[\\\\nu{}0-9a\n\u{202e}]{0,8}") {
            prop_assert_eq!(exact(&a) == exact(&b), a == b);
            prop_assert!(!exact(&a).chars().any(hidden));
        }
    }
}
