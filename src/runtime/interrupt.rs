//! Which CPU takes a disk's completion interrupts.
//!
//! A synchronous write completes on that CPU. A shard that runs elsewhere pays a cross-CPU
//! wake-up for every group commit, and while the other CPU is busy, a long wait.
//! Read from sysfs (`/sys/dev/block`, `msi_irqs`) and `/proc/irq`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cpu::parse_list;

/// The CPUs that take the interrupts of the disk under `path`, ascending. Empty where that
/// cannot be told: no single block device, or no message-signalled interrupts.
#[must_use]
pub fn disk_cpus(path: &Path) -> Vec<usize> {
    let Some(device) = block_device(path) else { return Vec::new() };
    let mut cpus = BTreeSet::new();
    for irq in device_irqs(&device) {
        let list = fs::read_to_string(format!("/proc/irq/{irq}/effective_affinity_list"));
        cpus.extend(list.ok().and_then(|list| parse_list(&list)).unwrap_or_default());
    }
    cpus.into_iter().collect()
}

/// The directory in sysfs of the block device that holds `path`.
fn block_device(path: &Path) -> Option<PathBuf> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()
}

/// The queue interrupts of the nearest ancestor that has any, without those for configuration.
fn device_irqs(device: &Path) -> Vec<u32> {
    let table = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    for ancestor in device.ancestors() {
        let Ok(entries) = fs::read_dir(ancestor.join("msi_irqs")) else { continue };
        return entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|irq| is_queue_interrupt(&table, *irq))
            .collect();
    }
    Vec::new()
}

/// Whether `/proc/interrupts` lists the interrupt as one of a queue in use.
fn is_queue_interrupt(table: &str, irq: u32) -> bool {
    let row = table.lines().find_map(|line| {
        let (number, row) = line.trim_start().split_once(':')?;
        (number.parse() == Ok(irq)).then_some(row)
    });
    row.is_some_and(|row| {
        let used = row.split_whitespace().map_while(|word| word.parse::<u64>().ok()).sum::<u64>();
        used > 0 && !row.trim_end().ends_with("-config")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interrupt_of_a_used_queue_counts() {
        let table = "           CPU0       CPU1\n \
             35:          0          1  PCI-MSIX-0000:00:02.0   0-edge      virtio1-config\n \
             36:          0       4813  PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0\n \
             37:          0          0  PCI-MSIX-0000:00:02.0   2-edge      virtio1-req.1\n";
        assert!(!is_queue_interrupt(table, 35));
        assert!(is_queue_interrupt(table, 36));
        assert!(!is_queue_interrupt(table, 37));
        assert!(!is_queue_interrupt(table, 3));
    }
}
