//! The header of the PROXY protocol, versions 1 and 2: what a proxy says of a connection before
//! the connection's own first byte. (The format: haproxy's `doc/proxy-protocol.txt`.)
//!
//! ```text
//! version 1, one line of at most 107 bytes:
//!   PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n
//!   PROXY UNKNOWN …\r\n                                no address, the rest is skipped
//!
//! version 2:
//!   0  12  13  14   16                16+len
//!   ├──┼───┼───┼────┼──────────────────┤
//!   │0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A│ signature, 12 bytes
//!      │ver│fam│len │ addresses │ TLVs …│ len big-endian, ver = 2 in the high four bits
//! ```
//!
//! [`decode`] is asked again with more bytes until it is complete: it keeps nothing, so it does not
//! matter how the bytes arrive. A header is at most [`PROXY_HEADER_BYTES_MAX`] long. Whom to
//! believe is decided elsewhere, before this is asked at all.
//!
//! Lacking on purpose: sockets other than streams, and what the TLVs say; their lengths are checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header, in bytes.
pub const PROXY_HEADER_BYTES_MAX: usize = V2_HEAD_BYTES + V2_REST_BYTES_MAX;

const V1_PREFIX: &[u8] = b"PROXY ";
/// With its CR and LF.
const V1_BYTES_MAX: usize = 107;

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD_BYTES: usize = 16;
/// Addresses and TLVs.
const V2_REST_BYTES_MAX: usize = 1024;
/// Bytes of a TLV before its value.
const TLV_HEAD_BYTES: usize = 3;

const _: () = assert!(V1_BYTES_MAX <= PROXY_HEADER_BYTES_MAX);

/// How far a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// So far all is right, and more is needed.
    Incomplete,
    /// The header is whole.
    Complete {
        /// Its bytes: what stands behind them is the connection's own.
        consumed: usize,
        /// Who connected to the proxy. `None` where the proxy speaks for itself, such as for a
        /// health check, or does not know: then the socket's peer counts.
        source: Option<SocketAddr>,
    },
}

/// Why this is no header of the PROXY protocol. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// It starts like neither version.
    #[error("no PROXY protocol header")]
    NoHeader,
    /// It is longer than it may be.
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// The line of version 1 is malformed.
    #[error("the PROXY protocol line is malformed")]
    BadLine,
    /// The version or the command of version 2 is unknown.
    #[error("the version or command of the PROXY protocol header is unknown")]
    UnknownCommand,
    /// The kind of address of version 2 is unknown, or none that streams have.
    #[error("the address family of the PROXY protocol header is not supported")]
    UnknownFamily,
    /// The length of version 2 is too short for the addresses, or a TLV exceeds it.
    #[error("the lengths in the PROXY protocol header are wrong")]
    BadLength,
}

/// Reads the header at the start of a connection's `bytes`.
pub fn decode(bytes: &[u8]) -> Result<ProxyHeader, ProxyFault> {
    if starts_like(bytes, V1_PREFIX) {
        decode_v1(bytes)
    } else if starts_like(bytes, V2_SIGNATURE) {
        decode_v2(bytes)
    } else {
        Err(ProxyFault::NoHeader)
    }
}

/// Whether `bytes` start with `mark`, or are a part of it.
fn starts_like(bytes: &[u8], mark: &[u8]) -> bool {
    let common = bytes.len().min(mark.len());
    bytes[..common] == mark[..common]
}

fn decode_v1(bytes: &[u8]) -> Result<ProxyHeader, ProxyFault> {
    let within = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        let is_full = within.len() == V1_BYTES_MAX;
        return if is_full { Err(ProxyFault::TooLong) } else { Ok(ProxyHeader::Incomplete) };
    };
    // The prefix is whole: it has no LF of its own.
    let line = within[..end].strip_prefix(V1_PREFIX).ok_or(ProxyFault::BadLine)?;
    let line = line.strip_suffix(b"\r").ok_or(ProxyFault::BadLine)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyFault::BadLine)?;
    let source = parse_v1(line)?;
    Ok(ProxyHeader::Complete { consumed: end + 1, source })
}

