//! Where a request comes from: the socket's peer, or what a trusted proxy says of it.
//!
//! `X-Forwarded-For` can be sent by anybody, so it counts only where the socket's peer is a
//! trusted proxy. Each proxy adds the address that it saw at the right, so the list is walked from
//! the right for as long as the addresses are those of trusted proxies. The first other one is the
//! client: what stands to its left is the client's own claim, and is never read. The same holds for
//! the header of the PROXY protocol (`protocol::proxy`): only a trusted peer may send one.
//!
//! An IPv4 address inside of an IPv6 one (`::ffff:192.0.2.1`) is that IPv4 address everywhere
//! here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The most trusted networks.
pub const TRUSTED_PROXIES_MAX: usize = 64;

/// Bits by which an IPv4 address lies inside of an IPv6 one.
const MAPPED_BITS: u8 = 96;

/// A network: an address and how many of its first bits count, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// What is wrong with the text of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// It has no address.
    #[error("`{0}` is no address and no network: write it like 192.0.2.7, 10.0.0.0/8 or fd00::/8")]
    Address(String),
    /// The prefix is none.
    #[error("`/{text}` is no prefix here: it is a number from 0 to {most}")]
    Prefix {
        /// What stands behind the slash.
        text: String,
        /// The longest prefix of this kind of address.
        most: u8,
    },
    /// Bits behind the prefix are set.
    #[error("{given} has bits behind its prefix: did you mean {meant}?")]
    HostBits {
        /// What was written.
        given: String,
        /// The network that it lies in.
        meant: Cidr,
    },
    /// There are too many networks.
    #[error("more than {TRUSTED_PROXIES_MAX} trusted networks: name larger ones")]
    TooMany,
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address(text.to_owned()))?;
        let most = width(address);
        let prefix = match prefix {
            None => most,
            Some(digits) => {
                let is_plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                let prefix = is_plain.then(|| digits.parse().ok()).flatten();
                let prefix = prefix.filter(|prefix| *prefix <= most);
                prefix.ok_or_else(|| CidrError::Prefix { text: digits.to_owned(), most })?
            }
        };
        let (address, prefix) = match address.to_canonical() {
            // A network that holds more than the mapped addresses stays one of IPv6.
            IpAddr::V4(mapped) if address.is_ipv6() && prefix >= MAPPED_BITS => {
                (IpAddr::V4(mapped), prefix - MAPPED_BITS)
            }
            _ => (address, prefix),
        };
        let meant = Self { network: first_of(address, prefix), prefix };
        if meant.network == address {
            Ok(meant)
        } else {
            Err(CidrError::HostBits { given: text.to_owned(), meant })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Cidr {
    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4()
            && first_of(address, self.prefix) == self.network
    }
}

/// The bits of an address of this kind.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first address of the network that this one lies in.
fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// The proxies whose word counts; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Cidr>);

