//! API keys: the key file, checking a presented key, and making a new one.
//!
//! ```text
//! # name   scopes     SHA-256 of the key, in hex
//! shop     buy        9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! office   buy,admin  60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
//! ```
//!
//! The file holds digests, so reading it lets nobody in. A plain SHA-256 is right here: a key is
//! 256 random bits, which no dictionary contains, so the slow salted hashes that passwords need
//! would only make `HELLO` slow. For the same reason [`Keys::verify`] may look at every entry:
//! there are at most [`KEYS_MAX`], and the time it takes tells nothing about what matched.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::model::Scopes;

/// The most keys of one file.
pub const KEYS_MAX: usize = 1024;

/// The longest name of a key, in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 64;

/// What every generated key starts with, so that one that leaks into a log or a repository can
/// be recognised.
pub const KEY_PREFIX: &str = "bo_";

const DIGEST_BYTES: usize = 32;

/// A key's place in its file, from 0, comments not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIndex(pub u16);

/// The keys of one file; at least one.
pub struct Keys(Vec<Entry>);

struct Entry {
    name: String,
    scopes: Scopes,
    digest: [u8; DIGEST_BYTES],
}

/// What is wrong with a key file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct KeysError {
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: KeysProblem,
}

/// What is wrong with a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysProblem {
    /// There is no key at all.
    #[error(
        "no key in this file: add a line `name scopes sha256hex`, where the last is the output \
         of `printf %s KEY | sha256sum`"
    )]
    Empty,
    /// There are too many keys.
    #[error("more than {KEYS_MAX} keys: remove those that nobody uses")]
    TooMany,
    /// A line has another number of words.
    #[error("{0} words where `name scopes sha256hex` are expected")]
    Words(usize),
    /// A name has strange characters or is too long.
    #[error("`{0}` is no name: use up to {KEY_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// A name is given twice.
    #[error("`{name}` is already the key of line {line}: give each key a name of its own")]
    DuplicateName {
        /// The name.
        name: String,
        /// The line that has it already.
        line: usize,
    },
    /// A digest is given twice, so that one key would have two meanings.
    #[error("the same key as in line {line}: remove one of them")]
    DuplicateKey {
        /// The line that has it already.
        line: usize,
    },
    /// A scope is none.
    #[error("`{0}` is no scope: use `buy`, `admin` or `buy,admin`")]
    Scope(String),
    /// The digest is no SHA-256.
    #[error(
        "the last word must be a SHA-256: {} hex digits, as `printf %s KEY | sha256sum` prints",
        DIGEST_BYTES * 2
    )]
    Digest,
}

impl Keys {
    /// The keys in `text`, the content of a key file; `file` is how errors name it.
    pub fn parse(text: &str, file: &str) -> Result<Self, KeysError> {
        let at = |line, problem| KeysError { file: file.to_owned(), line, problem };
        let mut entries = Vec::new();
        let (mut lines_by_name, mut lines_by_digest) = (HashMap::new(), HashMap::new());
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let entry = Entry::parse(content).map_err(|problem| at(line, problem))?;
            if let Some(earlier) = lines_by_name.insert(entry.name.clone(), line) {
                let name = entry.name;
                return Err(at(line, KeysProblem::DuplicateName { name, line: earlier }));
            }
            if let Some(earlier) = lines_by_digest.insert(entry.digest, line) {
                return Err(at(line, KeysProblem::DuplicateKey { line: earlier }));
            }
            if entries.len() == KEYS_MAX {
                return Err(at(line, KeysProblem::TooMany));
            }
            entries.push(entry);
        }
        if entries.is_empty() { Err(at(1, KeysProblem::Empty)) } else { Ok(Self(entries)) }
    }

    /// Which key `presented` is and what it allows; `None` where it is unknown.
    ///
    /// The time depends on the number of keys and the length of `presented`, not on which key
    /// matches or how nearly.
    #[must_use]
    pub fn verify(&self, presented: &[u8]) -> Option<(KeyIndex, Scopes)> {
        let presented: [u8; DIGEST_BYTES] = Sha256::digest(presented).into();
        let (mut found, mut at) = (Choice::from(0), 0_u16);
        for (index, entry) in self.0.iter().enumerate() {
            let same = entry.digest.ct_eq(&presented);
            at.conditional_assign(&(index as u16), same);
            found |= same;
        }
        bool::from(found).then(|| (KeyIndex(at), self.0[usize::from(at)].scopes))
    }

    /// The key of another file, where it is among these: its place here, and what it allows now.
    /// Its name may be another.
    ///
    /// # Panics
    ///
    /// Where the index is of another, longer file than `other`.
    #[must_use]
    pub fn find_same(&self, other: &Self, key: KeyIndex) -> Option<(KeyIndex, Scopes)> {
        let digest = &other.0[usize::from(key.0)].digest;
        let place = self.0.iter().position(|entry| entry.digest == *digest)?;
        Some((KeyIndex(place as u16), self.0[place].scopes))
    }

    /// The name of a key that [`Keys::verify`] found.
    ///
    /// # Panics
    ///
    /// Where the index is of another, longer file.
    #[must_use]
    pub fn name(&self, key: KeyIndex) -> &str {
        &self.0[usize::from(key.0)].name
    }

    /// How many keys there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Names and scopes, never digests.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|entry| (&entry.name, entry.scopes))).finish()
    }
}

