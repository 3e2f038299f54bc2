//! The disk of the data directory: what holds it, whether it takes direct writes, how fast they
//! are, and how much room there is.

use std::path::Path;
use std::time::Duration;

use super::{Finding, Subject};
use crate::runtime::disk::{FileSystem, file_system};
use crate::runtime::{Ring, SystemClock, cpu, interrupt};
use crate::server::ServerError;
use crate::server::calibrate::write_times;
use crate::server::fullness::{HOLD_BYTES, RESERVE_BYTES};
use crate::server::space::{Bytes, Space, existing_ancestor, space};
use crate::server::start::RING;

/// How long the disk is measured.
const MEASURED: Duration = Duration::from_secs(2);

/// A median above this makes every answer slow.
const MEDIAN_GOOD: Duration = Duration::from_millis(2);

/// File systems whose direct writes are what they say.
const GOOD_FILE_SYSTEMS: [&str; 2] = ["ext4", "xfs"];

/// File systems that are memory: nothing on them survives a restart of the machine.
const MEMORY_FILE_SYSTEMS: [&str; 3] = ["tmpfs", "ramfs", "devtmpfs"];

pub(super) fn examine(subject: &Subject<'_>, findings: &mut Vec<Finding>) {
    let directory = existing_ancestor(&subject.settings.data_dir);
    match file_system(&directory) {
        Ok(found) => findings.push(judge_file_system(&found, &directory)),
        Err(error) => {
            let fact = format!("{}: {error}", directory.display());
            findings.push(Finding::fail("file system", fact, "name another --data-dir"));
        }
    }
    findings.push(free_space(subject));
    findings.push(interrupts(subject, &directory));
    if subject.is_served() {
        findings.push(Finding::ok("disk writes", "not measured: a server is writing to it"));
    } else {
        findings.push(disk_writes(&directory));
    }
}

fn judge_file_system(found: &FileSystem, directory: &Path) -> Finding {
    let name = "file system";
    let fact = format!("{} at {}", found.kind, directory.display());
    if found.is_read_only {
        let change = "mount it for writing, or name another --data-dir";
        return Finding::fail(name, format!("{fact} is mounted read-only"), change);
    }
    if MEMORY_FILE_SYSTEMS.contains(&&*found.kind) {
        let change = "name a --data-dir on a disk with ext4 or xfs";
        return Finding::fail(name, format!("{fact} is memory: a power cut loses all"), change);
    }
    if GOOD_FILE_SYSTEMS.contains(&&*found.kind) {
        return Finding::ok(name, fact);
    }
    Finding::warn(name, format!("{fact} is not one it is tested on"), "use ext4 or xfs")
}

fn free_space(subject: &Subject<'_>) -> Finding {
    let settings = subject.settings;
    let room =
        |segments| space(&settings.data_dir, subject.shards, segments, settings.segment_bytes);
    match (room(1), room(1 + u64::from(settings.segments_ahead.get()))) {
        (Ok(start), Ok(run)) => judge_space(start, run),
        (Err(error), _) | (_, Err(error)) => {
            Finding::fail("free space", error, "name another --data-dir")
        }
    }
}

fn judge_space(start: Space, run: Space) -> Finding {
    let name = "free space";
    let free = Bytes(run.free_bytes);
    let change = "free some space, name another --data-dir, or lower segment_bytes";
    if start.free_bytes < start.needed_bytes {
        let fact = format!("{free}, and a start needs {}", Bytes(start.needed_bytes));
        return Finding::fail(name, fact, change);
    }
    let fact = format!(
        "{free}, and the segments ahead need {}; holds are refused where no more is left than {} \
         and {} for each hold that lives",
        Bytes(run.needed_bytes),
        Bytes(RESERVE_BYTES),
        Bytes(HOLD_BYTES)
    );
    if run.free_bytes < run.needed_bytes {
        return Finding::warn(name, fact, change);
    }
    Finding::ok(name, fact)
}

fn interrupts(subject: &Subject<'_>, directory: &Path) -> Finding {
    let disk = interrupt::disk_cpus(directory);
    let allowed = cpu::allowed().unwrap_or_default();
    let count = usize::from(subject.shards.get());
    let chosen = subject.settings.cpus.as_deref().map(|cpus| &cpus[..cpus.len().min(count)]);
    judge_interrupts(&disk, &allowed, chosen)
}

