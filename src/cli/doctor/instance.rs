//! What else is there: another server on the data directory, and the addresses.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

use super::{Finding, Subject};
use crate::runtime::net::try_bind;
use crate::server::config::AdminAddress;
use crate::server::datadir::Found;

pub(super) fn examine(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    findings.push(data_dir(subject));
    let settings = subject.settings;
    let own = (1..=subject.shards.get()).filter_map(|offset| {
        let port = settings.binary.port();
        // Without a port of its own choice every shard takes a free one.
        let port = if port == 0 { None } else { port.checked_add(offset) };
        port.map(|port| SocketAddr::new(settings.binary.ip(), port))
    });
    let mut addresses: Vec<SocketAddr> =
        std::iter::once(settings.binary).chain(own).chain([settings.http]).collect();
    match settings.admin_address() {
        AdminAddress::Tcp(address) => addresses.push(address),
        AdminAddress::Unix(path) => {
            if UnixStream::connect(&path).is_ok() && !subject.is_served() {
                findings.push(Finding::fail(
                    "admin socket",
                    format!("somebody listens on {}", path.display()),
                    "stop that process, or choose another path with --admin",
                ));
            }
        }
    }
    findings.extend(ports(subject, &addresses));
}

fn data_dir(subject: &Subject<'_>) -> Finding {
    let name = "data directory";
    let path = subject.settings.data_dir.display();
    match &subject.found {
        Ok(Found::Nothing) => Finding::ok(name, format!("{path} is new")),
        Ok(Found::DataDir { shards }) => match subject.settings.shards {
            Some(asked) if asked != *shards => Finding::warn(
                name,
                format!("{path} has {shards} shards, and a start divides them into {asked}"),
                format!("set shards = {shards} if that is not wanted"),
            ),
            _ => Finding::ok(name, format!("{path} with {shards} shards; no server has it")),
        },
        Ok(Found::InUse { owner }) => {
            let owner = owner.map_or(String::new(), |pid| format!(", process {pid}"));
            let fact = format!("{path} is in use by another instance{owner}");
            Finding::warn(name, fact, "stop that one before another is started here")
        }
        Err(error) => Finding::fail(name, error, "name another --data-dir"),
    }
}

/// One line where all are free, else one for each that is not.
fn ports(subject: &Subject<'_>, addresses: &[SocketAddr]) -> Vec<Finding> {
    let name = "addresses";
    let mut findings = Vec::new();
    for address in addresses {
        let Err(error) = try_bind(*address) else { continue };
        let fact = format!("{address}: {error}");
        findings.push(if subject.is_served() {
            let change = "nothing, if it is the server that has the data directory";
            Finding::warn(name, fact, change)
        } else {
            let change = "stop the process that has it (`ss -ltnp` shows it), or choose another";
            Finding::fail(name, fact, change)
        });
    }
    if findings.is_empty() {
        let mut list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        list.dedup();
        findings.push(Finding::ok(name, format!("free: {}", list.join(", "))));
    }
    findings
}