impl Entry {
    /// The entry in a line without its comment.
    fn parse(content: &str) -> Result<Self, KeysProblem> {
        let words: Vec<&str> = content.split_whitespace().collect();
        let &[name, scopes, digest] = &words[..] else {
            return Err(KeysProblem::Words(words.len()));
        };
        if !is_key_name(name) {
            return Err(KeysProblem::Name(name.to_owned()));
        }
        let scopes = parse_scopes(scopes)?;
        let digest = parse_digest(digest).ok_or(KeysProblem::Digest)?;
        Ok(Self { name: name.to_owned(), scopes, digest })
    }
}

/// Whether a key may be called so.
#[must_use]
pub fn is_key_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=KEY_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

/// The scopes in a text such as `buy,admin`.
pub fn parse_scopes(text: &str) -> Result<Scopes, KeysProblem> {
    let mut scopes = Scopes::default();
    for scope in text.split(',') {
        match scope {
            "buy" => scopes.buy = true,
            "admin" => scopes.admin = true,
            _ => return Err(KeysProblem::Scope(scope.to_owned())),
        }
    }
    Ok(scopes)
}

fn parse_digest(text: &str) -> Option<[u8; DIGEST_BYTES]> {
    if text.len() != DIGEST_BYTES * 2 {
        return None;
    }
    let mut digest = [0; DIGEST_BYTES];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        let nibble = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (nibble(0)? << 4 | nibble(1)?) as u8;
    }
    Some(digest)
}

/// A new key made of 32 bytes of the operating system's randomness: what its holder presents.
/// It is shown once; only [`key_line`] is kept.
#[must_use]
pub fn generate(random: [u8; 32]) -> String {
    format!("{KEY_PREFIX}{}", hex(&random))
}

