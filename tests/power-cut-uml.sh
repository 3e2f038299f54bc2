#!/usr/bin/env bash
# The campaign of `tests/cuts.rs` in a kernel of its own, which has the device mapper that most
# virtual machines and containers lack: user-mode Linux, an ordinary program. Its disks turn bad
# between two writes (dm-flakey), and what was acknowledged before must be there behind.
#
#   tests/power-cut-uml.sh 40                                              # cuts; 20 unless told
#   BOXOFFICE_CANARY=skip-sync tests/power-cut-uml.sh 20 --features canaries   # must find losses
#
# BOXOFFICE_CUTS_SEED and BOXOFFICE_CUTS_OF reach it. What follows the number is for `cargo test`.
#
# It sees this machine's files, read-only; its memory and its disk are files in /dev/shm, 4 GiB at
# most, and its network is a loopback of its own.
# Debian's packages user-mode-linux, dmsetup, busybox and e2fsprogs have what it needs. It exits
# with 77 where that is missing, as a skipped test does.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/usr/bin:/sbin:/bin"

# The first process of the kernel below: this very file. It never returns.
if [ "$$" -eq 1 ]; then
    trap 'echo "uml: status $?"; busybox poweroff -f' EXIT
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t tmpfs run /run
    mount /dev/ubda "$UML_DISKS"
    busybox ip link set lo up
    for module in block/loop md/dm-mod md/dm-flakey; do
        busybox insmod "/usr/lib/uml/modules/$(uname -r)/kernel/drivers/$module.ko"
    done
    "$UML_PROGRAM" --nocapture --test-threads 1
    exit
fi

cd "$(dirname "$0")/.."
for program in linux.uml dmsetup busybox losetup mkfs.ext4; do
    if ! command -v "$program" >/dev/null; then
        echo "skipped: $program is missing; see the head of this script for the packages" >&2
        exit 77
    fi
done

program=$(cargo test --no-run --test cuts "${@:2}" 2>&1 | tee >(cat >&2) |
    sed -n 's/.*Executable tests\/cuts.rs (\(.*\))$/\1/p')
program=$(realpath "$program")

# All that the kernel is told with a name in capitals is its first process's environment.
told=("BOXOFFICE_CUTS=${1:-20}" "BOXOFFICE_CUTS_OF=${BOXOFFICE_CUTS_OF:-failing,lying}"
    "UML_PROGRAM=$program" "UML_DISKS=$(realpath "${program%/*}/../../tmp")")
for name in BOXOFFICE_CUTS_SEED BOXOFFICE_CANARY; do
    if [ -n "${!name:-}" ]; then told+=("$name=${!name}"); fi
done

home=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$home"' EXIT
truncate --size 2G "$home/disk"
mkfs.ext4 -q -F "$home/disk"
TMPDIR="$home" linux.uml mem=2G ubda="$home/disk" uml_dir="$home/" con=null con0=null,fd:1 quiet \
    root=/dev/root rootfstype=hostfs rootflags=/ ro init="$PWD/tests/power-cut-uml.sh" \
    "${told[@]}" </dev/null | tee "$home/said"
grep -q '^uml: status 0' "$home/said"