/// What stands behind `PROXY ` in a line of version 1.
fn parse_v1(line: &str) -> Result<Option<SocketAddr>, ProxyFault> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(ProxyFault::BadLine);
    let family = word()?;
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let parse_ip = |word: &str| match family {
        "TCP4" => word.parse().map(IpAddr::V4).map_err(|_| ProxyFault::BadLine),
        "TCP6" => word.parse().map(IpAddr::V6).map_err(|_| ProxyFault::BadLine),
        _ => Err(ProxyFault::BadLine),
    };
    let (source, _) = (parse_ip(word()?)?, parse_ip(word()?)?);
    let (port, _) = (parse_port(word()?)?, parse_port(word()?)?);
    let is_all = words.next().is_none();
    if is_all { Ok(Some(SocketAddr::new(source, port))) } else { Err(ProxyFault::BadLine) }
}

/// A port in its one form: no sign, no leading zero.
fn parse_port(word: &str) -> Result<u16, ProxyFault> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_shortest = word == "0" || !word.starts_with('0');
    let port = if is_plain && is_shortest { word.parse().ok() } else { None };
    port.ok_or(ProxyFault::BadLine)
}

fn decode_v2(bytes: &[u8]) -> Result<ProxyHeader, ProxyFault> {
    let byte = |at: usize| bytes.get(at).copied();
    // Each byte is judged as soon as it is there, so that a wrong one does not wait for more.
    let is_local = match byte(12) {
        None => return Ok(ProxyHeader::Incomplete),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(ProxyFault::UnknownCommand),
    };
    let family = match byte(13) {
        None => return Ok(ProxyHeader::Incomplete),
        Some(family) => Family::from_wire(family, is_local)?,
    };
    let (Some(high), Some(low)) = (byte(14), byte(15)) else {
        return Ok(ProxyHeader::Incomplete);
    };
    let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
    if rest_bytes > V2_REST_BYTES_MAX {
        return Err(ProxyFault::TooLong);
    }
    if rest_bytes < family.address_bytes() {
        return Err(ProxyFault::BadLength);
    }
    let consumed = V2_HEAD_BYTES + rest_bytes;
    let Some(rest) = bytes.get(V2_HEAD_BYTES..consumed) else {
        return Ok(ProxyHeader::Incomplete);
    };
    if !matches!(family, Family::Unspecified) {
        check_tlvs(&rest[family.address_bytes()..])?;
    }
    Ok(ProxyHeader::Complete { consumed, source: family.source(rest) })
}

/// What kind of addresses version 2 has.
#[derive(Clone, Copy)]
enum Family {
    /// None that counts: all of it is skipped.
    Unspecified,
    Tcp4,
    Tcp6,
    /// The proxy listens on a Unix socket, whose path is no address of a client.
    UnixStream,
}

impl Family {
    fn from_wire(byte: u8, is_local: bool) -> Result<Self, ProxyFault> {
        match byte {
            // What a local connection says of addresses is to be ignored.
            _ if is_local => Ok(Self::Unspecified),
            0x00 => Ok(Self::Unspecified),
            0x11 => Ok(Self::Tcp4),
            0x21 => Ok(Self::Tcp6),
            0x31 => Ok(Self::UnixStream),
            _ => Err(ProxyFault::UnknownFamily),
        }
    }

    const fn address_bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            // Two addresses and two ports.
            Self::Tcp4 => 2 * 4 + 2 * 2,
            Self::Tcp6 => 2 * 16 + 2 * 2,
            // Two paths.
            Self::UnixStream => 2 * 108,
        }
    }

    /// The source in what follows the head: source, destination, source port, destination port.
    fn source(self, rest: &[u8]) -> Option<SocketAddr> {
        let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
        match self {
            Self::Unspecified | Self::UnixStream => None,
            Self::Tcp4 => {
                let (address, _) = rest.split_first_chunk::<4>()?;
                Some((Ipv4Addr::from(*address), port(8)).into())
            }
            Self::Tcp6 => {
                let (address, _) = rest.split_first_chunk::<16>()?;
                Some((Ipv6Addr::from(*address), port(32)).into())
            }
        }
    }
}