/// The line of a key file that admits `key` under `name`.
///
/// # Panics
///
/// Where the name is none ([`is_key_name`]) or there is no scope: no file could be read with
/// such a line in it.
#[must_use]
pub fn key_line(name: &str, scopes: Scopes, key: &str) -> String {
    assert!(is_key_name(name), "`{name}` is no name of a key");
    let scopes = match (scopes.buy, scopes.admin) {
        (true, true) => "buy,admin",
        (true, false) => "buy",
        (false, true) => "admin",
        (false, false) => panic!("a key without a scope allows nothing"),
    };
    format!("{name} {scopes} {}", hex(&Sha256::digest(key)))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // From FIPS 180-4's test vectors and `sha256sum`: of "abc" and of "test".
    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const OF_TEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn parse(text: &str) -> Result<Keys, KeysError> {
        Keys::parse(text, "keys")
    }

    fn error(text: &str) -> (usize, KeysProblem) {
        let error = parse(text).expect_err("must be refused");
        assert!(error.to_string().starts_with(&format!("keys:{}: ", error.line)));
        (error.line, error.problem)
    }

    #[test]
    fn a_key_opens_what_its_line_says_and_nothing_else_does() {
        let text = format!(
            "# who  what  digest\n\nshop buy {OF_ABC} # the web shop\n\
             office\tadmin,buy {}\n",
            OF_TEST.to_uppercase()
        );
        let keys = parse(&text).expect("sound");
        let (shop, scopes) = keys.verify(b"abc").expect("known");
        assert_eq!((keys.name(shop), scopes), ("shop", Scopes { buy: true, admin: false }));
        let (office, scopes) = keys.verify(b"test").expect("known");
        assert_eq!((keys.name(office), scopes), ("office", Scopes::ALL));
        assert_eq!(keys.len(), 2);
        for unknown in [&b""[..], b"ab", b"abcd", b"Test", OF_ABC.as_bytes()] {
            assert_eq!(keys.verify(unknown), None);
        }
    }

    #[test]
    fn a_new_key_is_admitted_by_its_own_line() {
        let key = generate([0xa7; 32]);
        assert_eq!(key, format!("bo_{}", "a7".repeat(32)));
        for (scopes, name) in [(Scopes::ALL, "a"), (Scopes { buy: false, admin: true }, "b.c-d_e")]
        {
            let keys = parse(&key_line(name, scopes, &key)).expect("sound");
            assert_eq!(keys.verify(key.as_bytes()), Some((KeyIndex(0), scopes)));
            assert_eq!(keys.verify(generate([0xa8; 32]).as_bytes()), None);
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_line() {
        assert_eq!(error(""), (1, KeysProblem::Empty));
        assert_eq!(error("# nobody\n\n"), (1, KeysProblem::Empty));
        assert_eq!(error("\nshop buy"), (2, KeysProblem::Words(2)));
        assert_eq!(error(&format!("shop buy {OF_ABC} x")), (1, KeysProblem::Words(4)));
        assert_eq!(error(&format!("shöp buy {OF_ABC}")), (1, KeysProblem::Name("shöp".into())));
        let long = "n".repeat(KEY_NAME_BYTES_MAX + 1);
        assert_eq!(error(&format!("{long} buy {OF_ABC}")), (1, KeysProblem::Name(long)));
        assert_eq!(error(&format!("a sell {OF_ABC}")), (1, KeysProblem::Scope("sell".into())));
        assert_eq!(error(&format!("a buy, {OF_ABC}")), (1, KeysProblem::Scope(String::new())));
        for digest in [&OF_ABC[1..], &format!("{OF_ABC}0"), &OF_ABC.replace('b', "g"), "€"] {
            assert_eq!(error(&format!("a buy {digest}")), (1, KeysProblem::Digest));
        }
        assert_eq!(
            error(&format!("a buy {OF_ABC}\n\na admin {OF_TEST}")),
            (3, KeysProblem::DuplicateName { name: "a".into(), line: 1 })
        );
        assert_eq!(
            error(&format!("a buy {OF_ABC}\nb admin {OF_ABC}")),
            (2, KeysProblem::DuplicateKey { line: 1 })
        );
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let line = |index: usize| key_line(&format!("k{index}"), Scopes::ALL, &index.to_string());
        let full: Vec<String> = (0..KEYS_MAX).map(line).collect();
        let keys = parse(&full.join("\n")).expect("as many as there may be");
        let last = KEYS_MAX - 1;
        let (index, _) = keys.verify(last.to_string().as_bytes()).expect("the last one is found");
        assert_eq!(usize::from(index.0), last);
        let over = full.join("\n") + "\n" + &line(KEYS_MAX);
        assert_eq!(error(&over), (KEYS_MAX + 1, KeysProblem::TooMany));
    }

    #[test]
    fn a_printed_key_ring_shows_no_digest() {
        let shown = format!("{:?}", parse(&format!("shop buy {OF_ABC}")).expect("sound"));
        assert!(shown.contains("shop") && !shown.contains("ba7816"), "{shown}");
    }
}