/// `chosen` are the shards' CPUs where a setting says which; else the first shard follows the
/// disk, as far as it may.
fn judge_interrupts(disk: &[usize], allowed: &[usize], chosen: Option<&[usize]>) -> Finding {
    let name = "disk interrupts";
    if disk.is_empty() {
        return Finding::ok(name, "the CPU that takes them cannot be told");
    }
    let usable = chosen.unwrap_or(allowed);
    if disk.iter().any(|cpu| usable.contains(cpu)) {
        return Finding::ok(name, format!("on CPU {disk:?}, where a shard runs"));
    }
    let first = disk[0];
    Finding::warn(
        name,
        format!("on CPU {disk:?}, and the shards on {usable:?}: log writes wait for another CPU"),
        format!(
            "put {first} first in `cpus`, or move the interrupt (/proc/irq/*/smp_affinity_list)"
        ),
    )
}

/// Real writes, as the log makes them.
fn disk_writes(directory: &Path) -> Finding {
    let name = "disk writes";
    let Ok(mut ring) = Ring::new(&RING) else {
        return Finding::warn(name, "not measured without io_uring", "see io_uring above");
    };
    match write_times(&mut ring, &SystemClock::new(), directory, MEASURED) {
        Ok(times) => judge_times(times),
        Err(error @ ServerError::DirectIo { .. }) => {
            Finding::fail(name, error, "name a --data-dir on a disk with ext4 or xfs")
        }
        Err(error) => Finding::fail(
            name,
            format!("{}: {error}", directory.display()),
            "let the server's user write there, or name another --data-dir",
        ),
    }
}

fn judge_times(mut times: Vec<Duration>) -> Finding {
    let name = "disk writes";
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else {
        return Finding::fail(name, "not one was done in time", "check the disk (dmesg)");
    };
    let (median, high) = (times[last / 2], times[last * 99 / 100]);
    let fact = format!(
        "O_DIRECT|O_DSYNC, 4 KiB: median {} µs, p99 {} µs, of {}",
        median.as_micros(),
        high.as_micros(),
        times.len()
    );
    if median > MEDIAN_GOOD {
        let change = "use a disk with power-loss protection, such as a local NVMe";
        return Finding::warn(name, fact, change);
    }
    Finding::ok(name, fact)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn file_systems_are_judged_by_what_they_keep() {
        for (kind, is_read_only, state) in [
            ("ext4", false, State::Ok),
            ("xfs", false, State::Ok),
            ("btrfs", false, State::Warn),
            ("tmpfs", false, State::Fail),
            ("ext4", true, State::Fail),
        ] {
            let found = FileSystem { kind: kind.to_owned(), free_bytes: 0, is_read_only };
            assert_eq!(judge_file_system(&found, Path::new("/srv")).state, state, "{kind}");
        }
    }

    #[test]
    fn space_is_judged_by_what_a_start_and_a_run_need() {
        for (free_bytes, state) in [(9, State::Fail), (10, State::Warn), (30, State::Ok)] {
            let (start, run) =
                (Space { needed_bytes: 10, free_bytes }, Space { needed_bytes: 30, free_bytes });
            assert_eq!(judge_space(start, run).state, state, "{free_bytes}");
        }
    }

    #[test]
    fn a_shard_belongs_where_the_disk_interrupts() {
        for (disk, chosen, state) in [
            (&[][..], Some(&[0][..]), State::Ok),
            (&[1], None, State::Ok),
            (&[1], Some(&[1, 0]), State::Ok),
            (&[1], Some(&[0]), State::Warn),
            (&[7], None, State::Warn),
        ] {
            assert_eq!(judge_interrupts(disk, &[0, 1], chosen).state, state, "{disk:?} {chosen:?}");
        }
    }

    #[test]
    fn slow_disks_are_told() {
        let of = |ms| vec![Duration::from_millis(ms); 100];
        assert_eq!(judge_times(of(1)).state, State::Ok);
        assert_eq!(judge_times(of(9)).state, State::Warn);
        assert_eq!(judge_times(Vec::new()).state, State::Fail);
        let mut mixed: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        mixed.reverse();
        assert!(judge_times(mixed).fact.contains("median 50 µs, p99 99 µs"));
    }
}
