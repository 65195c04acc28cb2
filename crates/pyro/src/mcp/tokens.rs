//! How many tokens a text costs a model, without carrying a vocabulary of megabytes.
//!
//! Tokenizers in use cut text into words, digits and runs of punctuation first, and then words into pieces. Counting the cuts and allowing
//! for pieces comes out a little above what `o200k_base` counts for the JSON and prose of tool lists; a test holds it to that.

/// Letters that a piece of a word has on average; English words up to this length are one token.
const WORD_LETTERS: usize = 8;

/// Estimates the tokens of a text; rather too many than too few.
pub(crate) fn estimate(text: &str) -> usize {
    let mut count = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let mut run: usize = 1;
        let mut take = |class: fn(&char) -> bool| {
            while characters.next_if(class).is_some() {
                run += 1;
            }
            run
        };
        count += match character {
            'a'..='z' | 'A'..='Z' => take(char::is_ascii_lowercase).div_ceil(WORD_LETTERS),
            '0'..='9' => take(char::is_ascii_digit).div_ceil(3),
            // A blank belongs to the word behind it.
            ' ' => 0,
            character if character.is_ascii_punctuation() => take(char::is_ascii_punctuation).div_ceil(3),
            _ => 1,
        };
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_is_close_to_a_real_tokenizer_and_not_below_it() {
        let tokenizer = tiktoken_rs::o200k_base().expect("its vocabulary is built in");
        for surface in crate::mcp::surface::Surface::all() {
            let text = surface.listing_text();
            let (real, estimated) = (tokenizer.encode_ordinary(&text).len(), estimate(&text));
            assert!((real..=real + real / 4).contains(&estimated), "{}: {estimated}, and {real} in truth", surface.name());
        }
    }
}
