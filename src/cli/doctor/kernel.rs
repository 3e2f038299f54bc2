//! The kernel and the limits of the process: what rings need.

use std::fs;

use super::{Finding, Subject};
use crate::cli::serve::OTHER_FILES;
use crate::control;
use crate::runtime::probe::{OPERATION_COUNT, missing_operations};
use crate::runtime::{Ring, limits};
use crate::server::space::Bytes;
use crate::server::start::RING;

/// The first kernel with all that the rings ask for.
const KERNEL_LEAST: (u32, u32) = (6, 1);

/// What the control plane's executor asks for.
const LOCKED_BYTES_LEAST: u64 = 512 << 10;

pub(super) fn examine(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    findings.push(kernel(release.trim()));
    findings.push(io_uring());
    findings.push(locked_memory(limits::locked_bytes()));
    findings.push(control_plane());
    let limit = limits::raise_open_files();
    findings.push(open_files(limit, subject.settings.connections.get() as u64));
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return Finding::warn("kernel", format!("release {release:?} is unknown"), "run Linux");
    };
    let fact = format!("Linux {release}");
    if (major, minor) >= KERNEL_LEAST {
        return Finding::ok("kernel", fact);
    }
    let (major, minor) = KERNEL_LEAST;
    Finding::fail("kernel", fact, format!("run Linux {major}.{minor} or later"))
}

/// A ring with the flags, sizes and buffers of a shard's.
fn io_uring() -> Finding {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let sysctl = disabled.map(|value| format!("kernel.io_uring_disabled = {}", value.trim()));
    let sysctl = sysctl.unwrap_or_else(|| "no sysctl restricts it".to_owned());
    if let Err(error) = Ring::probe(&RING) {
        return Finding::fail(
            "io_uring",
            format!("{error} ({sysctl})"),
            "`sysctl -w kernel.io_uring_disabled=0`; in a container allow io_uring_setup, \
             io_uring_enter and io_uring_register in its seccomp profile",
        );
    }
    match missing_operations() {
        Ok(missing) if missing.is_empty() => {
            let fact = format!("a shard's ring works, with its {OPERATION_COUNT} operations");
            Finding::ok("io_uring", format!("{fact} ({sysctl})"))
        }
        Ok(missing) => {
            let fact = format!("the kernel lacks {}", missing.join(", "));
            Finding::fail("io_uring", fact, "run a later kernel")
        }
        Err(error) => {
            Finding::warn("io_uring", format!("it cannot be probed: {error}"), "see dmesg")
        }
    }
}

fn locked_memory(limit: Option<u64>) -> Finding {
    let name = "locked memory";
    match limit {
        None => Finding::ok(name, "no limit"),
        Some(bytes) if bytes >= LOCKED_BYTES_LEAST => {
            Finding::ok(name, format!("limit {}", Bytes(bytes)))
        }
        Some(bytes) => Finding::fail(
            name,
            format!("limit {}, {} are needed", Bytes(bytes), Bytes(LOCKED_BYTES_LEAST)),
            "LimitMEMLOCK=8M in the unit, or `ulimit -l 8192`",
        ),
    }
}

fn control_plane() -> Finding {
    match control::try_executor() {
        Ok(()) => Finding::ok("control plane", "its executor can be set up"),
        Err(error) => {
            let change = "LimitMEMLOCK=8M in the unit, and see io_uring above";
            Finding::fail("control plane", error, change)
        }
    }
}

fn open_files(limit: Option<u64>, connections: u64) -> Finding {
    let name = "open files";
    let wanted = connections.saturating_add(OTHER_FILES);
    let Some(limit) = limit else { return Finding::ok(name, "no limit") };
    let room = limit.saturating_sub(OTHER_FILES);
    let change = format!("LimitNOFILE={wanted} in the unit, or `ulimit -Hn {wanted}`");
    match room {
        0 => Finding::fail(name, format!("limit {limit}: no room for connections"), change),
        room if room < connections => {
            let fact = format!("limit {limit}: room for {room} connections of {connections}");
            Finding::warn(name, fact, change)
        }
        _ => Finding::ok(name, format!("limit {limit}, for {connections} connections")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn old_kernels_are_told() {
        for (release, state) in [
            ("6.1.0-13-amd64", State::Ok),
            ("6.18.44", State::Ok),
            ("7.0", State::Ok),
            ("5.15.0-91-generic", State::Fail),
            ("6.0.19", State::Fail),
            ("strange", State::Warn),
        ] {
            assert_eq!(kernel(release).state, state, "{release}");
        }
    }

    #[test]
    fn limits_are_judged_by_what_is_needed() {
        for (limit, state) in
            [(Some(0), State::Fail), (Some(512 << 10), State::Ok), (None, State::Ok)]
        {
            assert_eq!(locked_memory(limit).state, state, "{limit:?}");
        }
        for (limit, state) in [
            (Some(OTHER_FILES), State::Fail),
            (Some(OTHER_FILES + 99), State::Warn),
            (Some(OTHER_FILES + 100), State::Ok),
            (None, State::Ok),
        ] {
            assert_eq!(open_files(limit, 100).state, state, "{limit:?}");
        }
    }
}
