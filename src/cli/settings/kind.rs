//! What a setting may hold: its kind, what is allowed, and how it looks in a file.
//!
//! Every source of a setting (file, environment, flag) ends as text that is held against the
//! same kind, so that no source allows what another refuses.

use std::net::SocketAddr;

use crate::admission::peer::Cidr;
use crate::runtime::cpu;
use crate::server::config::AdminAddress;

/// The kind of one value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A file or directory.
    Path,
    /// Any text.
    Text,
    /// `HOST:PORT`, the host as a number.
    Address,
    /// An address or the path of a Unix socket.
    AdminAddress,
    /// CPUs as the kernel lists them.
    CpuList,
    /// An IP network as `10.0.0.0/8`.
    Network,
    /// The origin of a web page.
    WebOrigin,
    /// A whole number.
    Number {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
        /// It has to be a multiple of this.
        multiple_of: u64,
    },
    /// Yes or no.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// Numbers in a range.
    pub const fn range(least: u64, most: u64) -> Self {
        Self::Number { least, most, multiple_of: 1 }
    }

    /// Whether a value is allowed.
    pub fn allows(self, text: &str) -> bool {
        match self {
            Self::Path | Self::Text => !text.is_empty(),
            Self::Address => text.parse::<SocketAddr>().is_ok(),
            Self::AdminAddress => AdminAddress::parse(text).is_some(),
            Self::CpuList => cpu::parse_list(text).is_some(),
            Self::Network => text.parse::<Cidr>().is_ok(),
            Self::WebOrigin => is_web_origin(text),
            Self::Number { least, most, multiple_of } => text
                .parse()
                .is_ok_and(|n: u64| (least..=most).contains(&n) && n.is_multiple_of(multiple_of)),
            Self::Switch => text.parse::<bool>().is_ok(),
            Self::Choice(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
        }
    }

    /// What is allowed, in words.
    pub fn allowed(self) -> String {
        match self {
            Self::Path => "a path".to_owned(),
            Self::Text => "a text that is not empty".to_owned(),
            Self::Address => "an address such as 127.0.0.1:7400 or [::1]:7400".to_owned(),
            Self::AdminAddress => {
                "the path of a Unix socket (with a `/`), or an address".to_owned()
            }
            Self::CpuList => "a list of CPUs such as 0,2-3".to_owned(),
            Self::Network => "a network such as 10.0.0.0/8 or ::1/128".to_owned(),
            Self::WebOrigin => "an origin such as https://tickets.example, or *".to_owned(),
            Self::Number { least, most, multiple_of: 1 } => {
                format!("a whole number from {least} to {most}")
            }
            Self::Number { least, most, multiple_of } => {
                format!("a multiple of {multiple_of} from {least} to {most}")
            }
            Self::Switch => "true or false".to_owned(),
            Self::Choice(words) => {
                let (last, first) = words.split_last().expect("a choice has words");
                format!("{} or {last}", first.join(", "))
            }
        }
    }

    /// A value as TOML writes it. JSON's escapes are TOML's as well.
    pub fn quoted(self, text: &str) -> String {
        match self {
            Self::Number { .. } | Self::Switch => text.to_owned(),
            _ => serde_json::Value::from(text).to_string(),
        }
    }
}

/// A scheme and a host with an optional port, as a browser sends it: without a path.
fn is_web_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |host: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte);
        !host.is_empty() && host.bytes().all(is_plain)
    };
    text == "*" || host.is_some_and(is_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_tells_good_from_bad() {
        let number = Kind::Number { least: 8, most: 64, multiple_of: 8 };
        for (kind, good, bad) in [
            (Kind::Path, &["a", "/b c"][..], &[""][..]),
            (
                Kind::Address,
                &["127.0.0.1:0", "[::1]:80"],
                &["localhost:80", "::1", "1.2.3.4:70000"],
            ),
            (
                Kind::AdminAddress,
                &["/run/admin", "./a.sock", "127.0.0.1:1"],
                &["", "localhost:1", "a.sock"],
            ),
            (Kind::CpuList, &["0", "0,2-3"], &["", "3-1", "one"]),
            (
                Kind::Network,
                &["10.0.0.0/8", "::/0", "10.0.0.1"],
                &["10.0.0.1/8", "10.0.0.0/33", "a/8", "::/129"],
            ),
            (
                Kind::WebOrigin,
                &["*", "https://a.example", "http://[::1]:8080"],
                &["a.example", "https://", "https://a/b", "ftp://a"],
            ),
            (number, &["8", "64"], &["0", "9", "72", "-8", "8.0", ""]),
            (Kind::Switch, &["true", "false"], &["yes", "1", ""]),
            (Kind::Choice(&["text", "json"]), &["text", "JSON"], &["xml", ""]),
        ] {
            for text in good {
                assert!(kind.allows(text), "{kind:?} {text}");
            }
            for text in bad {
                assert!(!kind.allows(text), "{kind:?} {text}");
            }
        }
    }
}