/// Whether the TLVs fill what is left to the last byte: type, two bytes of length, value.
fn check_tlvs(mut rest: &[u8]) -> Result<(), ProxyFault> {
    while !rest.is_empty() {
        let &[_, high, low, ..] = rest else {
            return Err(ProxyFault::BadLength);
        };
        let value_bytes = usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(TLV_HEAD_BYTES + value_bytes..).ok_or(ProxyFault::BadLength)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).expect("short").to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    const TCP4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

    fn tcp6() -> Vec<u8> {
        let address = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
        let mut rest = [address(1), address(2)].concat();
        rest.extend([0xdc, 0x04, 0x01, 0xbb]);
        rest
    }

    /// Good headers, and whom they name.
    fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let tlvs = [&TCP4[..], &[0x04, 0, 2, 7, 7], &[0x05, 0, 0]].concat();
        let line = |text: &str| text.as_bytes().to_vec();
        vec![
            (line("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), Some("192.0.2.1:56324")),
            (line("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), Some("[2001:db8::1]:0")),
            (line("PROXY UNKNOWN\r\n"), None),
            (line("PROXY UNKNOWN ffff::1 what ever 1 2\r\n"), None),
            (v2(0x21, 0x11, &TCP4), Some("192.0.2.1:56324")),
            (v2(0x21, 0x11, &tlvs), Some("192.0.2.1:56324")),
            (v2(0x21, 0x21, &tcp6()), Some("[2001:db8::1]:56324")),
            (v2(0x21, 0x31, &[b'p'; 216]), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x00, &[1, 2, 3]), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &TCP4), None),
            (v2(0x20, 0xff, &[9; V2_REST_BYTES_MAX]), None),
        ]
    }

    #[test]
    fn a_good_header_is_read_however_it_is_split() {
        for (header, source) in good() {
            let source = source.map(|text| text.parse().expect("an address"));
            let expected = Ok(ProxyHeader::Complete { consumed: header.len(), source });
            for end in 0..header.len() {
                let so_far = decode(&header[..end]);
                assert_eq!(so_far, Ok(ProxyHeader::Incomplete), "{end} of {header:?}");
            }
            assert_eq!(decode(&header), expected);
            // What follows is not read, be it another header.
            for next in [&b"GET / HTTP/1.1\r\n"[..], &header, &[0]] {
                assert_eq!(decode(&[&header, next].concat()), expected);
            }
        }
    }

    #[test]
    fn a_bad_line_is_refused() {
        for line in [
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
            "PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "PROXY UNKNOWNISH\r\n",
        ] {
            let fault = decode(line.as_bytes()).expect_err(line);
            assert!(matches!(fault, ProxyFault::BadLine | ProxyFault::NoHeader), "{line}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; V1_BYTES_MAX]].concat();
        assert_eq!(decode(&endless[..V1_BYTES_MAX - 1]), Ok(ProxyHeader::Incomplete));
        assert_eq!(decode(&endless[..V1_BYTES_MAX]), Err(ProxyFault::TooLong));
        let longest = [&endless[..V1_BYTES_MAX - 2], b"\r\n"].concat();
        let source = None;
        let consumed = V1_BYTES_MAX;
        assert_eq!(decode(&longest), Ok(ProxyHeader::Complete { consumed, source }));
    }

    #[test]
    fn a_bad_binary_header_is_refused() {
        let of = |command, family, rest: &[u8]| decode(&v2(command, family, rest));
        for command in (0..=0xff).filter(|command| ![0x20, 0x21].contains(command)) {
            assert_eq!(of(command, 0x11, &TCP4), Err(ProxyFault::UnknownCommand));
        }
        for family in (0..=0xff).filter(|family| ![0x00, 0x11, 0x21, 0x31].contains(family)) {
            assert_eq!(of(0x21, family, &[0; 300]), Err(ProxyFault::UnknownFamily));
        }
        assert_eq!(of(0x21, 0x11, &TCP4[1..]), Err(ProxyFault::BadLength));
        assert_eq!(of(0x21, 0x21, &tcp6()[1..]), Err(ProxyFault::BadLength));
        assert_eq!(of(0x21, 0x31, &[0; 215]), Err(ProxyFault::BadLength));
        for tlv in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 1, 0, 7], &[4, 0, 1, 7, 5]] {
            let rest = [&TCP4, tlv].concat();
            assert_eq!(of(0x21, 0x11, &rest), Err(ProxyFault::BadLength), "{tlv:?}");
        }
        // The length alone tells, before what it announces has come.
        let too_long = v2(0x21, 0x11, &[0; V2_REST_BYTES_MAX + 1]);
        assert_eq!(decode(&too_long[..V2_HEAD_BYTES]), Err(ProxyFault::TooLong));
    }

    #[test]
    fn what_is_no_header_is_told_at_its_first_wrong_byte() {
        for bytes in [&b"G"[..], b"\r\n\r\n\0\r\nQUIX", b"PROXX", b"proxy TCP4", b"\0"] {
            assert_eq!(decode(bytes), Err(ProxyFault::NoHeader), "{bytes:?}");
            let before = decode(&bytes[..bytes.len() - 1]);
            let may_go_on = [Ok(ProxyHeader::Incomplete), Err(ProxyFault::NoHeader)];
            assert!(may_go_on.contains(&before), "{bytes:?}");
        }
        assert_eq!(decode(b"\r\n\r\n\0\r\nQUI"), Ok(ProxyHeader::Incomplete));
        assert_eq!(decode(b"PROX"), Ok(ProxyHeader::Incomplete));
    }

    proptest! {
        /// What a proxy says of any two addresses is what is read, split anywhere.
        #[test]
        fn any_addresses_are_read_as_they_were_written(
            source: SocketAddrArbitrary, ports: (u16, u16), tlv: Vec<u8>, split: prop::sample::Index,
        ) {
            let source = SocketAddr::new(source.0, ports.0);
            let name = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let ip = source.ip();
            let line = format!("PROXY {name} {ip} {ip} {} {}\r\n", ports.0, ports.1);
            let (family, octets) = match ip {
                IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
                IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
            };
            let tlv_bytes = u16::try_from(tlv.len()).expect("short").to_be_bytes();
            let rest = [
                &octets, &octets, &ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &[0xee],
                &tlv_bytes, &tlv,
            ].concat();
            for header in [line.into_bytes(), v2(0x21, family, &rest)] {
                let expected = ProxyHeader::Complete { consumed: header.len(), source: Some(source) };
                prop_assert_eq!(decode(&header), Ok(expected));
                let end = split.index(header.len());
                prop_assert_eq!(decode(&header[..end]), Ok(ProxyHeader::Incomplete));
            }
        }

        /// Bytes of any kind are judged without a panic, and a verdict is final: more bytes do
        /// not change it.
        #[test]
        fn a_verdict_is_final(
            start in 0_usize..4, body in prop::collection::vec(any::<u8>(), 0..300), more: Vec<u8>,
        ) {
            let starts = [&b""[..], V1_PREFIX, V2_SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"];
            let bytes = [starts[start], &body].concat();
            let verdict = decode(&bytes);
            if let Ok(ProxyHeader::Complete { consumed, .. }) = verdict {
                prop_assert!(consumed <= bytes.len().min(PROXY_HEADER_BYTES_MAX));
            }
            if verdict == Ok(ProxyHeader::Incomplete) {
                prop_assert!(bytes.len() < PROXY_HEADER_BYTES_MAX);
            } else {
                prop_assert_eq!(decode(&[bytes, more].concat()), verdict);
            }
        }
    }

    /// An address of either kind.
    #[derive(Clone, Debug)]
    struct SocketAddrArbitrary(IpAddr);

    impl Arbitrary for SocketAddrArbitrary {
        type Parameters = ();
        type Strategy = BoxedStrategy<Self>;

        fn arbitrary_with((): ()) -> Self::Strategy {
            let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(bits.into()));
            let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()));
            prop_oneof![v4, v6].prop_map(Self).boxed()
        }
    }
}
