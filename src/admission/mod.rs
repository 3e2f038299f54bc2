//! Who may ask now. No I/O and no randomness: texts, bytes and times come in as arguments.
//!
//! [`keys`] knows the API keys and what each allows, [`token`] the buyers' signed tokens;
//! [`peer`] tells where a request comes from.

pub mod keys;
pub mod peer;
pub mod token;