impl TrustedProxies {
    /// These networks, at most [`TRUSTED_PROXIES_MAX`].
    pub fn new(networks: Vec<Cidr>) -> Result<Self, CidrError> {
        if networks.len() > TRUSTED_PROXIES_MAX {
            return Err(CidrError::TooMany);
        }
        Ok(Self(networks))
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is the address of a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

/// The client's address: that of the socket's peer, or the rightmost address of
/// `X-Forwarded-For` that is no trusted proxy's, where the peer is one.
///
/// `forwarded_for` are the values of all such headers, in their order. An entry that is no address
/// ends the walk: the answer is then the last proxy that was walked past, which is as far as
/// anybody trusted has vouched. An entry may have a port, as some proxies write it.
#[must_use]
pub fn client_address<'a, Values>(
    peer: IpAddr,
    forwarded_for: Values,
    trusted: &TrustedProxies,
) -> IpAddr
where
    Values: IntoIterator<Item = &'a [u8], IntoIter: DoubleEndedIterator>,
{
    let mut address = peer.to_canonical();
    if !trusted.contains(address) {
        return address;
    }
    let values = forwarded_for.into_iter().rev();
    for entry in values.flat_map(|value| value.rsplit(|byte| *byte == b',')) {
        let Some(next) = parse_entry(entry) else {
            return address;
        };
        address = next;
        if !trusted.contains(address) {
            return address;
        }
    }
    address
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || entry.parse().ok().map(|address: SocketAddr| address.ip());
    let address = entry.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn trusted(networks: &[&str]) -> TrustedProxies {
        let networks = networks.iter().map(|text| text.parse().expect("a network")).collect();
        TrustedProxies::new(networks).expect("few")
    }

    fn client(peer: &str, forwarded_for: &[&str], networks: &[&str]) -> IpAddr {
        let values = forwarded_for.iter().map(|value| value.as_bytes());
        client_address(ip(peer), values, &trusted(networks))
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.0/8", "10.0.0.0", "9.255.255.255"),
            ("192.0.2.128/25", "192.0.2.128", "192.0.2.127"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::192.0.2.7"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001:db8::1", "127.0.0.1"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
        ] {
            let proxies = trusted(&[network]);
            assert!(proxies.contains(ip(inside)), "{network} has {inside}");
            assert!(!proxies.contains(ip(outside)), "{network} lacks {outside}");
        }
        assert!(!trusted(&[]).contains(ip("127.0.0.1")));
    }

    #[test]
    fn a_wrong_network_is_told_with_what_is_right() {
        let error = |text: &str| text.parse::<Cidr>().expect_err(text).to_string();
        for text in ["", "proxy", "10.0.0/8", "10.0.0.0.0", "/8", "10.0.0.0 /8", "[::1]"] {
            assert!(error(text).contains(&format!("`{text}`")), "{}", error(text));
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/-1"] {
            assert!(error(text).contains("from 0 to 32"), "{}", error(text));
        }
        assert!(error("::/129").contains("from 0 to 128"));
        assert!(error("10.1.0.0/8").ends_with("did you mean 10.0.0.0/8?"));
        assert!(error("2001:db8::1/32").ends_with("did you mean 2001:db8::/32?"));
        let many = vec![ip("::1"); TRUSTED_PROXIES_MAX + 1];
        let many = many.iter().map(|address| address.to_string().parse().expect("one")).collect();
        assert_eq!(TrustedProxies::new(many), Err(CidrError::TooMany));
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let spoof = ["203.0.113.9"];
        assert_eq!(client("198.51.100.1", &spoof, &["10.0.0.0/8"]), ip("198.51.100.1"));
        assert_eq!(client("198.51.100.1", &spoof, &[]), ip("198.51.100.1"));
        assert_eq!(client("10.0.0.1", &spoof, &["10.0.0.0/8"]), ip("203.0.113.9"));
        assert_eq!(client("::ffff:10.0.0.1", &spoof, &["10.0.0.0/8"]), ip("203.0.113.9"));
        assert_eq!(client("::ffff:10.0.0.1", &[], &["10.0.0.0/8"]), ip("10.0.0.1"));
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        let inner = &["10.0.0.0/8", "fd00::/8"][..];
        for (values, expected) in [
            // What the client claimed itself stands to the left.
            (&["1.1.1.1, 203.0.113.9"][..], "203.0.113.9"),
            (&["203.0.113.9, 10.0.0.2,10.0.0.3"], "203.0.113.9"),
            // Several headers are one list.
            (&["203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            (&["10.0.0.2", "203.0.113.9"], "203.0.113.9"),
            // All trusted: the one farthest away.
            (&["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
            (&["2001:db8::7, fd00::1"], "2001:db8::7"),
            // With ports, and mapped.
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["[2001:db8::7] ,\t10.0.0.2"], "2001:db8::7"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
        ] {
            assert_eq!(client("10.0.0.1", values, inner), ip(expected), "{values:?}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for (value, expected) in [
            ("", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
            ("203.0.113.9, unknown", "10.0.0.1"),
            ("203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
            ("203.0.113.9,, 10.0.0.2", "10.0.0.2"),
            ("203.0.113.9,", "10.0.0.1"),
            ("203.0.113.9;10.0.0.2", "10.0.0.1"),
            ("203.0.113.9:99999", "10.0.0.1"),
            ("203.0.113.09", "10.0.0.1"),
            ("[203.0.113.9]", "10.0.0.1"),
            ("fe80::1%eth0", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[value], &["10.0.0.0/8"]), ip(expected), "{value}");
        }
    }

    proptest! {
        /// Whatever a client puts before the address that the proxy adds, it changes nothing.
        #[test]
        fn nothing_on_the_left_counts(left: Vec<u8>, client: [u8; 4]) {
            let client = IpAddr::from(client);
            let proxies = trusted(&["10.0.0.0/8"]);
            prop_assume!(!proxies.contains(client));
            let mut value = left;
            value.extend_from_slice(format!(",{client}").as_bytes());
            let found = client_address(ip("10.0.0.1"), [value.as_slice()], &proxies);
            prop_assert_eq!(found, client);
        }
    }
}
