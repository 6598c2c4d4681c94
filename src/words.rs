//! Closed lists of stable words, which programs read: labels of metrics, fields of audit records, stages of refusals.
//! An enum is the list, so that a variant without a word does not compile and no list repeats the words.

/// An enum that is a closed list of words.
pub(crate) trait ClosedList: Copy + 'static {
    /// All variants, in their order.
    const VARIANTS: &'static [Self];

    /// Word of the variant.
    fn label(self) -> &'static str;
}

/// Declares an enum with a word for each variant: `ALL` has the variants in their order, and `word` is the word. Two
/// variants with one word do not compile.
macro_rules! word_enum {
    ($(#[$of_enum:meta])* $vis:vis enum $name:ident { $($(#[$of_variant:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$of_enum])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $($(#[$of_variant])* $variant,)+
        }

        impl $name {
            /// All variants, in their order.
            $vis const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Stable word.
            $vis const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl $crate::words::ClosedList for $name {
            const VARIANTS: &'static [Self] = &Self::ALL;

            fn label(self) -> &'static str {
                self.word()
            }
        }

        const _: () = assert!($crate::words::are_distinct(&[$($word),+]), "two variants have the same word");
    };
}

pub(crate) use word_enum;

/// True if no word occurs twice.
pub(crate) const fn are_distinct(words: &[&str]) -> bool {
    match words {
        [first, others @ ..] => !contains(others, first) && are_distinct(others),
        [] => true,
    }
}

const fn contains(words: &[&str], word: &str) -> bool {
    match words {
        [first, others @ ..] => is_same(first.as_bytes(), word.as_bytes()) || contains(others, word),
        [] => false,
    }
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    match (one, other) {
        ([a, one @ ..], [b, other @ ..]) => *a == *b && is_same(one, other),
        ([], []) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    word_enum! {
        /// A list for this test.
        enum Fruit {
            /// Red.
            Cherry = "cherry",
            /// Blue.
            Plum = "plum",
        }
    }

    #[test]
    fn a_list_has_each_variant_with_its_word() {
        assert_eq!(Fruit::ALL, [Fruit::Cherry, Fruit::Plum]);
        assert_eq!(Fruit::ALL.map(Fruit::word), ["cherry", "plum"]);
        let labels: Vec<_> = Fruit::VARIANTS.iter().map(|fruit| fruit.label()).collect();
        assert_eq!(labels, ["cherry", "plum"]);
    }

    #[test]
    fn words_that_occur_twice_are_found() {
        assert!(are_distinct(&[]) && are_distinct(&["a", "b", "ab", ""]));
        for twice in [&["a", "a"][..], &["a", "b", "a"], &["", "x", ""], &["x", "ab", "ab"]] {
            assert!(!are_distinct(twice), "{twice:?}");
        }
    }
}
